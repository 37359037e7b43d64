"""Expecting: rows that break the rules for their values are set aside, and nulls are counted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .applying import WHY, attempt
from .families import Family
from .version import output_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .predicting import Task
    from .version import Version

_UNEXPECTED = "UnexpectedValue"
"""The type of the error of a row that breaks a rule."""
CHECKED = pa.schema({"checked": pa.string()})
"""The column that `check_rows` yields: the facts of `Checks` as JSON."""
_COMPARE = {
    "=": pc.equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_LONGEST_SHOWN = 80
_WIDEST = 76
"""The digits of the widest decimals, which hold every decimal of a table and of a rule."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A condition on the values of a column."""

    column: str
    condition: tuple[Any, ...]
    """As `rules.Condition`, with values of the column's type."""
    text: str
    """The rule as the job's file has it."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the rows of a job must be like."""

    rules: tuple[Rule, ...] = ()
    nulls: tuple[str, ...] = ()
    """The columns whose nulls are counted."""
    positions: Mapping[str, int] = field(default_factory=dict)
    """The positions of these columns in the batches of workers."""
    slice_at: int | None = None
    """The position of the column that names a row's slice; None if all rows are one slice."""

    @property
    def columns(self) -> list[str]:
        """The columns that rules and counts look at."""
        return list(dict.fromkeys([*[rule.column for rule in self.rules], *self.nulls]))

    def placed(self, names: Sequence[str], slice_at: int | None) -> Expected:
        """Return the same for batches with the columns *names*."""
        positions = {name: names.index(name) for name in self.columns}
        return replace(self, positions=positions, slice_at=slice_at)


