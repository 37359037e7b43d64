"""Writing: rows become Parquet files that no table contains yet."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .bounding import Bounds
from .storing import LOCAL, Store
from .tallying import SAID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_ROWS_A_GROUP = 1_000_000
_BYTES_A_GROUP = 64 * 2**20
_BYTES_HELD = 256 * 2**20
"""The bytes that a task holds for all its files before it writes half of them."""
_MOST_OPEN = 256
"""The number of files from which a task ends a file as soon as it has written to it, and begins
another one for further rows: a process can have about a thousand files open."""
FILES = pa.schema(
    {
        "path": pa.string(),
        "part": pa.string(),
        "rows": pa.int64(),
        "size": pa.int64(),
        "statistics": pa.string(),
        SAID: pa.binary(),
    }
)
"""The files that tasks wrote: `path` from the table's folder, the size in bytes, Delta's statistics
as JSON. The report of a task is in a row whose other columns are null."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A decision by a score: below a threshold, or from it on; NaN is above it, as in Spark."""

    threshold: float
    below: Any
    reached: Any


@dataclass(frozen=True, kw_only=True)
class OutputColumn:
    """A column of the files."""

    name: str
    kind: pa.DataType
    position: int | None
    """The position in the batches; None if the column is a constant of the part."""
    child: int | None = None
    """The number of the field, if that column of the batches is a struct."""
    decided: Decided | None = None
    """The rule that makes decisions of its values, if it is a column of decisions."""
    bounded: bool = False
    """Whether the log must hold its bounds and its number of nulls."""


@dataclass(frozen=True, kw_only=True)
class Sink:
    """The place where a task writes its rows: one file for each part that has rows."""

    folder: str
    columns: tuple[OutputColumn, ...]
    parts: Mapping[str, Mapping[str, Any]]
    """By the name of each part, its constants by column."""
    by: int | None
    """The position of the column whose text names a row's part; None if there is only one part."""
    compression: str
    store: Store = LOCAL


class Unwritten(OSError):
    """A file of predictions could not be written; neither the model nor a row is at fault."""


class Misplaced(ValueError):
    """A row belongs to no part of the sink."""


def filer(sink: Sink) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that writes the rows that it gets; see `written`.

    Reports of earlier tasks, in a column `SAID`, are passed on unchanged.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        report_rows: list[pa.RecordBatch] = []

        def rows() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if SAID not in batch.schema.names:
                    yield batch
                    continue
                column = batch.column(SAID)
                reports = column.drop_null()
                if len(reports):
                    others = [pa.nulls(len(reports), field.type) for field in list(FILES)[:-1]]
                    report_rows.append(pa.RecordBatch.from_arrays([*others, reports], schema=FILES))
                yield batch.filter(column.is_null()) if len(reports) else batch

        yield from written(sink, rows())
        yield from report_rows

    return run


