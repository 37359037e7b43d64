"""Metrics over frames of labels and predictions: scikit-learn's own values are the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F  # noqa: N812
from sklearn import metrics as truth
from sklearn.calibration import calibration_curve

from lakescore import comparing
from lakescore.comparing import passes
from lakescore.scoring import ERRORS

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

A, B = "models:/m/1", "models:/m/2"


def evaluated(
    scored: DataFrame, uris: tuple[str, ...] = (A, B), **asked: Any
) -> comparing.Evaluation:
    """Compare the versions of *scored*: `id`, `_label`, a column per version, `weight`, `part`."""
    columns = scored.columns
    inferred = {k: asked.pop(k) for k in ("rank_by", "problem_type", "positive") if k in asked}
    problem = comparing.infer(
        scored.schema, uris, **inferred, custom=tuple(asked.get("custom", {}))
    )
    paired = comparing.pair(
        scored, uris, problem, keys=["id"],
        weight="weight" if "weight" in columns else None,
        slices=["part"] if "part" in columns else [],
    )  # fmt: skip
    with comparing.cached(paired) as kept:
        evaluation = comparing.evaluate(kept, **{"replicates": 100, **asked})
        here = replace(kept, rows=passes.fetch(kept.rows))  # as without Spark
        assert_same(evaluation, comparing.evaluate(here, **{"replicates": 100, **asked}))
    return evaluation


def assert_same(evaluation: comparing.Evaluation, here: comparing.Evaluation) -> None:
    """Compare Spark's evaluation with that of one process: all numbers and intervals."""
    assert [(p.by, p.value, p.scope, p.rows) for p in evaluation.parts] == [
        (p.by, p.value, p.scope, p.rows) for p in here.parts
    ]
    for one, other in zip(evaluation.parts, here.parts, strict=True):
        assert one.standings.keys() == other.standings.keys()
        for metric, standing in one.standings.items():
            for uri, estimate in standing.estimates.items():
                facts, again = estimate.facts(), other.standings[metric].estimates[uri].facts()
                expected = [
                    value if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)
                    for value in facts.values()
                ]
                assert list(again.values()) == expected, (metric, uri)
    assert evaluation.cells == here.cells
    assert evaluation.histograms.keys() == here.histograms.keys()


def values(part: Any, uri: str) -> dict[str, float]:
    """Return the metrics with a value; a class that only other versions predict has none."""
    estimates = {name: standing.estimates[uri].value for name, standing in part.standings.items()}
    return {name: value for name, value in estimates.items() if not np.isnan(value)}


def regression(y: Any, p: Any, w: Any = None) -> dict[str, float]:
    """Return the metrics of scikit-learn, or of numpy if scikit-learn lacks one."""
    error = np.abs(y - p)
    ones = np.ones(len(y)) if w is None else w
    pinball = truth.mean_pinball_loss
    scores = {
        "rmse": truth.root_mean_squared_error(y, p, sample_weight=w),
        "mae": truth.mean_absolute_error(y, p, sample_weight=w),
        "mape": truth.mean_absolute_percentage_error(y, p, sample_weight=w),
        "r2": truth.r2_score(y, p, sample_weight=w),
        "max_error": truth.max_error(y, p),
        "bias": np.average(p - y, weights=ones),
        "median_absolute_error": truth.median_absolute_error(y, p, sample_weight=w),
        "mean_pinball_loss_0.1": pinball(y, p, sample_weight=w, alpha=0.1),
        "mean_pinball_loss_0.9": pinball(y, p, sample_weight=w, alpha=0.9),
    }
    for q in (90, 95):
        # Weights that are counts stand for rows that come so often. Other weights seldom end on a
        # quantile exactly, and numpy knows them for the methods that do not average there.
        counts = ones.astype(np.int64)
        scores[f"absolute_error_p{q}"] = (
            np.quantile(np.repeat(error, counts), q / 100, method="averaged_inverted_cdf")
            if (counts == ones).all()
            else float(np.quantile(error, q / 100, method="inverted_cdf", weights=w))
        )
    return scores


def rows(n: int = 1000, seed: int = 3) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    label = random.normal(1000, 3, n)  # far from 0: squares would cancel
    frame = pd.DataFrame({"id": np.arange(n), "_label": label})
    frame[A] = label + random.normal(0.5, 1, n)
    frame[B] = label + random.standard_t(2, n)  # heavy tails
    frame["weight"] = random.integers(0, 4, n).astype(float)
    frame["part"] = random.choice(["x", "y", "z"], n, p=[0.7, 0.29, 0.01])
    return frame


