"""Metrics: their names and definitions, from sums over rows. Each is scikit-learn's.

A vector of sums holds the sum over all rows first, then one for each bootstrap; a metric of such
vectors is a vector of the same kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lakescore.comparing.gathering import BINS_OF_CALIBRATION, PART, Floats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lakescore.comparing.gathering import Task

Sums = "Mapping[str, Floats]"

REGRESSION = (
    "rmse", "mae", "mape", "r2", "max_error", "bias", "median_absolute_error",
    "absolute_error_p90", "absolute_error_p95", "mean_pinball_loss_0.1", "mean_pinball_loss_0.9",
)  # fmt: skip
LABELS = (
    "accuracy", "balanced_accuracy", "precision", "recall", "f1", "precision_macro",
    "recall_macro", "f1_macro", "precision_weighted", "recall_weighted", "f1_weighted",
)  # fmt: skip
SCORES = (
    "log_loss", "brier_score_loss", "calibration_error", "roc_auc", "roc_auc_ovr",
    "roc_auc_ovr_weighted", "average_precision",
)  # fmt: skip
QUANTILES = {"median_absolute_error": 0.5, "absolute_error_p90": 0.9, "absolute_error_p95": 0.95}
_PINBALL = {"mean_pinball_loss_0.1": 0.1, "mean_pinball_loss_0.9": 0.9}
_HIGH = frozenset(
    {*LABELS, "r2", "roc_auc", "roc_auc_ovr", "roc_auc_ovr_weighted", "average_precision"}
)
_UP_TO_ONE = _HIGH | {"brier_score_loss", "calibration_error"}
_NO_ROOM = 1e-13
"""Relative: a variance as small as this is that of equal labels."""


def greater_is_better(metric: str) -> bool | None:
    """Return the direction of a metric that is known here, or none where it has none.

    A metric of one class, `recall/late`, has that of `recall`.
    """
    name = metric.partition("/")[0]
    if name not in {*REGRESSION, *LABELS, *SCORES} or name == "bias":
        return None
    return name in _HIGH


def bounds(metric: str) -> tuple[float, float]:
    """Return the least and the most that the metric can be."""
    name = metric.partition("/")[0]
    if name not in {*REGRESSION, *LABELS, *SCORES} or name == "bias":
        return -np.inf, np.inf
    return (-np.inf if name == "r2" else 0.0), (1.0 if name in _UP_TO_ONE else np.inf)


def metrics_from_sums(
    task: Task, sums: Mapping[str, Floats], *, positive: str | None, width: int
) -> dict[str, Floats]:
    """Return the metrics that sums over rows give; `metrics_from_order` has the others.

    Args:
        task: of the predictions.
        sums: as `gathering` names them.
        positive: the class that precision, recall and f1 of two classes are of.
        width: how many classes have probabilities.
    """
    weight = sums["w"]
    if task == "regression":
        return _regression(sums, weight)
    found = _labels(sums, weight, positive)
    if task == "scores":
        halves = 0.5 if width == 2 else 1.0  # noqa: PLR2004 - as brier_score_loss scales "auto"
        found["log_loss"] = _over(sums["log loss"], weight)
        found["brier_score_loss"] = _over(halves * sums["distance"], weight)
        gaps = [
            np.abs(sums[f"bin right{PART}{n}"] - sums[f"bin score{PART}{n}"])
            for n in range(BINS_OF_CALIBRATION)
        ]
        found["calibration_error"] = _over(np.sum(gaps, axis=0), weight)
    return found


def metrics_from_order(found: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the quantiles of absolute errors, from the two values that each lies between."""
    return {name: (found[f"{name} lower"] + found[f"{name} upper"]) / 2 for name in QUANTILES}


def metrics_from_curves(
    curves: Mapping[str, Mapping[str, Floats]], positive: str | None
) -> dict[str, Floats]:
    """Return the areas under curves; for more than two classes of each against the rest.

    Args:
        curves: by class `first` (the weight of its rows), `second` (of the others), `area`,
            `precision`.
        positive: the only class of *curves* where there are two.
    """
    areas = {name: _over(c["area"], c["first"] * c["second"]) for name, c in curves.items()}
    precisions = {name: _over(c["precision"], c["first"]) for name, c in curves.items()}
    if positive is not None:
        return {"roc_auc": areas[positive], "average_precision": precisions[positive]}
    support = np.array([c["first"] for c in curves.values()])
    every = np.array(list(areas.values()))
    return {
        "roc_auc_ovr": every.mean(axis=0),
        "roc_auc_ovr_weighted": _over((every * support).sum(axis=0), support.sum(axis=0)),
        "average_precision": np.nan_to_num(np.array(list(precisions.values()))).mean(axis=0),
    }


