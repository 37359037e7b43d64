"""What the driver itself reads from a small table must be what Spark reads."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from builders.tables import make_table
from delta.tables import DeltaTable
from pyspark.sql.types import DoubleType, StringType, StructField

from lakescore import scanning, slicing, tables
from lakescore.logs import NotEligible
from lakescore.scanning import fetching

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from lakescore.snapshots import Snapshot

DAYS = [dt.date(1, 1, 1), dt.date(1500, 2, 28), dt.date(2013, 12, 1)]
VALUES = [
    ("date", [DAYS[0], DAYS[1], DAYS[2], DAYS[2], None]),
    ("int", [-1, 0, 7, 7, None]),
    ("bigint", [2**62, -(2**62), 7, 7, None]),
    ("string", ["a", "A", "ü", "ü", None]),
    ("string", ["", "a ", "01", "1", None]),  # an empty text is of no slice
]


@pytest.fixture
def divided(
    spark: SparkSession, tmp_path: Path, kind: str, values: list[Any]
) -> tuple[Snapshot, DataFrame]:
    """Return a table of two files and a deleted row, and the rows that Spark reads."""
    rows = [(n, value) for n, value in enumerate([*values, values[0]])]
    frame = spark.createDataFrame(rows, f"id int, part {kind}").repartition(2, "id")
    path = str(tmp_path / "rows")
    frame.write.format("delta").option("delta.enableDeletionVectors", "true").save(path)
    DeltaTable.forPath(spark, path).delete(f"id = {len(values)}")
    return tables.snapshot(spark, path), spark.read.format("delta").load(path)


@pytest.mark.parametrize(("kind", "values"), VALUES)
def test_slices_and_their_sizes_are_those_that_spark_counts(
    divided: tuple[Snapshot, DataFrame], values: list[Any]
) -> None:
    table, frame = divided
    names = slicing.names(table, "part")
    assert names == slicing.names(frame, "part")
    assert slicing.outside(table, "part") == slicing.outside(frame, "part")
    expected = {str(value): values.count(value) for value in values if value not in {None, ""}}
    assert slicing.sizes(slicing.select(table, "part", names)) == expected
    few = names[1:]
    left = {name: rows for name, rows in expected.items() if name in few}
    assert slicing.sizes(slicing.select(table, "part", few)) == left
    assert slicing.sizes(slicing.select(frame, "part", few)) == left


@pytest.mark.parametrize(("kind", "values"), VALUES[:1])
def test_of_many_rows_the_driver_reads_none(
    divided: tuple[Snapshot, DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MOST_ROWS_HERE", 4)
    table, _ = divided
    with pytest.raises(NotEligible, match="not partitioned by part"):
        scanning.counted(table, "part")
    assert slicing.sizes(slicing.select(table, "part", ["2013-12-01"])) == {"2013-12-01": 2}


def test_a_text_that_spark_fills_up_with_spaces_is_left_to_spark(spark: SparkSession) -> None:
    spark.sql("DROP TABLE IF EXISTS padded_here")
    spark.sql("CREATE TABLE padded_here (id INT, part CHAR(4)) USING delta")
    spark.sql("INSERT INTO padded_here VALUES (1, 'ab'), (2, 'cd')")
    table = tables.snapshot(spark, "padded_here")
    with pytest.raises(NotEligible, match="carries"):
        scanning.tallied(table, ["part"], {"part": ["ab  "]})
    assert slicing.sizes(slicing.select(table, "part", ["ab  "])) == {"ab  ": 1}
    assert scanning.tallied(table, ["id"], {}) == {(1,): 1, (2,): 1}


def test_the_first_rows_are_rows_of_the_slice_in_the_models_types(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in range(4):
        rows = [(n, str(n % 10), n) for n in range(file, 1000, 4)]
        make_table(tmp_path / "rows", rows, "id bigint, part string, n int", mode="append")
    table = tables.snapshot(spark, str(tmp_path / "rows"))
    chosen = slicing.select(table, "part", ["3"])
    features = [StructField("n", DoubleType()), StructField("part", StringType())]
    few = scanning.first(chosen, features, 5)
    assert few.num_rows == 5
    assert set(few.column("f1").to_pylist()) == {"3"}
    assert all(type(value) is float and value % 10 == 3 for value in few.column("f0").to_pylist())
    every = scanning.first(chosen, features, 200)
    assert sorted(every.column("f0").to_pylist()) == [float(n) for n in range(3, 1000, 10)]
    monkeypatch.setattr(fetching, "MOST_ROWS_HERE", 100)
    with pytest.raises(NotEligible, match="too many other rows"):
        scanning.first(chosen, features, 200)
    none = scanning.first(slicing.select(table, "part", ["x"]), features, 5)
    assert (none.num_rows, none.column_names) == (0, ["f0", "f1"])
