"""Passes: functions of tasks over rows, which Spark or this process holds."""

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
"""A DataFrame, or an Arrow table, for which mypy has no type."""
Function: TypeAlias = "Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]"
"""A function that Spark's workers run by `mapInArrow`."""


def mapped(rows: Rows, function: Function, schema: pa.Schema) -> Rows:
    """Apply *function* to each partition of *rows*; an Arrow table is one partition."""
    if isinstance(rows, DataFrame):
        return rows.mapInArrow(function, struct(schema))
    return pa.Table.from_batches(list(function(iter(rows.to_batches()))), schema)


def select(rows: Rows, names: Sequence[str]) -> Rows:
    """Return the columns *names* of *rows*."""
    return rows.select(list(names))


def together(rows: Rows, names: Sequence[str]) -> Rows:
    """Return *rows* with equal values of the columns *names* in one partition."""
    return rows.repartition(*names) if isinstance(rows, DataFrame) else rows


def in_order(rows: Rows, *, one_partition: bool) -> Rows:
    """Return *rows* of `ordering.ROWS`, sorted by part and value.

    Args:
        rows: the rows to sort.
        one_partition: whether a part must lie in one partition. Otherwise it can lie in several
            adjacent partitions.
    """
    if not isinstance(rows, DataFrame):
        return rows.sort_by([("part", "ascending"), ("value", "ascending")])
    partitions = int(rows.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    # Spark's adaptive execution keeps an explicit number of partitions. The walks rely on this: the
    # second walk must see the partitions of the first.
    repartitioned = (
        rows.repartition(partitions, "part")
        if one_partition
        else rows.repartitionByRange(partitions, "part", "value")
    )
    return repartitioned.sortWithinPartitions("part", "value")


@contextmanager
def cached(rows: Rows, level: StorageLevel = StorageLevel.MEMORY_AND_DISK) -> Iterator[Rows]:
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
    """Return all *rows* as an Arrow table; only for a few rows."""
    return collected(rows) if isinstance(rows, DataFrame) else rows


def first(rows: Rows, most: int) -> pa.Table:
    """Return the first *most* rows as an Arrow table."""
    return collected(rows.limit(most)) if isinstance(rows, DataFrame) else rows.slice(0, most)


def tuples(rows: Rows) -> list[tuple[Any, ...]]:
    """Return all *rows* as tuples of Python values; only for a few rows."""
    table = fetch(rows)
    return list(zip(*[column.to_pylist() for column in table.columns], strict=True))


def different(rows: Rows, name: str) -> int:
    """Return how many different values a column has."""
    if not isinstance(rows, DataFrame):
        return len(rows.column(name).drop_null().unique())
    return int(rows.agg(F.count_distinct(name)).collect()[0][0])
