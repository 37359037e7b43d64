"""Keys that rows share: found by workers, whatever type they have, as Spark would find them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from builders.tables import make_table

from lakescore import scanning, slicing, tables
from lakescore.executor import keys as comparing
from lakescore.scanning import fetching
from lakescore.slicing import DuplicateKeys

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

NAN = float("nan")
SAME = [  # two rows of one key, and others that are not it
    ("bigint", [7, 7, -7, 2**62, 2**62 + 1], 1),
    ("string", ["a", "a", "A", "", "a ", None], 1),
    ("string", [None, None, "null", ""], 1),  # Spark groups nulls
    ("double", [NAN, NAN, 0.0, -0.0, 1.0], 2),  # and NaN, and both zeros
    ("float", [0.1, 0.1, None], 1),
    ("date", [dt.date(1500, 1, 1), dt.date(1500, 1, 1), dt.date(2013, 12, 1), None], 1),
    ("timestamp", [dt.datetime(2013, 12, 1, 1, tzinfo=dt.UTC)] * 2 + [None], 1),
    ("boolean", [True, True, False, None], 1),
    ("decimal(20,2)", [Decimal("1.10"), Decimal("1.10"), Decimal("1.01")], 1),
    ("binary", [b"\xff", b"\xff", b"\xfe", None], 1),
    ("tinyint", [-1, -1, 1, 0], 1),
]


@pytest.fixture(params=["here", "workers"])
def who(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the driver compare the keys, and then workers, as for many rows."""
    if request.param == "workers":
        monkeypatch.setattr(fetching, "MOST_ROWS_HERE", 0)
    return str(request.param)


def in_files(path: Path, rows: list[tuple[Any, ...]], columns: str, files: int) -> str:
    """Deal the rows out to files, so that no file holds two that are next to each other."""
    for number in range(files):
        make_table(path, rows[number::files], columns, mode="append")
    return str(path)


@pytest.mark.usefixtures("who")
@pytest.mark.parametrize(("kind", "values", "repeats"), SAME)
def test_of_every_type_the_same_key_is_found_and_another_is_not(
    spark: SparkSession, tmp_path: Path, kind: str, values: list[Any], repeats: int
) -> None:
    rows = [(value,) for value in values]
    table = tables.snapshot(spark, in_files(tmp_path / "rows", rows, f"key {kind}", 3))
    assert scanning.repeats(slicing.select(table, None, ["all"]), ["key"]) == repeats


@pytest.mark.usefixtures("who")
def test_keys_are_compared_together_within_their_slice_and_over_files_and_blocks(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_HASHES_A_BLOCK", 50)
    rows: list[tuple[Any, ...]] = [
        # Each a twice, and told apart by b.
        (number % 500, "x" if number < 500 else None, number % 2)
        for number in range(1000)
    ]
    again = [(10, "x", 0), (11, "x", 0), (12, "x", 0)]
    path = in_files(tmp_path / "rows", rows + again, "a bigint, b string, part bigint", 5)
    table = tables.snapshot(spark, path)

    def repeats(names: list[str], keys: list[str]) -> int:
        return scanning.repeats(slicing.select(table, "part", names), keys)

    # 10 and 12 were in slice 0; 11 was in slice 1, where it may be, too.
    assert repeats(["0", "1"], ["a", "b"]) == 2
    assert repeats(["1"], ["a", "b"]) == 0
    assert repeats(["0"], ["a"]) == 250 + 3 - 1  # each a twice; 11 is only here once


@pytest.mark.usefixtures("who")
def test_rows_that_share_a_key_are_refused_by_the_check(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = [(1, "a"), (2, "a"), (2, "b"), (2, "a")]
    table = tables.snapshot(spark, make_table(tmp_path / "rows", rows, "id int, part string"))
    whole = slicing.select(table, None, ["all"])
    with pytest.raises(DuplicateKeys, match="id"):
        slicing.check(whole, "rows", ["id"], ())
    slicing.check(whole, "rows", [], ())  # on_duplicate_key: keep
    slicing.check(slicing.select(table, "part", ["b"]), "rows", ["id"], ())
    with pytest.raises(DuplicateKeys, match="id"):  # which Spark alone reads
        slicing.check(slicing.select(table.rows, None, ["all"]), "rows", ["id"], ())