@pytest.mark.parametrize("n", [1000, 10, 1001])  # quantiles lie on a row, or between two
def test_regression_is_scikit_learns(spark: SparkSession, n: int) -> None:
    frame = rows(n).drop(columns=["weight"])
    evaluation = evaluated(spark.createDataFrame(frame).repartition(3))
    for uri in (A, B):
        expected = regression(frame["_label"], frame[uri])
        assert values(evaluation.whole, uri) == pytest.approx(expected, rel=1e-9)
        assert evaluation.whole.rows[uri] == n
    for part in evaluation.parts[2:]:
        inside = frame[frame["part"] == part.value]
        assert part.rows[A] == len(inside)
        if len(inside) > 1:
            expected = regression(inside["_label"], inside[A])
            assert values(part, A) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["counts", "fractions"])
def test_weighted_regression_is_scikit_learns(spark: SparkSession, kind: str) -> None:
    frame = rows()
    if kind == "fractions":
        frame["weight"] = np.random.default_rng(1).random(len(frame))
    evaluation = evaluated(spark.createDataFrame(frame).repartition(3))
    parts = {"all": evaluation.whole, "y": next(p for p in evaluation.parts if p.value == "y")}
    for (name, part), uri in ((p, u) for p in parts.items() for u in (A, B)):
        inside = frame if name == "all" else frame[frame["part"] == name]
        expected = regression(inside["_label"], inside[uri], inside["weight"])
        assert values(part, uri) == pytest.approx(expected, rel=1e-9)


def classifier(n: int, classes: int, seed: int = 5) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    label = random.choice(
        classes, n, p=np.array([*range(1, classes + 1)]) / sum(range(classes + 1))
    )
    scores = {}
    for uri, sharpness in ((A, 1.0), (B, 2.0)):
        logits = random.normal(0, 1, (n, classes)) + sharpness * np.eye(classes)[label]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        p = np.round(p, 2)  # many ties
        p[:, -1] = 1 - p[:, :-1].sum(axis=1)
        scores[uri] = np.clip(p, 0, 1)
    frame = pd.DataFrame({"id": np.arange(n), "_label": label})
    frame["weight"] = random.integers(1, 4, n).astype(float)
    frame["part"] = random.choice(["x", "y"], n)
    return frame, scores


def with_scores(
    spark: SparkSession, frame: pd.DataFrame, scores: dict[str, np.ndarray]
) -> DataFrame:
    fields = ", ".join(f"p_{n}: double" for n in range(scores[A].shape[1]))
    lists = [[tuple(map(float, row)) for row in scores[uri]] for uri in (A, B)]
    columns = [frame[name].tolist() for name in frame]
    kinds = {"id": "bigint", "_label": "bigint", "weight": "double", "part": "string"}
    schema = [f"`{name}` {kinds[name]}" for name in frame]
    schema += [f"`{uri}` struct<{fields}>" for uri in (A, B)]
    return spark.createDataFrame(list(zip(*columns, *lists, strict=True)), ", ".join(schema))


def labels(y: Any, decided: Any, w: Any = None) -> dict[str, float]:
    scores = {
        "accuracy": truth.accuracy_score(y, decided, sample_weight=w),
        "balanced_accuracy": truth.balanced_accuracy_score(y, decided, sample_weight=w),
    }
    for name in ("precision", "recall", "f1"):
        score = getattr(truth, f"{name}_score")
        given = {"sample_weight": w, "zero_division": 0}
        for average in ("macro", "weighted"):
            scores[f"{name}_{average}"] = score(y, decided, average=average, **given)
        every = np.unique([*y, *decided])
        by_class = score(y, decided, average=None, labels=every, **given)
        scores |= {f"{name}/{c}": value for c, value in zip(every, by_class, strict=True)}
        if set(every) <= {0, 1}:
            scores[name] = score(y, decided, **given)
    return scores


