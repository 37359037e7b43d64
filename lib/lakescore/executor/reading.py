"""Reading: rows of Parquet files, as a Delta table means them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .storing import LOCAL, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_ROWS_AT_ONCE = 131_072
_CELLS_AT_ONCE = 4_000_000
"""What is read at once: a batch costs a model calls of its own, and a wide table memory."""
_REBASED = {b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96"}
_PROLEPTIC_SINCE = (3, 1)
"""The version of Spark whose files hold dates and times as they are, unless marked otherwise."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table as workers read it."""

    stored: str
    """Its name in the files."""
    partition: bool
    """Whether the log holds its values instead."""
    read: pa.DataType
    """The table's type."""
    give: pa.DataType
    """The type that it is given on in, which holds every value of `read`."""
    widens: bool
    """Whether older files may hold a narrower type than the table's."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Rows of one row group of a Parquet file."""

    path: str
    row_group: int
    skip: int
    rows: int
    deleted: bytes | None
    """One bit for each of the rows, set where it is deleted."""
    values: tuple[Any, ...]
    """By column, the partition's value."""


@dataclass(frozen=True, kw_only=True)
class PartitionFilter:
    """A condition on rows."""

    column: int
    """Its position."""
    among: tuple[Any, ...] | None
    """The values that it may have; any but null and NaN when none are given."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What workers read: columns, and the pieces of each task."""

    columns: tuple[Column, ...]
    tasks: tuple[tuple[Piece, ...], ...]
    only: PartitionFilter | None
    store: Store = LOCAL


