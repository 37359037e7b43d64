"""Rows of two sides are paired by their keys, whatever the types, and their values compared."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakescore import executor, replaying
from lakescore.slicing import SLICE

NAN, INF = math.nan, math.inf
KEYS = pa.schema({"id": pa.int64(), SLICE: pa.string(), "p": pa.float64()})


def rows(*given: tuple[Any, ...], kinds: pa.Schema = KEYS) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(kinds.names, row, strict=True)) for row in given], kinds)


def compared(
    published: pa.Table, replayed: pa.Table, tolerance: float = 0.0, keys: tuple[str, ...] = ("id",)
) -> dict[str, Any]:
    columns = [name for name in published.column_names if name not in {*keys, SLICE}]
    return replaying.reconcile(published, replayed, keys=keys, columns=columns, tolerance=tolerance)


def test_every_row_counts_once_on_whichever_side_it_is() -> None:
    published = rows((1, "a", 0.5), (2, "a", 0.5), (3, "a", 0.5), (4, "a", 0.5))
    replayed = rows(
        (5, "a", 0.5),  # only here
        (4, "b", 0.5),  # of another slice than the published one
        (2, "a", 0.25),  # differs
        (1, "a", 0.5),  # the same, elsewhere in the table
    )
    outcome = compared(published, replayed)
    examples = outcome.pop("examples")
    assert outcome == {
        "rows": 6,
        "same": 1,
        "different": 1,
        "only_published": 2,
        "only_replayed": 2,
    }
    assert examples == [
        {"key": {"id": 2}, "slice": "a", "published": {"p": 0.5}, "replayed": {"p": 0.25}},
        {"key": {"id": 3}, "slice": "a", "published": {"p": 0.5}, "replayed": None},
        {"key": {"id": 4}, "slice": "a", "published": {"p": 0.5}, "replayed": None},
        {"key": {"id": 5}, "slice": "a", "published": None, "replayed": {"p": 0.5}},
        {"key": {"id": 4}, "slice": "b", "published": None, "replayed": {"p": 0.5}},
    ]


def test_no_row_on_a_side_or_on_either_is_counted_too() -> None:
    one = rows((1, "a", 0.5))
    assert compared(one, one.slice(0, 0))["only_published"] == 1
    assert compared(one.slice(0, 0), one)["only_replayed"] == 1
    assert compared(one.slice(0, 0), one.slice(0, 0))["rows"] == 0


def test_a_null_key_is_a_key_of_its_own() -> None:
    published = rows((None, "a", 0.5), (0, "a", 1.5))
    assert compared(published, published)["same"] == 2
    assert compared(published, rows((0, "a", 0.5), (None, "a", 1.5)))["different"] == 2


def test_rows_that_share_a_key_are_paired_in_the_order_of_their_predictions() -> None:
    published = rows((1, "a", 2.0), (1, "a", 10.0), (1, "a", None), (1, "b", 4.0))
    replayed = rows((1, "b", 4.0), (1, "a", None), (1, "a", 10.0), (1, "a", 2.0))
    assert compared(published, replayed)["same"] == 4
    one_less = compared(published, replayed.slice(0, 3))  # 2.0 is missing, so 10.0 stands for it
    assert (one_less["same"], one_less["different"], one_less["only_published"]) == (1, 2, 1)


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "count"),
    [
        (1.0, 1.0 + 1e-9, 1e-8, 1),
        (1.0 + 1e-9, 1.0, 1e-8, 1),
        (1.0, 1.0 + 1e-9, 0.0, 0),
        (-1.0, 1.0, 1.0, 0),
        (None, None, 0.0, 1),
        (NAN, NAN, 0.0, 1),
        (INF, INF, 0.1, 1),
        (0.0, -0.0, 0.0, 1),
        # No tolerance covers an infinite value, or NaN.
        (INF, 5.0, 0.1, 0),
        (INF, -INF, 0.1, 0),
        (NAN, 5.0, 0.1, 0),
        (None, 0.0, 0.1, 0),
        (None, NAN, 0.1, 0),
    ],
)
def test_fractions_are_the_same_within_a_tolerance(
    one: float | None, other: float | None, tolerance: float, count: int
) -> None:
    plain, lists, structs = pa.float64(), pa.list_(pa.float64()), pa.struct({"p": pa.float64()})
    for kind, values in (
        (plain, (one, other)),
        (lists, ([one], [other])),
        (structs, ({"p": one}, {"p": other})),
    ):
        kinds = pa.schema({"id": pa.int64(), SLICE: pa.string(), "p": kind})
        sides = [rows((1, "a", value), kinds=kinds) for value in values]
        assert compared(*sides, tolerance)["same"] == count, kind


VALUES: dict[pa.DataType, list[Any]] = {
    pa.bool_(): [True, False, None],
    pa.int8(): [1, -1, None],
    pa.int64(): [2**53, 2**53 + 1, None],
    pa.float32(): [0.5, -0.5, None],
    pa.string(): ["a", "", None],
    pa.binary(): [b"\xff", b"", None],
    pa.date32(): [date(2026, 1, 1), date(1, 1, 1), None],
    pa.timestamp("us", "UTC"): [datetime(2026, 1, 1, tzinfo=UTC), None],
    pa.decimal128(38, 2): [Decimal("0.01"), Decimal("-0.01"), None],
    pa.list_(pa.int64()): [[1, 2], [1], [], [None], None],
    pa.struct({"a": pa.string()}): [{"a": "x"}, {"a": None}, None],
    pa.map_(pa.string(), pa.int64()): [[("a", 1)], [("a", 2)], [], None],
}


@pytest.mark.parametrize("kind", VALUES, ids=str)
@pytest.mark.parametrize("keys", ["own keys", "a shared key"])
def test_values_of_every_type_are_told_apart(kind: pa.DataType, keys: str) -> None:
    values = VALUES[kind]
    kinds = pa.schema({"id": pa.int64(), SLICE: pa.string(), "p": kind})
    side = rows(
        *[(n if keys == "own keys" else 0, "a", v) for n, v in enumerate(values)], kinds=kinds
    )
    turned = side.take(list(reversed(range(len(values)))))
    assert compared(side, turned)["same"] == len(values)
    if keys == "own keys":
        moved = side.set_column(2, "p", side.column(2).take([*range(1, len(values)), 0]))
        assert compared(side, moved)["different"] == len(values)


@pytest.mark.parametrize("kind", VALUES, ids=str)
def test_keys_of_every_type_name_rows(kind: pa.DataType) -> None:
    kinds = pa.schema({"id": kind, SLICE: pa.string(), "p": pa.int64()})
    side = rows(*[(v, "a", n) for n, v in enumerate(VALUES[kind])], kinds=kinds)
    turned = side.take(list(reversed(range(side.num_rows))))
    assert compared(side, turned)["same"] == side.num_rows


def test_a_key_that_is_no_number_is_one_key_whatever_its_bits() -> None:
    kinds = pa.schema({"id": pa.float64(), SLICE: pa.string(), "p": pa.int64()})
    one, other = np.array([0x7FF8000000000000, 0xFFF8000000000000], np.uint64).view(np.float64)
    assert (
        compared(rows((one, "a", 1), kinds=kinds), rows((other, "a", 1), kinds=kinds))["same"] == 1
    )


def test_what_python_cannot_hold_is_compared_and_shown() -> None:
    far, farther = 568_971_820_800_000_000, 568_971_907_200_000_000  # days of the year 20000
    days = pa.array([far, farther], pa.int64()).cast(pa.timestamp("us"))
    words = pa.array([b"\xff", b"\xfe"], pa.binary()).cast(pa.string(), safe=False)
    for values in (days, words):
        lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), values)
        for nested in (lists, pa.StructArray.from_arrays([values], names=["a"])):
            columns = {"id": pa.array([1, 1]), SLICE: pa.array(["a", "a"]), "p": nested}
            side = pa.table(columns)
            assert compared(side, side.take([1, 0]))["same"] == 2
            outcome = compared(side.slice(0, 1), side.slice(1))
            assert outcome["different"] == 1
            assert outcome["examples"][0]["published"] != {"p": None}
        keyed = pa.table({"id": lists, SLICE: pa.array(["a", "a"]), "p": pa.array([1, 2])})
        assert compared(keyed, keyed.take([1, 0]))["same"] == 2


def test_keys_that_only_look_alike_are_two() -> None:
    kinds = pa.schema({"x": pa.string(), "y": pa.string(), SLICE: pa.string(), "p": pa.int64()})
    one = rows(("a", "bc", "s", 1), kinds=kinds)
    other = rows(("ab", "c", "s", 1), kinds=kinds)
    assert compared(one, other, keys=("x", "y"))["same"] == 0


def test_a_column_that_became_wider_holds_the_same_values() -> None:
    narrow = pa.schema({"id": pa.int32(), SLICE: pa.string(), "p": pa.float32()})
    assert compared(rows((1, "a", 0.5), kinds=narrow), rows((1, "a", 0.5)))["same"] == 1


FEW = st.tuples(
    st.sampled_from([0, 1, 2, None]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([0.5, 1.5, NAN, None, INF]),
)


@settings(max_examples=150)
@given(st.lists(FEW, max_size=12), st.lists(FEW, max_size=12), st.integers(1, 4))
def test_it_counts_what_a_plain_count_of_rows_does(
    one: list[tuple[Any, ...]], other: list[tuple[Any, ...]], chunk: int
) -> None:
    """If no rows share a key, sets tell which rows are the same."""
    published = {row[:2]: row for row in one}
    replayed = {row[:2]: row for row in other}
    both = published.keys() & replayed.keys()
    same = sum(repr(published[key]) == repr(replayed[key]) for key in both)
    expected = (
        len(published.keys() | replayed.keys()),
        same,
        len(both) - same,
        len(published.keys() - both),
        len(replayed.keys() - both),
    )
    sides = [rows(*side.values()) for side in (published, replayed)]
    cut = [pa.Table.from_batches(side.to_batches(max_chunksize=chunk), KEYS) for side in sides]
    outcome = compared(*cut)
    assert tuple(outcome.values())[:5] == expected
    assert len(outcome["examples"]) == min(5, expected[0] - same)


@settings(max_examples=100)
@given(st.lists(FEW, max_size=12), st.randoms(use_true_random=False))
def test_the_same_rows_in_any_order_are_the_same_however_many_share_a_key(
    given_rows: list[tuple[Any, ...]], chance: Any
) -> None:
    turned = list(given_rows)
    chance.shuffle(turned)
    assert compared(rows(*given_rows), rows(*turned))["same"] == len(given_rows)
    sizes = Counter(row[:2] for row in given_rows)
    assert compared(rows(*given_rows), rows(*turned[1:]))["only_published"] == bool(sizes)


def test_a_task_without_a_row_counts_none() -> None:
    counts = list(executor.reconcile(KEYS, 2, tolerance=0.0, most=5)(iter([])))
    assert [batch.to_pylist()[0]["same"] for batch in counts] == [0]
