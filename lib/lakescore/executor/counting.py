"""Counting: how many rows have no value in some columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from .reading import read_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .predicting import Task
    from .reading import Scan

NULLS = pa.schema({"column": pa.int32(), "rows": pa.int64()})
"""What `nulls` gives: by the column's position, how many rows are null there."""


def nulls(scan: Scan, columns: int) -> Task:
    """Return the function for `mapInArrow` that gives `NULLS` of the first *columns* of *scan*.

    The batches that it gets number the tasks.
    """

    def count(numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts = [0] * columns
        for batch in read_tasks(scan, numbers):
            for n in range(columns):
                counts[n] += batch.column(n).null_count
        yield pa.RecordBatch.from_pydict({"column": list(range(columns)), "rows": counts}, NULLS)

    return count
