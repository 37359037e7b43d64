"""Pairing: labels beside the predictions of each version, in the columns that are added up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    FractionalType,
    IntegralType,
    NumericType,
    StringType,
    StructField,
    StructType,
)

from lakescore import executor, metrics, scanning, scoring, slicing
from lakescore.arrow import arrow_type
from lakescore.comparing import passes
from lakescore.comparing.errors import HoldoutEmpty, MetricUndefined
from lakescore.comparing.filtering import condition
from lakescore.comparing.matching import Columns, match
from lakescore.errors import ColumnsMissing
from lakescore.logs import NotEligible
from lakescore.scanning import Selection
from lakescore.scoring import ERRORS, SAID, Execution
from lakescore.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame

    from lakescore.metrics import Task
    from lakescore.options import ProblemType
    from lakescore.signature import Binding

LABEL = "_label"
"""The column that `select` adds."""
_CLASS_PREFIX = "p_"
_BINARY = 2
_DEFAULTS = {"regression": "rmse", "labels": "accuracy", "scores": "log_loss"}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The kind of predictions, and the metric that ranks the versions."""

    task: Task
    problem_type: ProblemType
    rank_by: str
    classes: tuple[str, ...] = ()
    """The classes of probabilities, in the first model's order; empty for labels and numbers."""
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By version, the class of each field of its struct of probabilities."""
    positive: str | None = None
    """For two classes, the class of precision, recall, f1 and curves."""
    threshold: float | None = None
    """For two classes, the lowest score that decides for the second; if None, the higher wins."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Rows ready to be added up, and the description of their columns."""

    rows: passes.Rows
    """First the columns that workers read: `bucket`, `label`, `weight`, the slices as texts, `v0`,
    `v1`, .... Then `k0`, ..., `errors` and, before the rows are held, `SAID`. See
    `matching.match`."""
    problem: Problem
    uris: tuple[str, ...]
    slices: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def numbers(self) -> passes.Rows:
        """The columns that workers read to add up the rows."""
        slices = [f"s{n}" for n in range(len(self.slices))]
        versions = [f"v{n}" for n in range(len(self.uris))]
        return passes.select(self.rows, ["bucket", "label", "weight", *slices, *versions])


def labelled(holdout: DataFrame, label: str) -> DataFrame:
    """Return the rows that have a label; null and NaN are not labels."""
    rows = holdout.where(F.col(f"`{label}`").isNotNull())
    may_be_nan = isinstance(rows.schema[label].dataType, (DoubleType, FloatType))
    return rows.where(~F.isnan(f"`{label}`")) if may_be_nan else rows


def select(
    holdout: Snapshot | DataFrame, label: str, *, where: str | None = None
) -> Selection | DataFrame:
    """Return the labelled rows of a snapshot for which *where* holds; see `filtering.condition`.

    The result has the label in the column `LABEL` too. Without a filter, it is a selection that
    workers can read themselves.

    Raises:
        ColumnsMissing: the table lacks the label.
        BadCondition: *where* is not a condition on the table's columns.
    """
    if label not in holdout.schema.names:
        address = holdout.address if isinstance(holdout, Snapshot) else "the holdout"
        raise ColumnsMissing(address, [label], holdout.schema.names)

    def value() -> Column:
        return F.col(f"`{label}`")

    if where is not None:
        if isinstance(holdout, Snapshot):
            holdout.runner.start("where is a filter of Spark's SQL")
        rows = holdout.rows if isinstance(holdout, Snapshot) else holdout
        chosen = rows.where(condition(where, rows.columns))
        return labelled(chosen, label).withColumn(LABEL, value())
    added = StructField(LABEL, holdout.schema[label].dataType)
    return Selection(holdout, partial(labelled, label=label), added, value, column=label)


def check(rows: Selection | DataFrame, address: str, binding: Sequence[Binding]) -> None:
    """Check that the rows of `select` have no nulls in the columns that must not have any.

    Raises:
        HoldoutEmpty: no row has a label.
        NullsFound: such a column has nulls.
    """
    if isinstance(rows, Selection) and _is_empty(rows):
        raise HoldoutEmpty(address, str(rows.column))
    never_null = dict.fromkeys(name for side in binding for name in side.never_null)
    slicing.check_nulls(rows, address, list(never_null))


