"""Protecting: whether a candidate is worse than the baseline in any slice, and by how much.

A loss is by how much a metric is worse than the baseline's. The losses of all slices and of all
metrics that gates name are bounded at once (`ranking.one_sided`), so that chance alone says of any
slice that it is worse in 5 % of the holdouts, whatever the number of slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from lakescore import metrics
from lakescore.comparing.bootstrapping import groups_of
from lakescore.comparing.ranking import ROUNDING, Interval, one_sided

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.comparing.batches import Floats
    from lakescore.comparing.comparison import Comparison
    from lakescore.comparing.evaluating import Part
    from lakescore.options import CompareOptions, UnknownRule

Verdict: TypeAlias = Literal["worse", "safe", "not known"]

_ACCURACY = "accuracy"
"""Of equal decisions on many rows, the share of unequal ones has a known bound."""


@dataclass(frozen=True, kw_only=True)
class SliceLoss:
    """By how much a metric of the candidate is worse than the baseline's in one slice."""

    slice_by: str
    slice: str
    """Such as `origin=JFK`, as in the document."""
    rows: int
    baseline: float
    """The baseline's value."""
    loss: Interval
    """A positive loss is worse. Its bounds hold for all slices at once. They are NaN if the slice
    has none."""
    unscored: int = 0
    """The number of rows that the candidate could not score, and the baseline could."""
    is_small: bool = False
    reason: str = ""
    """Why the loss has no bounds; empty if it has."""


@dataclass(frozen=True, kw_only=True)
class SliceCheck:
    """The losses of one metric in all slices, and the loss that is allowed in each."""

    metric: str
    limit: float
    is_relative: bool
    """Whether the limit is a fraction of the baseline's value in the slice."""
    greater_is_better: bool
    losses: Sequence[SliceLoss]

    def most(self, slice_loss: SliceLoss) -> float:
        """Return the loss that is allowed in a slice, in the metric's units."""
        return self.limit * abs(slice_loss.baseline) if self.is_relative else self.limit

    def verdict(self, slice_loss: SliceLoss) -> Verdict:
        """Return `worse` or `safe` if a bound of the loss says so, and otherwise `not known`."""
        most = self.most(slice_loss)
        if slice_loss.unscored or slice_loss.loss.low > most:
            return "worse"
        return "safe" if slice_loss.loss.high <= most else "not known"

    def having(self, verdict: Verdict) -> list[SliceLoss]:
        """Return the slices with a verdict, the largest loss first."""
        return [slice_loss for slice_loss in self.losses if self.verdict(slice_loss) == verdict]

    @property
    def is_blind(self) -> bool:
        """Whether no slice has bounds, so that the check says nothing."""
        return all(math.isnan(slice_loss.loss.low) for slice_loss in self.losses)

    @property
    def largest(self) -> float:
        """The largest loss that is sure: a lower bound, as a fraction if the limit is one."""
        lows = [
            slice_loss.loss.low / (abs(slice_loss.baseline) or 1.0)
            if self.is_relative
            else slice_loss.loss.low
            for slice_loss in self.losses
        ]
        return max((low for low in lows if not math.isnan(low)), default=math.nan)

    def passes(self, unknown: UnknownRule) -> bool:
        """Return whether no slice is worse, and those that are not known may pass."""
        if self.having("worse") or self.is_blind:
            return False
        return unknown == "pass" or not self.having("not known")

    def facts(self) -> list[dict[str, Any]]:
        """Return the slices as plain JSON values."""
        return [
            {
                "slice_by": slice_loss.slice_by,
                "slice": slice_loss.slice,
                "rows": slice_loss.rows,
                "verdict": self.verdict(slice_loss),
                "max_loss": _finite(self.most(slice_loss)),
                **dict(zip(("loss", "low", "high"), slice_loss.loss.facts().values(), strict=True)),
                "unscored": slice_loss.unscored,
                "reason": slice_loss.reason or None,
            }
            for slice_loss in self.losses
        ]


@dataclass(frozen=True, eq=False)
class _Cell:
    """One metric of one version in one slice."""

    part: Part
    metric: str
    uri: str
    vector: Floats
    """The loss over all rows, then over each bootstrap."""
    reason: str
    """Why the loss cannot be bounded; empty if it can."""

    @property
    def rows(self) -> int:
        """The number of rows that every version could score."""
        return self.part.rows[self.uri]

    @property
    def is_constant(self) -> bool:
        """Whether the loss is the same in all bootstraps."""
        return _is_constant(self.vector)


