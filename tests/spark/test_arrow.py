"""Rows from Spark to Arrow and back, also with what Spark 3.5 offers."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from lakescore import arrow

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

QUERY = (
    "SELECT id, IF(id = 1, NULL, CAST('NaN' AS DOUBLE)) AS x, "
    "TIMESTAMP'1500-02-28 23:59:59.999999' AS at, DATE'0001-01-01' AS day, 1.10BD AS price, "
    "array(named_struct('version', 'a', 'message', NULLIF(id, 1))) AS why, X'FF' AS bytes "
    "FROM range(0, 3, 1, 2)"
)
EXPECTED = [
    {
        "id": number,
        "x": x,
        "at": dt.datetime(1500, 2, 28, 23, 59, 59, 999999, tzinfo=dt.UTC),
        "day": dt.date(1, 1, 1),
        "price": Decimal("1.10"),
        "why": [{"version": "a", "message": message}],
        "bytes": b"\xff",
    }
    for number, x, message in ((0, float("nan"), 0), (1, None, None), (2, float("nan"), 2))
]


@pytest.fixture(params=["tables", "cells"])
def rows(
    request: pytest.FixtureRequest, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> DataFrame:
    frame = spark.sql(QUERY)
    if request.param == "tables" and not hasattr(frame, "toArrow"):
        pytest.skip("this Spark knows no tables of Arrow")
    monkeypatch.setattr(arrow, "_KNOWS_ARROW", request.param == "tables")
    return frame


def in_order(rows: DataFrame) -> str:
    """Return all of *rows* as text, in which NaN equals NaN."""
    values = arrow.collected(rows.orderBy("id")).to_pylist()
    at = [value.pop("at").astimezone(dt.UTC) for value in values]
    return repr([(value, when.isoformat()) for value, when in zip(values, at, strict=True)])


def test_rows_pass_as_they_are(spark: SparkSession, rows: DataFrame) -> None:
    expected = [dict(row) for row in EXPECTED]
    at = [str(row.pop("at").isoformat()) for row in expected]  # type: ignore[attr-defined]
    assert in_order(rows) == repr(list(zip(expected, at, strict=True)))
    again = arrow.frame(spark, arrow.collected(rows))
    kinds, expected_kinds = ([field.dataType for field in frame.schema] for frame in (again, rows))
    if tuple(map(int, spark.version.split(".")[:2])) >= (4, 1):
        assert kinds == expected_kinds
    else:  # Spark forgets which parts of a value may be null
        assert [k.simpleString() for k in kinds] == [k.simpleString() for k in expected_kinds]
    assert in_order(again) == in_order(rows)


def test_no_row_has_columns_too(spark: SparkSession, rows: DataFrame) -> None:
    none = arrow.collected(rows.where("id > 5"))
    assert (none.num_rows, none.column_names) == (0, rows.columns)
    assert none.schema.types == [arrow.arrow_type(field.dataType) for field in rows.schema]
    assert arrow.frame(spark, none).count() == 0
