"""Passes: functions of tasks, over rows that Spark holds or that this process does."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore.arrow import collected, struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Rows: TypeAlias = Any
"""A DataFrame, or an Arrow table, of which mypy knows no type."""
Function: TypeAlias = "Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]"
"""What Spark's workers run by `mapInArrow`."""


def mapped(rows: Rows, function: Function, schema: pa.Schema) -> Rows:
    """Return what *function* makes of each partition of *rows*, of which a table has one."""
    if isinstance(rows, DataFrame):
        return rows.mapInArrow(function, struct(schema))
    return pa.Table.from_batches(list(function(iter(rows.to_batches()))), schema)


def select(rows: Rows, names: Sequence[str]) -> Rows:
    """Return some of the columns."""
    return rows.select(list(names))


def together(rows: Rows, names: Sequence[str]) -> Rows:
    """Return *rows* so that those with the same values in *names* are in one partition."""
    return rows.repartition(*names) if isinstance(rows, DataFrame) else rows


def in_order(rows: Rows, *, whole: bool) -> Rows:
    """Return *rows* of `ordering.ROWS`, those of a part in the order of their values.

    Args:
        rows: what is sorted.
        whole: whether a part must lie in one partition, rather than in one after the other.
    """
    if not isinstance(rows, DataFrame):
        return rows.sort_by([("part", "ascending"), ("value", "ascending")])
    partitions = int(rows.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    # A number of partitions that is given is kept by Spark's adaptive execution: walks rely on it
    # that the second one sees the partitions of the first.
    dealt = (
        rows.repartition(partitions, "part")
        if whole
        else rows.repartitionByRange(partitions, "part", "value")
    )
    return dealt.sortWithinPartitions("part", "value")


@contextmanager
def held(rows: Rows, level: StorageLevel = StorageLevel.MEMORY_AND_DISK) -> Iterator[Rows]:
    """Keep *rows* while they are read again."""
    if not isinstance(rows, DataFrame):
        yield rows
        return
    kept = rows.persist(level)
    try:
        yield kept
    finally:
        kept.unpersist()


def fetch(rows: Rows) -> pa.Table:
    """Return all of *rows*, of which there are few."""
    return collected(rows) if isinstance(rows, DataFrame) else rows


def first(rows: Rows, most: int) -> pa.Table:
    """Return the first of *rows*."""
    return collected(rows.limit(most)) if isinstance(rows, DataFrame) else rows.slice(0, most)


def tuples(rows: Rows) -> list[tuple[Any, ...]]:
    """Return all of *rows*, of which there are few, as Python's values."""
    table = fetch(rows)
    return list(zip(*[column.to_pylist() for column in table.columns], strict=True))


def different(rows: Rows, name: str) -> int:
    """Return how many different values a column has."""
    if not isinstance(rows, DataFrame):
        return len(rows.column(name).drop_null().unique())
    return int(rows.agg(F.count_distinct(name)).collect()[0][0])
