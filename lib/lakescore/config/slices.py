"""The slices that a job's file names: a value, a list, or a range of days."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_DAYS = 50_000
"""The longest range of slices: 136 years. A longer range is a mistake, or a case for `due`."""


def list_slices(slices: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of *slices*, which can be one name, several, or a range of days.

    Raises:
        ValueError: the range is not one of days, ends before it begins, or is too long.
    """
    if not isinstance(slices, str):
        return tuple(dict.fromkeys(slices))
    first, dots, last = slices.partition("..")
    return _list_days(first, last) if dots else (slices,)


def is_range(slices: str | Sequence[str] | None) -> bool:
    """Return whether *slices* are a range of days."""
    return isinstance(slices, str) and ".." in slices


def _list_days(first: str, last: str) -> tuple[str, ...]:
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        raise ValueError(
            f"{first}..{last} is not a range of days like 2013-12-01..2013-12-31"
        ) from None
    if end < start:
        raise ValueError(f"{first}..{last} ends before it begins")
    if (days := (end - start).days + 1) > _MOST_DAYS:
        raise ValueError(
            f"{first}..{last} would be {days} slices, but a range can have at most {_MOST_DAYS} "
            "days; give a shorter range, or due"
        )
    return tuple(str(start + timedelta(days=n)) for n in range(days))
