"""Comparing: several versions on one holdout, every labelled row, ranked by a metric.

Each metric is defined and named as in scikit-learn.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    BooleanType,
    DoubleType,
    FloatType,
    FractionalType,
    NumericType,
    StructType,
)

from lakescore.errors import MetricUndefined
from lakescore.scanning import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession

    from lakescore.registry import ModelVersion

LABEL = "_label"
"""The column that `labelled` adds."""
BETTER_HIGH = frozenset({"r2", "accuracy", "f1", "roc_auc"})
_REGRESSION = ("rmse", "mae", "r2")
_LABELS = ("accuracy", "f1")
_SCORES = ("roc_auc", "log_loss")
_TWO = 2
"""The classes that an area under the curve is between."""
# scikit-learn clips probabilities by the epsilon of their dtype before the logarithm.
_EPSILON = 2.220446049250313e-16


@dataclass(frozen=True)
class Ranked:
    """One version's place on the holdout."""

    rank: int
    model: ModelVersion
    metrics: Mapping[str, float]
    """The ranking metric first."""


def labelled(holdout: DataFrame, label: str) -> DataFrame:
    """Return the rows that have a label (null and NaN are none), with it in `_label` too."""
    rows = holdout.withColumn(LABEL, F.col(f"`{label}`")).where(F.col(LABEL).isNotNull())
    may_be_nan = isinstance(rows.schema[LABEL].dataType, (DoubleType, FloatType))
    return rows.where(~F.isnan(LABEL)) if may_be_nan else rows


def select(holdout: DataFrame, label: str) -> Selection:
    """Return what `labelled` does of a snapshot's rows, as a selection that workers can read."""
    return Selection(
        snapshot=holdout, choose=partial(labelled, label=label), adds=LABEL, column=label
    )


