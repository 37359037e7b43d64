"""Counting: the number of nulls of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from .reading import read_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .predicting import Task
    from .reading import Scan

NULLS = pa.schema({"column": pa.int32(), "rows": pa.int64()})
"""The schema of `nulls`: a column's position, and the number of rows that are null in it."""


def nulls(scan: Scan, columns: int) -> Task:
    """Return the function for `mapInArrow` that yields `NULLS` of the first *columns* of *scan*.

    The batches that it gets hold the numbers of the tasks.
    """

    def count(numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts = [0] * columns
        for batch in read_tasks(scan, numbers):
            for n in range(columns):
                counts[n] += batch.column(n).null_count
        yield pa.RecordBatch.from_pydict({"column": list(range(columns)), "rows": counts}, NULLS)

    return count
