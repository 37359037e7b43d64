"""Formulas: the values of metrics from sums over rows. The definitions are scikit-learn's.

A vector of sums holds the sum over all rows first, then one sum for each bootstrap. A metric of
such vectors is a vector of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lakescore.comparing.binning import BINS_OF_CALIBRATION
from lakescore.comparing.gathering import LARGEST, PART

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lakescore.comparing.batches import Floats
    from lakescore.metrics import Task

QUANTILES = {"median_absolute_error": 0.5, "absolute_error_p90": 0.9, "absolute_error_p95": 0.95}
_PINBALL = {"mean_pinball_loss_0.1": 0.1, "mean_pinball_loss_0.9": 0.9}
_NO_VARIANCE = 1e-13
"""Relative: if the variance is at most this, the labels are equal."""


def metrics_from_sums(
    task: Task, sums: Mapping[str, Floats], *, positive: str | None, width: int
) -> dict[str, Floats]:
    """Return the metrics that follow from sums over rows; `metrics_from_order` returns the others.

    Args:
        task: the task of the predictions.
        sums: by the names of `gathering`.
        positive: for two classes, the class of precision, recall and f1.
        width: the number of classes that have probabilities.
    """
    weight = sums["w"]
    if task == "regression":
        return _regression(sums, weight)
    values = _labels(sums, weight, positive)
    if task == "scores":
        halves = 0.5 if width == 2 else 1.0  # noqa: PLR2004 - as brier_score_loss scales "auto"
        values["log_loss"] = _divide(sums["log loss"], weight)
        values["brier_score_loss"] = _divide(halves * sums["distance"], weight)
        gaps = [
            np.abs(sums[f"bin right{PART}{n}"] - sums[f"bin score{PART}{n}"])
            for n in range(BINS_OF_CALIBRATION)
        ]
        values["calibration_error"] = _divide(np.sum(gaps, axis=0), weight)
    return values


def metrics_from_order(vectors: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the quantiles of absolute errors: each is the mean of the two values around it."""
    return {name: (vectors[f"{name} lower"] + vectors[f"{name} upper"]) / 2 for name in QUANTILES}


def metrics_from_curves(
    curves: Mapping[str, Mapping[str, Floats]], positive: str | None
) -> dict[str, Floats]:
    """Return the areas under curves; for more than two classes, of each class against the rest.

    Args:
        curves: by class, `first` (the weight of its rows), `second` (the weight of the others),
            `area` and `precision`.
        positive: for two classes, the only class of *curves*.
    """
    areas = {
        name: _divide(sums["area"], sums["first"] * sums["second"]) for name, sums in curves.items()
    }
    precisions = {name: _divide(sums["precision"], sums["first"]) for name, sums in curves.items()}
    if positive is not None:
        return {"roc_auc": areas[positive], "average_precision": precisions[positive]}
    support = np.array([sums["first"] for sums in curves.values()])
    class_areas = np.array(list(areas.values()))
    return {
        "roc_auc_ovr": class_areas.mean(axis=0),
        "roc_auc_ovr_weighted": _divide((class_areas * support).sum(axis=0), support.sum(axis=0)),
        "average_precision": np.nan_to_num(np.array(list(precisions.values()))).mean(axis=0),
    }


def custom_metrics(
    sums: Mapping[str, Floats], functions: Mapping[str, Callable[..., Any]]
) -> dict[str, Floats]:
    """Return custom metrics: a weighted mean, or the function's `value` of the means."""
    values = {}
    for name, function in functions.items():
        parts = [sum_name for sum_name in sums if sum_name.partition(PART)[0] == f"custom {name}"]
        means = [_divide(sums[part], sums["w"]) for part in parts]
        value = getattr(function, "value", None)
        values[name] = np.asarray(value(*means) if value else means[0], np.float64)
    return values


@dataclass(frozen=True)
class Rate:
    """A share of some rows that are predicted to be of the positive class."""

    vector: Floats
    """The rate over all rows, then over each bootstrap."""
    rows: float
    """The number of rows that count; with weights, their share of the number of rows."""


