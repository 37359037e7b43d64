"""Several score jobs in one start: each publishes what its model predicts, whatever others do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.conftest import Shell

ROOT = Path(__file__).parents[2]
ROWS = {name: pd.DataFrame({"id": [1, 2, 3], "x": [at, at + 1, at + 2]}) for name, at in
        {"north": 0.0, "south": 10.0}.items()}  # fmt: skip
SLOPES = {"double": 2.0, "triple": 3.0}


SLEEPER = """
import time
import mlflow


class Sleeper(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        time.sleep(params["seconds"])
        return model_input["x"].to_numpy()


mlflow.models.set_model(Sleeper())
"""
"""A model that gives x after so many seconds."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with two linear models and one that sleeps, and two tables."""
    folder = tmp_path_factory.mktemp("several")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    for name in ("models", "lakescore"):
        client.create_experiment(name, artifact_location=(folder / "artifacts" / name).as_uri())
    mlflow.set_experiment("models")
    x = pd.DataFrame({"x": [0.0, 1.0]})
    for name, slope in SLOPES.items():
        model = LinearRegression().fit(x, slope * x["x"])
        signature = infer_signature(x, model.predict(x))
        mlflow.sklearn.log_model(
            model, name="model", signature=signature, registered_model_name=name
        )
    (folder / "sleeper.py").write_text(SLEEPER)
    mlflow.pyfunc.log_model(
        name="model",
        python_model=str(folder / "sleeper.py"),
        signature=infer_signature(x, np.array([0.0]), {"seconds": 0.0}),
        registered_model_name="sleeper",
    )
    for name, rows in ROWS.items():
        write_deltalake(str(folder / "tables" / name), rows)
    return folder


@dataclass(frozen=True)
class Several:
    """Runs lists of jobs in a home."""

    home: Path
    folder: Path
    environment: dict[str, str]

    def start(self, *jobs: object, words: tuple[str, ...] = (), **options: object) -> Any:
        """Start a command of a list of *jobs*, whose changes stand on a plain one."""
        plain = {
            "model": "double/1",
            "input": {"path": str(self.home / "tables" / "north")},
            "output": {"path": str(self.folder / "predictions")},
            "id_columns": ["id"],
        }
        (self.folder / "score.yaml").write_text(yaml.safe_dump(plain))
        entries = [{"file": "score.yaml", **job} for job in jobs if isinstance(job, dict)]
        told = {"jobs": entries, "receipts": str(self.folder / "receipts"), **options}
        (self.folder / "night.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
        # Whoever runs the tests may ignore Ctrl-C, as a shell's background jobs do.
        heeding = ["env", "--default-signal=INT"]
        return subprocess.Popen(
            [*heeding, ROOT / "spark-submit.sh", "score", self.folder / "night.yaml", *words],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *jobs: object, **options: Any) -> tuple[int, dict[str, Any], str]:
        """Return the exit code, the summary and the messages."""
        return self.ended(self.start(*jobs, **options))

    def ended(self, process: Any) -> tuple[int, dict[str, Any], str]:
        """Return the exit code, the summary and the messages."""
        out, errors = process.communicate(timeout=120)
        assert out, errors
        *receipts, summary = [json.loads(line) for line in out.splitlines()]
        assert len(receipts) == len(summary["jobs"]), errors  # each is told once
        assert summary["exit_code"] == process.returncode
        return process.returncode, summary, errors

    def receipt(self, name: str) -> Any:
        """Return the receipt of a job."""
        return json.loads((self.folder / "receipts" / f"{name}.json").read_text())

    def predictions(self, name: str) -> dict[int, float]:
        """Return what another reader than Spark finds in a table."""
        rows = DeltaTable(str(self.folder / name)).to_pandas()
        assert rows["id"].is_unique
        return dict(zip(rows["id"], rows["prediction"].round(9), strict=True))

    def tables(self) -> list[str]:
        """Return the tables that were made."""
        return sorted(path.parent.name for path in self.folder.glob("*/_delta_log"))


@pytest.fixture
def several(home: Path, tmp_path: Path, shell: Shell) -> Several:
    return Several(home, tmp_path, shell.environment | {"LAKESCORE_HOME": str(home)})


def sleeping(seconds: float, table: str, **more: object) -> dict[str, Any]:
    changes = {"model": "sleeper/1", "output.path": table, "pyfunc.params.seconds": seconds}
    return {"set": changes | more}


def ended_with(summary: dict[str, Any]) -> list[int]:
    return [job["exit_code"] for job in summary["jobs"]]


def processes_of(pid: int, *, deep: int) -> list[int]:
    """Return the processes that are children of *pid*, or children of these, and so on."""
    pids = [pid]
    for _ in range(deep):
        pids = [child for parent in pids for child in _children(parent)]
    return pids


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def until(look: Callable[[], Any]) -> Any:
    for _ in range(600):
        if result := look():
            return result
        time.sleep(0.1)
    raise AssertionError("it never came")


def test_models_and_tables_of_a_matrix_are_scored_without_spark_and_as_pandas_predicts(
    several: Several, home: Path
) -> None:
    matrix = {"model": ["double/1", "triple/1"], "input.path": ["north", "south"]}
    matrix["input.path"] = [str(home / "tables" / name) for name in ROWS]
    out = str(several.folder / "{model}") + "{input.path}"
    code, summary, errors = several.run({"set": {"output.path": out}, "matrix": matrix})
    assert (code, summary["status"], summary["failed"], summary["rows_scored"]) == (
        0,
        "done",
        0,
        12,
    )
    assert {job["runner"]["name"] for job in summary["jobs"]} == {"local"}
    for model, slope in SLOPES.items():
        for table, rows in ROWS.items():
            at = f"{model}/1{home}/tables/{table}"
            expected = dict(zip(rows["id"], slope * rows["x"], strict=True))
            assert several.predictions(at) == expected
    assert f"lakescore: 2 jobs read {home}/tables/north at version 0" in errors
    assert "lakescore: 4 of 4 jobs done, 12 rows scored in" in errors.splitlines()[-1]
    name = summary["jobs"][0]["name"]
    assert several.receipt(name)["rows_scored"] == 3
    assert f"lakescore: [{name}] 3 of 3 rows scored into " in errors


def test_jobs_that_need_spark_share_one_session_beside_those_that_do_not(several: Several) -> None:
    jobs = [
        {"set": {"output.path": str(several.folder / "merged"), "write_mode": "merge"}},
        {"set": {"output.path": str(several.folder / "plain")}},
        {"set": {"output.path": str(several.folder / "udf"), "engine": "spark_udf"}},
        {"set": {"output.path": str(several.folder / "asked"), "runner": "spark"}},
        {"set": {"output.path": str(several.folder / "refused"), "runner": "local",
                 "write_mode": "merge"}},
    ]  # fmt: skip
    code, summary, errors = several.run(*jobs)
    assert (code, ended_with(summary)) == (2, [0, 0, 0, 0, 2])
    runners = [job.get("runner", {}).get("name") for job in summary["jobs"]]
    assert runners == ["spark", "local", "spark", "spark", None]
    reasons = [job["runner"]["reason"] for job in summary["jobs"][:4]]
    assert reasons[3] == "asked for"
    assert "merge" in reasons[0]
    assert errors.count("WARN SparkContext: Another SparkContext") == 0
    for name in ("merged", "plain", "udf", "asked"):
        assert several.predictions(name) == {1: 0.0, 2: 2.0, 3: 4.0}
    assert "runner local cannot be used" in summary["jobs"][4]["error"]


def test_a_job_that_fails_stops_no_other_and_its_code_ends_the_command(several: Several) -> None:
    jobs = [
        {"set": {"output.path": str(several.folder / "none"), "model": "double/9"}},
        {"set": {"output.path": str(several.folder / "twice"), "id_columns": ["no"]}},
        {"set": {"output.path": str(several.folder / "good")}},
    ]
    code, summary, errors = several.run(*jobs, parallel=1)
    assert (code, ended_with(summary), summary["failed"]) == (5, [3, 5, 0], 2)
    assert several.predictions("good") == {1: 0.0, 2: 2.0, 3: 4.0}
    assert several.tables() == ["good"]
    assert several.receipt("score#1")["exit_code"] == 3
    assert "error: [score#2] " in errors
    assert errors.splitlines()[-1].endswith("; failed: score#1 (3), score#2 (5)")


def test_a_typo_in_one_of_them_runs_nothing(several: Several) -> None:
    process = several.start({"set": {"output.path": str(several.folder / "good")}}, {"sett": {}})
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, several.tables()) == (2, "", [])
    assert "night.yaml: unknown key 'sett' in jobs.1" in errors


def test_a_job_whose_process_is_killed_is_lost_alone(several: Several) -> None:
    lost, good = str(several.folder / "lost"), str(several.folder / "good")
    process = several.start(sleeping(600, lost), {"set": {"output.path": good}}, parallel=2)
    until((several.folder / "good" / "_delta_log").exists)
    # spark-submit.sh has become the command: its child is the server, whose child is the job.
    (job,) = until(lambda: len(left := processes_of(process.pid, deep=2)) == 1 and left)
    os.kill(job, signal.SIGKILL)
    code, summary, errors = several.ended(process)
    assert (code, ended_with(summary)) == (75, [75, 0])
    assert several.receipt("score#1")["error"].startswith("the process of the job was killed by si")
    assert "error: [score#1] the process of the job was killed by signal 9" in errors
    assert several.predictions("good") == {1: 0.0, 2: 2.0, 3: 4.0}
    assert several.tables() == ["good"]


@pytest.mark.parametrize("runner", ["auto", pytest.param("spark", marks=pytest.mark.wide)])
def test_a_job_that_takes_too_long_ends_alone(several: Several, runner: str) -> None:
    late, good = str(several.folder / "late"), str(several.folder / "good")
    jobs = [
        sleeping(600, late, timeout_seconds=3, runner=runner),
        {"set": {"output.path": good, "runner": runner}},
    ]
    code, summary, _ = several.run(*jobs, parallel=1)
    assert (code, ended_with(summary)) == (75, [75, 0])
    assert summary["jobs"][0]["error"].startswith("the run took longer than timeout_seconds: 3, ")
    assert several.receipt("score#1")["exit_code"] == 75
    assert several.predictions("good") == {1: 0.0, 2: 2.0, 3: 4.0}


def test_jobs_that_are_ended_while_spark_starts_leave_no_jvm_behind(several: Several) -> None:
    """A JVM holds the standard error that it got: whoever runs the command would wait for it."""
    jobs = [
        sleeping(600, str(several.folder / f"never{n}"), timeout_seconds=n / 2, runner="spark")
        for n in range(1, 7)  # from before a JVM is there until it works
    ]
    code, summary, errors = several.ended(several.start(*jobs, parallel=1))
    assert (code, ended_with(summary)) == (75, [75] * len(jobs)), errors
    assert several.tables() == []


@pytest.mark.parametrize(
    ("number", "to_group", "code"),
    [
        (signal.SIGTERM, False, 143),  # Kubernetes tells the command
        pytest.param(signal.SIGTERM, True, 143, marks=pytest.mark.wide),  # systemd all processes
        (signal.SIGINT, True, 130),  # a terminal as well
    ],
)
def test_told_to_stop_it_stops_what_runs_and_begins_nothing_more(
    several: Several, number: signal.Signals, *, to_group: bool, code: int
) -> None:
    jobs = [sleeping(600, str(several.folder / name)) for name in ("a", "b")]
    process = several.start(*jobs, parallel=1)
    until(lambda: processes_of(process.pid, deep=3))  # the model's
    time.sleep(1)
    server = processes_of(process.pid, deep=1)
    if to_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, errors = process.communicate(timeout=300)
    *receipts, summary = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == code, errors
    assert [receipt["exit_code"] for receipt in receipts] == ended_with(summary)
    assert ended_with(summary) == [143, 75]
    assert "error: [score#1] stopped by SIGTERM" in errors
    assert "lakescore: 0 of 2 jobs done, 0 rows scored in" in errors
    assert summary["jobs"][1]["error"] == "the job was not started; run the command again"
    assert several.receipt("score#2")["exit_code"] == 75
    assert several.tables() == []
    for pid in server:
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists())


