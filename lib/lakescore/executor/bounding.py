"""Bounding: the lower and upper bound of a file's column, in the form of Delta's log.

Readers skip files by bounds, so a bound can be wider than the values, but never narrower. If a
bound cannot be written in this way, the column has no bounds.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_CHARACTERS = 32
"""The number of characters that Delta keeps of a text."""
_MOST_CHARACTERS = 2 * _CHARACTERS
_LAST, _LAST_OF_ASCII = "\U0010ffff", "\x7f"
"""Delta's tie-breakers: the second has the same order for readers that compare texts as UTF-16."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Bounds:
    """The bounds of one column of a file, and the number of its nulls."""

    def __init__(self) -> None:
        self.rows = self.nulls = 0
        self._kind: pa.DataType = pa.null()
        self._least: Any = None
        self._most: Any = None
        self._fits = True

    def add(self, values: pa.Array) -> None:
        """Add *values*, all of one type."""
        self.rows += len(values)
        self.nulls += values.null_count
        self._kind = values.type
        if not self._fits or values.null_count == len(values):
            return
        extremes = _extremes(values)
        if extremes is None:
            self._fits = False
            return
        least, most = extremes
        self._least = least if self._least is None else min(self._least, least)
        self._most = most if self._most is None else max(self._most, most)

    @property
    def is_empty(self) -> bool:
        """Whether all values are null, so that nothing needs bounds."""
        return self.nulls == self.rows

    @property
    def written(self) -> tuple[str, str] | None:
        """The lower and the upper bound as JSON, or None if one of them cannot be written."""
        if not self._fits or self._least is None:
            return None
        least = _lower_bound(self._least, self._kind)
        most = _upper_bound(self._most, self._kind)
        return None if least is None or most is None else (least, most)


def _extremes(values: pa.Array) -> tuple[Any, Any] | None:
    """Return the least and greatest value: texts as bytes, days and microseconds as numbers."""
    kind = values.type
    if pa.types.is_date32(kind):
        values = values.cast(pa.int32())
    elif pa.types.is_timestamp(kind) and kind.unit == "us":
        values = values.cast(pa.int64())
    elif pa.types.is_floating(kind):
        # Some readers take NaN for the largest number, and others for no number.
        if not pc.all(pc.is_finite(values)).as_py():
            return None
    elif not (
        pa.types.is_integer(kind) or pa.types.is_decimal128(kind) or pa.types.is_string(kind)
    ):
        return None
    extremes = pc.min_max(values)
    if pa.types.is_string(kind):  # its bytes may be invalid UTF-8
        return extremes["min"].as_buffer().to_pybytes(), extremes["max"].as_buffer().to_pybytes()
    return extremes["min"].as_py(), extremes["max"].as_py()


def _lower_bound(least: Any, kind: pa.DataType) -> str | None:
    if pa.types.is_string(kind):
        text = _decode(least)
        return None if text is None else _quote(text[:_CHARACTERS])
    if pa.types.is_timestamp(kind):
        return _format_time(least // 1000, kind)
    if least == 0 and pa.types.is_floating(kind):
        return "-0.0"  # some readers sort it before 0.0
    return _format_number_or_day(least, kind)


def _upper_bound(most: Any, kind: pa.DataType) -> str | None:
    if pa.types.is_string(kind):
        text = _decode(most)
        raised = None if text is None else _raise_text(text)
        return None if raised is None else _quote(raised)
    if pa.types.is_timestamp(kind):
        return _format_time(-(-most // 1000), kind)
    if most == 0 and pa.types.is_floating(kind):
        return "0.0"
    return _format_number_or_day(most, kind)


def _quote(text: str) -> str:
    """Return *text* as JSON without escapes: delta-rs reads some escapes as other characters."""
    return json.dumps(text, ensure_ascii=False)


def _decode(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _raise_text(text: str) -> str | None:
    """Return the beginning of *text* with a last character that makes it sort after *text*."""
    if len(text) <= _CHARACTERS:
        return text
    end = _CHARACTERS
    while text[end : end + 1] == _LAST:  # no character sorts after it
        end += 1
    if end > _MOST_CHARACTERS:
        return None
    rest = text[end : end + 1]
    return text[:end] + ("" if not rest else _LAST_OF_ASCII if rest < _LAST_OF_ASCII else _LAST)


def _format_time(milliseconds: int, kind: pa.DataType) -> str | None:
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:  # outside the years 1 to 9999
        return None
    text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return json.dumps(text + "Z" if kind.tz else text)


def _format_number_or_day(value: Any, kind: pa.DataType) -> str | None:
    if pa.types.is_date(kind):
        try:
            return json.dumps(date.fromordinal(_EPOCH.toordinal() + value).isoformat())
        except (OverflowError, ValueError):  # outside the years 1 to 9999
            return None
    return format(value, "f") if pa.types.is_decimal(kind) else repr(value)
