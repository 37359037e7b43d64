"""Pairing: labels beside the predictions of each version, in the few columns that are added up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

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

from lakescore import executor, scanning, scoring, slicing
from lakescore.arrow import arrow_type
from lakescore.comparing import metrics, passes
from lakescore.comparing.filtering import condition
from lakescore.comparing.matching import Columns, match
from lakescore.errors import ColumnsMissing, HoldoutEmpty, MetricUndefined
from lakescore.logs import NotEligible
from lakescore.scanning import Selection
from lakescore.scoring import ERRORS, SAID, Plan
from lakescore.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame

    from lakescore.comparing.gathering import Task
    from lakescore.signature import Binding

LABEL = "_label"
"""The column that `select` adds."""
_CLASS = "p_"
ProblemType = Literal["regression", "binary", "multiclass"]
_DEFAULTS = {"regression": "rmse", "labels": "accuracy", "scores": "log_loss"}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is predicted, and how versions are told apart."""

    task: Task
    problem_type: ProblemType
    rank_by: str
    classes: tuple[str, ...] = ()
    """Of probabilities, in the order of the first model's; empty for labels and numbers."""
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By version, the class of each field of its struct of probabilities."""
    positive: str | None = None
    """Of two classes, the one that precision, recall, f1 and curves are of."""
    threshold: float | None = None
    """Of two classes, the score from which the second is decided; without, the higher score."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Rows as they are added up, and what stands beside them."""

    rows: passes.Rows
    """`bucket`, `label`, `weight`, the slices as texts, `v0`, `v1`, ...: what workers read; then
    `k0`, ..., `errors` and, before they are held, `SAID`: see `matching.match`."""
    problem: Problem
    uris: tuple[str, ...]
    slices: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def numbers(self) -> passes.Rows:
        """The columns that workers read."""
        slices = [f"s{n}" for n in range(len(self.slices))]
        versions = [f"v{n}" for n in range(len(self.uris))]
        return passes.select(self.rows, ["bucket", "label", "weight", *slices, *versions])


def labelled(holdout: DataFrame, label: str) -> DataFrame:
    """Return the rows that have a label: null and NaN are none."""
    rows = holdout.where(F.col(f"`{label}`").isNotNull())
    may_be_nan = isinstance(rows.schema[label].dataType, (DoubleType, FloatType))
    return rows.where(~F.isnan(f"`{label}`")) if may_be_nan else rows


