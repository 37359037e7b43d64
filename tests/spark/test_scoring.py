"""What a model's signature and a table agree on, and what both engines predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from chispa import assert_df_equality
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore import scoring, signature, slicing
from lakescore.errors import ColumnsMissing, ScoringFailed
from lakescore.loading import UnsupportedSignature, prepare
from lakescore.registry import resolve
from lakescore.signature import ColumnsCollide, TypesDiffer
from lakescore.slicing import SLICE

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from lakescore.registry import ModelVersion

X = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 1.0, 2.0, 2.0]})


Scored = Callable[..., "DataFrame"]


@pytest.fixture(params=["spark_udf", "arrow"])
def scored(request: pytest.FixtureRequest) -> Scored:
    """Score rows with one of the engines: what holds for one holds for the other."""

    def score(rows: DataFrame, model: ModelVersion, *keep: str) -> DataFrame:
        contract = signature.bind("the table", rows, prepare(model), keep=keep)
        return scoring.score(scoring.plan(request.param, rows, [contract], keep=keep))

    return score


@pytest.fixture(scope="module")
def doubling(register: Any) -> ModelVersion:
    """2x + 1, logged as everyone does: the signature's output is a tensor of shape (-1,)."""
    register("doubling", LinearRegression().fit(X[["x"]], 2 * X["x"] + 1), X[["x"]])
    return resolve("doubling/1")


def test_a_regressor_predicts_a_double_and_not_an_array_of_one(
    spark: SparkSession, scored: Scored, doubling: ModelVersion
) -> None:
    rows = spark.createDataFrame([(1, 0.0), (2, 10.0)], "id int, x double")
    expected = spark.createDataFrame([(1, 1.0), (2, 21.0)], "id int, prediction double")
    predictions = scored(rows, doubling, "id").withColumn("prediction", F.round("prediction", 9))
    assert_df_equality(predictions, expected, ignore_row_order=True, ignore_nullable=True)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([0, 0, 1, 1], "bigint"),
        (["no", "no", "yes", "yes"], "string"),
        ([False, False, True, True], "boolean"),
    ],
)
def test_a_classifier_predicts_labels_of_their_own_type(
    spark: SparkSession, scored: Scored, register: Any, labels: list[Any], kind: str
) -> None:
    name = f"classifier of {kind}"
    register(name, LogisticRegression(C=1e6).fit(X[["x"]], labels), X[["x"]])
    rows = spark.createDataFrame([(0.0,), (3.0,)], "x double")
    predictions = scored(rows, resolve(f"{name}/1"))
    assert dict(predictions.dtypes) == {"prediction": kind}
    assert [row.prediction for row in predictions.collect()] == [labels[0], labels[-1]]


def test_several_named_outputs_become_flat_columns(
    spark: SparkSession, scored: Scored, register: Any
) -> None:
    import mlflow

    class Bounds(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:  # noqa: ARG002
            return pd.DataFrame({"low": model_input["x"] - 1, "high": model_input["x"] + 1})

    register("bounds", Bounds(), X[["x"]], pd.DataFrame({"low": [0.0], "high": [1.0]}))
    predictions = scored(spark.createDataFrame([(5.0,)], "x double"), resolve("bounds/1"), "x")
    assert predictions.collect() == [(5.0, 4.0, 6.0)]
    assert predictions.columns == ["x", "low", "high"]


def test_probabilities_stay_together_instead_of_silently_being_class_0(
    spark: SparkSession, scored: Scored, register: Any
) -> None:
    import mlflow

    class Odds(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> np.ndarray:  # noqa: ARG002
            return np.column_stack([1 - model_input["x"], model_input["x"]])

    register("odds", Odds(), X[["x"]], np.array([[0.5, 0.5]]))
    predictions = scored(spark.createDataFrame([(0.25,)], "x double"), resolve("odds/1"))
    assert predictions.collect() == [([0.75, 0.25],)]


def test_columns_are_matched_by_name_whatever_their_order(
    spark: SparkSession, scored: Scored, register: Any
) -> None:
    register("difference", LinearRegression().fit(X, X["x"] - X["y"]), X)
    rows = spark.createDataFrame([(1.0, "more", 10.0)], "y double, unused string, x double")
    (row,) = scored(rows, resolve("difference/1")).collect()
    assert row.prediction == pytest.approx(9.0)


def test_lossless_casts_are_made_once_and_listed(
    spark: SparkSession, scored: Scored, doubling: ModelVersion
) -> None:
    rows = spark.createDataFrame([(3,)], "x int")
    contract = signature.bind("the table", rows, prepare(doubling))
    assert contract.casts == {"x": ("int", "double")}
    assert scored(rows, doubling).head()[0] == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("x string", "'x' is string, not double"),
        ("x bigint", "'x' is bigint, not double"),  # a double holds integers up to 2^53 only
        ("x struct<value: double>", "'x' is struct<value:double>, not double"),
    ],
)
def test_a_type_that_would_lose_something_is_refused(
    spark: SparkSession, doubling: ModelVersion, schema: str, says: str
) -> None:
    with pytest.raises(TypesDiffer, match=says) as caught:
        signature.bind("the table", spark.createDataFrame([], schema), prepare(doubling))
    assert caught.value.exit_code == 5