def test_told_to_stop_while_libraries_are_imported_it_begins_nothing(several: Several) -> None:
    jobs = [sleeping(600, str(several.folder / name)) for name in ("a", "b")]
    process = several.start(*jobs, parallel=2)
    until(lambda: any(b"forkserver" in command(pid) for pid in processes_of(process.pid, deep=1)))
    process.send_signal(signal.SIGTERM)
    code, summary, _ = several.ended(process)
    assert code in {75, 143}
    assert set(ended_with(summary)) <= {75, 143}
    assert several.tables() == []


def test_a_command_that_is_killed_takes_its_jobs_along(several: Several) -> None:
    process = several.start(sleeping(600, str(several.folder / "never")), parallel=1)
    jobs = until(lambda: processes_of(process.pid, deep=3))
    time.sleep(1)
    process.kill()
    process.communicate(timeout=60)
    for pid in jobs:
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
    assert several.tables() == []


def test_receipts_that_cannot_be_written_spoil_no_job_and_nothing_is_left_behind(
    several: Several,
) -> None:
    good, other = str(several.folder / "good"), str(several.folder / "other")
    jobs = [
        {"set": {"output.path": good, "receipt": "/proc/nowhere/receipt.json"}},
        {"set": {"output.path": other, "model": "double/9", "receipt": "/proc/nowhere/2.json"}},
        {"set": {"output.path": other, "model": "triple/1"}},
    ]
    scratch = several.folder / ("a-folder-whose-path-is-too-long-for-a-socket-" * 3)
    scratch.mkdir()
    several.environment["TMPDIR"] = str(scratch)
    # What lies in the folder where somebody runs the command is no library.
    (several.folder / "git.py").write_text("raise SystemExit('this is no library')")
    code, summary, errors = several.run(*jobs, parallel=1)
    assert (code, ended_with(summary)) == (3, [0, 3, 0])
    assert "the receipt cannot be written to /proc/nowhere/receipt.json" in errors
    assert several.predictions("good") == {1: 0.0, 2: 2.0, 3: 4.0}
    assert several.predictions("other") == {1: 0.0, 2: 3.0, 3: 6.0}
    assert list(scratch.iterdir()) == []


def test_in_another_place_they_run_in_the_driver_which_ends_with_one_that_is_too_late(
    several: Several, tmp_path: Path
) -> None:
    place = tmp_path / "other.conf"
    place.write_text((ROOT / "conf/spark/local.conf").read_text())
    good, other = str(several.folder / "good"), str(several.folder / "other")
    jobs = [
        {"set": {"output.path": good}},
        {"set": {"output.path": other, "model": "double/9"}},
        {"set": {"output.path": other, "model": "triple/1"}},
        sleeping(600, str(several.folder / "late"), timeout_seconds=20),
        {"set": {"output.path": str(several.folder / "never")}},
    ]
    several.environment["PLACE"] = str(place)
    code, summary, errors = several.run(*jobs)
    assert (code, ended_with(summary)) == (75, [0, 3, 0, 75, 75]), errors
    assert [job["status"] for job in summary["jobs"]][:3] == ["scored", "failed", "scored"]
    assert several.predictions("good") == {1: 0.0, 2: 2.0, 3: 4.0}
    assert several.predictions("other") == {1: 0.0, 2: 3.0, 3: 6.0}
    assert several.tables() == ["good", "other"]
    assert "error: [score#5] the job was not started" in errors
