"""Ranking: intervals of metrics and of their paired differences, and who is better than whom.

An interval is the value, plus and minus so many standard errors of the bootstrap. How many is read
off the bootstraps themselves: as many as the farthest of the differences stays within, in *level*
of them. For one value these are about 1.96; for all pairs of several versions more, so that with
this confidence all of the differences lie within theirs at once (single-step max-T: Romano and
Wolf: Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing, 2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.comparing.gathering import Floats

_LEAST = 20
"""So many bootstraps must have a value for an interval."""
_ROUNDING = 1e-12
"""Relative: differences that are smaller come from the order in which numbers were added."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval; NaN where it has none."""

    value: float
    low: float
    high: float

    def facts(self) -> dict[str, float | None]:
        """Return the numbers, null for NaN and infinities: JSON knows none."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {name: _known(number) for name, number in numbers.items()}

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies in it; true where nothing is known."""
        return not (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Standing:
    """Several versions by one metric on the same rows."""

    estimates: Mapping[str, Interval]
    """By version, each for itself."""
    differences: Mapping[tuple[str, str], Interval]
    """By (version, other): its value less the other's, all pairs at once."""
    better_high: bool | None
    """Whether a greater value is better; None where better has no direction."""
    ordered: Sequence[str]
    """Versions that have a value, the best first; empty where better has no direction."""
    ranks: Mapping[str, int | None]
    """None where better has no direction, or the version no value."""
    width: float
    """How many standard errors the intervals of differences reach."""


def stand(
    vectors: Mapping[str, Floats],
    *,
    better_high: bool | None,
    bounds: tuple[float, float],
    level: float,
) -> Standing:
    """Return the standing of versions by one metric.

    The best of the versions leads a rank, which those share whose interval of the difference to it
    holds zero; the best of the others leads the next.

    Args:
        vectors: by version, the metric over all rows, then over each bootstrap.
        better_high: whether a greater value is better; None where better has no direction.
        bounds: what the metric lies between.
        level: the confidence, such as 0.95.
    """
    values = {
        name: _bounded(intervals([vector], level)[0][0], bounds) for name, vector in vectors.items()
    }
    pairs = list(combinations(vectors, 2))
    found, width = intervals([vectors[a] - vectors[b] for a, b in pairs], level)
    differences = {}
    for (a, b), each in zip(pairs, found, strict=True):
        scale = _ROUNDING * max(abs(values[a].value), abs(values[b].value))
        interval = (
            Interval(0.0, min(each.low, 0.0), max(each.high, 0.0))
            if abs(each.value) <= scale
            else each
        )
        differences[a, b] = interval
        differences[b, a] = Interval(-interval.value, -interval.high, -interval.low)
    ordered = _ordered(values, better_high)
    ranks: dict[str, int | None] = dict.fromkeys(vectors)
    ranks |= _ranks(ordered, differences)
    return Standing(values, differences, better_high, ordered, ranks, width)


def intervals(vectors: Sequence[Floats], level: float) -> tuple[list[Interval], float]:
    """Return intervals that hold at once, and how many standard errors they reach."""
    if not vectors:
        return [], math.nan
    table = np.array(vectors)
    points, drawn = table[:, 0], table[:, 1:]
    whole = np.isfinite(drawn).all(axis=0)
    drawn = drawn[:, whole]
    if drawn.shape[1] < _LEAST:
        return [Interval(float(p), math.nan, math.nan) for p in points], math.nan
    errors = drawn.std(axis=1, ddof=1)
    varies = errors > _ROUNDING * np.abs(drawn).max(axis=1)
    width = 0.0
    if varies.any():
        distances = np.abs(drawn - drawn.mean(axis=1, keepdims=True))[varies] / errors[varies, None]
        width = float(np.quantile(distances.max(axis=0), level))
    reach = np.where(varies, errors * width, 0.0)
    return [
        Interval(float(p), float(p - r), float(p + r)) for p, r in zip(points, reach, strict=True)
    ], width


def _bounded(interval: Interval, bounds: tuple[float, float]) -> Interval:
    low, high = bounds
    return Interval(interval.value, max(low, interval.low), min(high, interval.high))


def _ordered(values: Mapping[str, Interval], better_high: bool | None) -> list[str]:  # noqa: FBT001 - a fact of the metric
    if better_high is None:
        return []
    sign = -1.0 if better_high else 1.0
    known = [name for name, each in values.items() if not math.isnan(each.value)]
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


def _known(number: Any) -> float | None:  # noqa: ANN401 - a number
    return float(number) if number is not None and math.isfinite(number) else None