def metrics_for(rank_by: str, scored: StructType, names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics of the same family as *rank_by*, it first; f1 is for numbers alone.

    Args:
        rank_by: the metric that ranks.
        scored: the schema of `_label` and *names*.
        names: the columns of predictions.

    Raises:
        MetricUndefined: the label or a prediction is not of a type that *rank_by* is defined for.
    """
    family = next(each for each in (_REGRESSION, _LABELS, _SCORES) if rank_by in each)
    label = scored[LABEL].dataType
    for name in names:
        kind = scored[name].dataType
        if family is _REGRESSION and not isinstance(kind, NumericType):
            raise MetricUndefined(rank_by, f"{name} predicts {kind.simpleString()}, not numbers")
        if family is _SCORES and not isinstance(kind, (DoubleType, FloatType)):
            raise MetricUndefined(
                rank_by, f"{name} predicts labels ({kind.simpleString()}), not probabilities"
            )
        if family is _LABELS and isinstance(kind, FractionalType) != isinstance(
            label, FractionalType
        ):
            raise MetricUndefined(
                rank_by,
                f"{name} predicts {kind.simpleString()} and labels are {label.simpleString()}",
            )
    numbers = isinstance(label, NumericType) or (
        family is not _REGRESSION and isinstance(label, BooleanType)
    )
    if rank_by != "accuracy" and not numbers:
        raise MetricUndefined(rank_by, f"labels are {label.simpleString()}, not numbers")
    others = [each for each in family if each != rank_by and (numbers or each != "f1")]
    return (rank_by, *others)


@contextmanager
def held(scored: DataFrame) -> Iterator[DataFrame]:
    """Keep *scored* while several metrics read it, so that each row is predicted once."""
    kept = scored.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield kept
    finally:
        kept.unpersist()


def evaluate(
    scored: DataFrame, names: Sequence[str], metrics: Sequence[str]
) -> tuple[int, dict[str, dict[str, float]]]:
    """Return the number of rows and, by column of predictions, the metrics over all of them.

    One aggregation over *scored*; roc_auc takes one pass more a column.

    Args:
        scored: the columns `_label` and *names*, `held` since it is read again.
        names: the columns of predictions.
        metrics: names from `metrics_for`, the one that ranks first.

    Raises:
        MetricUndefined: no version has a value by the metric that ranks: there are no labels, or
            these are not two classes.
    """
    plain = [metric for metric in metrics if metric != "roc_auc"]
    cells = [
        _aggregate(metric, _column(name)).alias(f"{name} {metric}")
        for name in names
        for metric in plain
    ]
    seen = F.count("*").alias("rows"), F.count_distinct(LABEL).alias("labels")
    found = scored.agg(*seen, *cells).collect()[0]
    areas = {"roc_auc"} & set(metrics) if found["labels"] == _TWO else set()
    table = {
        name: {
            metric: _number(
                _roc_auc(scored, name)
                if metric in areas
                else found.asDict().get(f"{name} {metric}")
            )
            for metric in metrics
        }
        for name in names
    }
    if all(math.isnan(row[metrics[0]]) for row in table.values()):
        raise MetricUndefined(
            metrics[0], f"{found['rows']} labelled rows with {found['labels']} different labels"
        )
    return found["rows"], table


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def rank(
    models: Sequence[ModelVersion], table: Mapping[str, Mapping[str, float]], by: str
) -> list[Ranked]:
    """Return *models* better first by the metric *by*; equals share a rank, NaN comes last."""
    sign = -1 if by in BETTER_HIGH else 1

    def place(model: ModelVersion) -> tuple[bool, float]:
        value = table[model.uri][by]
        return (True, 0.0) if math.isnan(value) else (False, sign * value)

    ordered = sorted(models, key=place)
    return [
        Ranked(1 + sum(place(other) < place(model) for other in models), model, table[model.uri])
        for model in ordered
    ]


def long_form(spark: SparkSession, ranking: Sequence[Ranked], **facts: object) -> DataFrame:
    """Return the ranking as rows: rank, model_name, model_version, model_uri, metric, value, facts.

    Args:
        spark: the session.
        ranking: what `rank` gave.
        facts: further columns, constant in all rows.
    """
    rows = [
        (each.rank, each.model.name, each.model.version, each.model.uri, metric, value)
        for each in ranking
        for metric, value in each.metrics.items()
    ]
    schema = (
        "rank int, model_name string, model_version int, model_uri string, "
        "metric string, value double"
    )
    constants = [F.lit(value).alias(name) for name, value in facts.items()]
    return spark.createDataFrame(rows, schema).select("*", *constants)


def _aggregate(metric: str, predicted: Column) -> Column:
    label = F.col(LABEL)
    error = label.cast("double") - predicted.cast("double")
    match metric:
        case "rmse":
            return F.sqrt(F.avg(error * error))
        case "mae":
            return F.avg(F.abs(error))
        case "r2":
            return _r2(label, F.sum(error * error))
        case "accuracy":
            return F.avg((label == predicted).cast("double"))
        case "f1":
            return _f1(label, predicted)
        case "log_loss":
            sure = F.least(F.greatest(predicted, F.lit(_EPSILON)), F.lit(1 - _EPSILON))
            return -F.avg(F.when(label.cast("int") == 1, F.log(sure)).otherwise(F.log(1 - sure)))
    raise AssertionError(metric)


def _r2(label: Column, residual: Column) -> Column:
    """R2 as scikit-learn has it: of equal labels 1 or 0, of a single row none."""
    rows, total = F.count(label), F.var_pop(label.cast("double")) * F.count(label)
    constant = F.when(residual == 0, F.lit(1.0)).otherwise(F.lit(0.0))
    return F.when(rows > 1, F.when(total == 0, constant).otherwise(1 - residual / total))


def _f1(label: Column, predicted: Column) -> Column:
    """Binary F1 with 1 (or true) as the positive label, scikit-learn's default; 0 without any.

    Null where a label or prediction is neither 0 nor 1: scikit-learn asks for an average then.
    """
    is_one, says_one = label.cast("int") == 1, predicted.cast("int") == 1
    hits = F.sum((is_one & says_one).cast("double"))
    ones, said = F.sum(is_one.cast("double")), F.sum(says_one.cast("double"))
    binary = F.min(_is_binary(label) & _is_binary(predicted))
    score = F.when(ones + said > 0, 2 * hits / (ones + said)).otherwise(F.lit(0.0))
    return F.when(binary, score)


def _is_binary(value: Column) -> Column:
    return value.cast("double").isin(0.0, 1.0)


def _roc_auc(scored: DataFrame, name: str) -> float:
    evaluator = BinaryClassificationEvaluator(
        rawPredictionCol="score", labelCol=LABEL, metricName="areaUnderROC", numBins=0
    )
    pairs = scored.select(F.col(LABEL).cast("double"), _column(name).cast("double").alias("score"))
    return float(evaluator.evaluate(pairs))


def _column(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")
