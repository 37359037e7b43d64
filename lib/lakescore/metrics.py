"""Metrics: their names, what they are of, and which direction is better, without Spark or NumPy.

`comparing.formulas` computes them; `config` checks the names in a job's file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from lakescore.notation import number

if TYPE_CHECKING:
    from collections.abc import Mapping

Task: TypeAlias = Literal["regression", "labels", "scores"]
"""What is predicted: numbers, classes, or the probabilities of classes."""


_HALVED = "brier_score_loss"
_RELATIVE = "mape"
_MANY_TIMES = 10


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as scikit-learn defines it, unless docs/compare.md says otherwise."""

    name: str
    task: Task
    """The predictions that it is of. Metrics of labels are of scores too: of the decided class."""
    greater_is_better: bool | None
    """None if neither direction is better, so that it cannot rank."""
    least: float = 0.0
    most: float = math.inf

    def of_two_classes(self) -> Metric:
        """Return the metric as it is of two classes, whose Brier score is halved."""
        return replace(self, most=min(self.most, 1.0)) if self.name == _HALVED else self

    @property
    def ranks(self) -> bool:
        """Whether versions can be ranked by it."""
        return self.greater_is_better is not None


def _error(name: str, task: Task = "regression", most: float = math.inf) -> Metric:
    return Metric(name=name, task=task, greater_is_better=False, most=most)


def _share(name: str, task: Task = "labels") -> Metric:
    return Metric(name=name, task=task, greater_is_better=True, most=1.0)


METRICS = (
    _error("rmse"),
    _error("mae"),
    _error("mape"),
    Metric(name="r2", task="regression", greater_is_better=True, least=-math.inf, most=1.0),
    _error("max_error"),
    Metric(name="bias", task="regression", greater_is_better=None, least=-math.inf),
    _error("median_absolute_error"),
    _error("absolute_error_p90"),
    _error("absolute_error_p95"),
    _error("mean_pinball_loss_0.1"),
    _error("mean_pinball_loss_0.9"),
    _share("accuracy"),
    _share("balanced_accuracy"),
    _share("precision"),
    _share("recall"),
    _share("f1"),
    _share("precision_macro"),
    _share("recall_macro"),
    _share("f1_macro"),
    _share("precision_weighted"),
    _share("recall_weighted"),
    _share("f1_weighted"),
    _error("log_loss", "scores"),
    _error("brier_score_loss", "scores", most=2.0),  # of two classes 1: see `of_two_classes`
    _error("calibration_error", "scores", most=1.0),
    _share("roc_auc", "scores"),
    _share("roc_auc_ovr", "scores"),
    _share("roc_auc_ovr_weighted", "scores"),
    _share("average_precision", "scores"),
)
"""All that are computed, in the order of the documents."""
_BY_NAME = {metric.name: metric for metric in METRICS}
RANKING = tuple(metric.name for metric in METRICS if metric.ranks)
"""The names of those that can rank."""

RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
"""Of two classes, the rates that gates compare between groups of rows; they rank nothing."""


def find(name: str) -> Metric | None:
    """Return the metric of that name; `recall/late`, of one class, is `recall`. None if unknown."""
    return _BY_NAME.get(name.partition("/")[0])


def left_out(values: Mapping[str, Mapping[str, float | None]]) -> dict[str, str]:
    """Return the metrics that mean nothing on the labels, with the reason.

    A mean of relative errors means nothing if a few labels near zero decide it: if it is many times
    the mean error in relation to the labels' standard deviation.

    Args:
        values: by version, its metrics.
    """
    for version, known in values.items():
        relative, mae, rmse, r2 = (known.get(name) for name in (_RELATIVE, "mae", "rmse", "r2"))
        if relative is None or mae is None or rmse is None or r2 is None or not r2 < 1:
            continue
        deviation = rmse / math.sqrt(1 - r2)
        if relative * deviation > _MANY_TIMES * mae:
            reason = (
                "some labels are near zero, and errors relative to them decide it "
                f"({number(relative)} for {version})"
            )
            return {_RELATIVE: reason}
    return {}
