"""Measuring: how far the counts of a column are from those of the baseline, and the interval."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lakescore.executor import (
    INFINITE,
    NAN,
    NEW,
    NO_VALUE,
    NULL,
    OTHER,
    CategoryBins,
    NumberBins,
    TimeBins,
)
from lakescore.monitoring import chance, distances

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakescore.executor import Bins
    from lakescore.monitoring.profiles import Cell

    Floats = np.ndarray[Any, np.dtype[np.float64]]

_DRAWS = 400


@dataclass(frozen=True)
class Measured:
    """One measure of a column in a group."""

    value: float
    baseline: float | None
    """The same share in the baseline; None for a distance."""
    low: float
    high: float
    """The interval of the value, at 95 %."""
    chance: float
    """The value that 95 % of samples of this size reach at most, if nothing has changed."""


def compared(counts: Floats, bins: Bins) -> Floats:
    """Return the counts of the bins that distances compare.

    New values of a category belong to its other values: the baseline has no new ones by definition,
    and of many rare values a slice always has some.
    """
    return counts if isinstance(bins, NumberBins) else tested(counts, bins)


def tested(counts: Floats, bins: Bins) -> Floats:
    """Return the counts of the bins that the G-test compares.

    As in `compared`; and numbers outside of the baseline's range belong to the outermost bins. The
    baseline has none of them by definition, so they have a test of their own (`chance.p_beyond`).
    """
    if isinstance(bins, NumberBins):
        finite, special = counts[..., : bins.finite], counts[..., bins.finite :]
        if bins.finite < 4:  # noqa: PLR2004 - two outside, and one inside
            return np.concatenate([finite.sum(-1, keepdims=True), special], axis=-1)
        inner = finite[..., 1:-1].copy()
        inner[..., 0] += finite[..., 0]
        inner[..., -1] += finite[..., -1]
        return np.concatenate([inner, special], axis=-1)
    if isinstance(bins, CategoryBins):
        listed, special = counts[..., : bins.finite], counts[..., bins.finite :]
        others = special[..., OTHER] + special[..., NEW]
        return np.concatenate([listed, others[..., None], special[..., NO_VALUE, None]], axis=-1)
    return counts[..., [0, bins.finite + NULL]]


def beyond(baseline: Cell, current: Cell, bins: Bins) -> float:
    """Return the p-value of what the baseline cannot have: see `chance.p_beyond` and `p_new`."""
    if isinstance(bins, NumberBins):
        before, now = (cell.counts[: bins.finite] for cell in (baseline, current))
        return chance.p_beyond(int(before.sum()), int(now.sum()), int(now[0]), int(now[-1]))
    if isinstance(bins, CategoryBins):
        old, new = (int(cell.counts[:-1].sum()) for cell in (baseline, current))
        return chance.p_new(old, new, bins.singles, int(current.counts[bins.finite + NEW]))
    return 1.0


def measure(baseline: Cell, current: Cell, bins: Bins) -> dict[str, Measured]:
    """Return the measures of a column, by name.

    The intervals and the differences by chance are those of normal approximations to the counts of
    independent rows, drawn 400 times.
    """
    sizes = (baseline.rows, current.rows)
    before, now = (distances.shares(cell.counts) for cell in (baseline, current))
    pooled = distances.shares(baseline.counts + current.counts)
    geometry = _Geometry(baseline, current, bins, (0.5 / sizes[0], 0.5 / sizes[1]))
    values = geometry.measures(before, now)
    first, second = _normals(len(before))
    around = geometry.measures(_vary(before, first, sizes[0]), _vary(now, second, sizes[1]))
    alike = geometry.measures(_vary(pooled, first, sizes[0]), _vary(pooled, second, sizes[1]))
    shares_before = geometry.shares_of(before)
    measured = {}
    for name, value in values.items():
        low, high = np.quantile(around[name], [0.025, 0.975])
        # The distance of two samples is larger than that of their distributions; the draws show by
        # how much, as in a basic bootstrap.
        least = max(0.0, 2 * float(value) - float(high))
        most = max(float(value), 2 * float(value) - float(low))
        measured[name] = Measured(
            value=float(value),
            baseline=float(shares_before[name]) if name in shares_before else None,
            low=least,
            high=most,
            chance=float(np.quantile(alike[name], 0.95)),
        )
    return measured


def values(baseline: Cell, current: Cell, bins: Bins) -> dict[str, float]:
    """Return the values of the measures of `measure`, by name."""
    before, now = (distances.shares(cell.counts) for cell in (baseline, current))
    geometry = _Geometry(baseline, current, bins, (0.5 / baseline.rows, 0.5 / current.rows))
    return {name: float(value) for name, value in geometry.measures(before, now).items()}


@cache
def _normals(width: int) -> tuple[Floats, Floats]:
    """Return standard normal numbers, the same for all columns with so many bins."""
    random = np.random.RandomState(width)
    return random.standard_normal((_DRAWS, width)), random.standard_normal((_DRAWS, width))


def _vary(shares: Floats, normals: Floats, rows: int) -> Floats:
    """Return the *shares* that samples of so many *rows* have."""
    roots = np.sqrt(shares)
    noise = roots * normals - shares * (normals @ roots)[:, None]
    varied = np.clip(shares + noise / np.sqrt(rows), 0.0, None)
    return distances.shares(varied)


class _Geometry:
    """What does not vary with the shares: the bins, their means, and the standard deviation."""

    def __init__(
        self, baseline: Cell, current: Cell, bins: Bins, least: tuple[float, float]
    ) -> None:
        self._bins, self._least = bins, least
        self._places = (_means(baseline, bins), _means(current, bins))
        self._scale = spread(baseline, bins)

    def measures(self, before: Floats, now: Floats) -> dict[str, Floats]:
        """Return all measures for shares of all bins."""
        one, other = (distances.shares(compared(shares, self._bins)) for shares in (before, now))
        values = {
            "jensen_shannon": distances.jensen_shannon(one, other),
            "psi": distances.stability_index(one, other, self._least),
        }
        if isinstance(self._bins, NumberBins):
            finite = slice(0, self._bins.finite)
            values["wasserstein"] = distances.wasserstein(
                before[..., finite], now[..., finite], self._places, self._scale
            )
        if isinstance(self._bins, CategoryBins):
            values["total_variation"] = distances.total_variation(one, other)
            gone = (before[..., : self._bins.finite] > 0) & (now[..., : self._bins.finite] <= 0)
            values["lost_share"] = np.where(gone, before[..., : self._bins.finite], 0.0).sum(-1)
        return values | self.shares_of(now)

    def shares_of(self, shares: Floats) -> dict[str, Floats]:
        """Return the measures that are shares of rows."""
        special = shares[..., self._bins.finite :]
        if isinstance(self._bins, NumberBins):
            finite = shares[..., : self._bins.finite]
            return {
                "null_share": special[..., NULL],
                "nan_share": special[..., NAN],
                "infinite_share": special[..., INFINITE],
                "outside_share": finite[..., 0] + finite[..., -1],
            }
        if isinstance(self._bins, TimeBins):
            return {"null_share": special[..., NULL]}
        return {"null_share": special[..., NO_VALUE], "new_share": special[..., NEW]}


def _means(cell: Cell, bins: Bins) -> Floats:
    """Return the mean of the numbers in each bin; NaN for bins without rows."""
    if not isinstance(bins, NumberBins):
        return np.empty(0)
    counts = cell.counts[: bins.finite]
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = bins.origin + np.where(counts > 0, cell.sums / counts, np.nan)
    return means


def mean(cell: Cell, bins: Bins) -> float | None:
    """Return the mean of the finite numbers."""
    if not isinstance(bins, NumberBins) or not (rows := cell.counts[: bins.finite].sum()):
        return None
    return float(bins.origin + cell.sums.sum() / rows)


def spread(cell: Cell, bins: Bins) -> float:
    """Return the standard deviation of the finite numbers; 0 without numbers."""
    if not isinstance(bins, NumberBins) or not (rows := cell.counts[: bins.finite].sum()):
        return 0.0
    variance = cell.squares.sum() / rows - (cell.sums.sum() / rows) ** 2
    return float(np.sqrt(max(0.0, variance)))


def facts(cell: Cell, bins: Bins) -> Mapping[str, Any]:
    """Return the distribution as plain values: numbers of rows, mean, deviation and bins."""
    special = cell.counts[bins.finite :]
    is_number = isinstance(bins, NumberBins)
    nulls = special[NO_VALUE if isinstance(bins, CategoryBins) else NULL]
    return {
        "rows": cell.rows,
        "nulls": int(nulls),
        "nans": int(special[NAN]) if is_number else None,
        "infinite": int(special[INFINITE]) if is_number else None,
        "mean": mean(cell, bins),
        "deviation": spread(cell, bins) if is_number else None,
        "edges": list(bins.edges) if isinstance(bins, NumberBins) else None,
        "values": list(bins.listed) if isinstance(bins, CategoryBins) else None,
        "others": int(special[OTHER]) if isinstance(bins, CategoryBins) else None,
        "new": int(special[NEW]) if isinstance(bins, CategoryBins) else None,
        "counts": [int(count) for count in cell.counts[: bins.finite]],
    }
