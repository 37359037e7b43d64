"""The commands of docs/tasks, run in a project that the first of these pages begins."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from builders.tables import make_table, rows_of
from clusters import environment
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "docs/tasks"
ROWS = [(1, 1.0, 0.5), (2, -2.0, 4.0), (3, 0.0, 0.0)]
SPARK = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
"""


@dataclass(frozen=True)
class Project:
    """The folder of a project, and the home of its models and tables."""

    folder: Path
    home: Path

    def shell(self, page: str, *, cwd: Path | None = None) -> str:
        """Run all commands of a page, but for those of pip; return what they print."""
        text = "".join(re.findall(r"```bash\n(.*?)```", (TASKS / page).read_text(), re.DOTALL))
        commands = re.sub(r"(?m)^pip install .*\n", "", text)
        assert commands
        return self._run("bash", "-euo", "pipefail", "-c", commands, cwd=cwd or self.folder)

    def python(self, page: str, prelude: str) -> str:
        """Run all Python of a page; return what it prints."""
        blocks = re.findall(r"```python\n(.*?)```", (TASKS / page).read_text(), re.DOTALL)
        assert blocks
        return self._run(sys.executable, "-c", "\n".join([prelude, *blocks]), cwd=self.folder)

    def _run(self, *words: str, cwd: Path) -> str:
        kept = environment()
        path = f"{Path(sys.executable).parent}:{kept['PATH']}"
        source = f"{ROOT / 'lib'}:{ROOT / 'jobs'}"
        done = subprocess.run(
            words, cwd=cwd, capture_output=True, text=True, check=False, timeout=300,
            env=kept | {"LAKESCORE_HOME": str(self.home), "PATH": path, "PYTHONPATH": source},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the project that "Score a table" begins, with two versions and two tables."""
    place = tmp_path_factory.mktemp("tasks")
    home = place / "home"
    home.mkdir()
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    mlflow.create_experiment("models", artifact_location=(home / "models").as_uri())
    mlflow.set_experiment("models")
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 0.0, 2.0]})
    for weight in (2.0, 3.0):
        fitted = LinearRegression().fit(frame, weight * frame["x"] + frame["y"])
        mlflow.sklearn.log_model(
            fitted, name="model", signature=infer_signature(frame, fitted.predict(frame)),
            registered_model_name="my-model", serialization_format="cloudpickle",
            pip_requirements=[],
        )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias("my-model", "champion", "1")
    make_table(home / "tables/input", ROWS, "id int, x double, y double")
    labelled = [(n, x, y, 3 * x + y) for n, x, y in ROWS]  # version 2 is right
    make_table(home / "tables/holdout", labelled, "id int, x double, y double, label double")
    begun = Project(place / "scoring", home)
    begun.shell("score.md", cwd=place)
    return begun


def champion(project: Project) -> str:
    mlflow.set_tracking_uri(f"sqlite:///{project.home}/mlflow.db")
    return str(mlflow.MlflowClient().get_model_version_by_alias("my-model", "champion").version)


def test_each_page_of_a_task_is_run_here() -> None:
    pages = {path.name for path in TASKS.iterdir()}
    named = set(re.findall(r'"(\w+\.md)"', Path(__file__).read_text()))
    assert named == pages


def test_score_a_table(project: Project) -> None:
    rows = rows_of(project.home / "tables/predictions", "id", "prediction")
    assert rows == [(n, pytest.approx(2 * x + y)) for n, x, y in ROWS]


def test_compare_two_versions(project: Project) -> None:
    printed = project.shell("compare.md")
    assert "compatible" in printed
    assert "my-model/2 beats the champion (version 1) by" in printed


def test_promote_a_version_and_go_back(project: Project) -> None:
    printed = project.shell("promote.md")
    assert "my-model@champion: 1 -> 2" in printed
    assert "my-model@champion: 2 -> 1" in printed
    assert champion(project) == "1"


def test_run_a_job_every_night(project: Project) -> None:
    project.shell("schedule.md")
    written = {path.suffix for path in (project.folder / "schedule").iterdir()}
    assert written == {".service", ".timer", ".crontab"}


def test_predict_in_a_notebook(project: Project) -> None:
    printed = project.python("notebook.md", SPARK)
    assert "models:/my-model/1" in printed
    assert printed.count("2.4999") + printed.count("2.5") >= 2  # by predict, and by SQL


def test_when_something_breaks(project: Project) -> None:
    printed = project.shell("trouble.md")
    assert '"status": "same"' in printed
