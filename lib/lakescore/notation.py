"""Notation: how numbers, intervals, sizes, durations and times are written for people.

Reports, pages and commands write them in the same way. `reporting/page/notation.js` is this module
for browsers. The table `tests/notation.json` holds the cases that both must give.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

NOTHING = "–"  # noqa: RUF001 - a dash, as in print
"""Stands for a value that does not exist."""
_DIGITS = 5
"""Significant digits of a number whose uncertainty is unknown."""
_DIGITS_OF_WIDTH = 2
"""Significant digits of an interval's width; the width decides the digits of its numbers."""
_SCIENTIFIC_DIGITS = 4
_DIGITS_OF_SHARE = 3
_TINY, _HUGE = 1e-4, 1e12
"""Numbers outside of these are written with a power of ten."""
_MOST_DECIMALS = 17
_MOST_DECIMALS_OF_WIDTH = 7
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_UNIT = 1000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS = ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s"))


def number(value: float | None, width: float | None = None) -> str:
    """Return a number with its thousands separated.

    Args:
        value: the number; None and NaN do not exist.
        width: the width of its interval, which decides the number of digits. Without it, or if it
            is 0, the number has five significant digits. The whole part is never rounded.
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if width is None or not math.isfinite(width) or width <= 0:
        return _alone(value, _DIGITS)
    decimals = _decimals(width, _DIGITS_OF_WIDTH)
    if abs(value) >= _HUGE or decimals > _MOST_DECIMALS_OF_WIDTH:
        return _scientific(value) if value else "0"
    text = _fixed(value, decimals)
    is_zero = not text.strip("-0.")
    return _alone(value, _DIGITS_OF_WIDTH) if is_zero and value else text


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return a value with its interval, such as `0.52 (0.21 to 0.84)`; without one, the value."""
    width = _width(low, high)
    if width is None:
        return number(value)
    return f"{number(value, width)} ({bounds(low, high)})"


def bounds(low: float | None, high: float | None) -> str:
    """Return an interval, such as `0.21 to 0.84`."""
    width = _width(low, high)
    return f"{number(low, width)} to {number(high, width)}"


def apart(*values: float) -> list[str]:
    """Return numbers with enough digits that different numbers have different texts."""
    texts: list[str] = []
    for digits in range(_DIGITS, _MOST_DECIMALS + 1):
        texts = [
            _alone(value, digits) if math.isfinite(value) else number(value) for value in values
        ]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def count(number_: int) -> str:
    """Return a whole number with its thousands separated."""
    return f"{number_:,}"


def percent(share: float | None) -> str:
    """Return a share, such as 0.044, as `4.4 %`."""
    if share is None or not math.isfinite(share):
        return NOTHING
    digits = _DIGITS_OF_SHARE
    while (
        abs(share) != 1
        and _alone(100 * share, digits) in {"100", "-100"}
        and digits < _MOST_DECIMALS
    ):
        digits += 1  # 99.99 % is not all
    return f"{_alone(100 * share, digits)} %"


def size(bytes_: int | None) -> str:
    """Return a number of bytes, such as `561 B` or `12.3 MB`."""
    if bytes_ is None:
        return NOTHING
    if abs(bytes_) < _UNIT:
        return f"{bytes_} B"
    value, unit = float(bytes_), 0
    while abs(float(_significant(value, 3).replace(",", ""))) >= _UNIT and unit < len(_UNITS) - 1:
        value, unit = value / _UNIT, unit + 1
    return f"{_significant(value, 3)} {_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """Return a duration, such as `5.8 s` or `1 h 3 min`."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 1:
        return f"{_significant(seconds * 1000, 3)} ms"
    if seconds < _MINUTE - 0.05:
        return f"{_trimmed(_fixed(seconds, 1))} s"
    whole = int(_fixed(seconds, 0).replace(",", ""))
    unit, name, part, part_name = next(step for step in _STEPS if whole >= step[0])
    rest = whole % unit // part
    return f"{whole // unit:,} {name}" + (f" {rest} {part_name}" if rest else "")


def time(value: str | datetime | None) -> str:
    """Return a time to the minute, in UTC, such as `2026-01-31 06:00 UTC`.

    A time without a zone is written without one, because nothing says which zone it is of.
    """
    if value is None or value == "":
        return NOTHING
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return str(value)
    if moment.tzinfo is None:
        return moment.isoformat(" ", "minutes")
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(' ', 'minutes')} UTC"


def _width(low: float | None, high: float | None) -> float | None:
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return None
    return high - low


def _is_plain(value: float) -> bool:
    return math.isfinite(value) and (value == 0 or _TINY <= abs(value) < _HUGE)


def _decimals(value: float, digits: int) -> int:
    """Return the decimals that show *digits* significant digits of a value."""
    exponent = Decimal(value).adjusted() if value else 0
    return min(max(0, digits - 1 - exponent), _MOST_DECIMALS)


def _alone(value: float, digits: int) -> str:
    return _significant(value, digits) if _is_plain(value) else _scientific(value)


def _significant(value: float, digits: int) -> str:
    return _trimmed(_fixed(value, _decimals(value, digits)))


def _fixed(value: float | Decimal, decimals: int) -> str:
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{rounded or abs(rounded):,f}"  # zero has no sign


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scientific(value: float) -> str:
    exact = Decimal(value)
    exponent = exact.adjusted()
    mantissa = _fixed(exact.scaleb(-exponent), _SCIENTIFIC_DIGITS - 1)
    if abs(float(mantissa)) >= 10:  # noqa: PLR2004 - rounding made another digit
        mantissa, exponent = _fixed(float(mantissa) / 10, 0), exponent + 1
    return f"{_trimmed(mantissa)}e{exponent}"
