"""Batches: what a task in a worker gets, and its columns as NumPy arrays.

The module is pickled by value, as `gathering` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lakescore.executor import gathered

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Array = np.ndarray[Any, Any]
"""Numbers, or codes of classes; the task decides."""
_ROWS_AT_ONCE = 65_536


def larger(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in fewer batches, because the cost of a batch grows with the slices."""
    return gathered(batches, len, _ROWS_AT_ONCE)


def partition() -> int:
    """Return the number of the Spark partition of this task; 0 without Spark."""
    from pyspark import TaskContext  # noqa: PLC0415 - in a worker only

    context = TaskContext.get()
    return context.partitionId() if context else 0


def floats(column: pa.Array) -> Floats:
    """Return the column as doubles; null becomes NaN."""
    values: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return values