def select(
    holdout: Snapshot | DataFrame, label: str, *, where: str | None = None
) -> Selection | DataFrame:
    """Return the labelled rows of a snapshot for which *where* holds; see `filtering.condition`.

    The label stands in `LABEL` too. Without a filter they are a selection that workers can read
    themselves.

    Raises:
        ColumnsMissing: the table lacks the label.
        BadCondition: *where* does not read as a condition on the table's columns.
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
    """Hold the rows of `select` against what is *bound* of nulls that shall not be there.

    Raises:
        HoldoutEmpty: no row has a label.
        NullsFound: a column holds some.
    """
    if isinstance(rows, Selection) and _is_empty(rows):
        raise HoldoutEmpty(address, str(rows.column))
    never_null = dict.fromkeys(name for side in binding for name in side.never_null)
    slicing.check_nulls(rows, address, list(never_null))


def segments(rows: Selection | DataFrame, address: str, by: str) -> dict[str | None, int]:
    """Return how many rows of `select` hold each value of the column *by*, as a text.

    Raises:
        ColumnsMissing, InputContractError: there is no such column, or it cannot name segments.
    """
    if by not in rows.schema.names:
        raise ColumnsMissing(address, [by], rows.schema.names)
    slicing.check_segments(rows.schema[by])
    try:
        if not isinstance(rows, Selection):
            raise NotEligible("the rows are no snapshot's")  # noqa: TRY301 - as all others
        return _segments_here(rows, str(rows.column), by)
    except NotEligible as not_eligible:
        if isinstance(rows, Selection):
            rows.runner.start(str(not_eligible))
    chosen = rows.rows if isinstance(rows, Selection) else rows
    counted = chosen.groupBy(F.col(f"`{by}`").cast("string")).agg(F.count("*")).collect()
    return {row[0]: row[1] for row in counted}


def _segments_here(rows: Selection, label: str, by: str) -> dict[str | None, int]:
    found: Counter[str | None] = Counter()
    counted = scanning.tallied(rows.snapshot, [label, by], rows.wanted)
    for (value, segment), count in counted.items():
        if value is not None and value == value:  # noqa: PLR0124 - NaN alone differs from itself
            found[None if segment is None else str(segment)] += count
    return dict(found)


def _is_empty(labelled_rows: Selection) -> bool:
    """Tell whether there is no row, as far as this can be told without Spark."""
    try:
        label = labelled_rows.schema[LABEL]
        field = StructField(str(labelled_rows.column), label.dataType)
        return bool(scanning.first(labelled_rows, [field], 1).num_rows == 0)
    except NotEligible:
        return False


def infer(  # noqa: PLR0913 - all but two by name
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
    """Tell from the types of labels and predictions what the problem is, unless it is given.

    Structs of probabilities are those of a classifier, and so are booleans, texts and whole numbers
    where the label is one too. Fractions are a regression, but for a metric of scores, or with a
    threshold: then they are the probability of the class 1, or true.

    Args:
        scored: the schema of `_label` and of a column for each of *uris*.
        uris: the versions.
        problem_type: given where the types do not tell.
        rank_by: the metric that ranks; rmse, log_loss or accuracy when left out.
        positive: the class that binary metrics are of; else the second of the model's, 1 or true.
        threshold: the score from which the second of two classes is decided.
        custom: names of custom metrics.
        classes: by version, the classes of its struct's fields; those of their names, `p_<class>`,
            when left out.

    Raises:
        MetricUndefined: versions predict things that have no metric in common, or the metric that
            ranks is not defined for what they predict.
    """
    label, kinds = scored[LABEL].dataType, {uri: scored[uri].dataType for uri in uris}
    family = _family(rank_by, custom)
    if any(isinstance(kind, StructType) for kind in kinds.values()):
        task: Task = "scores"
    elif problem_type == "regression" or family == "regression":
        task = "regression"
    elif family == "scores" or threshold is not None:
        task = "scores"
    elif problem_type or family == "labels" or not _are(kinds.values(), FractionalType):
        task = "labels"
    else:
        task = "regression"
    rank_by = rank_by or _DEFAULTS[task]
    _check(rank_by, task, family, label, kinds)
    fields = _fields(scored, uris, classes or {}, rank_by) if task == "scores" else {}
    every = tuple(dict.fromkeys(name for uri in uris for name in fields.get(uri, ())))
    if task == "scores" and not every:
        every = ("false", "true") if isinstance(label, BooleanType) else ("0", "1")
    same = all(names == every for names in fields.values())
    if threshold is not None and not (task == "scores" and len(every) == 2 and same):  # noqa: PLR2004 - binary
        reason = "threshold needs scores of the same two classes, in the same order, of all"
        raise MetricUndefined(rank_by, reason)
    if task == "scores" and len(every) == 2:  # noqa: PLR2004 - binary
        positive = positive or every[1]
    if positive is not None and every and positive not in every:
        raise MetricUndefined(rank_by, f"{positive!r} is none of the classes {', '.join(every)}")
    kind: ProblemType = (
        "regression"
        if task == "regression"
        else problem_type
        or (
            "multiclass" if len(every) > 2 else "binary"  # noqa: PLR2004
        )
    )
    return Problem(
        task=task, problem_type=kind, rank_by=rank_by, classes=every, fields=fields,
        positive=None if kind == "multiclass" else positive, threshold=threshold,
    )  # fmt: skip


def pair(  # noqa: PLR0913 - all but three by name
    scored: DataFrame | Plan,
    uris: Sequence[str],
    problem: Problem,
    *,
    keys: Sequence[str] = (),
    weight: str | None = None,
    slices: Sequence[str] = (),
) -> Paired:
    """Return *scored* in the columns that are added up; see `Paired`.

    Without *keys* a row's bucket comes from its place in the files, which is the same only as long
    as they are read in the same way.

    Args:
        scored: what `scoring.side_by_side` gives, or `scoring.tried`; or a plan, whose rows workers
            of this machine score now, and this process holds.
        uris: the versions, or families of them, each a column.
        problem: what `infer` told.
        keys: columns that name a row; rows of one key are drawn together.
        weight: the column of weights; 1 when left out.
        slices: columns whose values divide the rows.
    """
    if isinstance(scored, Plan):
        side, places = scoring.side_of(scored), scoring.places_of(scored)
    else:
        side, places = scored.schema, {name: n for n, name in enumerate(scored.columns)}
    columns = _columns(side, places, uris, problem, keys, weight, slices)
    schema = _schema(columns, [arrow_type(side[name].dataType) for name in keys])
    rows = (
        scoring.side_by_side_here(scored, partial(match, columns), schema)
        if isinstance(scored, Plan)
        else passes.mapped(scored, match(columns), schema)
    )
    return Paired(
        rows=rows, problem=problem, uris=tuple(uris), slices=tuple(slices), keys=tuple(keys)
    )


def _columns(  # noqa: PLR0913, PLR0917 - those of `pair`
    scored: StructType,
    places: Mapping[str, int],
    uris: Sequence[str],
    problem: Problem,
    keys: Sequence[str],
    weight: str | None,
    slices: Sequence[str],
) -> Columns:
    """Return where workers have the columns *scored*, by their *places*."""
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


def _schema(columns: Columns, keys: Sequence[pa.DataType]) -> pa.Schema:
    """Return the columns that `matching.match` gives, with *keys* of these types."""
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


def _family(rank_by: str | None, custom: Sequence[str]) -> Task | None:
    if rank_by is None or rank_by in custom:
        return None
    name = rank_by.partition("/")[0]
    families = {
        "regression": metrics.REGRESSION,
        "labels": metrics.LABELS,
        "scores": metrics.SCORES,
    }
    for family, names in families.items():
        if name in names:
            if metrics.greater_is_better(name) is None:
                raise MetricUndefined(rank_by, "it has no better and worse, so it ranks nothing")
            return cast("Task", family)
    there = [*metrics.REGRESSION, *metrics.LABELS, *metrics.SCORES, *custom]
    raise MetricUndefined(rank_by, f"there is no such metric; there are: {', '.join(there)}")


def _check(
    rank_by: str, task: Task, family: Task | None, label: DataType, kinds: dict[str, DataType]
) -> None:
    """See that the metric has a meaning for what is predicted."""
    for uri, kind in kinds.items():
        said = kind.simpleString()
        if (
            (task == "scores")
            and len(kinds) > 1
            and any(isinstance(each, StructType) for each in kinds.values())
            and not isinstance(kind, StructType)
        ):
            raise MetricUndefined(rank_by, f"{uri} predicts {said}, and others probabilities")
        if task == "regression" and not isinstance(kind, NumericType):
            raise MetricUndefined(rank_by, f"{uri} predicts {said}, not numbers")
        if task == "scores" and not isinstance(kind, (DoubleType, FloatType, StructType)):
            raise MetricUndefined(rank_by, f"{uri} predicts labels ({said}), not probabilities")
        if task == "labels" and _family_of(kind) != _family_of(label):  # true is not the text 1
            raise MetricUndefined(
                rank_by, f"{uri} predicts {said} and labels are {label.simpleString()}"
            )
    if task == "regression" and not isinstance(label, NumericType):
        raise MetricUndefined(rank_by, f"labels are {label.simpleString()}, not numbers")
    if task == "scores" and family == "regression":
        raise MetricUndefined(rank_by, "the versions predict probabilities of classes")
    a_class = (BooleanType, IntegralType, StringType, FractionalType)
    if task != "regression" and not isinstance(label, a_class):
        raise MetricUndefined(rank_by, f"labels are {label.simpleString()}")
    if (
        task == "scores"
        and isinstance(label, StringType)
        and not any(isinstance(kind, StructType) for kind in kinds.values())
    ):
        raise MetricUndefined(rank_by, "labels are string, not numbers")


def _family_of(kind: DataType) -> type[DataType]:
    """Return the types whose values are compared with those of *kind*."""
    families = (BooleanType, IntegralType, FractionalType, StringType)
    return next((family for family in families if isinstance(kind, family)), type(kind))


def _fields(
    scored: StructType, uris: Sequence[str], known: Mapping[str, Sequence[object]], rank_by: str
) -> dict[str, tuple[str, ...]]:
    """Return by version the classes of its struct's fields, in their order."""
    label = scored[LABEL].dataType
    found = {}
    for uri in uris:
        kind = scored[uri].dataType
        if isinstance(kind, StructType):
            names = known.get(uri)
            if not names and not all(name.startswith(_CLASS) for name in kind.names):
                raise MetricUndefined(rank_by, f"{uri} predicts several columns: {kind.names}")
            names = names or [name.removeprefix(_CLASS) for name in kind.names]
            found[uri] = tuple(_class(str(name), label) for name in names)
    return found


def _class(name: str, label: DataType) -> str:
    """Return a class as the label's text says it: 1 for 1.0 and, as scikit-learn does, for true."""
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


def _are(kinds: object, kind: type[DataType]) -> bool:
    return any(isinstance(each, kind) for each in cast("Sequence[DataType]", kinds))
