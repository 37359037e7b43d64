"""Realised: the metrics of labelled predictions, by unit and segment.

The metrics are those of compare jobs, by the same code: `comparing.pair` and `comparing.evaluate`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import StringType

from lakescore import comparing
from lakescore.comparing.errors import MetricUndefined
from lakescore.executor import SEPARATOR
from lakescore.metrics import find
from lakescore.monitoring.errors import LabelsUnfit
from lakescore.monitoring.labels import NO_SEGMENT, UNIT, Labelled
from lakescore.signature import DECISION
from lakescore.signature.naming import UNFIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame

    from lakescore.config import MonitorJob

Segment: TypeAlias = tuple[str | None, str | None]
"""The column and the value of a segment; None and None for a whole unit."""
Metrics: TypeAlias = "Mapping[str, Mapping[str, float | None]]"
"""By metric: `value`, `low` and `high`."""
WHOLE: Segment = (None, None)
_PREDICTION = "prediction"
"""The name under which the predictions of all units are evaluated."""
_ALWAYS = {"regression": "rmse", "labels": "accuracy", "scores": "log_loss"}
"""By task, a metric that has a value for any labels."""
_BOOTSTRAPS = 400
_LEVEL = 0.95
_MOST_PARTS = 200
"""`comparing.evaluate` takes at most this number of slices a column."""


def choose_outputs(
    address: str, outputs: Sequence[str], asked: str | None, *, proba: bool
) -> list[str]:
    """Return the columns of predictions to compare with labels: one, or one for each class.

    Args:
        address: the table of predictions, for messages.
        outputs: its columns of outputs.
        asked: the column that the job's file names.
        proba: whether the outputs are the probabilities of classes.

    Raises:
        LabelsUnfit: there are several outputs, and none was asked for; or it does not exist.
    """
    if asked is not None:
        if asked not in outputs:
            raise LabelsUnfit(address, f"it has no output {asked!r}", outputs)
        return [asked]
    values = [name for name in outputs if name != DECISION]
    if len(values) == 1 or (proba and values):
        return values
    raise LabelsUnfit(address, "it is not clear which output has labels", outputs)


def evaluate(
    matched: Labelled,
    outputs: Sequence[str],
    names: Sequence[str],
    config: MonitorJob,
    threshold: float | None,
) -> Iterator[tuple[str, Segment, Metrics, int]]:
    """Yield unit, segment, metrics and evaluated rows, for the units *names* that have labels.

    Args:
        matched: the predictions with their labels.
        outputs: the result of `choose_outputs`.
        names: the names of units, as `labels.unit_name` gives them.
        config: the job.
        threshold: the score that decides for the second of two classes.

    Raises:
        MetricUndefined: the types of predictions and labels have no metric.
    """
    assert config.labels is not None  # noqa: S101 - narrows for mypy
    scored = _with_prediction(matched, outputs)
    problem = comparing.infer(
        scored.schema, [_PREDICTION], problem_type=config.labels.problem_type,
        rank_by=config.labels.rank_by, positive=config.labels.positive_class,
        threshold=None if outputs == [DECISION] else threshold,
    )  # fmt: skip
    # A metric such as roc_auc has no value if all labels are of one class; the others have one.
    problem = replace(problem, rank_by=_ALWAYS[problem.task])
    for chunk in _chunks(scored, names):
        paired = comparing.pair(
            _of_units(scored, chunk).rows, [_PREDICTION], problem,
            keys=scored.keys, slices=[UNIT, *scored.segments],
        )  # fmt: skip
        try:
            with comparing.cached(paired) as kept:
                evaluation = comparing.evaluate(kept, replicates=_BOOTSTRAPS, level=_LEVEL)
        except MetricUndefined:  # no labelled row of the chunk has a prediction
            continue
        for part in evaluation.parts:
            if part.by is None or part.value is None:
                continue
            name, segment = _place(part.by, part.value, config.by, scored.segments)
            metrics = {
                metric: standing.estimates[_PREDICTION].facts()
                for metric, standing in part.standings.items()
            }
            yield name, segment, metrics, part.rows[_PREDICTION]


def rank_metric(config: MonitorJob, metrics: Metrics) -> str | None:
    """Return the metric that people are shown first, if it is among *metrics*."""
    asked = config.labels.rank_by if config.labels is not None else None
    return next((name for name in (asked, "rmse", "log_loss", "accuracy") if name in metrics), None)


def is_worse(name: str, facts: Mapping[str, float | None], limit: float) -> bool | None:
    """Return whether a metric is worse than *limit* in its whole interval; None without a value."""
    metric = find(name)
    is_high = metric is not None and bool(metric.greater_is_better)
    if facts["value"] is None:
        return None
    bound = facts["high" if is_high else "low"]
    bound = facts["value"] if bound is None else bound
    return bound < limit if is_high else bound > limit


def _place(
    by: str, value: str, names: Sequence[str], segments: Sequence[str]
) -> tuple[str, Segment]:
    """Return the unit and the segment of a slice of the evaluation."""
    if by == UNIT:
        return value, WHOLE
    unit, _, text = value.rpartition(SEPARATOR)
    return unit, (names[segments.index(by)], None if text == NO_SEGMENT else text)


def _chunks(scored: Labelled, names: Sequence[str]) -> Iterator[list[str]]:
    """Yield *names* in parts with few enough units and segments for one evaluation."""
    widest = max((_most_segments(scored, column) for column in scored.segments), default=1)
    size = max(1, _MOST_PARTS // max(1, widest))
    for start in range(0, len(names), size):
        yield list(names[start : start + size])


def _most_segments(scored: Labelled, column: str) -> int:
    """Return the most segments of a unit."""
    rows = scored.rows
    if scored.is_here:
        texts = pa.table({"unit": rows.column(UNIT), "segment": rows.column(column)})
        counts = texts.group_by("unit").aggregate([("segment", "count_distinct")])
        return int(pc.max(counts.column("segment_count_distinct")).as_py() or 1)
    counted = rows.groupBy(UNIT).agg(F.count_distinct(column).alias("n")).agg(F.max("n")).head()
    return int(counted[0] or 1) if counted is not None else 1


def _of_units(scored: Labelled, names: Sequence[str]) -> Labelled:
    """Return the labelled rows of units."""
    rows = scored.rows
    if scored.is_here:
        has_label = rows.column(comparing.LABEL).is_valid()
        chosen = rows.filter(pc.and_(has_label, pc.is_in(rows.column(UNIT), pa.array(names))))
    else:
        chosen = rows.where(F.col(comparing.LABEL).isNotNull() & F.col(UNIT).isin(list(names)))
    return replace(scored, rows=chosen)


def _with_prediction(matched: Labelled, outputs: Sequence[str]) -> Labelled:
    """Return the rows with the outputs as the column `prediction`: a struct of several.

    The name of a column of probabilities is not always that of its class, because Delta does not
    allow all characters. The labels are changed in the same way.
    """
    rows = matched.rows
    if len(outputs) == 1 and outputs[0] == _PREDICTION:
        return matched
    if matched.is_here:
        columns = [rows.column(name).combine_chunks() for name in outputs]
        column = columns[0]
        if len(outputs) > 1:
            known = pc.and_(columns[0].is_valid(), columns[-1].is_valid())
            column = pa.StructArray.from_arrays(columns, names=list(outputs), mask=pc.invert(known))
            rows = _fit_labels_here(rows)
        others = [name for name in rows.column_names if name not in {*outputs, _PREDICTION}]
        rows = rows.select(others).append_column(_PREDICTION, column)
        return replace(matched, rows=rows)
    value = F.col(f"`{outputs[0]}`")
    if len(outputs) > 1:
        known = value.isNotNull() & F.col(f"`{outputs[-1]}`").isNotNull()
        value = F.when(known, F.struct(*[F.col(f"`{name}`") for name in outputs]))
        rows = _fit_labels_in_spark(rows)
    others = [name for name in rows.columns if name not in {*outputs, _PREDICTION}]
    rows = rows.select(*[F.col(f"`{name}`") for name in others], value.alias(_PREDICTION))
    return replace(matched, rows=rows)


def _fit_labels_here(rows: pa.Table) -> pa.Table:
    place = rows.schema.get_field_index(comparing.LABEL)
    if not pa.types.is_string(rows.schema.field(place).type):
        return rows
    fitting = pc.replace_substring_regex(rows.column(place), UNFIT, "_")
    return rows.set_column(place, comparing.LABEL, fitting)


def _fit_labels_in_spark(rows: DataFrame) -> DataFrame:
    if not isinstance(rows.schema[comparing.LABEL].dataType, StringType):
        return rows
    return rows.withColumn(comparing.LABEL, F.regexp_replace(comparing.LABEL, UNFIT, "_"))
