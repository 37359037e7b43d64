"""Read a line of cron, and write the same times for other schedulers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakescore.errors import ConfigError
from lakescore.wording import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
"""The days in ISO's order: Monday is day 1."""
_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 7),
)
_PART = re.compile(r"(?:(\*)|(\d+)(?:-(\d+))?)(?:/(\d+))?")


def weekdays(text: str) -> tuple[int, ...]:
    """Return the days of the week in *text*, such as `mon,thu`, as ISO's numbers.

    Raises:
        ConfigError: a word is not a day of the week.
    """
    known = [day.lower() for day in DAYS]
    for word in text.lower().split(","):
        if word not in known:
            raise ConfigError(
                f"{word!r} is not a day of the week{nearest(word, known)}; list days like mon,thu"
            )
    listed = set(text.lower().split(","))
    return tuple(number for number, day in enumerate(known, start=1) if day in listed)


@dataclass(frozen=True)
class Cron:
    """Five fields in the syntax of cron, with numbers and `* , - /`; times are UTC."""

    text: str

    def __post_init__(self) -> None:
        fields = self.text.split()
        if len(fields) != len(_FIELDS):
            raise ConfigError(
                f"the cron line {self.text!r} has {len(fields)} fields; it takes five: minute, "
                "hour, day of the month, month and day of the week"
            )
        for field, (name, least, most) in zip(fields, _FIELDS, strict=True):
            for part in field.split(","):
                match = _PART.fullmatch(part)
                numbers = [int(n) for n in match.groups()[1:3] if n] if match else []
                ordered = numbers == sorted(numbers) and all(least <= n <= most for n in numbers)
                if match is None or not ordered or match[4] == "0":
                    raise ConfigError(
                        f"the cron line {self.text!r} has {field!r} for the {name}; it takes "
                        f"numbers from {least} to {most} with * , - and /"
                    )

    @property
    def fields(self) -> tuple[str, ...]:
        """The five fields."""
        return tuple(self.text.split())

    def weekdays(self) -> frozenset[int]:
        """Return the days of the week on which the line can match, as ISO's numbers."""
        *_, day, _, weekday = self.fields
        if day != "*":  # cron then matches either day, so any day of the week can match
            return frozenset(range(1, 8))
        return frozenset(number for part in weekday.split(",") for number in _iso_days(part))

    def on(self, days: Iterable[int]) -> Cron:
        """Return the same times, but only on those days of the week that are in *days*.

        Raises:
            ConfigError: the line gives a day of the month, and cron cannot require both.
        """
        minute, hour, day, month, _ = self.fields
        if day != "*":
            raise ConfigError(
                f"the cron line {self.text!r} gives a day of the month, which this scheduler "
                "cannot combine with days of the week; give only one of them"
            )
        numbers = sorted(number % 7 for number in self.weekdays().intersection(days))
        return Cron(f"{minute} {hour} * {month} {','.join(map(str, numbers))}")

    def with_sunday_as_0(self) -> str:
        """Return the line with 0 for Sunday, for schedulers that do not read 7 as Sunday."""
        *rest, weekday = self.fields
        if "7" not in weekday:
            return self.text
        numbers = {number % 7 for part in weekday.split(",") for number in _iso_days(part)}
        return " ".join([*rest, ",".join(map(str, sorted(numbers)))])

    def on_calendar(self) -> str:
        """Return the times in the syntax of systemd's OnCalendar."""
        minute, hour, day, month, weekday = self._refuse_two_days("systemd")
        date = f"*-{_calendar_field(month, 1)}-{_calendar_field(day, 1)}"
        time = f"{_calendar_field(hour, 0)}:{_calendar_field(minute, 0)}:00"
        names = "" if weekday == "*" else f"{_day_names(weekday, '..')} "
        return f"{names}{date} {time} UTC"

    def quartz(self) -> str:
        """Return the line of Quartz: it begins with seconds, and one of its two days is a `?`."""
        minute, hour, day, month, weekday = self._refuse_two_days("databricks")
        if weekday == "*":
            return f"0 {minute} {hour} {day} {month} ?"
        return f"0 {minute} {hour} ? {month} {_day_names(weekday, '-').upper()}"

    def _refuse_two_days(self, scheduler: str) -> tuple[str, ...]:
        *_, day, _, weekday = self.fields
        if "*" not in {day, weekday}:
            raise ConfigError(
                f"the cron line {self.text!r} gives a day of the month and a day of the week, and "
                f"cron runs on either; {scheduler} cannot express that; give only one of them"
            )
        return self.fields


def _iso_days(part: str) -> set[int]:
    """Return the days in a part of cron's last field, such as `1-5`, `*/2` or `7`."""
    span, _, step = part.partition("/")
    first, dash, last = span.partition("-")
    if first == "*":
        first, last = "0", "6"
    elif not dash:
        last = "7" if step else first
    return {(n - 1) % 7 + 1 for n in range(int(first), int(last) + 1, int(step or 1))}


def _calendar_field(field: str, least: int) -> str:
    """Return a field in systemd's syntax: `..` for ranges, and a start for each step."""
    parts = []
    for part in field.split(","):
        span, _, step = part.partition("/")
        if step and span == "*":
            span = str(least)
        parts.append(span.replace("-", "..") + (f"/{step}" if step else ""))
    return ",".join(parts)


def _day_names(field: str, separator: str) -> str:
    """Return days of the week by name, since schedulers do not agree on their numbers."""
    if "/" in field:
        raise ConfigError(f"days of the week {field!r} have a step; list the days: 1,3,5")
    spans = [[DAYS[int(n) - 1] for n in part.split("-")] for part in field.split(",")]
    return ",".join(separator.join(span) for span in spans)