def group_rates(sums: Mapping[str, Floats], positive: str) -> dict[str, Rate]:
    """Return the rates of `metrics.RATES`, as fairlearn defines them: NaN if no row counts."""
    weight, rows = sums["w"], float(sums["n"][0])
    support, predicted, hits = (
        _class_sum(sums, name, positive) for name in ("support", "predicted", "hits")
    )
    parts = {
        "selection_rate": (predicted, weight),
        "true_positive_rate": (hits, support),
        "false_positive_rate": (predicted - hits, weight - support),
    }
    return {
        name: Rate(_divide(part, whole), rows * float(whole[0] / weight[0]) if weight[0] else 0.0)
        for name, (part, whole) in parts.items()
    }


def classes_of(sums: Mapping[str, Floats]) -> list[str]:
    """Return the classes that occur in labels or predictions."""
    names = [name.partition(PART) for name in sums]
    classes = dict.fromkeys(class_ for name, _, class_ in names if name in {"support", "predicted"})
    return [
        class_
        for class_ in classes
        if _class_sum(sums, "support", class_)[0] + _class_sum(sums, "predicted", class_)[0] > 0
    ]


def _regression(sums: Mapping[str, Floats], weight: Floats) -> dict[str, Floats]:
    error, absolute = sums["error"], sums["absolute"]
    values = {
        "rmse": np.sqrt(_divide(sums["squared"], weight)),
        "mae": _divide(absolute, weight),
        "mape": _divide(sums["relative"], weight),
        "r2": _r2(sums, weight),
        "max_error": sums[f"{LARGEST}error"],
        "bias": -_divide(error, weight),
    }
    for name, alpha in _PINBALL.items():
        loss = alpha * (absolute + error) / 2 + (1 - alpha) * (absolute - error) / 2
        values[name] = _divide(loss, weight)
    return values


def _r2(sums: Mapping[str, Floats], weight: Floats) -> Floats:
    """Return R2: 1 or 0 if the labels are equal, NaN for a single row."""
    squares, residual = sums["label squared"], sums["squared"]
    total = squares - _divide(sums["label"] ** 2, weight)
    equal = total <= _NO_VARIANCE * np.abs(squares)
    values = np.where(equal, np.where(residual == 0, 1.0, 0.0), 1 - _divide(residual, total))
    return np.where(sums["n"] > 1, values, np.nan)


def _labels(sums: Mapping[str, Floats], weight: Floats, positive: str | None) -> dict[str, Floats]:
    classes = classes_of(sums)
    support, predicted, hits = (
        np.array([_class_sum(sums, name, class_) for class_ in classes])
        for name in ("support", "predicted", "hits")
    )
    present = support + predicted > 0
    recall, precision = _divide_or_zero(hits, support), _divide_or_zero(hits, predicted)
    f1 = _divide_or_zero(2 * hits, support + predicted)
    metrics = {
        "accuracy": _divide(hits.sum(axis=0), weight),
        "balanced_accuracy": _divide(recall.sum(axis=0), (support > 0).sum(axis=0)),
    }
    by_metric = {"precision": precision, "recall": recall, "f1": f1}
    for name, class_values in by_metric.items():
        metrics[f"{name}_macro"] = _divide(class_values.sum(axis=0), present.sum(axis=0))
        metrics[f"{name}_weighted"] = _divide(
            (class_values * support).sum(axis=0), support.sum(axis=0)
        )
    for name, class_values in by_metric.items():
        metrics |= {f"{name}/{class_}": class_values[n] for n, class_ in enumerate(classes)}
        if positive is not None:
            zeros = np.zeros_like(weight)
            metrics[name] = class_values[classes.index(positive)] if positive in classes else zeros
    return metrics


def _class_sum(sums: Mapping[str, Floats], name: str, part: str) -> Floats:
    vector = sums.get(name + PART + part)
    return np.zeros_like(sums["w"]) if vector is None else vector


def _divide(numerator: Floats, denominator: Floats | Sequence[float]) -> Floats:
    """Divide; NaN if the denominator is zero."""
    denominator = np.asarray(denominator, np.float64)
    quotient: Floats = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=quotient, where=denominator != 0)


def _divide_or_zero(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; 0 if the denominator is zero, as in scikit-learn, which also warns."""
    quotient: Floats = np.zeros_like(numerator)
    return np.divide(numerator, denominator, out=quotient, where=denominator > 0)
