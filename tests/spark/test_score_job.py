"""The score job, run in this process on real tables: what it writes, and what it never does."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import score_job
from builders.tables import commits_of, make_table, rows_of
from deltalake import DeltaTable
from sklearn.linear_model import LinearRegression

from lakescore import lineage
from lakescore.publishing import RunIdReused

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

    from lakescore.config import ScoreJob

X = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
FIRST, SECOND, THIRD = (dt.date(2013, 12, day) for day in (1, 2, 3))
TRIPS = [
    (1, FIRST, 1.0, "a"),
    (2, FIRST, 2.0, "b"),
    (3, SECOND, 3.0, "c"),
    # the third is a day without trips
]

SCHEMA = "id int, day date, x double, note string"
pytestmark = pytest.mark.usefixtures("runner")


@pytest.fixture(scope="module")
def model(register: Any) -> str:
    """Version 1 doubles, and version 2 triples; version 1 is the champion."""
    register("trips", LinearRegression().fit(X, 2 * X["x"]), X, alias="champion")
    register("trips", LinearRegression().fit(X, 3 * X["x"]), X)
    return "trips"


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., ScoreJob]:
    trips = make_table(tmp_path / "trips", TRIPS, SCHEMA)
    days = {"slice_by": "day", "slices": "2013-12-01..2013-12-03"}
    return partial(score_job, tmp_path, trips, model="trips@champion", **days)


def values(config: ScoreJob) -> list[tuple[int, str, int, float]]:
    predictions = rows_of(config.output.address, "id", "slice", "model_version", "prediction")
    return [(key, name, version, round(value, 6)) for key, name, version, value in predictions]


def row_of(config: ScoreJob, key: int) -> dict[str, Any]:
    columns = ["id", *lineage.COLUMNS]
    (row,) = [row for row in rows_of(config.output.address, *columns) if row[0] == key]
    return dict(zip(columns, row, strict=True))


def history(config: ScoreJob) -> list[dict[str, Any]]:
    """Return the record of each commit, newest first, except the one that made the table."""
    made = commits_of(config.output.address)
    *runs, first = made
    assert len(made) == DeltaTable(config.output.address).version() + 1
    assert "slices" not in first
    return runs


def test_each_row_is_written_once_with_the_lineage_that_made_it(
    spark: SparkSession, model: str, job: Any
) -> None:
    config = job(passthrough=["note"])
    receipt = score.run(config)
    published = spark.read.format("delta").load(config.output.address)
    assert published.columns == ["id", "note", "prediction", *lineage.COLUMNS]
    assert dict(published.dtypes)["model_version"] == "int"
    rows = {row.id: row for row in published.collect()}
    given = [(n, r.slice, r.model_version, round(r.prediction, 6)) for n, r in rows.items()]
    assert sorted(given) == [
        (1, "2013-12-01", 1, 2.0),
        (2, "2013-12-01", 1, 4.0),
        (3, "2013-12-02", 1, 6.0),
    ]
    row = rows[1]
    assert (row.model_name, row.model_uri) == (model, "models:/trips/1")
    assert (row.model_reference, row.input_version) == ("trips@champion", 0)
    assert row.input_table == config.input.address
    assert row.logged_model_id.startswith("m-")
    assert [part["status"] for part in receipt["slices"]] == ["scored", "scored", "empty"]
    assert (receipt["rows_in"], receipt["rows_scored"]) == (3, 3)


def test_the_commit_and_the_tracking_run_say_what_the_rows_say(model: str, job: Any) -> None:
    config = job()
    receipt = score.run(config)
    (commit,) = history(config)
    row = row_of(config, 3)
    common = [name for name in lineage.COLUMNS if name in commit and name != "scored_at"]
    assert len(common) == 8
    assert {name: commit[name] for name in common} == {name: row[name] for name in common}
    ids = {part["slice"]: part["scoring_run_id"] for part in commit["slices"]}
    assert ids["2013-12-02"] == row["scoring_run_id"]
    assert commit["model_digest"] == receipt["model"]["digest"]
    run = mlflow.get_run(receipt["tracking_run_id"])
    assert run.data.tags["lakescore.model_uri"] == row["model_uri"] == f"models:/{model}/1"
    assert run.data.metrics["rows_scored"] == 3
    (dataset,) = run.inputs.dataset_inputs
    source = json.loads(dataset.dataset.source)
    assert (source["path"], source["delta_table_version"]) == (row["input_table"], "0")


def test_a_rerun_writes_nothing(model: str, job: Any) -> None:  # noqa: ARG001
    config = job()
    score.run(config)
    receipt = score.run(config)
    assert receipt["status"] == "unchanged"
    assert len(history(config)) == 1
    assert len(values(config)) == 3


def test_another_version_replaces_the_slice_and_no_other_and_back_again(
    model: str,  # noqa: ARG001
    job: Any,
) -> None:
    score.run(job())
    score.run(job(model="trips/2", slices="2013-12-01"))
    replaced = [
        (1, "2013-12-01", 2, 3.0),
        (2, "2013-12-01", 2, 6.0),
        (3, "2013-12-02", 1, 6.0),  # not asked for
    ]
    assert values(job()) == replaced
    receipt = score.run(job())  # the first version's run id is known, and its rows are gone
    assert [part["status"] for part in receipt["slices"]] == ["scored", "unchanged", "empty"]
    assert {row[2] for row in values(job())} == {1}


def test_new_rows_of_the_input_make_its_slice_due(
    model: str,  # noqa: ARG001
    job: Any,
) -> None:
    config = job()
    score.run(config)
    make_table(config.input.address, [(4, THIRD, 5.0, "d")], SCHEMA, mode="append")
    receipt = score.run(config)
    assert receipt["rows_scored"] == 4
    assert [row[0] for row in values(config)] == [1, 2, 3, 4]
    assert score.run(job(input={"path": config.input.address, "version": 0}))["rows_in"] == 3


def test_an_empty_slice_is_an_outcome_and_makes_no_table(model: str, job: Any) -> None:  # noqa: ARG001
    config = job(slices="2013-12-03")
    receipt = score.run(config)
    assert receipt["status"] == "empty"
    assert not Path(config.output.address).exists()


def test_a_whole_table_is_one_slice(model: str, job: Any) -> None:  # noqa: ARG001
    config = job(slice_by=None, slices=None)
    score.run(config)
    assert {row[1] for row in values(config)} == {"all"}


def test_two_models_share_a_table_without_replacing_each_other(
    register: Any, model: str, job: Any
) -> None:
    register("others", LinearRegression().fit(X, X["x"]), X)
    score.run(job())
    score.run(job(model="others/1"))
    names = [name for (name,) in rows_of(job().output.address, "model_name")]
    assert Counter(names) == {model: 3, "others": 3}


def test_an_alias_moved_while_the_job_runs_changes_nothing(
    register: Any, registry: str, job: Any
) -> None:
    class Moving(mlflow.pyfunc.PythonModel):
        """Moves the champion to version 2 while it predicts, as a colleague might."""

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            import mlflow

            mlflow.MlflowClient(registry).set_registered_model_alias("moving", "champion", "2")
            return model_input["x"]

    register("moving", Moving(), X, np.array([1.0]), alias="champion")
    register("moving", LinearRegression().fit(X, 100 + X["x"]), X)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("moving", "champion", "1")

    config = job(model="moving@champion")
    receipt = score.run(config)

    assert str(client.get_model_version_by_alias("moving", "champion").version) == "2"
    assert {(row[2], row[3]) for row in values(config)} == {(1, 1.0), (1, 2.0), (1, 3.0)}
    assert set(rows_of(config.output.address, "model_uri")) == {("models:/moving/1",)}
    assert [commit["model_version"] for commit in history(config)] == [1]
    run = mlflow.get_run(receipt["tracking_run_id"])
    assert run.data.tags["lakescore.model_version"] == "1"
    assert receipt["model"]["version"] == 1


def test_a_given_run_id_is_kept_recognised_and_not_lent_to_other_inputs(
    model: str,  # noqa: ARG001
    job: Any,
) -> None:
    config = job(run_id="nightly-2013-12-03")
    score.run(config)
    assert set(rows_of(config.output.address, "scoring_run_id")) == {("nightly-2013-12-03",)}
    assert score.run(config)["status"] == "unchanged"
    with pytest.raises(RunIdReused):
        score.run(job(run_id="nightly-2013-12-03", model="trips/2"))
    assert {row[2] for row in values(config)} == {1}


def test_a_run_that_cannot_be_logged_is_published_all_the_same(
    model: str, job: Callable[..., ScoreJob], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()  # not a folder, so MLflow cannot keep artifacts there
    name = str(tmp_path)
    mlflow.create_experiment(name, artifact_location=(tmp_path / "file").as_uri())
    receipt = score.run(job(model=f"{model}@champion", experiment=name))
    assert (receipt["status"], receipt["tracking_run_id"]) == ("scored", None)
    assert len(rows_of(job().output.address, "id")) == 3
