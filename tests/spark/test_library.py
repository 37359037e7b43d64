"""The library outside of the jobs: a frame holds every row that it was made of, or raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from sklearn.linear_model import LogisticRegression

from lakescore import scoring, session, signature, slicing, tables
from lakescore.errors import ScoringFailed
from lakescore.loading import prepare
from lakescore.registry import ModelVersion, resolve
from lakescore.signature import ColumnsCollide

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from lakescore.scanning import Selection
    from lakescore.snapshots import Snapshot

ROWS, BAD = 569, (3, 9)
FRAME = pd.DataFrame({"id": range(ROWS), "x": np.linspace(-1.0, 1.0, ROWS)})
FITTED = LogisticRegression(C=1e6).fit(FRAME[["x"]], FRAME["x"] > 0)


@pytest.fixture(scope="module")
def model(register: Any) -> ModelVersion:
    """A model that refuses NaN."""
    register("tumour", FITTED, FRAME[["x"]])
    return resolve("tumour/1")


@pytest.fixture(scope="module")
def patients(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """569 rows of a table, of which two hold NaN."""
    path = str(tmp_path_factory.mktemp("library") / "patients")
    rows = FRAME.assign(x=FRAME["x"].where(~FRAME["id"].isin(BAD)))
    values = [(int(n), float(x)) for n, x in rows.itertuples(index=False)]
    spark.createDataFrame(values, "id int, x double").write.format("delta").save(path)
    return tables.snapshot(spark, path)


def planned(
    rows: DataFrame | Selection, of: DataFrame, model: ModelVersion, engine: Any = "arrow"
) -> scoring.Plan:
    return scoring.plan(engine, rows, [signature.bind("rows", of, prepare(model))], ["id"])


@pytest.fixture(params=["spark reads", "workers read"])
def plan(request: pytest.FixtureRequest, patients: Snapshot, model: ModelVersion) -> scoring.Plan:
    """Return a plan of the 569 rows, which Spark or workers read."""
    selection = slicing.select(patients, None, ["all"])
    rows = selection if request.param == "workers read" else patients.rows
    plan = planned(rows, patients.rows, model)
    assert (plan.direct is not None) == (request.param == "workers read")
    return plan


def test_a_row_that_cannot_be_scored_ends_the_query_unless_it_is_asked_for(
    plan: scoring.Plan,
) -> None:
    with pytest.raises(PySparkException, match="Input X contains NaN"):
        scoring.score(plan).collect()
    with (
        pytest.raises(ScoringFailed, match=r"tumour/1.*Input X contains NaN") as error,
        scoring.evaluated(plan, ["all"]),
    ):
        scoring.score(plan).collect()
    assert "\n" not in str(error.value)
    assert "failing='null'" in str(error.value)


def test_spark_udf_says_before_it_scores_that_it_sets_no_row_aside(
    patients: Snapshot, model: ModelVersion
) -> None:
    tried = patients.rows.where("id < 100")  # few enough that the trial is of all of them
    with pytest.raises(
        ScoringFailed, match="spark_udf quarantines none: ValueError: Input X conta"
    ):
        planned(tried, patients.rows, model, "spark_udf")


@pytest.mark.parametrize("workers_read", [False, True])
def test_a_row_that_cannot_be_scored_may_stand_there_with_its_error(
    patients: Snapshot, model: ModelVersion, *, workers_read: bool
) -> None:
    rows = slicing.select(patients, None, ["all"]) if workers_read else patients.rows
    plan = planned(rows, patients.rows, model)
    scored = scoring.score(plan, failing="null")
    assert scored.columns == ["id", "prediction", "error"]
    records = scored.orderBy("id").collect()
    expected = FITTED.predict(FRAME[["x"]]).tolist()
    assert [row["id"] for row in records] == list(range(ROWS))
    assert [row["prediction"] for row in records] == [
        None if n in BAD else value for n, value in enumerate(expected)
    ]
    errors = {row["id"]: row["error"] for row in records if row["error"] is not None}
    assert set(errors) == set(BAD)
    assert all(text.startswith("ValueError: Input X contains NaN") for text in errors.values())


def test_rows_are_left_out_and_counted_where_the_caller_asks_for_it(
    patients: Snapshot, model: ModelVersion
) -> None:
    plan = planned(patients.rows, patients.rows, model)
    execution = scoring.Execution(plan)
    with execution.cached() as rows:
        records = rows.collect()
    aside = execution.failed_rows()
    assert (len(records), execution.failed) == (ROWS - len(BAD), len(BAD))
    assert aside is not None
    assert sorted(aside.column("id").to_pylist()) == list(BAD)


def test_the_column_of_errors_takes_no_column_that_is_there(
    spark: SparkSession, model: ModelVersion
) -> None:
    rows = spark.createDataFrame([(1, 0.5)], "Error int, x double")
    contract = signature.bind("rows", rows, prepare(model))
    plan = scoring.plan("arrow", rows, [contract], ["Error"])
    with pytest.raises(ColumnsCollide, match="'error'"):
        scoring.score(plan, failing="null")
    assert scoring.score(plan).columns == ["Error", "prediction"]


def test_a_session_that_is_not_ours_keeps_its_settings(
    spark: SparkSession, patients: Snapshot, model: ModelVersion
) -> None:
    changed = (session.MODELS, "spark.sql.session.timeZone", "spark.sql.shuffle.partitions")
    ours = {name: spark.conf.get(name) for name in changed}
    try:
        spark.conf.unset(session.MODELS)  # as a notebook's
        spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
        spark.conf.set("spark.sql.runSQLOnFiles", "true")
        spark.conf.set("spark.sql.shuffle.partitions", "7")
        spark.conf.set("fs.s3a.secret.key", "a secret")  # Spark's list of settings hides it
        started = session.start("beside a notebook's", models=["models:/tumour/1"])
        assert spark.conf.get("spark.sql.session.timeZone") == "Europe/Berlin"
        assert spark.conf.get("spark.sql.runSQLOnFiles") == "true"
        assert spark.conf.get(session.MODELS, None) is None
        assert SparkSession.active() is spark
        assert started.conf.get("spark.sql.session.timeZone") == "UTC"
        assert started.conf.get("spark.sql.runSQLOnFiles") == "false"
        assert started.conf.get("spark.sql.shuffle.partitions") == "7"
        assert started.conf.get("fs.s3a.secret.key") == "a secret"
        rows = tables.snapshot(started, patients.address).rows
        plan = planned(rows.where("NOT isnan(x)"), rows, model)
        assert scoring.score(plan).count() == ROWS - len(BAD)
    finally:
        spark.conf.unset("fs.s3a.secret.key")
        for name, value in ours.items():
            spark.conf.set(name, str(value))
        spark.conf.set("spark.sql.runSQLOnFiles", "false")
    assert session.start("ours again") is spark