def custom_metrics(
    sums: Mapping[str, Floats], functions: Mapping[str, Callable[..., Any]]
) -> dict[str, Floats]:
    """Return custom metrics: weighted means, of which a function's `value` makes one number."""
    found = {}
    for name, function in functions.items():
        parts = [each for each in sums if each.partition(PART)[0] == f"custom {name}"]
        means = [_over(sums[part], sums["w"]) for part in parts]
        value = getattr(function, "value", None)
        found[name] = np.asarray(value(*means) if value else means[0], np.float64)
    return found


def classes_of(sums: Mapping[str, Floats]) -> list[str]:
    """Return the classes that labels or predictions have."""
    names = [name.partition(PART) for name in sums]
    every = dict.fromkeys(c for name, _, c in names if name in {"support", "predicted"})
    return [c for c in every if _of(sums, "support", c)[0] + _of(sums, "predicted", c)[0] > 0]


def _regression(sums: Mapping[str, Floats], weight: Floats) -> dict[str, Floats]:
    error, absolute = sums["error"], sums["absolute"]
    found = {
        "rmse": np.sqrt(_over(sums["squared"], weight)),
        "mae": _over(absolute, weight),
        "mape": _over(sums["relative"], weight),
        "r2": _r2(sums, weight),
        "max_error": sums["max_error"],
        "bias": -_over(error, weight),
    }
    for name, alpha in _PINBALL.items():
        loss = alpha * (absolute + error) / 2 + (1 - alpha) * (absolute - error) / 2
        found[name] = _over(loss, weight)
    return found


def _r2(sums: Mapping[str, Floats], weight: Floats) -> Floats:
    """R2: of equal labels 1 or 0, of a single row none."""
    squares, residual = sums["label squared"], sums["squared"]
    total = squares - _over(sums["label"] ** 2, weight)
    equal = total <= _NO_ROOM * np.abs(squares)
    found = np.where(equal, np.where(residual == 0, 1.0, 0.0), 1 - _over(residual, total))
    return np.where(sums["n"] > 1, found, np.nan)


def _labels(sums: Mapping[str, Floats], weight: Floats, positive: str | None) -> dict[str, Floats]:
    classes = classes_of(sums)
    support, said, hits = (
        np.array([_of(sums, name, c) for c in classes]) for name in ("support", "predicted", "hits")
    )
    there = support + said > 0
    recall, precision = _or_zero(hits, support), _or_zero(hits, said)
    f1 = _or_zero(2 * hits, support + said)
    found = {
        "accuracy": _over(hits.sum(axis=0), weight),
        "balanced_accuracy": _over(recall.sum(axis=0), (support > 0).sum(axis=0)),
    }
    each = {"precision": precision, "recall": recall, "f1": f1}
    for name, values in each.items():
        found[f"{name}_macro"] = _over(values.sum(axis=0), there.sum(axis=0))
        found[f"{name}_weighted"] = _over((values * support).sum(axis=0), support.sum(axis=0))
    for name, values in each.items():
        found |= {f"{name}/{c}": values[n] for n, c in enumerate(classes)}
        if positive is not None:
            zeros = np.zeros_like(weight)
            found[name] = values[classes.index(positive)] if positive in classes else zeros
    return found


def _of(sums: Mapping[str, Floats], name: str, part: str) -> Floats:
    found = sums.get(name + PART + part)
    return np.zeros_like(sums["w"]) if found is None else found


def _over(above: Floats, below: Floats | Sequence[float]) -> Floats:
    """Divide; by zero there is no value."""
    below = np.asarray(below, np.float64)
    found: Floats = np.full(np.shape(above), np.nan)
    return np.divide(above, below, out=found, where=below != 0)


def _or_zero(above: Floats, below: Floats) -> Floats:
    """Divide; by zero is 0, as where scikit-learn warns."""
    found: Floats = np.zeros_like(above)
    return np.divide(above, below, out=found, where=below > 0)
