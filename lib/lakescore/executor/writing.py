"""Writing: rows, as Parquet files that belong to no table yet."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
"""What a task holds of all its files before it writes some of it."""
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
"""What tasks say of the files that they wrote: `path` from the table's folder, bytes, Delta's
statistics as JSON; and of themselves, in rows of which the rest is null."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A decision by a score: below a threshold, or from it on, as NaN is for Spark."""

    threshold: float
    below: Any
    reached: Any


@dataclass(frozen=True, kw_only=True)
class OutputColumn:
    """A column of the files."""

    name: str
    kind: pa.DataType
    position: int | None
    """In the batches; a constant of the part without."""
    child: int | None = None
    """The field, where that column of the batches is a struct."""
    decided: Decided | None = None
    """What it is made into, where the column is one of decisions."""
    bounded: bool = False
    """Whether the log shall say between which values its values lie, and how many are null."""


@dataclass(frozen=True, kw_only=True)
class Sink:
    """Where a task writes its rows: one file for each part that has any."""

    folder: str
    columns: tuple[OutputColumn, ...]
    parts: Mapping[str, Mapping[str, Any]]
    """The constants by column, of each part by its name."""
    by: int | None
    """The position of the column whose text names a row's part; without, there is only one."""
    compression: str
    store: Store = LOCAL


class Unwritten(OSError):
    """A file of predictions could not be written, which is no fault of the model or a row."""


class Misplaced(ValueError):
    """A row is of no part that is written."""


def filer(sink: Sink) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that writes the rows that it is handed; see `written`.

    What tasks before it said of themselves, in a column `SAID`, goes on as it came.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        heard: list[pa.RecordBatch] = []

        def rows() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if SAID not in batch.schema.names:
                    yield batch
                    continue
                said = batch.column(SAID)
                told = said.drop_null()
                if len(told):
                    others = [pa.nulls(len(told), each.type) for each in list(FILES)[:-1]]
                    heard.append(pa.RecordBatch.from_arrays([*others, told], schema=FILES))
                yield batch.filter(said.is_null()) if len(told) else batch

        yield from written(sink, rows())
        yield from heard

    return run