def calibration_error(right: Any, sure: Any, w: Any = None) -> float:
    """Return the error of scikit-learn's curve, which takes no weights: here they count rows."""
    if w is not None:
        counts = np.asarray(w).astype(np.int64)
        right, sure = np.repeat(right, counts), np.repeat(sure, counts)
    shares, means = calibration_curve(right, sure, n_bins=10)
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, 11)[1:-1], sure), minlength=10)
    return float(np.average(np.abs(shares - means), weights=counts[counts > 0]))


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_scores_are_scikit_learns(spark: SparkSession, *, weighted: bool) -> None:
    frame, scores = classifier(800, 2)
    frame = frame if weighted else frame.drop(columns="weight")
    evaluation = evaluated(with_scores(spark, frame, scores).repartition(3))
    inside = {"all": np.ones(800, bool), "x": frame["part"] == "x"}
    parts = {"all": evaluation.whole, "x": next(p for p in evaluation.parts if p.value == "x")}
    for (name, chosen), uri in ((i, u) for i in inside.items() for u in (A, B)):
        y, p = frame["_label"][chosen].to_numpy(), scores[uri][np.asarray(chosen)]
        w = frame["weight"][chosen] if weighted else None
        expected = labels(y, p.argmax(axis=1), w)
        expected |= {
            "log_loss": truth.log_loss(y, p[:, 1], sample_weight=w),
            "brier_score_loss": truth.brier_score_loss(y, p[:, 1], sample_weight=w),
            "roc_auc": truth.roc_auc_score(y, p[:, 1], sample_weight=w),
            "average_precision": truth.average_precision_score(y, p[:, 1], sample_weight=w),
        }
        expected["calibration_error"] = calibration_error(y, p[:, 1], w)
        assert values(parts[name], uri) == pytest.approx(expected, rel=1e-9)


