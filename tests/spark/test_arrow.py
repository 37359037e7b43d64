"""Rows from Spark to Arrow and back, also by what Spark 3.5 can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lakescore import arrow

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROWS = (
    "SELECT id, IF(id = 1, NULL, CAST('NaN' AS DOUBLE)) AS x, "
    "TIMESTAMP'1500-02-28 23:59:59.999999' AS at, DATE'0001-01-01' AS day, 1.10BD AS price, "
    "array(named_struct('version', 'a', 'message', NULLIF(id, 1))) AS why, X'FF' AS bytes "
    "FROM range(0, 3, 1, 2)"
)


@pytest.fixture(params=[True, False], ids=["by Spark", "in cells"])
def rows(
    request: pytest.FixtureRequest, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> DataFrame:
    monkeypatch.setattr(arrow, "_KNOWS_ARROW", request.param)
    return spark.sql(ROWS)


def test_rows_pass_as_they_are(spark: SparkSession, rows: DataFrame) -> None:
    found = arrow.collected(rows.orderBy("id"))
    expected = rows.orderBy("id").toArrow()
    assert found.schema.types == expected.schema.types
    assert repr(found.to_pylist()) == repr(expected.to_pylist())  # where NaN is NaN
    again = arrow.frame(spark, found)
    assert [field.dataType for field in again.schema] == [field.dataType for field in rows.schema]
    assert sorted(map(str, again.collect())) == sorted(map(str, rows.collect()))


def test_no_row_has_columns_too(spark: SparkSession, rows: DataFrame) -> None:
    none = arrow.collected(rows.where("id > 5"))
    assert (none.num_rows, none.column_names) == (0, rows.columns)
    assert none.schema.types == rows.toArrow().schema.types
    assert arrow.frame(spark, none).count() == 0
