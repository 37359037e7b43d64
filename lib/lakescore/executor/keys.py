"""Keys: rows with the same key are counted by 64-bit hashes that tasks exchange in blocks.

For Spark a block is one cell, for any number of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .reading import read_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .reading import Scan

_HASHES_A_BLOCK = 1_000_000
"""The number of hashes that a task collects before it yields them, in one block a bucket."""
BLOCKS = pa.schema({"bucket": pa.int32(), "hashes": pa.binary()})
REPEATED = pa.schema({"repeated": pa.int64()})


def hashed(scan: Scan, buckets: int) -> Callable[[Iterable[pa.RecordBatch]], Iterator[Any]]:
    """Return the function for `mapInArrow` that yields `BLOCKS`: hashes of rows by their columns.

    Equal rows have equal hashes, so they are in the same bucket. Null equals null, NaN equals NaN
    and -0.0 equals 0.0, as in Spark's grouping.

    Args:
        scan: the rows that the worker reads; the batches that it gets hold the numbers of its
            tasks.
        buckets: the number of buckets.
    """

    def hash_tasks(numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        waiting: list[Any] = []
        for batch in read_tasks(scan, numbers):
            waiting.append(row_hashes(batch))
            if sum(map(len, waiting)) >= _HASHES_A_BLOCK:
                yield _make_blocks(waiting, buckets)
                waiting = []
        if waiting:
            yield _make_blocks(waiting, buckets)

    return hash_tasks


def repeated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield `REPEATED`: how many hashes in the `BLOCKS` of complete buckets repeat earlier ones."""
    buckets: dict[int, list[Any]] = {}
    for batch in batches:
        numbers = batch.column(0).to_pylist()
        for bucket, cell in zip(numbers, batch.column(1), strict=True):
            block = np.frombuffer(cell.as_buffer(), np.uint64)
            buckets.setdefault(bucket, []).append(block)
    count = 0
    for blocks in buckets.values():
        hashes = np.sort(np.concatenate(blocks))
        count += int(np.count_nonzero(hashes[1:] == hashes[:-1]))
    yield pa.RecordBatch.from_pydict({"repeated": [count]}, REPEATED)


def _make_blocks(arrays: list[Any], buckets: int) -> pa.RecordBatch:
    hashes = np.concatenate(arrays)
    places = (hashes % np.uint64(buckets)).astype(np.int32)
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places, minlength=buckets))
    parts = np.split(hashes[order], ends[:-1])
    filled = [n for n, part in enumerate(parts) if len(part)]
    cells = [parts[n].tobytes() for n in filled]
    return pa.RecordBatch.from_pydict({"bucket": filled, "hashes": cells}, BLOCKS)


def row_hashes(batch: pa.RecordBatch) -> Any:
    """Return 64 bits for each row, the same for equal rows; see `hashed`."""
    total = np.zeros(batch.num_rows, np.uint64)
    for column in batch.columns:
        total = _mix(total ^ _hash_values(column))
    return total


def _hash_values(column: pa.Array) -> Any:
    """Return 64 bits for each value, the same for equal values."""
    kind = column.type
    if pa.types.is_date(kind):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return _hash_texts(column)
    if pa.types.is_floating(kind):
        values = column.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False) + 0.0
        values[np.isnan(values)] = np.nan  # NaN has many bit patterns
        bits = values.view(np.uint64)
    else:
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        bits = values.astype(np.int64).view(np.uint64)
    return np.where(_null_mask(column), _NULL, _mix(bits)) if column.null_count else _mix(bits)


def _hash_texts(column: pa.Array) -> Any:
    """Return 64 bits for each value; each distinct value is hashed once."""
    import pandas as pd  # noqa: PLC0415 - a requirement of few keys

    encoded = column.dictionary_encode()
    words = encoded.dictionary
    if not (pa.types.is_string(words.type) or pa.types.is_binary(words.type)):
        words = words.cast(pa.string())
    words = words.cast(pa.binary())  # a text of a table may be invalid UTF-8
    hashes = pd.util.hash_array(np.asarray(words.to_pylist(), object), categorize=False)
    hashes = np.append(hashes, _NULL)
    return hashes[encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)]


def _null_mask(column: pa.Array) -> Any:
    return column.is_null().to_numpy(zero_copy_only=False)


_NULL = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _mix(bits: Any) -> Any:
    """Spread differences over all bits by the finalizer of SplitMix64 (Steele et al., 2014)."""
    bits = bits + _NULL
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))