def slice_losses(comparison: Comparison, candidate: str) -> dict[str, list[SliceLoss]]:
    """Return by metric that gates protect the candidate's loss in each slice, the largest first.

    If the job's file does not name the candidate, the rows themselves chose it among all versions.
    Then the bounds hold for all versions at once.
    """
    candidates, options = comparison.candidates, comparison.options
    versions = candidates.others if candidates.gated is None else [candidate]
    cells = [
        _cell(comparison, part, metric, uri)
        for part in comparison.evaluation.parts
        if part.by is not None
        for metric in options.protected
        for uri in versions
    ]
    bounds = _bounds(comparison, [cell for cell in cells if not cell.reason])
    losses: dict[str, list[SliceLoss]] = {metric: [] for metric in options.protected}
    for cell in cells:
        if cell.uri == candidate:
            interval = bounds.get(cell, Interval(float(cell.vector[0]), math.nan, math.nan))
            losses[cell.metric].append(_slice_loss(comparison, cell, interval))
    return {metric: sorted(unsorted, key=_largest_first) for metric, unsorted in losses.items()}


def _cell(comparison: Comparison, part: Part, metric: str, uri: str) -> _Cell:
    standing, by_uri = part.standings.get(metric), part.vectors.get(metric)
    if standing is None or by_uri is None:
        vector = np.full(1 + comparison.options.bootstraps, np.nan)
    else:
        new, old = by_uri[uri], by_uri[comparison.candidates.baseline]
        loss = old - new if standing.better_high else new - old
        scale = np.maximum(np.abs(new), np.abs(old))
        vector = np.where(np.abs(loss) <= ROUNDING * scale, 0.0, loss)
    return _Cell(part, metric, uri, vector, _reason(comparison, part, metric, uri, vector))


def _reason(comparison: Comparison, part: Part, metric: str, uri: str, vector: Floats) -> str:
    """Return why a loss cannot be bounded; empty if it can."""
    options = comparison.options
    if part.rows[uri] < options.small:
        return f"fewer than {options.small} rows"
    if not np.isfinite(vector).all():
        return "no value in some bootstraps"
    if _is_constant(vector) and not _tells_when_equal(metric, options):
        return "the same value in all bootstraps"
    return ""


def _tells_when_equal(metric: str, options: CompareOptions) -> bool:
    """Return whether a loss that is the same in all bootstraps is known.

    Errors of numbers and of probabilities are equal if the predictions are. An accuracy is a share
    of rows. Other metrics can be equal by chance, because few rows decide them.
    """
    known = None if metric in options.custom_metrics else metrics.find(metric)
    if known is None:
        return False
    if known.name == _ACCURACY:
        return options.weight is None
    return known.task != "labels" and known.greater_is_better is False


def _bounds(comparison: Comparison, cells: Sequence[_Cell]) -> dict[_Cell, Interval]:
    level = comparison.options.confidence
    intervals, _ = one_sided(
        [cell.vector for cell in cells], level, [groups_of(cell.rows) for cell in cells]
    )
    bounds = {}
    for cell, interval in zip(cells, intervals, strict=True):
        reach = 0.0
        if cell.is_constant and cell.metric == _ACCURACY:
            # No row is decided differently. Exact, and corrected for all losses by Bonferroni.
            reach = 1.0 - ((1.0 - level) / len(cells)) ** (1 / cell.rows)
        bounds[cell] = Interval(interval.value, interval.low - reach, interval.high + reach)
    return bounds


def _slice_loss(comparison: Comparison, cell: _Cell, loss: Interval) -> SliceLoss:
    part, baseline = cell.part, comparison.candidates.baseline
    standing = part.standings.get(cell.metric)
    return SliceLoss(
        slice_by=str(part.by),
        slice=part.text,
        rows=cell.rows,
        baseline=standing.estimates[baseline].value if standing else math.nan,
        loss=loss,
        unscored=max(0, part.scored[baseline] - part.scored[cell.uri]),
        is_small=cell.rows < comparison.options.small,
        reason=cell.reason,
    )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _is_constant(vector: Floats) -> bool:
    return bool(np.ptp(vector) <= ROUNDING * np.abs(vector).max())


def _largest_first(slice_loss: SliceLoss) -> tuple[bool, float]:
    value = slice_loss.loss.value
    return (math.isnan(value), -value)
