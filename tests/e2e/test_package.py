"""The package as a team installs it: a wheel in its own environment, without this checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders.tables import make_table, rows_of

ROOT = Path(__file__).parents[2]
TRAIN = """
import mlflow, pandas
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

mlflow.set_tracking_uri(f"sqlite:///{HOME}/mlflow.db")
frame = pandas.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 0.0, 2.0]})
for weight in (2.0, 3.0):
    fitted = LinearRegression().fit(frame, weight * frame["x"] + frame["y"])
    mlflow.sklearn.log_model(
        fitted, name="model", signature=infer_signature(frame, fitted.predict(frame)),
        registered_model_name="my-model", serialization_format="cloudpickle", pip_requirements=[],
    )
"""
ROWS = [(1, 1.0, 0.5), (2, -2.0, 4.0), (3, 0.0, 0.0)]


@dataclass
class Team:
    """An environment with the wheel, and the folder of a project."""

    environment: Path
    folder: Path

    def run(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in the project's folder."""
        kept = {name: os.environ[name] for name in ("PATH", "SPARK_SUBMIT_OPTS")}
        kept |= {"HOME": str(self.folder.parent)} | variables
        return subprocess.run(
            [self.environment / "bin" / words[0], *words[1:]],
            cwd=self.folder, env=kept, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def done(self, *words: str | Path, **variables: str) -> str:
        """Run a command that must succeed and name no file of this checkout; return its output."""
        done = self.run(*words, **variables)
        assert done.returncode == 0, done.stderr
        assert str(ROOT / "lib") not in done.stdout + done.stderr
        assert str(ROOT / "jobs") not in done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    """Return a team with a project, a model of two versions and a table."""
    place = tmp_path_factory.mktemp("package")
    environment, folder = place / "environment", place / "scoring"
    uv = Path(sys.executable).with_name("uv")
    build = [uv, "build", "-q", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", place, ROOT], check=True)
    (wheel,) = place.glob("*.whl")
    venv.create(environment, symlinks=True)
    # The other packages are those of this environment; only lakescore itself is installed anew.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [uv, "pip", "install", "-q", "--no-deps", "--python", environment / "bin/python"]
    subprocess.run([*install, wheel], check=True)
    (environment / "share").mkdir()
    (environment / "share" / "lakescore").symlink_to(Path(sys.prefix) / "share" / "lakescore")
    folder.mkdir()
    made = Team(environment, folder)
    home = folder / ".lakescore"
    home.mkdir()
    made.done("python", "-c", TRAIN.replace("{HOME}", str(home)))
    made.done("lakescore", "init")
    make_table(home / "tables" / "input", ROWS, "id int, x double, y double")
    labelled = [(n, x, y, 2 * x + y) for n, x, y in ROWS]
    make_table(home / "tables" / "holdout", labelled, "id int, x double, y double, label double")
    made.done("lakescore", "promote", "my-model/1", "--to", "champion")
    return made


def test_the_new_project_scores_compares_and_replays(team: Team) -> None:
    team.done("lakescore", "check", "score", "conf/score.yaml")
    receipt = json.loads(team.done("lakescore", "score", "conf/score.yaml"))
    assert (receipt["status"], receipt["runner"]["name"]) == ("scored", "local")
    table = team.folder / ".lakescore" / "tables" / "predictions"
    published = rows_of(table, "id", "prediction", "scoring_run_id")
    run = published[0][2]
    assert published == [(n, pytest.approx(2 * x + y), run) for n, x, y in ROWS]
    compared = json.loads(team.done("lakescore", "compare", "conf/compare.yaml"))
    assert [line["version"] for line in compared["ranking"]] == [1, 2]
    words = ["lakescore", "replay", "conf/replay.yaml", f"run={run}"]
    replayed = json.loads(team.done(*words, "runner=spark"))
    assert (replayed["status"], replayed["runner"]["name"]) == ("same", "spark")


def test_a_job_that_spark_submit_starts_is_the_installed_one(team: Team) -> None:
    path = team.done("lakescore", "path", "score").strip()
    assert Path(path).is_relative_to(team.environment)
    words = ["lakescore", "score", "conf/score.yaml", "--place", "standalone"]
    command = team.done(*words, DRY_RUN="1")
    assert f"--properties-file {team.folder}/conf/spark/standalone.conf " in command
    assert command.split()[-2:] == [path, "conf/score.yaml"]


@pytest.mark.parametrize("scheduler", ["airflow", "databricks", "kubernetes", "systemd"])
def test_a_schedule_runs_the_installed_package(team: Team, scheduler: str) -> None:
    words = ["lakescore", "schedule", "conf/score.yaml", "--cron", "0 5 * * *", "--to", scheduler]
    venv = [] if scheduler == "systemd" else ["--venv", team.environment]
    text = team.done(*words, *venv)
    assert "spark-submit.sh" not in text
    named = re.findall(rf"{re.escape(str(team.environment))}[\w./-]+(?=[ '\"\n])", text)
    assert [path for path in named if not Path(path).exists()] == []
    installed = team.done("lakescore", "path", "score").strip()
    expected = {
        "airflow": f"application={installed!r}",
        "databricks": "entry_point: score",
        "kubernetes": f"mainApplicationFile: local://{installed}",
        "systemd": f"ExecStart={team.environment}/bin/lakescore score ",
    }
    assert expected[scheduler] in text


def test_the_command_of_cron_scores_from_any_folder(team: Team, tmp_path: Path) -> None:
    words = ["lakescore", "schedule", "conf/score.yaml", "output.path=tables/nightly"]
    text = team.done(*words, "--cron", "0 5 * * *", "--to", "systemd")
    (line,) = [line for line in text.splitlines() if line.startswith("0 5 ")]
    command = line.split(maxsplit=5)[5]
    kept = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    published = rows_of(team.folder / ".lakescore" / "tables" / "nightly", "id", "prediction")
    assert published == [(n, pytest.approx(2 * x + y)) for n, x, y in ROWS]


def test_an_entry_point_of_the_wheel_runs_a_job_in_this_process(team: Team) -> None:
    program = (
        "import sys; from importlib.metadata import entry_points\n"
        "(point,) = entry_points(group='lakescore.jobs', name='score')\n"
        "sys.argv = ['score', 'conf/score.yaml', 'output.path=tables/started']; point.load()()\n"
        "print('ended')"
    )
    receipt, ended = team.done("python", "-c", program).splitlines()
    assert (json.loads(receipt)["rows_scored"], ended) == (3, "ended")


def test_a_project_is_never_written_over_files(team: Team) -> None:
    before = (team.folder / "conf" / "score.yaml").read_text()
    done = team.run("lakescore", "init")
    assert done.returncode == 2
    assert "README.md exists already, and nothing was written; name another folder" in done.stderr
    assert (team.folder / "conf" / "score.yaml").read_text() == before
    team.done("lakescore", "init", "another")
    assert (team.folder / "another" / ".gitignore").is_file()


@pytest.mark.wide  # the demo's tables and models, by the same code
def test_a_project_from_flights_scores_them_with_its_champion(team: Team, tmp_path: Path) -> None:
    made = Team(team.environment, tmp_path)
    made.done("lakescore", "init", "project", "--from", "flights")
    project = Team(team.environment, tmp_path / "project")
    receipt = json.loads(project.done("lakescore", "score", "conf/score.yaml", "slices=2013-12-24"))
    tables = project.folder / ".lakescore" / "tables"
    departed = [
        row for row in rows_of(tables / "departures", "date") if str(row[0]) == "2013-12-24"
    ]
    predictions = rows_of(tables / "predictions", "model_uri", "prediction")
    assert receipt["rows_scored"] == len(predictions) == len(departed) > 500
    assert {uri for uri, _ in predictions} == {"models:/flight-delay/3"}
    again = made.run("lakescore", "init", "project", "--from", "flights")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "exists, and --from flights writes over no data" in again.stderr


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "LAKESCORE_HOME"])
def test_the_flights_go_into_no_registry_of_others(team: Team, tmp_path: Path, name: str) -> None:
    made = Team(team.environment, tmp_path)
    words = ["lakescore", "init", "project", "--from", "flights"]
    done = made.run(*words, **{name: f"{tmp_path}/elsewhere"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{name} is set, and the project's jobs would use it" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["score"], 2, "error: the job's file is missing, such as conf/score.yaml"),
        (["score", "conf/scor.yaml"], 2, "(did you mean 'conf/score.yaml'?)"),
        (["score", "conf/score.yaml", "--place", "moon"], 2, "there is no place 'moon'"),
        (["score", "conf/score.yaml", "--place"], 2, "--place needs the name of a place"),
        (["path", "scroe"], 2, "there is no job 'scroe' (did you mean 'score'?)"),
        (["setup", "jar"], 2, "there are no jars 'jar' (did you mean 'jars'?)"),
    ],
)
def test_a_typo_is_one_line(team: Team, words: list[str], code: int, line: str) -> None:
    done = team.run("lakescore", *words)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert line in done.stderr
