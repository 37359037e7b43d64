"""Keys that rows share: found by workers, whatever type they have, as Spark would find them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import scanning, slicing, tables
from lakescore.errors import DuplicateKeys
from lakescore.executor import keys as comparing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Write = Callable[["DataFrame", str], str]
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
    """Say who compares keys: workers do those of many rows."""
    if request.param == "workers":
        monkeypatch.setattr(scanning, "_MOST_ROWS_HERE", 0)
    return str(request.param)


@pytest.mark.usefixtures("who")
@pytest.mark.parametrize(("kind", "values", "repeats"), SAME)
def test_of_every_type_the_same_key_is_found_and_another_is_not(
    spark: SparkSession, write: Write, kind: str, values: list[Any], repeats: int
) -> None:
    rows = spark.createDataFrame([(each,) for each in values], f"key {kind}").repartition(3)
    table = tables.snapshot(spark, write(rows, "rows"))
    assert scanning.repeats(slicing.select(table, None, ["all"]), ["key"]) == repeats


@pytest.mark.usefixtures("who")
def test_keys_are_compared_together_within_their_slice_and_over_files_and_blocks(
    spark: SparkSession, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_HASHES_A_BLOCK", 50)
    rows = spark.range(1000).select(
        (F.col("id") % 500).alias("a"),  # twice each
        F.when(F.col("id") < 500, F.lit("x")).alias("b"),  # and told apart by this
        (F.col("id") % 2).alias("part"),
    )
    again = rows.where("a IN (10, 11, 12) AND b = 'x'").withColumn("part", F.lit(0).cast("bigint"))
    table = tables.snapshot(spark, write(rows.union(again).repartition(5), "rows"))

    def repeats(names: list[str], keys: list[str]) -> int:
        return scanning.repeats(slicing.select(table, "part", names), keys)

    # 10 and 12 were in slice 0; 11 was in slice 1, where it may be, too.
    assert repeats(["0", "1"], ["a", "b"]) == 2
    assert repeats(["1"], ["a", "b"]) == 0
    assert repeats(["0"], ["a"]) == 250 + 3 - 1  # each a twice; 11 is only here once


@pytest.mark.usefixtures("who")
def test_rows_that_share_a_key_are_refused_by_the_check(spark: SparkSession, write: Write) -> None:
    rows = spark.createDataFrame([(1, "a"), (2, "a"), (2, "b"), (2, "a")], "id int, part string")
    table = tables.snapshot(spark, write(rows, "rows"))
    whole = slicing.select(table, None, ["all"])
    with pytest.raises(DuplicateKeys, match="id"):
        slicing.check(whole, "rows", ["id"], ())
    slicing.check(whole, "rows", [], ())  # on_duplicate_key: keep
    slicing.check(slicing.select(table, "part", ["b"]), "rows", ["id"], ())
    with pytest.raises(DuplicateKeys, match="id"):  # which Spark alone reads
        slicing.check(slicing.select(table.rows, None, ["all"]), "rows", ["id"], ())
