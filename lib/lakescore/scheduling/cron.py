"""Times: a line of cron, and how other schedulers write the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakescore.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
"""In ISO's order: Monday is day 1."""
_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 7),
)
_PART = re.compile(r"(?:(\*)|(\d+)(?:-(\d+))?)(?:/(\d+))?")


def weekdays(text: str) -> tuple[int, ...]:
    """Return the days of the week that *text* lists, such as `mon,thu`, as ISO's numbers.

    Raises:
        ConfigError: a word of it is no such day.
    """
    known = [day.lower() for day in DAYS]
    for word in text.lower().split(","):
        if word not in known:
            raise ConfigError(
                f"{word!r} is no day of the week{nearest(word, known)}; list them like mon,thu"
            )
    given = set(text.lower().split(","))
    return tuple(number for number, day in enumerate(known, start=1) if day in given)


@dataclass(frozen=True)
class Cron:
    """Five fields as cron reads them, with numbers and `* , - /`; times are UTC."""

    text: str

    def __post_init__(self) -> None:
        fields = self.text.split()
        if len(fields) != len(_FIELDS):
            raise ConfigError(
                f"the cron line {self.text!r} has {len(fields)} fields; it takes five: minute, "
                "hour, day of the month, month and day of the week"
            )
        for given, (name, least, most) in zip(fields, _FIELDS, strict=True):
            for part in given.split(","):
                found = _PART.fullmatch(part)
                numbers = [int(n) for n in found.groups()[1:3] if n] if found else []
                ordered = numbers == sorted(numbers) and all(least <= n <= most for n in numbers)
                if found is None or not ordered or found[4] == "0":
                    raise ConfigError(
                        f"the cron line {self.text!r} has {given!r} for the {name}; it takes "
                        f"numbers from {least} to {most} with * , - and /"
                    )

    @property
    def fields(self) -> tuple[str, ...]:
        """The five fields."""
        return tuple(self.text.split())

    def weekdays(self) -> frozenset[int]:
        """Return the days of the week on which it may come, as ISO's numbers."""
        *_, day, _, weekday = self.fields
        if day != "*":  # beside one of the month, a day of the week adds days
            return frozenset(range(1, 8))
        return frozenset(number for part in weekday.split(",") for number in _iso_days(part))

    def on(self, days: Iterable[int]) -> Cron:
        """Return the same times, on those of *days* only that are its own.

        Raises:
            ConfigError: it gives a day of the month, and cron cannot say both.
        """
        minute, hour, day, month, _ = self.fields
        if day != "*":
            raise ConfigError(
                f"the cron line {self.text!r} gives a day of the month, which this scheduler "
                "cannot combine with days of the week: give one of them"
            )
        numbers = sorted(each % 7 for each in self.weekdays().intersection(days))
        return Cron(f"{minute} {hour} * {month} {','.join(map(str, numbers))}")

    def with_sunday_as_0(self) -> str:
        """Return it for readers that do not know cron's other Sunday, 7."""
        *rest, weekday = self.fields
        if "7" not in weekday:
            return self.text
        numbers = {number % 7 for part in weekday.split(",") for number in _iso_days(part)}
        return " ".join([*rest, ",".join(map(str, sorted(numbers)))])

    def on_calendar(self) -> str:
        """Return what systemd's OnCalendar reads."""
        minute, hour, day, month, weekday = self._one_day("systemd")
        date = f"*-{_dots(month, 1)}-{_dots(day, 1)}"
        time = f"{_dots(hour, 0)}:{_dots(minute, 0)}:00"
        names = "" if weekday == "*" else f"{_names(weekday, '..')} "
        return f"{names}{date} {time} UTC"

    def quartz(self) -> str:
        """Return Quartz's line, which begins with seconds; one of its two days is a `?`."""
        minute, hour, day, month, weekday = self._one_day("databricks")
        if weekday == "*":
            return f"0 {minute} {hour} {day} {month} ?"
        return f"0 {minute} {hour} ? {month} {_names(weekday, '-').upper()}"

    def _one_day(self, scheduler: str) -> tuple[str, ...]:
        *_, day, _, weekday = self.fields
        if "*" not in {day, weekday}:
            raise ConfigError(
                f"the cron line {self.text!r} gives a day of the month and one of the week, of "
                f"which cron means either; {scheduler} cannot say that: give one of them"
            )
        return self.fields


def _iso_days(part: str) -> set[int]:
    """Return the days of a part of cron's last field, such as `1-5`, `*/2` or `7`."""
    span, _, step = part.partition("/")
    first, dash, last = span.partition("-")
    if first == "*":
        first, last = "0", "6"
    elif not dash:
        last = "7" if step else first
    return {(n - 1) % 7 + 1 for n in range(int(first), int(last) + 1, int(step or 1))}


def _dots(given: str, least: int) -> str:
    """Return a field as systemd writes it: `..` for ranges, and steps that begin somewhere."""
    parts = []
    for part in given.split(","):
        span, _, step = part.partition("/")
        if step and span == "*":
            span = str(least)
        parts.append(span.replace("-", "..") + (f"/{step}" if step else ""))
    return ",".join(parts)


def _names(given: str, to: str) -> str:
    """Return days of the week by name, since each scheduler counts them from another day."""
    if "/" in given:
        raise ConfigError(f"days of the week {given!r} have a step; list them: 1,3,5")
    spans = [[DAYS[int(n) - 1] for n in part.split("-")] for part in given.split(",")]
    return ",".join(to.join(span) for span in spans)
