"""Delta at the edges: snapshots, slices that are replaced, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from chispa import assert_df_equality

from lakescore import tables
from lakescore.logs import AnotherRunWon
from lakescore.snapshots import NotADeltaTable, SnapshotNotFound
from lakescore.storage import TableNotFound
from lakescore.tables import SchemaDrift

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

Write = Callable[["DataFrame", str], str]


def rows_of(spark: SparkSession, *rows: tuple[str, int]) -> DataFrame:
    return spark.createDataFrame(list(rows), "slice string, value int")


def test_a_snapshot_stays_what_it_was_when_the_table_changes(
    spark: SparkSession, write: Write
) -> None:
    path = write(spark.range(3).toDF("id"), "t")
    pinned = tables.snapshot(spark, path)
    write(spark.range(5).toDF("id"), "t")
    assert (pinned.version, pinned.rows.count()) == (0, 3)
    assert tables.snapshot(spark, path).version == 1
    assert tables.snapshot(spark, path, 0).table_id == pinned.table_id


def test_a_table_is_read_by_name_as_by_path(spark: SparkSession) -> None:
    spark.range(4).write.format("delta").saveAsTable("by_name")
    assert tables.snapshot(spark, "by_name", 0).rows.count() == 4


def test_what_cannot_be_read_is_told_apart(spark: SparkSession, tmp_path: Path) -> None:
    parquet = str(tmp_path / "parquet")
    spark.range(1).write.parquet(parquet)
    spark.range(1).write.format("parquet").saveAsTable("a_parquet_table")
    with pytest.raises(NotADeltaTable):
        tables.snapshot(spark, parquet)
    with pytest.raises(NotADeltaTable):
        tables.snapshot(spark, "a_parquet_table")
    with pytest.raises(TableNotFound):
        tables.snapshot(spark, str(tmp_path / "nothing"))
    with pytest.raises(TableNotFound):
        tables.snapshot(spark, "no_such_table")


def test_a_version_that_the_table_has_not_is_named_with_the_newest(
    spark: SparkSession, write: Write
) -> None:
    path = write(spark.range(1).toDF("id"), "t")
    with pytest.raises(SnapshotNotFound, match="no version 7 to read; the newest is 0"):
        tables.snapshot(spark, path, 7)


def test_a_name_cannot_be_a_file(spark: SparkSession) -> None:
    from pyspark.errors import AnalysisException

    with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_NOT_FOUND"):
        spark.table("text.`/etc/hostname`")


@pytest.mark.parametrize(
    "name",
    [
        "2013-12-01",
        "a' OR 1 = 1 OR slice = 'a",  # would replace the whole table, were it pasted in
        "back\\slash' OR '1' = '1",
        "`; DROP TABLE x; --",
        "münchen / east=1%20",  # what a partition's folder must escape
    ],
)
def test_only_the_named_slice_is_replaced_whatever_its_name(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    path = str(tmp_path / "predictions")
    before = rows_of(spark, ("other", 1), (name, 2), (name, 3))
    tables.replace(before, path, where={"slice": ["other", name]}, metadata={"run": 1})
    after = rows_of(spark, (name, 4))
    version = tables.replace(after, path, where={"slice": [name]}, metadata={"run": 2})
    expected = rows_of(spark, ("other", 1), (name, 4))
    left = spark.read.format("delta").load(path)
    assert_df_equality(left, expected, ignore_row_order=True, ignore_nullable=True)
    assert tables.commits(spark, path)[0] == (version, {"run": 2})


def test_rows_outside_of_the_slice_are_refused_and_nothing_is_written(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = str(tmp_path / "predictions")
    tables.replace(rows_of(spark, ("a", 1)), path, where={"slice": ["a"]}, metadata={"run": 1})
    with pytest.raises(SchemaDrift):
        tables.replace(rows_of(spark, ("b", 1)), path, where={"slice": ["a"]}, metadata={"run": 2})
    assert tables.snapshot(spark, path).version == 1  # the first made the table


def test_another_schema_is_refused_and_nothing_is_written(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = str(tmp_path / "predictions")
    tables.replace(rows_of(spark, ("a", 1)), path, where={"slice": ["a"]}, metadata={"run": 1})
    wider = spark.createDataFrame([("a", 1, 2.0)], "slice string, value int, more double")
    with pytest.raises(SchemaDrift):
        tables.replace(wider, path, where={"slice": ["a"]}, metadata={"run": 2})
    assert tables.snapshot(spark, path).version == 1  # the first made the table


def begun(
    rows: DataFrame, path: str, place: dict[str, list[str]], *, append: bool = False
) -> tables.Transaction:
    """Write rows that nobody sees yet."""
    asked: dict[str, Any] = {"where": place, "metadata": {"run": 1}, "append": append}
    return tables.begin(rows.sparkSession, rows.schema, path, **asked).write(rows)


def test_what_was_written_is_seen_when_it_is_committed_and_never_else(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = str(tmp_path / "predictions")
    place = {"slice": ["a", "b"]}
    rows = rows_of(spark, ("a", 1), ("a", 2), ("b", 3))
    written = begun(rows, path, place)
    assert written.counts("slice") == {"a": 2, "b": 1}
    assert tables.snapshot(spark, path).rows.count() == 0
    version = written.commit()
    assert tables.snapshot(spark, path, version).rows.count() == 3
    begun(rows_of(spark, ("a", 9)), path, place)  # never committed
    assert tables.snapshot(spark, path).version == version


def test_of_two_runs_that_append_to_one_slice_at_once_one_wins(
    spark: SparkSession, tmp_path: Path
) -> None:
    path, place = str(tmp_path / "predictions"), {"slice": ["a"]}
    first, second = [begun(rows_of(spark, ("a", n)), path, place, append=True) for n in (1, 2)]
    first.commit()
    with pytest.raises(AnotherRunWon):
        second.commit()
    assert [row.value for row in tables.snapshot(spark, path).rows.collect()] == [1]


def test_a_run_that_died_before_its_first_commit_leaves_a_table_to_run_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    path, place = str(tmp_path / "predictions"), {"slice": ["a"]}
    begun(rows_of(spark, ("a", 1)), path, place)
    tables.replace(rows_of(spark, ("a", 2)), path, where=place, metadata={"run": 2})
    assert [row.value for row in tables.snapshot(spark, path).rows.collect()] == [2]


def test_of_two_runs_of_one_slice_at_once_the_slice_holds_one(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = str(tmp_path / "predictions")
    tables.replace(rows_of(spark, ("a", 0)), path, where={"slice": ["a"]}, metadata={"run": 0})

    def wins(number: int) -> bool:
        rows = spark.range(50).selectExpr("'a' AS slice", f"{number} AS value")
        try:
            tables.replace(rows, path, where={"slice": ["a"]}, metadata={"run": number})
        except AnotherRunWon:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = [number for number, won in zip((1, 2), pool.map(wins, (1, 2)), strict=True) if won]
    values = [row.value for row in spark.read.format("delta").load(path).collect()]
    assert len(values) == 50
    assert len(set(values)) == 1
    assert values[0] in won
