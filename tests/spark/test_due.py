"""Only what is due: slices never scored, changed since, or scored by another version."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pyspark
import pytest
import score
from builders.jobs import score_job
from builders.tables import commits_of, make_table, rows_of
from deltalake import DeltaTable
from sklearn.linear_model import LinearRegression

from lakescore import receipt
from lakescore.config import ScoreJob

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

Job = Callable[..., ScoreJob]
pytestmark = pytest.mark.usefixtures("runner")
SINCE_4_2 = tuple(map(int, pyspark.__version__.split(".")[:2])) >= (4, 2)
X = pd.DataFrame({"x": [0.0, 1.0]})
FIRST, SECOND, THIRD = (dt.date(2013, 12, day) for day in (1, 2, 3))
SCHEMA = "id int, day date, x double"
ROWS = [(1, FIRST, 1.0), (2, FIRST, 2.0), (3, SECOND, 3.0), (4, None, 4.0)]  # of no day


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    """Version 1 doubles, and version 2 triples."""
    for factor in (2, 3):
        register("due", LinearRegression().fit(X, factor * X["x"]), X)


@pytest.fixture
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return make_table(tmp_path / "input", ROWS, SCHEMA, by=getattr(request, "param", ["day"]))


@pytest.fixture
def job(table: str, tmp_path: Path) -> Job:
    return partial(score_job, tmp_path, table, model="due/1", slice_by="day", slices="due")


def scored(config: ScoreJob) -> list[str]:
    """Run the job and return the slices that it scored."""
    slices = score.run(config)["slices"]
    return [part["slice"] for part in slices if part["status"] == "scored"]


def add(table: str, *rows: tuple[int, dt.date, float]) -> None:
    by = DeltaTable(table).metadata().partition_columns
    make_table(table, rows, SCHEMA, by=by, mode="append")


def values(config: ScoreJob) -> list[tuple[int, int, float]]:
    predictions = rows_of(config.output.address, "id", "model_version", "prediction")
    return [(key, version, round(value, 6)) for key, version, value in predictions]


@pytest.mark.parametrize("table", [["day"], []], ids=["divided by day", "not"], indirect=True)
def test_a_slice_is_due_until_it_is_scored_and_again_when_its_rows_change(
    table: str, job: Job
) -> None:
    first = score.run(job())
    assert [part["slice"] for part in first["slices"]] == ["2013-12-01", "2013-12-02"]
    assert (first["rows_scored"], first["rows_of_no_slice"]) == (3, 1)
    output = job().output.address
    unsliced = "1 row of the input in no slice"
    assert receipt.summary(first) == f"3 of 3 rows scored into {output}, {unsliced}"
    assert values(job()) == [(1, 1, 2.0), (2, 1, 4.0), (3, 1, 6.0)]
    again = score.run(job())
    assert receipt.summary(again) == (
        f"nothing to do: all 2 slices of {output} hold these rows already, {unsliced}"
    )
    add(table, (5, SECOND, 5.0), (6, THIRD, 6.0))
    assert scored(job()) == ["2013-12-02", "2013-12-03"]
    assert scored(job()) == []
    compacted = DeltaTable(table).optimize.compact()  # the same rows in other files
    assert compacted["numFilesRemoved"] > compacted["numFilesAdded"]
    assert scored(job()) == []
    DeltaTable(table).delete("id = 6")
    DeltaTable(table).update({"x": "50.0"}, predicate="id = 5")
    assert "2013-12-02" in scored(job())
    assert (5, 1, 100.0) in values(job())


def test_a_new_version_is_for_all_slices_or_for_those_to_come(table: str, job: Job) -> None:
    assert scored(job()) == ["2013-12-01", "2013-12-02"]
    add(table, (6, THIRD, 6.0))
    forward = job(model="due/2", on_new_version="forward_only")
    assert scored(forward) == ["2013-12-03"]
    assert values(job()) == [(1, 1, 2.0), (2, 1, 4.0), (3, 1, 6.0), (6, 2, 18.0)]
    assert scored(forward) == []
    assert scored(job(model="due/2")) == ["2013-12-01", "2013-12-02"]
    assert {row[1] for row in values(job())} == {2}


def test_a_table_that_was_made_anew_is_scored_anew(table: str, job: Job) -> None:
    for run, more in (("first", {}), ("second", {}), ("third", {"on_new_version": "forward_only"})):
        rows = [(key, day, x + len(run)) for key, day, x in ROWS]
        shutil.rmtree(table)
        make_table(table, rows, SCHEMA)
        assert scored(job(run_id=run, **more)) == ["2013-12-01", "2013-12-02"]
        assert scored(job(run_id=f"{run}-again", **more)) == []
    assert scored(job(run_id="fourth", nulls={"x": "null"})) == ["2013-12-01", "2013-12-02"]


def test_an_empty_input_and_slices_of_bad_rows_alone_are_done(
    table: str, job: Job, register: Any
) -> None:
    class Picky(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            if (model_input["x"] > 2).any():
                raise ValueError("too much")
            return model_input["x"]

    version = register("picky due", Picky(), X, np.array([1.0, 2.0]))
    config = job(model=f"picky due/{version}", max_errors=5)
    assert scored(config) == ["2013-12-01", "2013-12-02"]  # of the second day no row is good
    assert scored(config) == []
    DeltaTable(table).delete()
    assert score.run(config)["status"] == "empty"


def test_other_settings_make_all_slices_due(job: Job, tmp_path: Path) -> None:
    del tmp_path
    wide = {"passthrough": ["x"], "output": job().output.address + "_wide"}
    assert scored(job(**wide)) == ["2013-12-01", "2013-12-02"]
    assert scored(job(**wide)) == []
    assert scored(job(**wide, nulls={"x": "null"})) == ["2013-12-01", "2013-12-02"]


def test_slices_are_committed_one_by_one_the_oldest_first_where_one_asks(job: Job) -> None:
    receipt = score.run(job(commits="slice"))
    versions = {part["slice"]: part["output_version"] for part in receipt["slices"]}
    assert versions == {"2013-12-01": 1, "2013-12-02": 2}
    assert receipt["engine"]["rows_predicted"] == 3
    newer, older, _ = commits_of(job().output.address)  # the first made the table
    assert [commit["slices"][0]["slice"] for commit in (older, newer)] == [
        "2013-12-01",
        "2013-12-02",
    ]


@pytest.mark.parametrize("runner", ["spark"], indirect=True)  # whose workers can be told apart
@pytest.mark.parametrize(
    ("engine", "scan", "sliced", "calls"),
    [
        ("arrow", "direct", False, 2),
        ("arrow", "spark", False, 6),
        # In the batches of the files' reader, from Spark 4.2 on.
        ("spark_udf", "spark", False, 2 if SINCE_4_2 else 6),
        ("spark_udf", "spark", True, 6),
    ],
)
def test_a_plan_says_in_how_many_batches_the_model_would_be_called(  # noqa: PLR0913, PLR0917
    spark: SparkSession,
    job: Job,
    register: Any,
    tmp_path: Path,
    engine: str,
    scan: str,
    *,
    sliced: bool,
    calls: int,
) -> None:
    made = tmp_path / "calls"

    class Counting(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            import os

            if "SPARK_REUSE_WORKER" in os.environ:  # the driver tries a few rows first
                with made.open("a") as file:
                    file.write(f"{len(model_input)}\n")
            return model_input["x"]

    version = register("counting batches", Counting(), X, np.array([1.0, 2.0]))
    rows = spark.range(5_000).selectExpr("id", "'a' AS part", "DOUBLE(id) AS x").repartition(2)
    rows.write.format("delta").save(str(tmp_path / "many"))
    config = {
        "model": f"counting batches/{version}",
        "input": tmp_path / "many",
        "slice_by": "part" if sliced else None,
        "slices": ["a"] if sliced else None,
        "engine": engine,
        "scan": scan,
    }
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "1000")
    spark.conf.set("spark.sql.codegen.wholeStage", "true")  # without it, Spark passes single rows
    try:
        would = score.run(job(**config, plan=True))["would"]
        made.unlink(missing_ok=True)  # calls for the rows that the plan shows
        score.run(job(**config))
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
        spark.conf.set("spark.sql.codegen.wholeStage", "false")
    assert (would["tasks"], would["batches"]) == (2, calls)
    assert len(made.read_text().splitlines()) == calls


def test_a_plan_writes_nothing_and_says_what_would_be_done(job: Job, tmp_path: Path) -> None:
    receipt = score.run(job(plan=True))
    assert not (tmp_path / "predictions").exists()
    assert receipt["status"] == "planned"
    assert receipt["would"]["slices"] == {"2013-12-01": 2, "2013-12-02": 1}
    assert receipt["features"] == [{"name": "x", "type": "double", "column": "x", "null": "model"}]
    assert receipt["engine"]["name"] == "arrow"
    assert receipt["environment"] == []  # the model's requirements are installed
    predictions = sorted((row["id"], round(row["prediction"], 6)) for row in receipt["probe"])
    assert predictions == [(1, 2.0), (2, 4.0), (3, 6.0)]
    assert scored(job()) == ["2013-12-01", "2013-12-02"]
    assert score.run(job(plan=True))["status"] == "unchanged"