class Checks:
    """The rules for the rows of one task, and the counts of the rows that break them."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._broken: Counter[str] = Counter()
        self._nulls: dict[str, Counter[str]] = {}

    def attempt(
        self, versions: Sequence[Version | Family], batch: pa.RecordBatch
    ) -> tuple[list[pa.Array], pa.Array]:
        """Return as `applying.attempt` does; rows that break a rule do not reach the versions."""
        rows, reasons = self.check(batch)
        if not len(rows):
            return attempt(versions, batch)
        rest = np.setdiff1d(np.arange(batch.num_rows), rows)
        places = np.empty(batch.num_rows, np.int64)
        places[rest], places[rows] = np.arange(len(rest)), np.arange(len(rest), batch.num_rows)
        predictions, why = _attempt_rest(versions, batch.take(pa.array(rest)))
        given = pa.array(np.where(places < len(rest), places, 0), mask=places >= len(rest))
        return (
            [column.take(given) for column in predictions],
            pa.concat_arrays([why, reasons]).take(pa.array(places)),
        )

    def check(self, batch: pa.RecordBatch) -> tuple[Any, pa.Array]:
        """Count, and return the positions of the rows that break a rule, with their reasons."""
        self._count_nulls(batch)
        masks = {}
        for rule in self._expected.rules:
            values = self._column(batch, rule.column)
            self._broken[rule.column] += 0
            if _is_bounded(rule.condition, values):
                continue
            held = _holds(rule.condition, values)
            self._broken[rule.column] += held.false_count
            if held.false_count:
                masks[rule] = pc.invert(held).fill_null(False).to_numpy(zero_copy_only=False)  # noqa: FBT003 - a value
        if not masks:
            return np.empty(0, np.int64), pa.nulls(0, pa.list_(WHY))
        rows = np.flatnonzero(np.logical_or.reduce(list(masks.values())))
        return rows, self._reasons(batch, rows, masks)

    def _count_nulls(self, batch: pa.RecordBatch) -> None:
        at = self._expected.slice_at
        for name in self._expected.nulls:
            column = self._column(batch, name)
            if not column.null_count:
                continue
            slices = {"": column.null_count}
            if at is not None:
                texts = batch.column(at).filter(column.is_null()).cast(pa.string())
                counts = pc.value_counts(texts)
                slices = dict(
                    zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True)
                )
            for slice_name, rows in slices.items():
                self._nulls.setdefault(slice_name, Counter())[name] += rows

    def _reasons(self, batch: pa.RecordBatch, rows: Any, masks: Mapping[Rule, Any]) -> pa.Array:
        """Return for each of *rows* a list of one `WHY`, about the first rule that it breaks."""
        messages: list[str | None] = [None] * len(rows)
        for rule, mask in masks.items():
            broken = [n for n in np.flatnonzero(mask[rows]).tolist() if messages[n] is None]
            values = self._column(batch, rule.column).take(pa.array(rows[broken]))
            for n, text in zip(broken, _describe(rule, values), strict=True):
                messages[n] = text
        kinds = pa.repeat(pa.scalar(_UNEXPECTED), len(rows))
        texts = pa.array(messages, pa.string())
        reasons = pa.StructArray.from_arrays(
            [pa.nulls(len(rows), pa.string()), kinds, texts], fields=list(WHY)
        )
        return pa.ListArray.from_arrays(pa.array(np.arange(len(rows) + 1), pa.int32()), reasons)

    def _column(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        return batch.column(self._expected.positions[name])

    def facts(self) -> dict[str, Any]:
        """Return `broken`, the rows that break a rule by column, and `nulls` by slice and column.

        The name of the slice is empty if all rows are one slice.
        """
        return {"broken": dict(self._broken), "nulls": self._nulls}


def _attempt_rest(
    versions: Sequence[Version | Family], batch: pa.RecordBatch
) -> tuple[list[pa.Array], pa.Array]:
    """Return as `attempt` does, also for no rows, which no model gets."""
    if batch.num_rows:
        return attempt(versions, batch)
    outputs = [
        (version.members[0] if isinstance(version, Family) else version).outputs
        for version in versions
    ]
    nothing = [pa.nulls(0, output_type(schema)) for schema in outputs]
    return nothing, pa.nulls(0, pa.list_(WHY))


def _is_bounded(condition: tuple[Any, ...], values: pa.Array) -> bool:
    """Return whether the bounds of numbers alone show that *condition* is true of all of them.

    Two bounds of a batch take less than half of the time of comparing each number.
    """
    kind = values.type
    is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    if not is_number or values.null_count or not len(values):
        return False
    numbers = values.to_numpy()
    return _is_within(condition, numbers.min().item(), numbers.max().item())  # both NaN if any is


def _is_within(condition: tuple[Any, ...], least: float, most: float) -> bool:
    kind, *parts = condition
    match kind:
        case "and":
            return all(_is_within(part, least, most) for part in parts)
        case ">":
            return bool(least > parts[0])
        case ">=":
            return bool(least >= parts[0])
        case "<":
            return bool(most < parts[0])
        case "<=":
            return bool(most <= parts[0])
    return False


def _holds(condition: tuple[Any, ...], values: pa.Array) -> pa.Array:  # noqa: PLR0911 - one case a condition
    """Return whether *condition* is true of each value; null if a null makes it unknown.

    NaN is neither less, nor equal, nor greater than any number.
    """
    kind, *parts = condition
    match kind:
        case "null":
            return values.is_null()
        case "not":
            return pc.invert(_holds(parts[0], values))
        case "and":
            return pc.and_kleene(*[_holds(part, values) for part in parts])
        case "or":
            return pc.or_kleene(*[_holds(part, values) for part in parts])
        case "in":
            return reduce(pc.or_kleene, [_holds(("=", value), values) for value in parts[0]])
        case "like":
            return pc.match_like(values, parts[0])
    return _COMPARE[kind](*_make_alike(values, parts[0]))


def _make_alike(values: pa.Array, value: Any) -> tuple[pa.Array, pa.Scalar]:
    """Return *values* and *value* in one type that holds both."""
    if isinstance(value, Decimal):
        own = values.type.scale if pa.types.is_decimal(values.type) else 0
        kind = pa.decimal256(_WIDEST, max(own, -min(0, int(value.as_tuple().exponent))))
    elif isinstance(value, float):
        return values.cast(pa.float64(), safe=False), pa.scalar(value, pa.float64())
    elif isinstance(value, int) and not isinstance(value, bool):
        kind = pa.int64()
    elif isinstance(value, date):  # a time is a date too
        kind = values.type
    else:
        return values, pa.scalar(value, values.type)
    return values.cast(kind), pa.scalar(value, kind)


def _describe(rule: Rule, values: pa.Array) -> list[str]:
    """Return for each value a text that says how it breaks *rule*."""
    kind = values.type
    texts: list[bytes | None]
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        texts = [b"a value" if known else None for known in values.is_valid().to_pylist()]
    else:
        texts = values.cast(pa.string()).cast(pa.binary()).to_pylist()  # which need not be UTF-8
    shown = [
        "null" if text is None else text.decode("utf-8", "replace")[:_LONGEST_SHOWN]
        for text in texts
    ]
    return [f"{rule.column} is {text}, not {rule.text}" for text in shown]


def check_rows(expected: Expected) -> Task:
    """Return the function for `mapInArrow` that only counts: it yields one row of `CHECKED`."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        checks = Checks(expected)
        for batch in batches:
            checks.check(batch)
        yield pa.RecordBatch.from_pylist([{"checked": json.dumps(checks.facts())}], CHECKED)

    return run


def add_checks(totals: dict[str, Any], facts: dict[str, Any]) -> None:
    """Add the *facts* of one task's `Checks`, if it has any, to *totals*, which begin empty."""
    if not facts:
        return
    broken = totals.setdefault("broken", {})
    for column, rows in facts["broken"].items():
        broken[column] = broken.get(column, 0) + rows
    nulls = totals.setdefault("nulls", {})
    for slice_name, counts in facts["nulls"].items():
        known = nulls.setdefault(slice_name, {})
        for column, rows in counts.items():
            known[column] = known.get(column, 0) + rows
