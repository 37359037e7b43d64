"""Problem: the kind of predictions and the metric that ranks, from types and what a job asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    FractionalType,
    IntegralType,
    NumericType,
    StringType,
    StructType,
)

from lakescore import metrics
from lakescore.comparing.errors import MetricUndefined
from lakescore.comparing.holdout import LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.metrics import Task
    from lakescore.options import ProblemType

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


def _all_classes(
    task: Task, label: DataType, fields: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the classes that any version scores; of one score, 0 and 1, or false and true."""
    if task != "scores":
        return ()
    names = tuple(dict.fromkeys(name for classes in fields.values() for name in classes))
    return names or (("false", "true") if isinstance(label, BooleanType) else ("0", "1"))


def _has_type(kinds: object, kind: type[DataType]) -> bool:
    return any(isinstance(value_type, kind) for value_type in cast("Sequence[DataType]", kinds))
