"""Airflow reads and runs the DAG that `lakescore schedule` makes: `./scripts/test.sh --airflow`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from clusters import environment
from deltalake import DeltaTable, write_deltalake
from sklearn.tree import DecisionTreeRegressor

from lakescore.places import read_properties
from lakescore.scheduling import Cron, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "airflow"
PARSE = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(bag.import_errors, list(bag.dags))
"""


@pytest.fixture(scope="module")
def airflow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install Airflow from its own lock; return its programs' folder."""
    if not request.config.getoption("--airflow"):
        pytest.skip("give --airflow: it installs some 170 packages")
    folder = tmp_path_factory.mktemp("airflow") / "environment"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    install = ["pip", "install", "-q", "--require-hashes", "--python", folder / "bin/python"]
    subprocess.run([*uv, *install, "-r", HERE / "requirements.lock"], check=True)
    return folder / "bin"


def test_airflow_runs_the_dag_that_was_made(
    airflow: Path, home: Path, register: Callable[..., Any], tmp_path: Path
) -> None:
    rows = pd.DataFrame({"id": [1, 2, 3], "x": [1.0, 2.0, 3.0]})
    write_deltalake(str(home / "tables/flown"), rows)
    tree = DecisionTreeRegressor().fit(rows[["x"]], 10 * rows["x"])
    register("ten by Airflow", tree, rows[["x"]], 10 * rows["x"])
    job = {
        "model": "ten by Airflow/1",
        "input": {"path": "tables/flown"},
        "output": {"path": "tables/scored_by_airflow"},
        "id_columns": ["id"],
    }
    (tmp_path / "nightly.yaml").write_text(json.dumps(job))
    schedule = Schedule(
        job="score",
        config=str(tmp_path / "nightly.yaml"),
        overrides=("experiment=lakescore",),
        cron=Cron("0 5 * * *"),
        place="local",
        properties=read_properties(ROOT / "conf/spark/local.conf"),
        project=str(ROOT),
        environment={"LAKESCORE_HOME": str(home)},
    )
    dags = tmp_path / "dags"
    dags.mkdir()
    for name, text in schedule.render("airflow").items():
        (dags / name).write_text(text)
    variables = environment() | {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": '{"conn_type": "spark", "host": "local[2,4]"}',
        "PATH": f"{Path(sys.prefix)}/bin:{os.environ['PATH']}",
    }

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    run(airflow / "airflow", "db", "migrate")
    assert run(airflow / "python", "-c", PARSE, dags).endswith("{} ['lakescore-nightly']\n")
    run(airflow / "airflow", "dags", "test", "lakescore-nightly", "2026-11-01")
    found = DeltaTable(str(home / "tables/scored_by_airflow")).to_pandas().sort_values("id")
    assert found["prediction"].tolist() == [10.0, 20.0, 30.0]