def test_a_threshold_decides_what_metrics_of_labels_and_flips_count(spark: SparkSession) -> None:
    from lakescore.comparing import differing

    frame, scores = classifier(300, 2)
    scored = with_scores(spark, frame.drop(columns=["weight", "part"]), scores)
    y, decided = frame["_label"].to_numpy(), {u: scores[u][:, 1] >= 0.8 for u in (A, B)}
    problem = comparing.infer(scored.schema, (A, B), rank_by="f1", threshold=0.8)
    paired = comparing.pair(scored, (A, B), problem, keys=["id"])
    with comparing.cached(paired) as kept:
        evaluation = comparing.evaluate(kept, replicates=100)
        (flips,) = differing.flips(kept, A)
    for uri in (A, B):
        expected = labels(y, decided[uri].astype(int))
        expected |= {
            "log_loss": truth.log_loss(y, scores[uri][:, 1]),
            "roc_auc": truth.roc_auc_score(y, scores[uri][:, 1]),
        }
        mine = values(evaluation.whole, uri)
        assert {name: mine[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    differ = decided[A] != decided[B]
    assert flips["flips"] == differ.sum() > 0
    assert flips["mended"] == (differ & (decided[B] == y)).sum()


def test_a_threshold_is_of_two_classes_that_all_versions_have_in_one_order(
    spark: SparkSession,
) -> None:
    from lakescore.comparing.errors import MetricUndefined

    pair = "struct<p_{}: double, p_{}: double>".format
    same, other = pair("no", "yes"), pair("yes", "no")
    schema = spark.createDataFrame([], f"_label string, `{A}` {same}, `{B}` {other}").schema
    with pytest.raises(MetricUndefined, match="the same two classes, in the same order"):
        comparing.infer(schema, (A, B), threshold=0.5)
    numbers = spark.createDataFrame([], f"_label double, `{A}` double").schema
    with pytest.raises(MetricUndefined, match="threshold needs scores"):
        comparing.infer(numbers, (A,), rank_by="rmse", threshold=0.5)


@pytest.mark.parametrize(
    ("label", "prediction"),
    [
        ("boolean", "bigint"),  # true and 1 are different texts: the accuracy would be 0
        ("int", "boolean"),
        ("string", "bigint"),  # 01 and 1 too
        ("bigint", "string"),
        ("string", "boolean"),  # True and true
    ],
)
def test_labels_of_another_type_than_the_predictions_are_refused(
    spark: SparkSession, label: str, prediction: str
) -> None:
    from lakescore.comparing.errors import MetricUndefined

    schema = spark.createDataFrame([], f"_label {label}, `{A}` {prediction}").schema
    with pytest.raises(MetricUndefined, match=f"predicts {prediction}, but labels are {label}"):
        comparing.infer(schema, (A,), problem_type="binary")


@pytest.mark.parametrize(
    ("label", "truths", "classes"),
    [
        ("boolean", [True, False, True, False], ("0", "1")),
        ("boolean", [True, False, True, False], ("False", "True")),
        ("int", [1, 0, 1, 0], ("False", "True")),
    ],
)
def test_the_classes_1_and_true_are_one_as_for_scikit_learn(
    spark: SparkSession, label: str, truths: list[Any], classes: tuple[str, str]
) -> None:
    scores = [(0.2, 0.8), (0.9, 0.1), (0.6, 0.4), (0.5, 0.5)]
    scored = spark.createDataFrame(
        [(n, *row) for n, row in enumerate(zip(truths, scores, strict=True))],
        f"id int, _label {label}, `{A}` struct<p_{classes[0]}: double, p_{classes[1]}: double>",
    )
    mine = values(evaluated(scored, (A,)).whole, A)
    positive = [score[1] for score in scores]
    assert mine["log_loss"] == pytest.approx(truth.log_loss(truths, positive), rel=1e-9)
    assert mine["roc_auc"] == pytest.approx(truth.roc_auc_score(truths, positive), rel=1e-9)


def test_a_score_that_is_not_a_number_is_none_wherever_rows_are_counted(
    spark: SparkSession,
) -> None:
    from lakescore.comparing import differing

    nan, kind = float("nan"), "struct<p_0: double, p_1: double>"
    scored = spark.createDataFrame(
        [(1, 1, (0.2, 0.8), (nan, 0.5)), (2, 0, (0.6, 0.4), (0.9, 0.1)), (3, 1, None, (0.5, 0.5)),
         (4, 1, (0.3, 0.7), (0.1, 0.9))],
        f"id int, _label int, `{A}` {kind}, `{B}` {kind}",
    )  # fmt: skip
    paired = comparing.pair(scored, (A, B), comparing.infer(scored.schema, (A, B)), keys=["id"])
    with comparing.cached(paired) as kept:
        evaluation = comparing.evaluate(kept, replicates=100)
        failed = {(row.id, row.model_uri) for row in differing.failures(kept).collect()}
        (flips,) = differing.flips(kept, A)
    assert evaluation.own.rows == {A: 3, B: 3}
    assert failed == {(1, B), (3, A)}
    assert flips["rows"] == evaluation.whole.rows[A] == 2


@pytest.mark.parametrize("weighted", [False, True])
def test_multiclass_scores_are_scikit_learns(spark: SparkSession, *, weighted: bool) -> None:
    frame, scores = classifier(900, 4)
    frame = frame.drop(columns=["part"] if weighted else ["weight", "part"])
    evaluation = evaluated(with_scores(spark, frame, scores))
    w = frame["weight"] if weighted else None
    for uri in (A, B):
        y, p = frame["_label"].to_numpy(), scores[uri]
        decided = p.argmax(axis=1)
        expected = labels(y, decided, w)
        ovr = {"multi_class": "ovr", "sample_weight": w}
        expected |= {
            "log_loss": truth.log_loss(y, p, sample_weight=w),
            "brier_score_loss": truth.brier_score_loss(y, p, sample_weight=w),
            "roc_auc_ovr": truth.roc_auc_score(y, p, **ovr),
            "roc_auc_ovr_weighted": truth.roc_auc_score(y, p, average="weighted", **ovr),
            "average_precision": truth.average_precision_score(y, p, sample_weight=w),
            "calibration_error": calibration_error(decided == y, p.max(axis=1), w),
        }
        assert values(evaluation.whole, uri) == pytest.approx(expected, rel=1e-9)
        matrix = truth.confusion_matrix(y, decided, sample_weight=w)
        cells = {
            (str(i), str(j)): float(matrix[i, j])
            for i in range(4)
            for j in range(4)
            if matrix[i, j]
        }
        assert evaluation.cells[uri] == cells


def test_labels_of_words_are_scikit_learns(spark: SparkSession) -> None:
    pairs = [("red", "red", "red"), ("blue", "red", "blue"), ("green", "green", "black")] * 9
    scored = spark.createDataFrame(
        [(n, *pair) for n, pair in enumerate(pairs)],
        f"id int, _label string, `{A}` string, `{B}` string",
    )
    evaluation = evaluated(scored)
    for n, uri in enumerate((A, B), 1):
        expected = labels([p[0] for p in pairs], [p[n] for p in pairs])
        assert values(evaluation.whole, uri) == pytest.approx(expected, rel=1e-9)


def test_the_class_that_binary_metrics_are_of_may_be_named(spark: SparkSession) -> None:
    pairs = [("red", "red"), ("blue", "red"), ("red", "blue"), ("red", "red")] * 5
    scored = spark.createDataFrame(
        [(n, *pair) for n, pair in enumerate(pairs)], f"id int, _label string, `{A}` string"
    )
    true, predicted = zip(*pairs, strict=True)
    scores = values(evaluated(scored, (A,), problem_type="binary", positive="red").whole, A)
    for name in ("precision", "recall", "f1"):
        expected = getattr(truth, f"{name}_score")(true, predicted, pos_label="red")
        assert scores[name] == pytest.approx(expected, rel=1e-9)
    scores = values(evaluated(scored, (A,), problem_type="multiclass").whole, A)
    assert "f1" not in scores


def test_rows_on_which_probabilities_or_labels_differ_most_are_told(spark: SparkSession) -> None:
    from lakescore.comparing import differing

    kind = "struct<p_0: double, p_1: double>"
    rows = [(1, 1, (0.5, 0.5), (0.25, 0.75)), (2, 0, (1.0, 0.0), (0.0, 1.0)),
            (3, 1, (0.5, 0.5), (0.5, 0.5))]  # fmt: skip
    holdout = spark.createDataFrame([(n, n / 2, y) for n, y, *_ in rows], "id int, x double, y int")
    scored = spark.createDataFrame(rows, f"id int, _label int, `{A}` {kind}, `{B}` {kind}")

    def most(scored: DataFrame) -> list[dict[str, Any]]:
        paired = comparing.pair(scored, (A, B), comparing.infer(scored.schema, (A, B)), keys=["id"])
        differing_rows = differing.disagreements(paired, holdout, most=2, inputs=["x"], label="y")
        here = replace(paired, rows=passes.fetch(paired.rows))
        again = differing.disagreements(here, holdout, most=2, inputs=["x"], label="y")
        assert again.sort_by("id") == differing_rows.sort_by("id")
        return differing_rows.sort_by([("disagreement", "descending")]).to_pylist()

    first, second = most(scored)
    kinds = {"id": 2, "disagreement": 1.0, "y": 0, "x": 1.0}
    assert {name: first[name] for name in kinds} == kinds
    assert (second["id"], second["disagreement"]) == (1, 0.25)
    assert second["prediction_m_2"] == {"p_0": 0.25, "p_1": 0.75}
    words = [(1, "a", "a", "b"), (2, "a", "b", "b")]
    (only,) = most(
        spark.createDataFrame(words, f"id int, _label string, `{A}` string, `{B}` string")
    )
    assert (only["id"], only["disagreement"], only["prediction_m_1"]) == (1, 1.0, "a")


def test_rows_are_found_again_by_their_keys_as_spark_joins_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Each of two rows with one key is shown with the inputs of both, and NaN equals NaN."""
    from lakescore import tables
    from lakescore.comparing import differing

    nan = float("nan")
    rows = [(1.0, 1.0, 3.0), (1.0, 2.0, 5.0), (nan, 3.0, 4.0), (None, 4.0, 9.0), (2.0, 5.0, 5.0)]
    path = str(tmp_path / "holdout")
    frame = spark.createDataFrame(rows, "id double, x double, y double")
    frame.coalesce(1).write.format("delta").save(path)
    scored = frame.selectExpr("id", "y AS _label", f"x AS `{A}`", f"y AS `{B}`")
    paired = comparing.pair(scored, (A, B), comparing.infer(scored.schema, (A, B)), keys=["id"])
    asked: dict[str, Any] = {"most": 10, "inputs": ["x"], "label": "y"}
    by_log, by_spark = (
        differing.disagreements(paired, holdout, **asked).to_pylist()
        for holdout in (tables.snapshot(spark, path), frame)
    )
    assert sorted(map(str, by_log)) == sorted(map(str, by_spark))
    assert [(row["disagreement"], row["x"]) for row in by_log if row["id"] == 1.0] == [
        (3.0, 1.0), (2.0, 1.0), (3.0, 2.0), (2.0, 2.0),
    ]  # fmt: skip
    assert [row["x"] for row in by_log if row["id"] != 1.0] == [3.0]  # a null key belongs to no row


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("double", ["1.0E-4", "0.001", "-1.5", "0.0", "9999999.0", "1.0E7", "1.25E20", "NaN"]),
        ("float", ["0.1", "1.0E-4", "1.0E7", "Infinity"]),
        ("decimal(38,10)", ["0.0000000000", "0.0000001000", "-1.5000000000"]),
        ("boolean", ["true", "false"]),
        ("bigint", ["-9223372036854775808", "7"]),
        ("date", ["0001-01-01", "2013-10-10"]),
        ("timestamp", ["1969-12-31 23:59:59.9", "2013-10-10 10:20:00"]),
        ("string", ["a", "", " 1"]),
    ],
)  # fmt: skip
def test_slices_are_written_as_spark_writes_their_values(
    spark: SparkSession, kind: str, values: list[str]
) -> None:
    from lakescore.arrow import collected
    from lakescore.comparing import matching

    if spark.version < "4" and kind == "decimal(38,10)":
        pytest.skip("Spark 3.5 writes 0E-10")
    texts = spark.createDataFrame([(value,) for value in values], "value string")
    typed = texts.selectExpr(f"CAST(value AS {kind}) AS value")
    by_spark = [row.value for row in typed.selectExpr("CAST(value AS string) AS value").collect()]
    column = collected(typed).column(0).combine_chunks()
    assert matching.texts(column).to_pylist() == by_spark == values


def hair(n: int, seed: int = 12) -> pd.DataFrame:
    """Return predictions of A and B that differ by chance, and A's errors are 2 % smaller."""
    random = np.random.default_rng(seed)
    label, shared = random.normal(0, 10, n), random.normal(0, 1, n)
    frame = pd.DataFrame({"id": np.arange(n), "_label": label})
    frame[A] = label + shared + random.normal(0, 0.5, n)
    frame[B] = label + 1.02 * (shared + random.normal(0, 0.5, n))
    return frame


def test_a_better_model_by_a_hair_ties_on_few_rows_and_wins_on_many(spark: SparkSession) -> None:
    few = evaluated(spark.createDataFrame(hair(100))).whole.standings["rmse"]
    assert few.ranks == {A: 1, B: 1}
    assert few.differences[A, B].holds_zero
    many = evaluated(spark.createDataFrame(hair(30_000))).whole.standings["rmse"]
    assert many.ranks == {A: 1, B: 2}
    assert many.differences[A, B].high < 0 < many.differences[B, A].low
    few_width, many_width = (
        standing.differences[A, B].high - standing.differences[A, B].low for standing in (few, many)
    )
    assert few_width / many_width == pytest.approx(np.sqrt(300), rel=0.5)


def test_models_that_predict_the_same_tie_with_a_difference_of_nothing(spark: SparkSession) -> None:
    frame = rows(300).drop(columns=["weight", "part"])
    frame[B] = frame[A]
    for name, standing in evaluated(spark.createDataFrame(frame)).whole.standings.items():
        difference = standing.differences[A, B]
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
        assert standing.ranks == ({A: None, B: None} if name == "bias" else {A: 1, B: 1})


def test_bootstraps_depend_on_the_rows_keys_and_not_on_where_they_lie(spark: SparkSession) -> None:
    frame = spark.createDataFrame(rows().drop(columns=["part"]))
    runs = [evaluated(frame.repartition(n)).whole.standings for n in (1, 5)]
    for name in runs[0]:
        for uri in (A, B):
            once, again = (run[name].estimates[uri] for run in runs)
            assert (again.low, again.high) == pytest.approx((once.low, once.high), rel=1e-9)
    other = evaluated(frame, seed=1).whole.standings["rmse"].estimates[A]
    assert other.value == pytest.approx(runs[0]["rmse"].estimates[A].value)
    assert other.low != pytest.approx(runs[0]["rmse"].estimates[A].low, rel=1e-9)


def test_intervals_are_as_wide_as_the_theory_of_a_mean_says(spark: SparkSession) -> None:
    frame = rows(4000).drop(columns=["weight", "part"])
    standing = evaluated(spark.createDataFrame(frame), replicates=400).whole.standings["mae"]
    errors = (frame["_label"] - frame[A]).abs()
    reach = 1.96 * errors.std() / np.sqrt(len(errors))
    interval = standing.estimates[A]
    assert (interval.high - interval.low) / 2 == pytest.approx(reach, rel=0.15)


def with_failures(spark: SparkSession) -> DataFrame:
    error = "array<struct<version string, type string, message string>>"
    return spark.createDataFrame(
        [
            (1, 1.0, 1.5, 1.0, None),
            (2, 2.0, 2.5, 2.0, []),
            (3, 3.0, 3.0, None, [(B, "ValueError", "x is too large")]),
            (4, 4.0, 9.0, float("nan"), None),  # no error, and yet no prediction
            (5, 5.0, None, None, [(A, "ValueError", "none"), (B, "KeyError", "none")]),
        ],
        f"id int, _label double, `{A}` double, `{B}` double, {ERRORS} {error}",
    )


def test_rows_that_a_version_could_not_score_count_for_the_others_alone(
    spark: SparkSession,
) -> None:
    from lakescore.comparing import differing

    scored = with_failures(spark)
    evaluation = evaluated(scored)
    assert evaluation.rows == 5
    assert evaluation.whole.rows == {A: 2, B: 2}  # rows 1 and 2
    assert values(evaluation.whole, A)["mae"] == 0.5
    assert values(evaluation.whole, B)["mae"] == 0.0
    assert evaluation.own.rows == {A: 4, B: 2}
    own = values(evaluation.own, A)
    assert own["mae"] == (0.5 + 0.5 + 0 + 5) / 4
    assert own["median_absolute_error"] == 0.5
    assert own["max_error"] == 5
    paired = comparing.pair(scored, (A, B), comparing.infer(scored.schema, (A, B)), keys=["id"])
    assert {tuple(row) for row in differing.failures(paired).collect()} == {
        (3, B, "ValueError", "x is too large"),
        (4, B, "NoPrediction", "the model gave no value"),
        (5, A, "ValueError", "none"),
        (5, B, "KeyError", "none"),
    }
    counts = {A: {"ValueError": 1}, B: {"ValueError": 1, "NoPrediction": 1, "KeyError": 1}}
    here = replace(paired, rows=passes.fetch(paired.rows))
    assert differing.count_failures(paired) == differing.count_failures(here) == counts
    assert len(passes.tuples(differing.failures(here))) == 4
    assert set(passes.tuples(differing.failures(here))) == {
        tuple(row) for row in differing.failures(paired).collect()
    }


def test_where_no_row_was_scored_by_all_there_is_no_ranking(spark: SparkSession) -> None:
    from lakescore.comparing.errors import MetricUndefined

    scored = with_failures(spark).where("id > 2")
    with pytest.raises(MetricUndefined, match="no row of 3 could be scored by every version"):
        evaluated(scored)


@pytest.mark.parametrize("weight", [None, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(spark: SparkSession, weight: float | None) -> None:
    from lakescore.comparing.errors import WeightsInvalid

    scored = spark.createDataFrame(
        [(1, 1.0, 1.0, 1.0), (2, 2.0, 2.0, weight)],
        f"id int, _label double, `{A}` double, weight double",
    )
    with pytest.raises(WeightsInvalid, match="1 of 2 labelled rows"):
        evaluated(scored, (A,))


def cost(label: Any, predicted: Any) -> Any:
    """Count an unforeseen delay three times."""
    return np.where(label > predicted, 3.0, 1.0) * np.abs(label - predicted)


def test_a_custom_metric_is_the_weighted_mean_of_its_rows(spark: SparkSession) -> None:
    frame = rows(200)
    evaluation = evaluated(spark.createDataFrame(frame), rank_by="cost", custom={"cost": cost})
    losses = cost(frame["_label"], frame[A])
    expected = np.average(losses, weights=frame["weight"])
    assert values(evaluation.whole, A)["cost"] == pytest.approx(expected, rel=1e-9)
    assert evaluation.whole.standings["cost"].better_high is False


def test_flips_and_shifts_are_counted_against_the_baseline(spark: SparkSession) -> None:
    from lakescore.comparing import differing

    triples = [("x", "x", "x"), ("x", "y", "x"), ("y", "y", "x"), ("y", "x", "z"), ("x", "x", "x")]
    scored = spark.createDataFrame(
        [(n, *triple) for n, triple in enumerate(triples)],
        f"id int, _label string, `{A}` string, `{B}` string",
    )
    paired = comparing.pair(scored, (A, B), comparing.infer(scored.schema, (A, B)), keys=["id"])
    flips = {"uri": B, "rows": 5, "flips": 3, "mended": 1, "broken": 1}  # the fourth is wrong twice
    here = replace(paired, rows=passes.fetch(paired.rows))
    assert differing.flips(paired, A) == differing.flips(here, A) == [flips]
    evaluation = evaluated(scored)
    p, q = np.array([4, 1e-4 * 5, 1]) / 5, np.array([3, 2, 1e-4 * 5]) / 5  # of x, y, z
    assert differing.shifts(evaluation, paired, A) == {
        B: pytest.approx(np.sum((p - q) * np.log(p / q)))
    }


def test_predictions_that_moved_have_a_stability_index(spark: SparkSession) -> None:
    from lakescore.comparing import differing

    frame = rows(5000).drop(columns=["weight", "part"])
    frame[B] = frame[A] + 5
    scored = spark.createDataFrame(frame)
    paired = comparing.pair(scored, (A, B), comparing.infer(scored.schema, (A, B)), keys=["id"])
    (shift,) = differing.shifts(evaluated(scored), paired, A).values()
    assert shift > 0.25
    frame[B] = frame[A].sample(frac=1, random_state=1).to_numpy()  # the same predictions elsewhere
    scored = spark.createDataFrame(frame)
    (shift,) = differing.shifts(evaluated(scored), paired, A).values()
    assert shift == pytest.approx(0)


def test_a_column_with_too_many_values_is_no_slice(spark: SparkSession) -> None:
    from lakescore.comparing.errors import TooManySlices

    frame = rows(300).drop(columns=["weight"])
    frame["part"] = frame["id"].astype(str)
    with pytest.raises(TooManySlices, match="column 'part' has more than 200 slices"):
        evaluated(spark.createDataFrame(frame))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("month >= 10 and carrier in ('UA', 'AA')", {2}),
        ("day between DATE '2013-10-01' and DATE '2013-10-31'", {1, 2}),
        ("not (carrier like 'U%') or carrier is null", {1, 4}),
        ("`odd name` <> -1.5", {1, 2, 3}),
        ("carrier = 'x\\' or 1 = 1 --'", set()),  # a text, to its end
    ],
)
def test_a_filter_compares_columns(spark: SparkSession, text: str, left: set[int]) -> None:
    kind = "id int, month int, carrier string, day string, `odd name` double, y double"
    holdout = spark.createDataFrame(
        [
            (1, 10, "B6", "2013-10-03", 0.0, 1.0),
            (2, 10, "UA", "2013-10-04", 0.0, 1.0),
            (3, 9, "UA", "2013-09-04", 0.0, 1.0),
            (4, 9, None, "2013-09-04", -1.5, 1.0),
            (5, 10, "UA", "2013-10-04", 0.0, None),  # no label
        ],
        kind,
    ).withColumn("day", F.to_date("day"))
    selected = comparing.select(holdout, "y", where=text)
    assert {row.id for row in selected.collect()} == left  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "reflect('java.lang.Runtime', 'getRuntime') is not null",
        "java_method('java.lang.System', 'exit', 1)",
        "id in (select 1)",
        "exists (select 1 from text.`/etc/passwd`)",
        "id = 1; drop table x",
        "carrier rlike '(a+)+$'",
        "other = 1",
        "cast(id as string) = '1'",
        "t.id = 1",
        "id = (",
        "carrier = 'x'' or 1 = 1 --'",  # two texts side by side
    ],
)
def test_a_filter_can_do_nothing_else(spark: SparkSession, text: str) -> None:
    from lakescore.comparing.errors import BadCondition

    holdout = spark.createDataFrame([(1, "x", 1.0)], "id int, carrier string, y double")
    with pytest.raises(BadCondition):
        comparing.select(holdout, "y", where=text)


def test_an_interval_holds_its_value_also_where_a_score_of_several_classes_is_above_1(
    spark: SparkSession,
) -> None:
    rows = [(n, "a", (0.05, 0.9, 0.05)) for n in range(50)]  # each is wrong, and sure of it
    schema = f"id int, _label string, `{A}` struct<p_a: double, p_b: double, p_c: double>"
    evaluation = evaluated(spark.createDataFrame(rows, schema), (A,), rank_by="brier_score_loss")
    estimate = evaluation.whole.standings["brier_score_loss"].estimates[A]
    assert estimate.value == pytest.approx(0.95**2 + 0.9**2 + 0.05**2)
    assert estimate.low <= estimate.value <= estimate.high
