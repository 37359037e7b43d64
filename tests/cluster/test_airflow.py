"""Airflow reads and runs the DAG that `lakescore schedule` makes: `./scripts/test.sh --airflow`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from clusters import environment
from deltalake import DeltaTable, write_deltalake
from sklearn.tree import DecisionTreeRegressor

from lakescore import assets
from lakescore.places import read_properties
from lakescore.scheduling import Cron, Job, Schedule, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "airflow"
PARSE = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(bag.import_errors, list(bag.dags))
"""


@pytest.fixture(scope="module")
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install Airflow from its own lock; return its programs' folder."""
    if not request.config.getoption("--airflow"):
        pytest.skip("give --airflow: it installs some 170 packages")
    folder = tmp_path_factory.mktemp("airflow") / "environment"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    install = ["pip", "install", "-q", "--require-hashes", "--python", folder / "bin/python"]
    subprocess.run([*uv, *install, "-r", HERE / "requirements.lock"], check=True)
    return folder / "bin"


class Airflow:
    """An Airflow with a database of its own, whose DAGs are those of schedules."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.dags = folder / "dags"
        self.dags.mkdir()
        self.stand_in = folder / "stand-in"
        self.stand_in.mkdir()
        self.environment = environment() | {
            "AIRFLOW_HOME": str(folder / "home"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_SPARK_DEFAULT": '{"conn_type": "spark", "host": "local[2,4]"}',
            "PATH": f"{Path(sys.prefix)}/bin:{os.environ['PATH']}",
        }
        self.run("airflow", "db", "migrate")

    def add(self, schedule: Schedule) -> None:
        """Put the DAG of *schedule* where Airflow finds it, with retries in a second."""
        for name, text in render(schedule, "airflow").items():
            assert "timedelta(minutes=10)" in text
            hasty = text.replace("timedelta(minutes=10)", "timedelta(seconds=1)")
            (self.dags / name).write_text(hasty)

    def run(self, program: str, *words: str | Path, code: int = 0) -> str:
        """Run one of its programs; return all that it said."""
        done = subprocess.run(
            [self.programs / program, *words], env=self.environment, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=1800,
        )  # fmt: skip
        assert done.returncode == code, done.stdout[-8000:]
        return done.stdout

    @contextlib.contextmanager
    def standing_in(self) -> Iterator[None]:
        """Find programs in the folder `stand_in` first."""
        path = self.environment["PATH"]
        self.environment["PATH"] = f"{self.stand_in}:{path}"
        yield
        self.environment["PATH"] = path


@pytest.fixture(scope="module")
def airflow(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(programs, tmp_path_factory.mktemp("scheduled"))


@pytest.fixture(scope="module")
def nightly(airflow: Airflow, home: Path, register: Callable[..., Any]) -> Schedule:
    """Schedule two ranges of slices a night, and a ranking on Mondays that promotes."""
    days = ["2026-10-25", "2026-10-26", "2026-11-01", "2026-11-02"]
    rows = pd.DataFrame({"id": [1, 2, 3, 4], "x": [1.0, 2.0, 3.0, 4.0], "day": days})
    write_deltalake(str(home / "tables/flown"), rows)
    judged = pd.DataFrame({"id": range(60), "x": [float(n % 4 + 1) for n in range(60)]})
    write_deltalake(str(home / "tables/judged"), judged.assign(y=10 * judged["x"]))
    for times in (1, 10):
        tree = DecisionTreeRegressor().fit(rows[["x"]], times * rows["x"])
        register("ten by Airflow", tree, rows[["x"]], times * rows["x"])
    better = {"rmse": {"min_absolute_change": 1, "greater_is_better": False}}
    files = {
        "nightly": {
            "model": "ten by Airflow/2",
            "input": {"path": "tables/flown"},
            "output": {"path": "tables/scored_by_airflow"},
            "id_columns": ["id"],
            "slice_by": "day",
        },
        "weekly": {
            "versions": ["ten by Airflow/1", "ten by Airflow/2"],
            "baseline": "ten by Airflow/1",
            "holdout": {"path": "tables/judged"},
            "label": "y",
            "id_columns": ["id"],
            "output": {"path": "tables/ranked_by_airflow"},
            "gates": {"mode": "enforce", "metrics": better, "on_pass": "promote"},
        },
    }
    for name, job in files.items():
        (airflow.folder / f"{name}.yaml").write_text(json.dumps(job))
    schedule = Schedule(
        package=str(assets.folder()),
        job=Job(
            kind="score",
            config=str(airflow.folder / "nightly.yaml"),
            overrides=("experiment=lakescore",),
        ),
        each=(("slices={{ macros.ds_add(ds, -7) }}",), ("slices={{ ds }}",)),
        then=Job(
            kind="compare",
            config=str(airflow.folder / "weekly.yaml"),
            overrides=("experiment=lakescore",),
        ),
        then_on=(1,),
        cron=Cron("0 5 * * *"),
        place="local",
        properties=read_properties(ROOT / "conf/spark/local.conf"),
        project=str(ROOT),
        environment={"LAKESCORE_HOME": str(home)},
    )
    airflow.add(schedule)
    return schedule


def scored(home: Path) -> dict[str, float]:
    rows = DeltaTable(str(home / "tables/scored_by_airflow")).to_pandas()
    return dict(zip(rows["slice"], rows["prediction"], strict=True))


def champion(home: Path) -> int:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    return int(client.get_model_version_by_alias("ten by Airflow", "champion").version)


def test_airflow_reads_the_dag_that_was_made(airflow: Airflow, nightly: Schedule) -> None:
    assert airflow.run("python", "-c", PARSE, airflow.dags).endswith(f"{{}} ['{nightly.name}']\n")


def test_airflow_scores_each_range_of_a_date_and_ranks_on_mondays_only(
    airflow: Airflow, nightly: Schedule, home: Path
) -> None:
    airflow.run("airflow", "dags", "test", nightly.name, "2026-11-01")  # a Sunday
    assert scored(home) == {"2026-10-25": 10.0, "2026-11-01": 30.0}
    assert not (home / "tables/ranked_by_airflow").exists()
    airflow.run("airflow", "dags", "test", nightly.name, "2026-11-02")
    assert scored(home) == {
        "2026-10-25": 10.0, "2026-10-26": 20.0, "2026-11-01": 30.0, "2026-11-02": 40.0,
    }  # fmt: skip
    assert champion(home) == 2


@pytest.mark.parametrize(("code", "attempts"), [(6, 1), (75, 3)])
def test_airflow_repeats_what_a_repetition_may_change(
    code: int, attempts: int, airflow: Airflow, nightly: Schedule
) -> None:
    """By the exit code alone, so that a program that gives it stands in for Spark's."""
    (airflow.stand_in / "spark-submit").write_text(f"#!/bin/sh\nexit {code}\n")
    (airflow.stand_in / "spark-submit").chmod(0o755)
    assert nightly.then is not None
    airflow.add(replace(nightly, job=nightly.then, each=(), then=None, then_on=()))
    with airflow.standing_in():
        printed = airflow.run("airflow", "dags", "test", nightly.then.name, "2026-11-02", code=1)
    assert printed.count("Spark-Submit cmd") == attempts
    assert ("a repetition cannot change exit code 6" in printed) == (code == 6)


def test_airflow_would_fill_a_range_of_dates(airflow: Airflow, nightly: Schedule) -> None:
    airflow.run("airflow", "dags", "reserialize")
    words = ["--dag-id", nightly.name, "--from-date", "2026-11-01", "--to-date", "2026-11-03"]
    printed = airflow.run("airflow", "backfill", "create", *words, "--dry-run")
    assert re.findall(r"^\| (2026\S+ \S+)", printed, re.MULTILINE) == [
        "2026-11-01 05:00:00+00:00",
        "2026-11-02 05:00:00+00:00",
    ]
