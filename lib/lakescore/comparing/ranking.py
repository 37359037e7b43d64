"""Ranking: intervals of metrics and of their paired differences, and the ranks of versions.

An interval is the value plus and minus a number of standard errors of the bootstrap. The bootstraps
themselves give this number: in the share *level* of them, the farthest of the differences stays
within it. For one value it is about 1.96. For all pairs of several versions it is greater, so that
all differences lie within their intervals at once with this confidence (single-step max-T: Romano
and Wolf: Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing, 2005).

`one_sided` bounds many values from below and from above by the same method, and takes into account
that a standard error from few rows is itself uncertain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.comparing.batches import Floats

_LEAST_BOOTSTRAPS = 20
"""An interval needs at least this number of bootstraps that have a value."""
ROUNDING = 1e-12
"""Relative: smaller differences come from the order in which numbers are added."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval; a bound is NaN if the value has no interval."""

    value: float
    low: float
    high: float

    def facts(self) -> dict[str, float | None]:
        """Return the numbers; NaN and infinities become None, because JSON has neither."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {name: _finite(number) for name, number in numbers.items()}

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies in the interval; true if the interval is unknown."""
        return not (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Standing:
    """The standing of several versions by one metric on the same rows."""

    estimates: Mapping[str, Interval]
    """By version; each interval holds for its version alone."""
    differences: Mapping[tuple[str, str], Interval]
    """By (version, other): the value minus the other's; intervals hold for all pairs at once."""
    better_high: bool | None
    """Whether a greater value is better; None if the metric has no direction."""
    ordered: Sequence[str]
    """Versions that have a value, the best first; empty if the metric has no direction."""
    ranks: Mapping[str, int | None]
    """None if the metric has no direction, or the version has no value."""
    width: float
    """The width of the intervals of differences to either side, in standard errors."""


def stand(
    vectors: Mapping[str, Floats],
    *,
    better_high: bool | None,
    bounds: tuple[float, float],
    level: float,
) -> Standing:
    """Return the standing of versions by one metric.

    The best version leads the first rank. A version shares the rank if the interval of its
    difference to the leader holds zero. The best of the remaining versions leads the next rank.

    Args:
        vectors: by version, the metric over all rows, then over each bootstrap.
        better_high: whether a greater value is better; None if the metric has no direction.
        bounds: the least and the greatest possible value of the metric.
        level: the confidence, such as 0.95.
    """
    values = {
        name: _clip_interval(intervals([vector], level)[0][0], bounds)
        for name, vector in vectors.items()
    }
    pairs = list(combinations(vectors, 2))
    difference_intervals, width = intervals([vectors[a] - vectors[b] for a, b in pairs], level)
    differences = {}
    for (a, b), interval in zip(pairs, difference_intervals, strict=True):
        scale = ROUNDING * max(abs(values[a].value), abs(values[b].value))
        rounded = (
            Interval(0.0, min(interval.low, 0.0), max(interval.high, 0.0))
            if abs(interval.value) <= scale
            else interval
        )
        differences[a, b] = rounded
        differences[b, a] = Interval(-rounded.value, -rounded.high, -rounded.low)
    ordered = _best_first(values, better_high)
    ranks: dict[str, int | None] = dict.fromkeys(vectors)
    ranks |= _ranks(ordered, differences)
    return Standing(values, differences, better_high, ordered, ranks, width)


def intervals(vectors: Sequence[Floats], level: float) -> tuple[list[Interval], float]:
    """Return intervals that hold at once, and their width to either side in standard errors."""
    spread = _spread(vectors)
    if spread is None:
        return _around(vectors, math.nan), math.nan
    width = 0.0
    if spread.distances.size:
        width = float(np.quantile(np.abs(spread.distances).max(axis=0), level))
    return _around(vectors, spread.errors * width), width


def one_sided(
    vectors: Sequence[Floats], level: float, groups: Sequence[float]
) -> tuple[list[Interval], float]:
    """Return intervals whose lower ends hold at once, and whose upper ends hold at once.

    Each of the two statements has the confidence *level*. The standard error of a value comes from
    a number of bootstraps and of groups of rows. The fewer they are, the wider Student's t makes
    the interval: its width in standard errors becomes the quantile of t with the same probability.

    Args:
        vectors: the values over all rows, then over each bootstrap; all are finite.
        level: the confidence, such as 0.95.
        groups: by value, the number of groups of rows that are drawn together.

    Returns:
        The intervals, and their width in standard errors before Student's t.
    """
    from scipy import special  # noqa: PLC0415 - it takes a while, and few comparisons need it

    spread = _spread(vectors)
    if spread is None:
        return _around(vectors, math.nan), math.nan
    width = 0.0
    if spread.distances.size:
        # Both tails tell of the same width, because a value and its opposite are equally likely
        # where nothing differs. The rank (n + 1) * level of n values is exact.
        farthest = [spread.distances.max(axis=0), -spread.distances.min(axis=0)]
        width = float(np.quantile(np.concatenate(farthest), level, method="weibull"))
    drawn = np.maximum(np.asarray(groups), 2.0)
    replicates = spread.replicates
    # A bootstrap lies nearer to the mean of all, in their standard errors, than a new one would.
    apart = width * math.sqrt((replicates - 2) / max(replicates - 1 - width**2, 1.0))
    tail = special.stdtr(replicates - 2, -apart)
    freedom = 1 / (1 / (replicates - 1) + 1 / (drawn - 1))
    reach = spread.errors * np.sqrt(drawn / (drawn - 1)) * -special.stdtrit(freedom, tail)
    return _around(vectors, reach), width


def _around(vectors: Sequence[Floats], reach: Floats | float) -> list[Interval]:
    """Return the values over all rows, with intervals that extend by *reach* to both sides."""
    return [
        Interval(float(vector[0]), float(vector[0] - distance), float(vector[0] + distance))
        for vector, distance in zip(vectors, np.broadcast_to(reach, len(vectors)), strict=True)
    ]


@dataclass(frozen=True)
class _Spread:
    """How bootstraps spread around their means."""

    replicates: int
    """The number of bootstraps."""
    errors: Floats
    """By value, the standard error; 0 if its bootstraps do not differ."""
    distances: Floats
    """By value that varies and by bootstrap, the distance from the mean in standard errors."""


def _spread(vectors: Sequence[Floats]) -> _Spread | None:
    """Return how bootstraps spread; None if there are none, or too few of them have all values."""
    if not vectors:
        return None
    drawn = np.array(vectors)[:, 1:]
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    if drawn.shape[1] < _LEAST_BOOTSTRAPS:
        return None
    errors = drawn.std(axis=1, ddof=1)
    varies = errors > ROUNDING * np.abs(drawn).max(axis=1)
    centred = (drawn - drawn.mean(axis=1, keepdims=True))[varies]
    return _Spread(drawn.shape[1], np.where(varies, errors, 0.0), centred / errors[varies, None])


def _clip_interval(interval: Interval, bounds: tuple[float, float]) -> Interval:
    low, high = bounds
    return Interval(interval.value, max(low, interval.low), min(high, interval.high))


def _best_first(values: Mapping[str, Interval], better_high: bool | None) -> list[str]:  # noqa: FBT001 - a fact of the metric
    if better_high is None:
        return []
    sign = -1.0 if better_high else 1.0
    known = [name for name, interval in values.items() if not math.isnan(interval.value)]
    return sorted(known, key=lambda name: sign * values[name].value)


def _ranks(
    ordered: Sequence[str], differences: Mapping[tuple[str, str], Interval]
) -> dict[str, int | None]:
    ranks: dict[str, int | None] = {}
    leader, rank = "", 0
    for place, name in enumerate(ordered, 1):
        if not leader or not differences[name, leader].holds_zero:
            leader, rank = name, place
        ranks[name] = rank
    return ranks


def _finite(number: Any) -> float | None:  # noqa: ANN401 - a number
    return float(number) if number is not None and math.isfinite(number) else None
