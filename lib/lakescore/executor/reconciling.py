"""Reconciling: pair the rows of two sides by their keys, and compare their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .nesting import innermost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .predicting import Task

LEFT = "left"
"""The column of the input rows that is true for rows of the left side."""
COUNTS = pa.schema(
    {
        "same": pa.int64(),
        "different": pa.int64(),
        "only_left": pa.int64(),
        "only_right": pa.int64(),
    }
)
"""The numbers of rows; a pair counts once."""
_HAS = pa.schema({"has_left": pa.bool_(), "has_right": pa.bool_()})


def reconciled(kinds: pa.Schema, keys: int) -> pa.Schema:
    """Return the schema of the rows that `reconcile` yields."""
    types = kinds.types
    return pa.schema(
        [
            *COUNTS,
            *_HAS,
            *[pa.field(f"key_{n}", kind) for n, kind in enumerate(types[:keys])],
            *[pa.field(f"left_{n}", kind) for n, kind in enumerate(types[keys:])],
            *[pa.field(f"right_{n}", kind) for n, kind in enumerate(types[keys:])],
        ]
    )


def reconcile(kinds: pa.Schema, keys: int, *, tolerance: float, most: int) -> Task:
    """Return the function for `mapInArrow` that compares the rows of two sides.

    It gets the columns of *kinds* and `LEFT`, and must get all rows with the same keys. It yields
    one row with `COUNTS`, and then some of the pairs that differ: their keys, the sides that have
    the row, and the row's values on both sides.

    Args:
        kinds: the keys, then the values.
        keys: the number of keys. A null equals a null, and NaN equals NaN. Rows of one side with
            the same keys are paired in the order of their values.
        tolerance: the largest difference between two finite fractions that count as the same,
            relative to the larger one.
        most: the maximum number of differing pairs to yield.
    """
    schema = reconciled(kinds, keys)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        received = list(batches)
        empty = kinds.append(pa.field(LEFT, pa.bool_())).empty_table()
        rows = pa.Table.from_batches(received) if received else empty
        *columns, is_left = [column.combine_chunks() for column in rows.columns]
        sides = _sides(is_left)
        yield from _compare_sides(columns[:keys], columns[keys:], sides, tolerance, most, schema)

    return run


def _sides(is_left: pa.Array) -> list[Any]:
    """Return the places of the left side's rows, and of the right side's rows."""
    mask = is_left.to_numpy(zero_copy_only=False)
    return [np.flatnonzero(mask), np.flatnonzero(~mask)]


def _compare_sides(  # noqa: PLR0913, PLR0917 - facts of one comparison
    keys: Sequence[pa.Array],
    values: Sequence[pa.Array],
    sides: Sequence[Any],
    tolerance: float,
    most: int,
    schema: pa.Schema,
) -> list[pa.RecordBatch]:
    groups = _number_groups(keys, sum(map(len, sides)))
    ordinals = [
        _number_rows(groups[side], [column.take(side) for column in values]) for side in sides
    ]
    width = max((int(numbers.max()) for numbers in ordinals if len(numbers)), default=0) + 1
    one, other = (groups[side] * width + n for side, n in zip(sides, ordinals, strict=True))
    _, at_left, at_right = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    left, right = sides[0][at_left], sides[1][at_right]
    same = np.ones(len(left), bool)
    for column in values:
        same &= _are_same(column.take(left), column.take(right), tolerance)
    alone = [np.setdiff1d(sides[0], left), np.setdiff1d(sides[1], right)]
    counts = [int(same.sum()), int((~same).sum()), len(alone[0]), len(alone[1])]
    shown = [
        *zip(left[~same][:most].tolist(), right[~same][:most].tolist(), strict=True),
        *[(n, None) for n in alone[0][:most].tolist()],
        *[(None, n) for n in alone[1][:most].tolist()],
    ][:most]
    return [_counts_row(counts, schema), *_pair_rows(keys, values, shown, schema)]


def _counts_row(counts: Sequence[int], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(COUNTS.names, counts, strict=True))], schema)


def _pair_rows(
    keys: Sequence[pa.Array],
    values: Sequence[pa.Array],
    shown: Sequence[tuple[int | None, int | None]],
    schema: pa.Schema,
) -> list[pa.RecordBatch]:
    if not shown:
        return []
    left, right = (pa.array([pair[n] for pair in shown], pa.int64()) for n in (0, 1))
    columns = [
        *[pa.nulls(len(shown), field.type) for field in COUNTS],
        *[side.is_valid() for side in (left, right)],
        *[column.take(pc.coalesce(left, right)) for column in keys],
        *[column.take(left) for column in values],
        *[column.take(right) for column in values],
    ]
    cast = [column.cast(kind) for column, kind in zip(columns, schema.types, strict=True)]
    return [pa.RecordBatch.from_arrays(cast, schema=schema)]


def _number_groups(keys: Sequence[pa.Array], rows: int) -> Any:
    """Number rows so that two rows have the same number if all their keys are equal."""
    groups = np.zeros(rows, np.int64)
    for column in keys:
        codes, count = _encode(column)
        groups = groups * count + codes  # less than rows x rows
        groups, _ = _encode(pa.array(groups))
    return groups


def _encode(column: pa.Array) -> tuple[Any, int]:
    """Return a number for each value, the same for equal values, and the count of numbers."""
    kind = column.type
    if pa.types.is_floating(kind):
        column = pc.add(column, pa.scalar(0.0, kind))  # -0.0 is 0.0
        column = pc.if_else(
            pc.is_nan(column), pa.scalar(np.nan, kind), column
        )  # NaN has many bit patterns
    elif pa.types.is_nested(kind):
        column = _make_texts(column)
    encoded = column.dictionary_encode(null_encoding="encode")
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, max(1, len(encoded.dictionary))


def _number_rows(groups: Any, values: Sequence[pa.Array]) -> Any:
    """Number the rows of each group in the order of their *values*, from 0."""
    ordinals = np.zeros(len(groups), np.int64)
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    follows = np.r_[False, ordered[1:] == ordered[:-1]] if len(ordered) else np.zeros(0, bool)
    if not follows.any():
        return ordinals
    shares = order[follows | np.r_[follows[1:], False]]
    ranks = [rank for column in values for rank in _sort_numbers(column.take(pa.array(shares)))]
    shares = shares[np.lexsort([*reversed(ranks), groups[shares]])]
    shared = groups[shares]
    starts = np.flatnonzero(np.r_[True, shared[1:] != shared[:-1]])
    lengths = np.diff(np.r_[starts, len(shared)])
    ordinals[shares] = np.arange(len(shared)) - np.repeat(starts, lengths)
    return ordinals


def _sort_numbers(column: pa.Array) -> list[Any]:
    """Return numbers that sort the values, the most significant first: NaN is not null."""
    if pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return [column.is_null().to_numpy(zero_copy_only=False), numbers]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    elif pa.types.is_nested(column.type):
        column = _make_texts(column)
    return [pc.rank(column, tiebreaker="dense").to_numpy(zero_copy_only=False)]


def _make_texts(column: pa.Array) -> pa.Array:
    """Return a text for each nested value, the same for equal values."""
    return pa.array(
        [repr(value) for value in innermost(column, _make_exact).to_pylist()], pa.string()
    )


def _make_exact(values: pa.Array) -> pa.Array:
    """Return values that Python holds exactly: it has fewer times, and only texts in UTF-8."""
    if pa.types.is_timestamp(values.type):
        return values.cast(pa.int64())
    if pa.types.is_date(values.type):
        return values.cast(pa.int32())
    return values.cast(pa.binary()) if pa.types.is_string(values.type) else values


def _are_same(one: pa.Array, other: pa.Array, tolerance: float) -> Any:
    """Return which values are the same: nulls, NaNs, and fractions within *tolerance* are."""
    known, known_too = (side.is_valid().to_numpy(zero_copy_only=False) for side in (one, other))
    same = known == known_too
    both = np.flatnonzero(known & known_too)
    same[both] = _are_equal(one.take(pa.array(both)), other.take(pa.array(both)), tolerance)
    return same


def _are_equal(one: pa.Array, other: pa.Array, tolerance: float) -> Any:
    """Do the work of `_are_same` for values without nulls."""
    kind = one.type
    if pa.types.is_floating(kind):
        a, b = (side.cast(pa.float64()).to_numpy(zero_copy_only=False) for side in (one, other))
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(a - b) <= tolerance * np.maximum(np.abs(a), np.abs(b))
        near &= np.isfinite(a) & np.isfinite(b)
        return (a == b) | (np.isnan(a) & np.isnan(b)) | near
    if pa.types.is_struct(kind):
        fields = [
            _are_same(a, b, tolerance) for a, b in zip(one.flatten(), other.flatten(), strict=True)
        ]
        return np.logical_and.reduce([np.ones(len(one), bool), *fields])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _are_equal_lists(one, other, tolerance)
    if pa.types.is_nested(kind):
        pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
        return np.array([a == b for a, b in pairs], bool)
    return pc.equal(one, other).to_numpy(zero_copy_only=False)


def _are_equal_lists(one: pa.Array, other: pa.Array, tolerance: float) -> Any:
    lengths = pc.list_value_length(one).to_numpy(zero_copy_only=False)
    same = lengths == pc.list_value_length(other).to_numpy(zero_copy_only=False)
    alike = np.flatnonzero(same)
    members, others = (side.take(pa.array(alike)).flatten() for side in (one, other))
    differs = ~_are_same(members, others, tolerance)
    lists = np.repeat(np.arange(len(alike)), lengths[alike])
    same[alike[np.unique(lists[differs])]] = False
    return same