def written(sink: Sink, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Write *batches* into files of this task alone; yield the rows of `FILES`.

    A task that fails removes its files. If a task is killed, its files stay, but no table contains
    them.

    Raises:
        Misplaced: a row belongs to no part of *sink*.
        Unwritten: a file cannot be written to the folder.
    """
    columns = [column for column in sink.columns if column.position is not None]
    files: dict[str, _File] = {}
    ended: list[_File] = []
    try:
        for batch in batches:
            for name, rows in _split_parts(sink, batch, chosen(batch, columns)):
                if name not in files:
                    files[name] = _File(sink, name)
                files[name].add(rows)
            _make_room(files, ended)
        for file in files.values():
            file.end()
        entries = [file.entry() for file in (*ended, *files.values())]
    except BaseException:
        for file in (*ended, *files.values()):
            file.remove()
        raise
    yield pa.RecordBatch.from_pylist(entries, FILES)


def _split_parts(
    sink: Sink, batch: pa.RecordBatch, rows: pa.RecordBatch
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield the parts of *batch*, and their *rows* in the order of the batch."""
    if sink.by is None:
        (name,) = sink.parts
        if rows.num_rows:
            yield name, rows
        return
    encoded = batch.column(sink.by).cast(pa.string()).dictionary_encode(null_encoding="encode")
    codes = encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.bincount(codes, minlength=len(encoded.dictionary)).cumsum()
    for name, start, end in zip(encoded.dictionary.to_pylist(), [0, *ends], ends, strict=False):
        if name not in sink.parts:
            raise Misplaced(f"a row belongs to the part {name!r}, which is not written")
        yield name, rows if end - start == len(order) else rows.take(pa.array(order[start:end]))


def _make_room(files: dict[str, _File], ended: list[_File]) -> None:
    """Write the largest files if they hold many bytes; move those that end then to *ended*."""
    held = sum(file.held for file in files.values())
    if held <= _BYTES_HELD:
        return
    is_ending = len(files) > _MOST_OPEN
    for name, file in sorted(files.items(), key=lambda item: item[1].held, reverse=True):
        if held <= _BYTES_HELD // 2:
            return
        held -= file.held
        if is_ending:
            file.end()
            ended.append(files.pop(name))
        else:
            file.flush()


class _File:
    def __init__(self, sink: Sink, part: str) -> None:
        self._sink, self._part, self._constants = sink, part, sink.parts[part]
        self._name = f"part-{uuid.uuid4()}.{sink.compression}.parquet"
        self._path = f"{sink.folder}/{self._name}"
        self._schema = pa.schema([(column.name, _stored_type(column)) for column in sink.columns])
        self._writer: pq.ParquetWriter | None = None
        self._batches: list[pa.RecordBatch] = []
        self._bounds = {column.name: Bounds() for column in sink.columns if column.bounded}
        self._rows = self._waiting = self.held = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows, and write them when there are enough."""
        self._batches.append(rows)
        self._rows += rows.num_rows
        self._waiting += rows.num_rows
        self.held += rows.nbytes
        if self._waiting >= _ROWS_A_GROUP or self.held >= _BYTES_A_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write the added rows as one row group."""
        with _explain_errors():
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema,
                filesystem=self._sink.store.system,
                compression=self._sink.compression,
                # No dictionary for numbers and keys, which seldom repeat, and no statistics for
                # constants, which the log holds: they cost CPU and save nothing.
                use_dictionary=[c.name for c in self._unambiguous_columns() if not _is_number(c)],
                write_statistics=[c.name for c in self._unambiguous_columns() if _is_ordered(c)],
                store_schema=False,
            )
        rows = pa.Table.from_batches(self._batches)
        for column in self._sink.columns:
            if column.bounded and column.position is not None:
                self._bounds[column.name].add(rows.column(column.name).combine_chunks())
        places = pa.repeat(pa.scalar(0, pa.int32()), self._waiting)
        columns = [
            _repeat(self._constants[column.name], _stored_type(column), places)
            if column.position is None
            else rows.column(column.name)
            for column in self._sink.columns
        ]
        table = pa.table(columns, names=self._schema.names)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._batches, self._waiting, self.held = [], 0, 0

    def _unambiguous_columns(self) -> list[OutputColumn]:
        """Return the columns whose names Parquet's writer cannot take for fields of others."""
        columns = self._sink.columns
        is_nested = any(pa.types.is_nested(column.kind) for column in columns)
        return [column for column in columns if not (is_nested and "." in column.name)]

    def end(self) -> None:
        """Write the rest, and close the file."""
        if self._batches:
            self.flush()
        assert self._writer is not None  # noqa: S101 - a file is made for its first row
        with _explain_errors():
            self._writer.close()

    def entry(self) -> dict[str, Any]:
        """Return the row of `FILES` for the file, which has ended."""
        return {
            "path": self._name,
            "part": self._part,
            "rows": self._rows,
            "size": self._sink.store.size(self._path),
            "statistics": self._statistics(),
            SAID: None,
        }

    def _statistics(self) -> str:
        """Return the statistics of the file for the log, as JSON.

        If a file has some bounds but not all, readers such as delta-rs's datasets assume that no
        value meets a missing one. So the file has either all bounds that the table promises, or
        none.
        """
        for column in self._sink.columns:
            if column.bounded and column.position is None:
                constant = pa.array([self._constants[column.name]], column.kind)
                self._bounds[column.name].add(pa.repeat(constant[0], self._rows))
        statistics = {"numRecords": str(self._rows)}
        if self._bounds:
            statistics["nullCount"] = _json_object(
                {name: str(b.nulls) for name, b in self._bounds.items()}
            )
        filled = {name: b.written for name, b in self._bounds.items() if not b.is_empty}
        bounds = {name: pair for name, pair in filled.items() if pair is not None}
        if bounds and len(bounds) == len(filled):
            statistics["minValues"] = _json_object(
                {name: least for name, (least, _) in bounds.items()}
            )
            statistics["maxValues"] = _json_object(
                {name: most for name, (_, most) in bounds.items()}
            )
        return _json_object(statistics)

    def remove(self) -> None:
        """Close and remove the file, and ignore errors."""
        with suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self._sink.store.remove(self._path)


def _json_object(members: Mapping[str, str]) -> str:
    """Return the JSON object of *members* whose values are already JSON, such as exact decimals."""
    pairs = [f"{json.dumps(name, ensure_ascii=False)}:{text}" for name, text in members.items()]
    return "{" + ",".join(pairs) + "}"


@contextmanager
def _explain_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unwritten(str(error)) from error


def chosen(batch: pa.RecordBatch, columns: Sequence[OutputColumn]) -> pa.RecordBatch:
    """Return the values of *columns*, which must all have a position in *batch*."""
    arrays = [_take_column(batch, column) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _take_column(batch: pa.RecordBatch, column: OutputColumn) -> pa.Array:
    array = batch.column(column.position)
    if column.child is not None:
        array = pc.struct_field(array, column.child)
    if column.decided is not None:
        array = _decide(array, column.decided)
    return array if array.type == column.kind else array.cast(column.kind)


def _decide(scores: pa.Array, by: Decided) -> pa.Array:
    scores = scores.cast(pa.float64())
    reached = pc.or_(pc.greater_equal(scores, by.threshold), pc.is_nan(scores))
    return pc.if_else(reached, pa.scalar(by.reached), pa.scalar(by.below))


def _stored_type(column: OutputColumn) -> pa.DataType:
    """Return the type for Parquet's writer: a constant text is a dictionary of one text."""
    constant = column.position is None and pa.types.is_string(column.kind)
    return pa.dictionary(pa.int32(), column.kind) if constant else column.kind


def _is_number(column: OutputColumn) -> bool:
    kind = column.kind
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    return bool(number and column.position is not None)


def _is_ordered(column: OutputColumn) -> bool:
    """Return whether all readers sort its values alike: Parquet's statistics ignore NaN."""
    return column.position is not None and not pa.types.is_floating(column.kind)


def _repeat(value: Any, kind: pa.DataType, places: pa.Array) -> pa.Array:
    if value is None:
        return pa.nulls(len(places), kind)
    if not pa.types.is_dictionary(kind):
        return pa.repeat(pa.scalar(value, kind), len(places))
    return pa.DictionaryArray.from_arrays(places, pa.array([value], kind.value_type))