def read_tasks(scan: Scan, numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the tasks of *scan* that the first column of batches *numbers*."""
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            for piece in scan.tasks[number]:
                yield from read(scan, piece)


def gathered(
    batches: Iterable[pa.RecordBatch], size: Callable[[pa.RecordBatch], int], enough: int
) -> Iterator[pa.RecordBatch]:
    """Put *batches* together until their *size* is *enough*: each has costs of its own."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(size, waiting)) >= enough:
            yield pa.concat_batches(waiting)
            waiting = []
    if waiting:
        yield pa.concat_batches(waiting)


def rows_at_once(columns: int) -> int:
    """Return how many rows of so many *columns* are read, and handed to a model, at once."""
    return max(1, min(_ROWS_AT_ONCE, _CELLS_AT_ONCE // max(1, columns)))


def read(scan: Scan, piece: Piece) -> Iterator[pa.RecordBatch]:
    """Yield the rows of *piece* that are not deleted and that the scan's condition holds for.

    Columns that the file lacks, since they were added to the table later, are null.
    """
    deleted = None
    if piece.deleted is not None:
        bits = np.frombuffer(piece.deleted, np.uint8)
        deleted = np.unpackbits(bits, count=piece.rows).astype(bool)
    with scan.store.open(piece.path) as file:
        there = set(file.schema_arrow.names)
        stored = [c.stored for c in scan.columns if not c.partition and c.stored in there]
        batches = file.iter_batches(
            rows_at_once(len(stored)),
            row_groups=[piece.row_group],
            columns=list(dict.fromkeys(stored)),
            use_threads=False,
        )
        position = -piece.skip  # of a batch's first row in the piece
        for whole in batches:
            first, last = max(0, -position), min(whole.num_rows, piece.rows - position)
            if first < last:
                batch = whole.slice(first, last - first)
                keep = None if deleted is None else ~deleted[position + first : position + last]
                rows = _chosen(scan, piece, batch, keep)
                if rows.num_rows:
                    yield rows
            position += whole.num_rows


def _chosen(
    scan: Scan, piece: Piece, batch: pa.RecordBatch, keep: np.ndarray[Any, Any] | None
) -> pa.RecordBatch:
    """Return the columns of *scan* for the rows of *batch*, typed, without those that must go."""
    columns = [
        _given(column, batch, value)
        for column, value in zip(scan.columns, piece.values, strict=True)
    ]
    rows = pa.RecordBatch.from_arrays(columns, names=[f"c{n}" for n in range(len(columns))])
    mask = None if keep is None else pa.array(keep)
    if scan.only is not None:
        holds = _holds(rows.column(scan.only.column), scan.only)
        mask = holds if mask is None else pc.and_(mask, holds)
    if mask is None or pc.all(mask).as_py():
        return rows
    return rows.filter(mask)


def _given(column: Column, batch: pa.RecordBatch, value: Any) -> pa.Array:
    if column.partition:
        return pa.repeat(pa.scalar(value, column.read), batch.num_rows).cast(column.give)
    position = batch.schema.get_field_index(column.stored)
    if position < 0:
        return pa.nulls(batch.num_rows, column.give)
    array = batch.column(position)
    if array.type != column.read:
        array = array.cast(column.read)
    return array if column.read == column.give else array.cast(column.give)


def _holds(values: pa.Array, only: PartitionFilter) -> pa.Array:
    if only.among is None:
        return pc.invert(pc.is_null(values, nan_is_null=True))
    return pc.is_in(values, value_set=pa.array(list(only.among), values.type))


FOOTERS = pa.schema({"file": pa.int64(), "rows": pa.list_(pa.int64()), "problem": pa.string()})
"""What `footers` gives."""


def footers(
    paths: Sequence[str], columns: Sequence[Column], tasks: int, store: Store = LOCAL
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that gives `footer` of *paths*, dealt to *tasks*."""

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column(0).to_pylist():
                numbers = range(task, len(paths), tasks)
                found = [footer(paths[number], columns, store) for number in numbers]
                yield pa.RecordBatch.from_arrays(
                    [
                        pa.array(numbers, pa.int64()),
                        pa.array([list(rows) for rows, _ in found], pa.list_(pa.int64())),
                        pa.array([problem for _, problem in found], pa.string()),
                    ],
                    schema=FOOTERS,
                )

    return look


def footer(
    path: str, columns: Sequence[Column], store: Store = LOCAL
) -> tuple[tuple[int, ...], str | None]:
    """Return the rows of each row group of a file, and why it cannot be read here, if so."""
    try:
        with store.open(path) as file:
            metadata = file.metadata
            rows = tuple(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))
            return rows, _problem(file.schema_arrow, metadata.metadata or {}, columns)
    except (OSError, pa.ArrowException) as error:
        return (), f"cannot be opened: {error}"


def _problem(schema: pa.Schema, marks: dict[bytes, bytes], columns: Sequence[Column]) -> str | None:
    for column in columns:
        names = [name for name in schema.names if name.lower() == column.stored.lower()]
        if not names:
            continue
        if names != [column.stored]:
            return f"has the columns {names} for {column.stored!r}"
        held = schema.field(column.stored).type
        if not (held == column.read or _reads_as(held, column.read, widens=column.widens)):
            return f"holds {column.stored!r} as {held}, not {column.read}"
        if pa.types.is_temporal(column.read) and _is_rebased(marks):
            return f"holds {column.stored!r} in the calendar of an old Spark"
    return None


def _reads_as(held: pa.DataType, asked: pa.DataType, *, widens: bool) -> bool:
    """Tell whether every value of *held* is one of *asked*, and a reader of Delta shall give it."""
    types = pa.types
    if types.is_dictionary(held):
        held = held.value_type
    if types.is_string(asked):
        return bool(types.is_large_string(held) or types.is_string_view(held) or held == asked)
    if types.is_binary(asked):
        return bool(types.is_large_binary(held) or types.is_binary_view(held) or held == asked)
    if types.is_timestamp(asked):
        # Spark writes instants without a zone (INT96) or in UTC, and either is an instant.
        return bool(
            types.is_timestamp(held) and held.unit == "us" and bool(held.tz) <= bool(asked.tz)
        )
    if not widens:
        return False
    if types.is_signed_integer(held):
        wider = types.is_signed_integer(asked) and asked.bit_width > held.bit_width
        return bool(wider or (types.is_float64(asked) and held.bit_width < 64))  # noqa: PLR2004
    return bool(types.is_float32(held) and types.is_float64(asked))


def _is_rebased(marks: dict[bytes, bytes]) -> bool:
    """Tell whether dates before 1582 could need Spark's own conversion of calendars."""
    version = marks.get(b"org.apache.spark.version", b"").decode().split(".")
    old = len(version) > 1 and tuple(map(int, version[:2])) < _PROLEPTIC_SINCE
    return old or bool(_REBASED & marks.keys())