def segments(rows: Selection | DataFrame, address: str, by: str) -> dict[str | None, int]:
    """Return the number of rows of `select` for each value of the column *by*, as a text.

    Raises:
        ColumnsMissing, InputContractError: the column does not exist, or it cannot name segments.
    """
    if by not in rows.schema.names:
        raise ColumnsMissing(address, [by], rows.schema.names)
    slicing.check_segments(rows.schema[by])
    try:
        if not isinstance(rows, Selection):
            raise NotEligible("the rows are not a snapshot's")  # noqa: TRY301 - as all others
        return _segments_here(rows, str(rows.column), by)
    except NotEligible as not_eligible:
        if isinstance(rows, Selection):
            rows.runner.start(str(not_eligible))
    dataframe = rows.rows if isinstance(rows, Selection) else rows
    counts = dataframe.groupBy(F.col(f"`{by}`").cast("string")).agg(F.count("*")).collect()
    return {row[0]: row[1] for row in counts}


def _segments_here(rows: Selection, label: str, by: str) -> dict[str | None, int]:
    segment_rows: Counter[str | None] = Counter()
    counts = scanning.tallied(rows.snapshot, [label, by], rows.wanted)
    for (value, segment), count in counts.items():
        if value is not None and value == value:  # noqa: PLR0124 - only NaN differs from itself
            segment_rows[None if segment is None else str(segment)] += count
    return dict(segment_rows)


def _is_empty(labelled_rows: Selection) -> bool:
    """Return whether there is no row; False if only Spark can check this."""
    try:
        label = labelled_rows.schema[LABEL]
        field = StructField(str(labelled_rows.column), label.dataType)
        return bool(scanning.first(labelled_rows, [field], 1).num_rows == 0)
    except NotEligible:
        return False


def infer(  # noqa: PLR0913 - all but two by keyword
    scored: StructType,
    uris: Sequence[str],
    *,
    problem_type: ProblemType | None = None,
    rank_by: str | None = None,
    positive: str | None = None,
    threshold: float | None = None,
    custom: Sequence[str] = (),
    classes: Mapping[str, Sequence[object]] | None = None,
) -> Problem:
    """Infer the problem from the types of labels and predictions.

    Structs of probabilities come from a classifier. Booleans, texts and whole numbers do too, if
    the label has such a type. Fractions are a regression, except for a metric of scores or with a
    threshold. Then they are the probability of the class 1, or true.

    Args:
        scored: the schema of `_label` and of a column for each of *uris*.
        uris: the versions.
        problem_type: the problem's type, for types that do not determine it.
        rank_by: the metric that ranks; rmse, log_loss or accuracy if it is left out.
        positive: the class of binary metrics. If it is left out: the second class of the model, 1
            or true.
        threshold: the lowest score that decides for the second of two classes.
        custom: names of custom metrics.
        classes: by version, the classes of its struct's fields. If they are left out, the names of
            the fields, `p_<class>`, give the classes.

    Raises:
        MetricUndefined: the predictions of the versions have no metric in common, or the metric
            that ranks is not defined for them.
    """
    label, kinds = scored[LABEL].dataType, {uri: scored[uri].dataType for uri in uris}
    metric_task = _metric_task(rank_by, custom)
    task = _infer_task(list(kinds.values()), problem_type, metric_task, threshold)
    rank_by = rank_by or _DEFAULTS[task]
    _check_metric(rank_by, task, metric_task, label, kinds)
    fields = _struct_classes(scored, uris, classes or {}, rank_by) if task == "scores" else {}
    all_classes = _all_classes(task, label, fields)
    same = all(names == all_classes for names in fields.values())
    if threshold is not None and not (task == "scores" and len(all_classes) == _BINARY and same):
        reason = (
            "threshold needs scores of the same two classes, in the same order, from all versions"
        )
        raise MetricUndefined(rank_by, reason)
    if task == "scores" and len(all_classes) == _BINARY:
        positive = positive or all_classes[1]
    if positive is not None and all_classes and positive not in all_classes:
        raise MetricUndefined(
            rank_by, f"{positive!r} is not one of the classes {', '.join(all_classes)}"
        )
    usual: ProblemType = "multiclass" if len(all_classes) > _BINARY else "binary"
    kind = "regression" if task == "regression" else problem_type or usual
    return Problem(
        task=task, problem_type=kind, rank_by=rank_by, classes=all_classes, fields=fields,
        positive=None if kind == "multiclass" else positive, threshold=threshold,
    )  # fmt: skip


