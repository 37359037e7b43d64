"""Stating: what a gate asks, and what the comparison found, in words with the numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lakescore.notation import bounds, interval, number, percent
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.comparing.ranking import Interval


def threshold(
    metric: str, limit: float, estimate: Interval, shortfall: float, *, greater_is_better: bool
) -> str:
    """Return the words of a limit for a metric's value."""
    side = "at least" if greater_is_better else "at most"
    value = interval(estimate.value, estimate.low, estimate.high)
    return f"{metric} must be {side} {_asked(limit)}: it is {value}{_missed(shortfall, estimate)}"


def change(
    metric: str, limit: float, gain: Interval, shortfall: float, *, greater_is_better: bool
) -> str:
    """Return the words of a limit for a change; the change in *gain* is positive if it is good."""
    good, bad = ("rise", "fall") if greater_is_better else ("fall", "rise")
    found = f"{_moved(gain, good, bad)}{_missed(shortfall, gain)}"
    return f"{metric} {_demand(_asked(abs(limit)), limit, good, bad)}: {found}"


def relative_change(  # noqa: PLR0913 - all but three by keyword
    metric: str,
    limit: float,
    gain: Interval,
    *,
    base: float,
    shortfall: float,
    greater_is_better: bool,
) -> str:
    """Return the words of a limit for a change as a share of *base*, the baseline's value."""
    good, bad = ("rise", "fall") if greater_is_better else ("fall", "rise")
    if not base:
        found = _moved(gain, good, bad)
        return (
            f"{metric} must {good}, because the baseline's is 0: {found}{_missed(shortfall, gain)}"
        )
    share = type(gain)(gain.value / base, gain.low / base, gain.high / base)
    demand = _demand(percent(abs(limit)), limit, good, bad)
    missed = _missed(shortfall, share, shares=True)
    return f"{metric} {demand}: {_moved(share, good, bad, shares=True)}{missed}"


def signature(verdict: str, reasons: Sequence[str]) -> str:
    """Return the words of the check whether the candidate can replace the baseline."""
    return (
        "the signature must fit in the place of the baseline's: it is "
        f"{verdict} ({listed(reasons)})"
    )


def _demand(asked: str, limit: float, good: str, bad: str) -> str:
    if limit > 0:
        return f"must {good} by at least {asked}"
    return f"must not {bad} by more than {asked}" if limit < 0 else f"must not {bad}"


def _moved(gain: Interval, good: str, bad: str, *, shares: bool = False) -> str:
    """Return how a metric moved: `it falls by 0.52 (0.21 to 0.84)`."""
    scale, unit = (100, " %") if shares else (1, "")
    value, low, high = (scale * part for part in (gain.value, gain.low, gain.high))
    if math.isnan(value):
        return "its change is unknown"
    if math.isnan(low) or math.isnan(high):
        return f"{_verb(value, good, bad)} by {number(abs(value))}{unit}, with an unknown interval"
    width = high - low
    moved = (
        f"{_verb(value, good, bad)} by {number(abs(value), width)}{unit}" if value else "it stays"
    )
    if low < 0 < high:
        worst, best = number(-low, width), number(high, width)
        return f"{moved} (from a {bad} of {worst}{unit} to a {good} of {best}{unit})"
    near, far = sorted((abs(low), abs(high)))
    return f"{moved} ({bounds(near, far)}{unit})" if value else moved


def _verb(value: float, good: str, bad: str) -> str:
    return f"it {good if value > 0 else bad}s"


def _asked(limit: float) -> str:
    """Return a limit as it was typed."""
    text = number(limit)
    return text if float(text.replace(",", "")) == limit else repr(limit)


def _missed(shortfall: float, found: Interval, *, shares: bool = False) -> str:
    if math.isnan(shortfall):
        return ", so nobody knows"
    scale, unit = (100, " %") if shares else (1, "")
    missed = number(scale * shortfall, scale * (found.high - found.low))
    return "" if shortfall <= 0 else f", missed by {missed}{unit}"