def test_missing_columns_are_all_named_with_the_nearest(
    spark: SparkSession, doubling: ModelVersion
) -> None:
    rows = spark.createDataFrame([], "flight_id int, X_ double")
    with pytest.raises(ColumnsMissing, match=r"lacks the columns 'x'.*'flightid' \(did you mean"):
        signature.bind("the table", rows, prepare(doubling), keep=["flightid"])


@pytest.mark.parametrize(
    "keep",
    [
        ["prediction"],  # the output itself
        ["SLICE"],  # a column of the lineage: Spark does not tell cases apart
        ["id", "id"],  # a key that is passed through as well
    ],
)
def test_an_output_column_that_would_stand_twice_is_refused(
    spark: SparkSession, doubling: ModelVersion, keep: list[str]
) -> None:
    rows = spark.createDataFrame([], "x double, id int, prediction double, SLICE string")
    with pytest.raises(ColumnsCollide):
        signature.bind("the table", rows, prepare(doubling), keep=keep)


def test_a_model_without_names_is_refused_by_its_uri(spark: SparkSession, register: Any) -> None:
    register("tensors", LinearRegression().fit(X.to_numpy(), X["x"]), X.to_numpy())
    with pytest.raises(UnsupportedSignature, match="its signature has 2 columns without names"):
        signature.bind(
            "the table", spark.createDataFrame([], "x double"), prepare(resolve("tensors/1"))
        )


def test_each_row_is_predicted_once_even_where_the_prediction_is_filtered_on(
    spark: SparkSession, scored: Scored, register: Any, tmp_path: Path
) -> None:
    import mlflow

    calls = tmp_path / "calls"

    class Counting(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            with calls.open("a") as file:
                file.write(f"{len(model_input)}\n")
            return model_input["x"]

    version = register("counting", Counting(), X[["x"]], np.array([1.0]))
    rows = spark.range(1000).selectExpr("CAST(id AS DOUBLE) AS x")
    predictions = scored(rows, resolve(f"counting/{version}"), "x")
    calls.write_text("")  # what was predicted to log the model, or to probe the engine
    assert predictions.where("prediction >= 500").count() == 500
    assert sum(map(int, calls.read_text().split())) == 1000


def test_an_error_that_spark_udf_meets_is_one_line_with_its_last_words(
    spark: SparkSession, register: Any
) -> None:
    register("no nulls", LinearRegression().fit(X[["x"]], X["y"]), X[["x"]])
    values = [(1.0,)] * 300 + [(None,)]  # the rows that are tried first are good
    rows = spark.createDataFrame(values, "x double").coalesce(1)
    contract = signature.bind("the table", rows, prepare(resolve("no nulls/1")))
    planned = scoring.plan("spark_udf", rows, [contract], keep=[])
    with (
        pytest.raises(ScoringFailed) as caught,
        scoring.evaluated(planned, ["2013-12-01"]),
    ):
        scoring.score(planned).collect()
    assert "could not score all of 2013-12-01: ValueError: Input X contains NaN." in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_a_row_that_spark_udf_cannot_score_ends_the_run_before_a_task_is_started(
    spark: SparkSession, register: Any
) -> None:
    register("no null", LinearRegression().fit(X[["x"]], X["y"]), X[["x"]])
    rows = spark.createDataFrame([(1.0,), (None,)], "x double")
    contract = signature.bind("the table", rows, prepare(resolve("no null/1")))
    with pytest.raises(ScoringFailed, match="quarantines none: ValueError: Input X contains NaN"):
        scoring.plan("spark_udf", rows, [contract], keep=[])


@pytest.mark.parametrize(
    ("kept", "limit", "meanwhile"),
    [
        ("id", "64m", "2147483647"),  # numbers: ten thousand rows are far from 64 MB
        (SLICE, "64m", "2147483647"),  # a text, but a short one
        ("name", "64m", "64m"),  # a text may be of any length
        ("id", "100k", "100k"),  # ten thousand rows would be more
        ("id", "2147483647", "2147483647"),  # off already
    ],
)
def test_spark_measures_batches_only_where_they_could_be_too_large(
    spark: SparkSession, doubling: ModelVersion, kept: str, limit: str, meanwhile: str
) -> None:
    setting = "spark.sql.execution.arrow.maxBytesPerBatch"
    rows = spark.createDataFrame([(1, "a", 0.0)], "id int, name string, x double")
    contract = signature.bind("the table", rows, prepare(doubling), keep=["id"])
    sliced = slicing.select(rows, None, ["all"])
    planned = scoring.plan("arrow", sliced, [contract], [kept], "spark")
    spark.conf.set(setting, limit)
    try:
        with scoring.evaluated(planned, ["all"]):
            assert spark.conf.get(setting) == meanwhile
        assert spark.conf.get(setting) == limit
    finally:
        spark.conf.unset(setting)
