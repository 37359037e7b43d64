"""The compare job: every labelled row counts, and each metric is scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import compare
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore.config import CompareJob
from lakescore.errors import MetricUndefined

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

X = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
Write = Callable[["DataFrame", str], str]


@pytest.fixture
def holdout(spark: SparkSession, write: Write) -> tuple[str, pd.DataFrame]:
    random = np.random.default_rng(7)
    x = random.uniform(0, 3, 400)
    rows = pd.DataFrame({"x": x, "y": 2 * x + random.normal(0, 1, 400)})
    rows["is_high"] = (rows["y"] > 3).astype("int64")
    rows.loc[::50, "y"] = np.nan  # labels that have not arrived
    columns = "x double, y double, is_high bigint"
    values = [tuple(None if pd.isna(v) else v for v in row) for row in rows.to_numpy().tolist()]
    frame = spark.createDataFrame([(x, y, int(z)) for x, y, z in values], columns)
    return write(frame, "holdout"), rows


def run(tmp_path: Path, path: str, versions: list[str], label: str, rank_by: str) -> dict[str, Any]:
    return compare.run(
        CompareJob.model_validate(
            {
                "versions": versions,
                "holdout": {"path": path},
                "label": label,
                "rank_by": rank_by,
                "output": {"path": str(tmp_path / "ranking")},
            }
        )
    )


def test_regression_metrics_are_those_of_scikit_learn_over_all_labelled_rows(
    spark: SparkSession, register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    path, rows = holdout
    models = [LinearRegression().fit(X, slope * X["x"]) for slope in (1, 2, 3)]
    for model in models:
        register("slopes", model, X)
    versions = ["slopes/1", "slopes/2", "slopes/3", "slopes/latest"]
    receipt = run(tmp_path, path, versions, "y", "rmse")

    labelled = rows[rows["y"].notna()]
    assert receipt["rows"] == len(labelled) == 392
    assert len(receipt["ranking"]) == 3  # slopes/latest is slopes/3 again
    assert receipt["ranking"][0]["uri"] == "models:/slopes/2"
    for each in receipt["ranking"]:
        predicted = models[each["version"] - 1].predict(labelled[["x"]])
        expected = {
            "rmse": metrics.root_mean_squared_error(labelled["y"], predicted),
            "mae": metrics.mean_absolute_error(labelled["y"], predicted),
            "r2": metrics.r2_score(labelled["y"], predicted),
        }
        assert each["metrics"] == pytest.approx(expected, rel=1e-9)
    lines = spark.read.format("delta").load(str(tmp_path / "ranking"))
    assert lines.count() == 9
    assert lines.where("rank = 1 AND metric = 'rmse'").head().model_version == 2
    run(tmp_path, path, versions, "y", "rmse")
    assert spark.read.format("delta").load(str(tmp_path / "ranking")).count() == 9


def test_metrics_of_labels_are_those_of_scikit_learn(
    register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    path, rows = holdout
    models = [LogisticRegression(C=c).fit(X, [0, 0, 1, 1]) for c in (100.0, 0.01)]
    models.append(LogisticRegression().fit(X, [0, 1, 0, 1]))
    for model in models:
        register("labels", model, X)
    receipt = run(tmp_path, path, [f"labels/{n}" for n in (1, 2, 3)], "is_high", "f1")
    for each in receipt["ranking"]:
        predicted = models[each["version"] - 1].predict(rows[["x"]])
        expected = {
            "f1": metrics.f1_score(rows["is_high"], predicted),
            "accuracy": metrics.accuracy_score(rows["is_high"], predicted),
        }
        assert each["metrics"] == pytest.approx(expected, rel=1e-9)
    values = [each["metrics"]["f1"] for each in receipt["ranking"]]
    assert values == sorted(values, reverse=True)


def test_metrics_of_probabilities_are_those_of_scikit_learn_with_ties_and_certainty(
    register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    import mlflow

    class Probability(mlflow.pyfunc.PythonModel):
        """A step function: many ties, and probabilities of 0 and 1 that the logarithm fears."""

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            return (model_input["x"] / 3).round(1)

    path, rows = holdout
    register("steps", Probability(), X, np.array([0.5]))
    receipt = run(tmp_path, path, ["steps/1"], "is_high", "roc_auc")
    predicted = (rows["x"] / 3).round(1)
    expected = {
        "roc_auc": metrics.roc_auc_score(rows["is_high"], predicted),
        "log_loss": metrics.log_loss(rows["is_high"], predicted),
    }
    assert receipt["ranking"][0]["metrics"] == pytest.approx(expected, rel=1e-9)


def test_versions_that_predict_the_same_share_a_rank(
    register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    for slope in (2, 2, 5):
        register("twins", LinearRegression().fit(X, slope * X["x"]), X)
    receipt = run(tmp_path, holdout[0], ["twins/3", "twins/1", "twins/2"], "y", "mae")
    assert [(each["rank"], each["version"]) for each in receipt["ranking"]] == [
        (1, 1),
        (1, 2),
        (3, 3),
    ]


def test_a_metric_that_has_no_meaning_for_a_prediction_is_refused(
    register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    register("only labels", LogisticRegression().fit(X, [0, 0, 1, 1]), X)
    with pytest.raises(MetricUndefined, match="predicts labels"):
        run(tmp_path, holdout[0], ["only labels/1"], "is_high", "roc_auc")
    assert not (tmp_path / "ranking").exists()


@pytest.mark.parametrize(
    ("labels", "rank_by", "says"),
    [
        ([None, None], "f1", "0 labelled rows"),
        ([1, 1], "roc_auc", "2 labelled rows with 1 different labels"),  # no curve of one class
        ([0, 2], "f1", "2 labelled rows with 2 different labels"),  # which of them is positive?
    ],
)
def test_a_metric_without_a_value_is_refused(  # noqa: PLR0913, PLR0917 - a row's cells
    spark: SparkSession, register: Any, write: Write, tmp_path: Path,
    labels: list[int | None], rank_by: str, says: str,
) -> None:  # fmt: skip
    model = LogisticRegression().fit(X, [0, 0, 1, 1])
    outputs = np.array([0.5]) if rank_by == "roc_auc" else None
    version = register("two classes", model, X, outputs)
    rows = [(float(n), label) for n, label in enumerate(labels)]
    path = write(spark.createDataFrame(rows, "x double, y int"), "odd")
    with pytest.raises(MetricUndefined, match=says):
        run(tmp_path, path, [f"two classes/{version}"], "y", rank_by)


def test_labels_of_several_classes_and_of_words_have_an_accuracy(
    spark: SparkSession, register: Any, write: Write, tmp_path: Path
) -> None:
    register("colours", LogisticRegression(C=1e6).fit(X, ["red", "green", "blue", "blue"]), X)
    rows = [(0.0, "red"), (3.0, "blue"), (0.0, "blue"), (1.0, None)]  # the last has no label yet
    path = write(spark.createDataFrame(rows, "x double, y string"), "colours")
    receipt = run(tmp_path, path, ["colours/1"], "y", "accuracy")
    assert receipt["rows"] == 3
    assert receipt["ranking"][0]["metrics"] == pytest.approx({"accuracy": 2 / 3})


def test_a_label_that_is_not_a_number_is_no_label(
    spark: SparkSession, register: Any, write: Write, tmp_path: Path
) -> None:
    version = register("nan labels", LinearRegression().fit(X, X["x"]), X)
    rows = [(1.0, 2.0), (2.0, float("nan")), (3.0, None)]
    path = write(spark.createDataFrame(rows, "x double, y double"), "nan")
    receipt = run(tmp_path, path, [f"nan labels/{version}"], "y", "mae")
    found = receipt["ranking"][0]["metrics"]
    assert (receipt["rows"], found["mae"]) == (1, pytest.approx(1.0))
    assert found["r2"] is None  # one row has no variance, and JSON no NaN


def test_r2_of_labels_that_are_all_equal_is_that_of_scikit_learn(
    spark: SparkSession, register: Any, write: Write, tmp_path: Path
) -> None:
    version = register("constant", LinearRegression().fit(X, X["x"]), X)
    path = write(spark.createDataFrame([(1.0, 2.0), (3.0, 2.0)], "x double, y double"), "same")
    receipt = run(tmp_path, path, [f"constant/{version}"], "y", "r2")
    assert receipt["ranking"][0]["metrics"]["r2"] == metrics.r2_score([2, 2], [1, 3]) == 0.0