def _infer_task(
    kinds: Sequence[DataType],
    problem_type: ProblemType | None,
    metric_task: Task | None,
    threshold: float | None,
) -> Task:
    """Return the task of predictions of these *kinds*."""
    if any(isinstance(kind, StructType) for kind in kinds):
        return "scores"
    if "regression" in {problem_type, metric_task}:
        return "regression"
    if metric_task == "scores" or threshold is not None:
        return "scores"
    if problem_type or metric_task == "labels" or not _has_type(kinds, FractionalType):
        return "labels"
    return "regression"


def _all_classes(
    task: Task, label: DataType, fields: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the classes that any version scores; of one score, 0 and 1, or false and true."""
    if task != "scores":
        return ()
    names = tuple(dict.fromkeys(name for classes in fields.values() for name in classes))
    return names or (("false", "true") if isinstance(label, BooleanType) else ("0", "1"))


def pair(  # noqa: PLR0913 - all but three by keyword
    scored: DataFrame | Execution,
    uris: Sequence[str],
    problem: Problem,
    *,
    keys: Sequence[str] = (),
    weight: str | None = None,
    slices: Sequence[str] = (),
) -> Paired:
    """Return *scored* in the columns that are added up; see `Paired`.

    Without *keys*, a row's bucket comes from the row's place in the files. The place is the same
    only if the files are read in the same way.

    Args:
        scored: the result of `scoring.side_by_side` or of `scoring.tried`. Or an execution: then
            workers of this machine score its rows now, and this process holds them.
        uris: the versions or families; each has a column.
        problem: the result of `infer`.
        keys: columns that identify a row; rows with equal keys are drawn together.
        weight: the column of weights; if it is left out, each weight is 1.
        slices: columns whose values divide the rows.
    """
    if isinstance(scored, Execution):
        scored_schema = scoring.side_by_side_columns(scored.planned)
        places = scored.side_by_side_places()
    else:
        scored_schema, places = scored.schema, {name: n for n, name in enumerate(scored.columns)}
    columns = _columns(scored_schema, places, uris, problem, keys, weight, slices)
    schema = _matched_schema(columns, [arrow_type(scored_schema[name].dataType) for name in keys])
    rows = (
        scored.map_side_by_side(partial(match, columns), schema)
        if isinstance(scored, Execution)
        else passes.mapped(scored, match(columns), schema)
    )
    return Paired(
        rows=rows, problem=problem, uris=tuple(uris), slices=tuple(slices), keys=tuple(keys)
    )


def _columns(  # noqa: PLR0913, PLR0917 - the parameters of `pair`
    scored: StructType,
    places: Mapping[str, int],
    uris: Sequence[str],
    problem: Problem,
    keys: Sequence[str],
    weight: str | None,
    slices: Sequence[str],
) -> Columns:
    """Return the positions of the columns of *scored* in the workers, by their *places*."""
    return Columns(
        task=problem.task,
        classes=problem.classes,
        label=places[LABEL],
        versions=tuple(places[uri] for uri in uris),
        fields=tuple(problem.fields.get(uri) if _is_struct(scored, uri) else None for uri in uris),
        weight=None if weight is None else places[weight],
        slices=tuple(places[name] for name in slices),
        keys=tuple(places[name] for name in keys),
        errors=places.get(ERRORS),
        said=places.get(SAID),
    )


def _is_struct(scored: StructType, name: str) -> bool:
    return isinstance(scored[name].dataType, StructType)


def _matched_schema(columns: Columns, keys: Sequence[pa.DataType]) -> pa.Schema:
    """Return the schema of the rows of `matching.match`; *keys* are the types of its keys."""
    label = pa.float64() if columns.task == "regression" else pa.string()
    prediction = pa.list_(pa.float64()) if columns.task == "scores" else label
    fields: dict[str, pa.DataType] = {"bucket": pa.int32(), "label": label, "weight": pa.float64()}
    fields |= {f"s{n}": pa.string() for n in range(len(columns.slices))}
    fields |= {f"v{n}": prediction for n in range(len(columns.versions))}
    fields |= {f"k{n}": kind for n, kind in enumerate(keys)}
    fields["errors"] = pa.list_(executor.WHY)
    if columns.said is not None:
        fields[SAID] = pa.binary()
    return pa.schema(fields)


def _metric_task(rank_by: str | None, custom: Sequence[str]) -> Task | None:
    if rank_by is None or rank_by in custom:
        return None
    metric = metrics.find(rank_by)
    if metric is None:
        available = [*[known.name for known in metrics.METRICS], *custom]
        raise MetricUndefined(
            rank_by, f"there is no such metric; there are: {', '.join(available)}"
        )
    if not metric.ranks:
        raise MetricUndefined(
            rank_by, "neither a greater nor a smaller value of it is better, so it cannot rank"
        )
    return metric.task


def _check_metric(
    rank_by: str, task: Task, metric_task: Task | None, label: DataType, kinds: dict[str, DataType]
) -> None:
    """Check that the metric is defined for the predictions."""
    for uri, kind in kinds.items():
        type_name = kind.simpleString()
        if (
            (task == "scores")
            and len(kinds) > 1
            and any(isinstance(other_kind, StructType) for other_kind in kinds.values())
            and not isinstance(kind, StructType)
        ):
            raise MetricUndefined(
                rank_by, f"{uri} predicts {type_name}, but others predict probabilities"
            )
        if task == "regression" and not isinstance(kind, NumericType):
            raise MetricUndefined(rank_by, f"{uri} predicts {type_name}, not numbers")
        if task == "scores" and not isinstance(kind, (DoubleType, FloatType, StructType)):
            raise MetricUndefined(
                rank_by, f"{uri} predicts labels ({type_name}), not probabilities"
            )
        # true is not the text 1
        if task == "labels" and _comparable_type(kind) != _comparable_type(label):
            raise MetricUndefined(
                rank_by, f"{uri} predicts {type_name}, but labels are {label.simpleString()}"
            )
    if task == "regression" and not isinstance(label, NumericType):
        raise MetricUndefined(rank_by, f"labels are {label.simpleString()}, not numbers")
    if task == "scores" and metric_task == "regression":
        raise MetricUndefined(rank_by, "the versions predict probabilities of classes")
    class_types = (BooleanType, IntegralType, StringType, FractionalType)
    if task != "regression" and not isinstance(label, class_types):
        raise MetricUndefined(rank_by, f"labels are {label.simpleString()}")
    if (
        task == "scores"
        and isinstance(label, StringType)
        and not any(isinstance(kind, StructType) for kind in kinds.values())
    ):
        raise MetricUndefined(rank_by, "labels are string, not numbers")


def _comparable_type(kind: DataType) -> type[DataType]:
    """Return the base type of all types whose values can be compared with those of *kind*."""
    bases = (BooleanType, IntegralType, FractionalType, StringType)
    return next((base for base in bases if isinstance(kind, base)), type(kind))


def _struct_classes(
    scored: StructType, uris: Sequence[str], known: Mapping[str, Sequence[object]], rank_by: str
) -> dict[str, tuple[str, ...]]:
    """Return by version the classes of its struct's fields, in the order of the fields."""
    label = scored[LABEL].dataType
    classes_by_version = {}
    for uri in uris:
        kind = scored[uri].dataType
        if isinstance(kind, StructType):
            names = known.get(uri)
            if not names and not all(name.startswith(_CLASS_PREFIX) for name in kind.names):
                raise MetricUndefined(rank_by, f"{uri} predicts several columns: {kind.names}")
            names = names or [name.removeprefix(_CLASS_PREFIX) for name in kind.names]
            classes_by_version[uri] = tuple(_class_text(str(name), label) for name in names)
    return classes_by_version


def _class_text(name: str, label: DataType) -> str:
    """Return a class as the label's text: 1 for 1.0 and, as in scikit-learn, for true."""
    if isinstance(label, BooleanType):
        as_number = {"0": "false", "0.0": "false", "1": "true", "1.0": "true"}
        return as_number.get(name, name.lower())
    if isinstance(label, NumericType):
        name = {"False": "0", "True": "1"}.get(name, name)
        try:
            number = float(name)
        except ValueError:
            return name
        return str(int(number)) if number.is_integer() else name
    return name


def _has_type(kinds: object, kind: type[DataType]) -> bool:
    return any(isinstance(value_type, kind) for value_type in cast("Sequence[DataType]", kinds))
