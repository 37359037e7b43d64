"""Stating: what a gate asks, and what the comparison found, in words with the numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lakescore.notation import bounds, interval, number, percent
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.comparing.grouping import RateCheck
    from lakescore.comparing.protecting import SliceCheck, SliceLoss
    from lakescore.comparing.ranking import Interval
    from lakescore.options import UnknownRule

_MOST_SLICES = 5
"""The most slices that a sentence names."""
_ONLY_SAFE = "it is safe in the only slice"


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


def slices(check: SliceCheck, unknown: UnknownRule) -> str:
    """Return the words of a limit for the loss in every slice.

    Args:
        check: the losses and their limit.
        unknown: whether slices that are not known pass.
    """
    good, bad = ("rise", "fall") if check.greater_is_better else ("fall", "rise")
    limit = percent(check.limit) if check.is_relative else _asked(check.limit)
    demand = f"{check.metric} {_demand(limit, -check.limit, good, bad)} in any slice"
    total = counted(len(check.losses), "slice")
    parts = []
    if worse := check.having("worse"):
        shown = [_worse(check, found) for found in worse]
        parts.append(f"in {len(worse)} of {total} it does: {listed(shown, most=_MOST_SLICES)}")
    if safe := check.having("safe"):
        of = "" if len(safe) == len(check.losses) else f"{len(safe)} of "
        parts.append(f"it is safe in {of or 'all '}{total}" if len(safe) > 1 or of else _ONLY_SAFE)
    if open_ := check.having("not known"):
        parts.append(_not_known(check, open_, bad, of="" if parts else f" of {total}"))
    if open_ and not worse and (check.is_blind or unknown == "fail"):
        parts[-1] += ", so nobody knows" if check.is_blind else ", and unknown_slices is fail"
    return f"{demand}: {'; '.join(parts)}"


def rates(check: RateCheck, unknown: UnknownRule) -> str:
    """Return the words of a limit for the difference of a rate between groups."""
    demand = f"{check.rate} must not differ by more than {_asked(check.limit)} between the groups"
    words = f"{demand} of {check.by}: "
    if check.widest is None:
        return f"{words}fewer than two groups can be compared, so nobody knows"
    (high, low), pair = check.widest
    width = pair.high - pair.low
    named = {group.name: number(group.rate, width) for group in check.groups}
    words += (
        f"it is {named[high]} in {high} and {named[low]} in {low}, a difference of "
        f"{interval(pair.value, pair.low, pair.high)}"
    )
    if check.verdict == "worse":
        words += _missed(pair.low - check.limit, pair)
    if check.unknown:
        words += f"; {counted(len(check.unknown), 'group')} of few rows cannot be compared"
    if check.verdict == "not known":
        fails = "" if unknown == "pass" else ", and unknown_slices is fail"
        words += f"; whether all groups are so near is not known{fails}"
    return words


def _worse(check: SliceCheck, found: SliceLoss) -> str:
    """Return a slice with its loss: `carrier=OO by 3.1 (1.2 to 5.0)`."""
    if found.unscored:
        return f"{found.slice} (it could not score {counted(found.unscored, 'row')} of the slice)"
    scale, unit = _scale(check, found)
    loss, low, high = found.loss.value, scale * found.loss.low, scale * found.loss.high
    value = number(scale * loss, high - low)
    return f"{found.slice} by {value}{unit} ({bounds(low, high)}{unit})"


def _not_known(check: SliceCheck, found: Sequence[SliceLoss], bad: str, *, of: str) -> str:
    """Return how many slices are not known, how many are small, and the largest estimate."""
    small = sum(part.is_small for part in found)
    verb = "is" if len(found) == 1 else "are"
    text = f"{len(found)}{of} {verb} not known"
    if small:
        text += " because of few rows" if small == len(found) else f" ({small} because of few rows)"
    worst = next((part for part in found if part.loss.value > check.most(part)), None)
    if worst is not None:
        scale, unit = _scale(check, worst)
        value = number(scale * worst.loss.value, scale * worst.loss.value)
        where = f"{worst.slice}, {counted(worst.rows, 'row')}"
        text += f", where the largest estimate is a {bad} of {value}{unit} ({where})"
    return text


def _scale(check: SliceCheck, found: SliceLoss) -> tuple[float, str]:
    """Return the factor and the unit of a loss in words."""
    return (100 / (abs(found.baseline) or 1.0), " %") if check.is_relative else (1.0, "")


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