def written(sink: Sink, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Write *batches* into files of this task alone; yield what they are, as `FILES`.

    A task that fails removes its files; of one that is killed they stay, and no table has them.

    Raises:
        Misplaced: a row is of no part.
        Unwritten: the folder does not take them.
    """
    files: dict[str, _File] = {}
    try:
        for batch in batches:
            for name, rows in _parts(sink, batch):
                if name not in files:
                    files[name] = _File(sink, name)
                files[name].add(rows)
            while sum(file.held for file in files.values()) > _BYTES_HELD:
                max(files.values(), key=lambda file: file.held).flush()
        found = [file.close() for file in files.values()]
    except BaseException:
        for file in files.values():
            file.remove()
        raise
    yield pa.RecordBatch.from_pylist(found, FILES)


def _parts(sink: Sink, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    if sink.by is None:
        (name,) = sink.parts
        if batch.num_rows:
            yield name, batch
        return
    names = batch.column(sink.by).cast(pa.string())
    for name in pc.unique(names).to_pylist():
        if name not in sink.parts:
            raise Misplaced(f"a row is of {name!r}, which is not to be written")
        yield name, batch.filter(pc.equal(names, name))


class _File:
    def __init__(self, sink: Sink, part: str) -> None:
        self._sink, self._part, self._constants = sink, part, sink.parts[part]
        self._name = f"part-{uuid.uuid4()}.{sink.compression}.parquet"
        self._path = f"{sink.folder}/{self._name}"
        self._schema = pa.schema([(column.name, _held_as(column)) for column in sink.columns])
        self._writer: pq.ParquetWriter | None = None
        self._batches: list[pa.RecordBatch] = []
        self._bounds = {column.name: Bounds() for column in sink.columns if column.bounded}
        self._rows = self._waiting = self.held = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows, and write them when there are enough."""
        columns = [c for c in self._sink.columns if c.position is not None]
        rows = chosen(batch, columns)
        for column, array in zip(columns, rows.columns, strict=True):
            if column.bounded:
                self._bounds[column.name].add(array)
        self._batches.append(rows)
        self._rows += rows.num_rows
        self._waiting += rows.num_rows
        self.held += rows.nbytes
        if self._waiting >= _ROWS_A_GROUP or self.held >= _BYTES_A_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what was taken as one row group."""
        with _explained():
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema,
                filesystem=self._sink.store.system,
                compression=self._sink.compression,
                # What costs CPU and saves nothing: numbers and keys seldom come again, and a
                # constant is found by the log.
                use_dictionary=[c.name for c in self._told_apart() if not _is_number(c)],
                write_statistics=[c.name for c in self._told_apart() if _is_ordered(c)],
                store_schema=False,
            )
        taken = pa.Table.from_batches(self._batches)
        places = pa.repeat(pa.scalar(0, pa.int32()), self._waiting)
        columns = [
            _repeated(self._constants[column.name], _held_as(column), places)
            if column.position is None
            else taken.column(column.name)
            for column in self._sink.columns
        ]
        table = pa.table(columns, names=self._schema.names)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._batches, self._waiting, self.held = [], 0, 0

    def _told_apart(self) -> list[OutputColumn]:
        """Return the columns that Parquet's writer cannot take for a field of another one."""
        columns = self._sink.columns
        is_nested = any(pa.types.is_nested(column.kind) for column in columns)
        return [column for column in columns if not (is_nested and "." in column.name)]

    def close(self) -> dict[str, Any]:
        """Write the rest, and return what the file is."""
        if self._batches:
            self.flush()
        assert self._writer is not None  # noqa: S101 - a file is made for its first row
        with _explained():
            self._writer.close()
        return {
            "path": self._name,
            "part": self._part,
            "rows": self._rows,
            "size": self._sink.store.size(self._path),
            "statistics": self._statistics(),
            SAID: None,
        }

    def _statistics(self) -> str:
        """Return what the log says of the file, as JSON.

        Readers take a bound that is left out beside others for one that no value meets (delta-rs's
        datasets do), so the file has either all bounds that the table promises, or none.
        """
        for column in self._sink.columns:
            if column.bounded and column.position is None:
                constant = pa.array([self._constants[column.name]], column.kind)
                self._bounds[column.name].add(pa.repeat(constant[0], self._rows))
        said = {"numRecords": str(self._rows)}
        if self._bounds:
            said["nullCount"] = _object({name: str(b.nulls) for name, b in self._bounds.items()})
        filled = {name: b.written for name, b in self._bounds.items() if not b.is_empty}
        bounds = {name: pair for name, pair in filled.items() if pair is not None}
        if bounds and len(bounds) == len(filled):
            said["minValues"] = _object({name: least for name, (least, _) in bounds.items()})
            said["maxValues"] = _object({name: most for name, (_, most) in bounds.items()})
        return _object(said)

    def remove(self) -> None:
        """Leave nothing behind, where that can be."""
        with suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self._sink.store.remove(self._path)


def _object(members: Mapping[str, str]) -> str:
    """Return the JSON object of *members* that are JSON already, such as exact decimals."""
    named = [f"{json.dumps(name, ensure_ascii=False)}:{text}" for name, text in members.items()]
    return "{" + ",".join(named) + "}"


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unwritten(str(error)) from error


def chosen(batch: pa.RecordBatch, columns: Sequence[OutputColumn]) -> pa.RecordBatch:
    """Return *columns*, which all have a place in *batch*."""
    arrays = [_taken(batch, column) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _taken(batch: pa.RecordBatch, column: OutputColumn) -> pa.Array:
    array = batch.column(column.position)
    if column.child is not None:
        array = pc.struct_field(array, column.child)
    if column.decided is not None:
        array = _decided(array, column.decided)
    return array if array.type == column.kind else array.cast(column.kind)


def _decided(scores: pa.Array, by: Decided) -> pa.Array:
    scores = scores.cast(pa.float64())
    reached = pc.or_(pc.greater_equal(scores, by.threshold), pc.is_nan(scores))
    return pc.if_else(reached, pa.scalar(by.reached), pa.scalar(by.below))


def _held_as(column: OutputColumn) -> pa.DataType:
    """Return the type that Parquet is handed: a constant text is one text and its places."""
    constant = column.position is None and pa.types.is_string(column.kind)
    return pa.dictionary(pa.int32(), column.kind) if constant else column.kind


def _is_number(column: OutputColumn) -> bool:
    kind = column.kind
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    return bool(number and column.position is not None)


def _is_ordered(column: OutputColumn) -> bool:
    """Tell whether all readers order its values alike: Parquet's statistics leave NaN out."""
    return column.position is not None and not pa.types.is_floating(column.kind)


def _repeated(value: Any, kind: pa.DataType, places: pa.Array) -> pa.Array:
    if value is None:
        return pa.nulls(len(places), kind)
    if not pa.types.is_dictionary(kind):
        return pa.repeat(pa.scalar(value, kind), len(places))
    return pa.DictionaryArray.from_arrays(places, pa.array([value], kind.value_type))
