"""Reading: rows of Parquet files, by the rules of their Delta table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .storing import LOCAL, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table that workers read."""

    stored: str
    """Its name in the files."""
    partition: bool
    """Whether the log holds its values, and not the files."""
    read: pa.DataType
    """The table's type."""
    give: pa.DataType
    """The type of its values after reading, which holds every value of `read`."""
    widens: bool
    """Whether older files can hold a narrower type than the table's."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Rows of one row group of a Parquet file."""

    path: str
    row_group: int
    skip: int
    rows: int
    deleted: bytes | None
    """One bit for each of the rows, set if the row is deleted."""
    values: tuple[Any, ...]
    """The value of the partition, by column."""
    at_once: int
    """The rows that a worker reads and scores at once. Its batches begin at multiples of this
    number in the row group, also if the piece begins between two of them."""


@dataclass(frozen=True, kw_only=True)
class PartitionFilter:
    """A condition on rows."""

    column: int
    """Its position."""
    among: tuple[Any, ...] | None
    """The values that it can have; None allows any value except null and NaN."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The columns that workers read, and the pieces of each task."""

    columns: tuple[Column, ...]
    tasks: tuple[tuple[Piece, ...], ...]
    only: PartitionFilter | None
    store: Store = LOCAL


def read_tasks(scan: Scan, numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of tasks of *scan*: the first column of *numbers* holds the tasks' numbers."""
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            for piece in scan.tasks[number]:
                yield from read(scan, piece)


def gathered(
    batches: Iterable[pa.RecordBatch], size: Callable[[pa.RecordBatch], int], enough: int
) -> Iterator[pa.RecordBatch]:
    """Join *batches* until their *size* is *enough*, because each batch has a fixed cost."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(size, waiting)) >= enough:
            yield from _join(waiting)
            waiting = []
    if waiting:
        yield from _join(waiting)


def _join(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return the rows of *batches* in one batch, unless Arrow needs several to hold them."""
    joined: list[pa.RecordBatch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return joined or batches[:1]  # without rows, Arrow makes no batch


def read(scan: Scan, piece: Piece) -> Iterator[pa.RecordBatch]:
    """Yield the rows of *piece* that are not deleted and that meet the scan's condition.

    A column that was added to the table after the file was written is null.
    """
    deleted = None
    if piece.deleted is not None:
        bits = np.frombuffer(piece.deleted, np.uint8)
        deleted = np.unpackbits(bits, count=piece.rows).astype(bool)
    with scan.store.open(piece.path) as file:
        existing = set(file.schema_arrow.names)
        stored = [c.stored for c in scan.columns if not c.partition and c.stored in existing]
        batches = file.iter_batches(
            piece.at_once,
            row_groups=[piece.row_group],
            columns=list(dict.fromkeys(stored)),
            use_threads=False,
        )
        position = -piece.skip  # of the first row of a chunk in the piece
        for chunk in batches:
            first, last = max(0, -position), min(chunk.num_rows, piece.rows - position)
            if first < last:
                batch = chunk.slice(first, last - first)
                keep = None if deleted is None else ~deleted[position + first : position + last]
                rows = _select_rows(scan, piece, batch, keep)
                if rows.num_rows:
                    yield rows
            position += chunk.num_rows


def _select_rows(
    scan: Scan, piece: Piece, batch: pa.RecordBatch, keep: np.ndarray[Any, Any] | None
) -> pa.RecordBatch:
    """Return the typed columns of *scan* for the rows of *batch* that the scan keeps."""
    columns = [
        _read_column(column, batch, value)
        for column, value in zip(scan.columns, piece.values, strict=True)
    ]
    rows = pa.RecordBatch.from_arrays(columns, names=[f"c{n}" for n in range(len(columns))])
    mask = None if keep is None else pa.array(keep)
    if scan.only is not None:
        matches = _matches(rows.column(scan.only.column), scan.only)
        mask = matches if mask is None else pc.and_(mask, matches)
    if mask is None or pc.all(mask).as_py():
        return rows
    return rows.filter(mask)


def _read_column(column: Column, batch: pa.RecordBatch, value: Any) -> pa.Array:
    if column.partition:
        return pa.repeat(pa.scalar(value, column.read), batch.num_rows).cast(column.give)
    position = batch.schema.get_field_index(column.stored)
    if position < 0:
        return pa.nulls(batch.num_rows, column.give)
    array = batch.column(position)
    if array.type != column.read:
        array = array.cast(column.read)
    return array if column.read == column.give else array.cast(column.give)


def _matches(values: pa.Array, only: PartitionFilter) -> pa.Array:
    if only.among is None:
        return pc.invert(pc.is_null(values, nan_is_null=True))
    return pc.is_in(values, value_set=pa.array(list(only.among), values.type))
