"""Files: the data files of a table, those that can have given values, and their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakescore.logs.errors import NotEligible
from lakescore.logs.opening import decline_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyarrow.compute import Expression
    from pyarrow.dataset import Dataset

    from lakescore.logs.log import Log
    from lakescore.storage import Folder

_NONE: np.ndarray[Any, np.dtype[np.int64]] = np.empty(0, np.int64)


@dataclass(frozen=True)
class File:
    """A Parquet file of a table."""

    path: str
    """The path on the machine's disks, or the path that begins with the bucket."""
    rows: int
    size: int
    partition: Mapping[str, Any]
    """The typed partition values of all its rows, by column name; an empty text is null."""
    deleted: np.ndarray[Any, np.dtype[np.int64]]
    """The positions of deleted rows, sorted."""


@dataclass(frozen=True)
class NewFile:
    """A Parquet file in a table's folder that the table does not have yet."""

    path: str
    """The path within the folder: letters, digits, dots and dashes."""
    partition: Mapping[str, str]
    rows: int
    size: int
    statistics: str
    """The file statistics, in the JSON of Delta's log."""


def list_files(log: Log, among: Mapping[str, Sequence[Any]]) -> list[File]:
    """Return the files as `Log.files` does."""
    with decline_errors(log.address):
        actions = pa.table(log.table.get_add_actions(flatten=False))
    chosen = actions.take(pa.array(np.flatnonzero(_match_files(log, actions, among))))
    deleted = _read_deleted(log) if chosen.num_rows else {}
    partitions = _column_values(chosen, "partition")
    columns = ("path", "size_bytes", "num_records")
    files = []
    for partition, path, size, rows in zip(
        partitions, *[_column_values(chosen, name) for name in columns], strict=True
    ):
        if rows is None:
            raise NotEligible("the log does not count the rows of each file")
        file_path = _file_path(path, log.folder)
        values = {name: v if v != "" else None for name, v in (partition or {}).items()}
        positions = deleted.get(file_path.rsplit("/", 1)[-1], _NONE)
        files.append(File(file_path, rows, size, values, positions))
    return files


def newest_value(log: Log, column: str) -> Any:  # noqa: ANN401 - a value of the column's type
    """Return the largest value of a *column* in the rows of a table; None without any.

    Raises:
        NotEligible: the log does not know it, or only bounds that deleted rows can have set.
    """
    with decline_errors(log.address):
        actions = pa.table(log.table.get_add_actions(flatten=False))
    if column in log.partitioned_by:
        highest = _column_array(actions, "partition", column)
        if highest is not None and not pa.types.is_date(highest.type):
            raise NotEligible(f"{column} divides the table, and its texts of times are ambiguous")
    else:
        highest = _column_array(actions, "max", log.stored[column])
        if _read_deleted(log):
            raise NotEligible("rows are deleted, and the log has the bounds of all rows")
    rows = _column_values(actions, "num_records")
    known = pa.nulls(actions.num_rows) if highest is None else highest
    for count, value in zip(rows, known, strict=True):
        if count != 0 and not value.is_valid and column not in log.partitioned_by:
            raise NotEligible(f"the log has no bounds of {column}")
    try:
        return None if highest is None else pc.max(highest).as_py()
    except (ValueError, OverflowError) as error:
        raise NotEligible(f"the log has values that Python cannot represent: {error}") from error


def _match_files(log: Log, actions: pa.Table, among: Mapping[str, Sequence[Any]]) -> Any:  # noqa: ANN401 - numpy's
    """Return a mask of the files that can have a row with one of the values of each column."""
    mask = np.ones(actions.num_rows, bool)
    for column, values in among.items():
        if column in log.partitioned_by:
            partition_values = _column_values(actions, "partition", column)
            mask &= np.array([value in values for value in partition_values], bool)
            continue
        mask &= _match_bounds(actions, log.stored[column], values)
    return mask


def _read_deleted(log: Log) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the positions of deleted rows, by the file's name."""
    if "deletionVectors" not in log.reader_features:
        return {}
    deleted = {}
    with decline_errors(log.address):
        for batch in log.table.deletion_vectors():
            rows = pa.record_batch(batch)
            for path, kept in zip(rows.column(0).to_pylist(), rows.column(1), strict=True):
                mask = kept.values.to_numpy(zero_copy_only=False)
                name = unquote(urlsplit(path).path).rsplit("/", 1)[-1]
                deleted[name] = np.flatnonzero(~mask.astype(bool)).astype(np.int64)
    return deleted


def open_dataset(log: Log) -> Dataset:
    """Return the rows as `Log.dataset` does."""
    import pyarrow.dataset as ds  # noqa: PLC0415 - not needed for --help
    from pyarrow.fs import LocalFileSystem  # noqa: PLC0415

    if any(name != stored for name, stored in log.stored.items()):  # all values would be null
        raise NotEligible("delta-rs does not read columns that have other names in the files")
    # The file system of delta-rs calls Python from threads that read ahead. Where such a thread
    # still runs while Python ends, the process aborts.
    system = log.folder.store.system or LocalFileSystem()
    # Spark can write times that do not fit into nanoseconds, pyarrow's default unit for them.
    options = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")
    with decline_errors(log.address):
        dataset = log.table.to_pyarrow_dataset(filesystem=system, parquet_read_options=options)
        actions = pa.table(log.table.get_add_actions(flatten=False))
    paths, partitions = _column_values(actions, "path"), _partition_expressions(log, actions)
    fragments = [
        dataset.format.make_fragment(
            _file_path(path, log.folder), system, partition_expression=partition
        )
        for path, partition in zip(paths, partitions, strict=True)
    ]
    return ds.FileSystemDataset(fragments, dataset.schema, dataset.format, system)


def _partition_expressions(log: Log, actions: pa.Table) -> list[Expression]:
    """Return what is true of all rows of each file: the values of the partition columns."""
    expressions = [pc.scalar(True)] * actions.num_rows  # noqa: FBT003 - an expression
    for name in log.partitioned_by:
        values = _column_array(actions, "partition", name)
        for number, value in enumerate(values or []):
            is_null = not value.is_valid or value.as_py() == ""
            equal = pc.field(name).is_null() if is_null else pc.field(name) == value
            expressions[number] &= equal
    return expressions


def _file_path(path: str, place: Folder) -> str:
    """Return the path in the folder's file system for a *path* as the log writes it."""
    parts = urlsplit(path)
    if parts.scheme in {"", "file"} and place.is_local:
        decoded = unquote(parts.path if parts.scheme else path)
        return decoded if decoded.startswith("/") else f"{place.path}/{decoded}"
    if parts.scheme:
        raise NotEligible(f"a file is outside the table's folder: at {parts.scheme}:")
    return f"{place.path}/{unquote(path)}"


def _column_values(table: pa.Table, name: str, field: str | None = None) -> list[Any]:
    """Return the values of a column, or of a field of its structs; nulls if it does not exist.

    Raises:
        NotEligible: Python cannot represent the values, such as dates of the year 10000.
    """
    array = _column_array(table, name, field)
    try:
        return [None] * table.num_rows if array is None else list(array.to_pylist())
    except (ValueError, OverflowError) as error:
        raise NotEligible(f"the log has values that Python cannot represent: {error}") from error


def _column_array(table: pa.Table, name: str, field: str | None = None) -> pa.ChunkedArray | None:
    if name not in table.column_names:
        return None
    column = table.column(name)
    if field is None:
        return column
    return pc.struct_field(column, field) if column.type.get_field_index(field) >= 0 else None


def _match_bounds(actions: pa.Table, stored: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - numpy's
    """Return a mask of the files whose bounds include one of *values*, or are not reliable.

    Bounds of integers and dates are reliable. So are bounds of ASCII texts; writers order other
    texts differently.
    """
    low, high = (_column_array(actions, name, stored) for name in ("min", "max"))
    if low is None or high is None:
        return np.ones(actions.num_rows, bool)
    reliable = pc.and_(pc.is_valid(low), pc.is_valid(high))
    wanted = pa.array(list(values), low.type)
    if pa.types.is_string(low.type):
        is_ascii = pc.and_(pc.string_is_ascii(low), pc.string_is_ascii(high))
        reliable = pc.and_(reliable, is_ascii.combine_chunks().fill_null(False))  # noqa: FBT003 - a value
        arrays = [
            np.array(array.fill_null("").to_pylist(), object) for array in (low, high, wanted)
        ]
    elif pa.types.is_integer(low.type) or pa.types.is_date(low.type):
        kind = pa.int32() if pa.types.is_date(low.type) else low.type
        arrays = [np.asarray(array.cast(kind).fill_null(0)) for array in (low, high, wanted)]
    else:
        return np.ones(actions.num_rows, bool)
    lowest, highest, ordered = arrays[0], arrays[1], np.sort(arrays[2])
    within = np.searchsorted(ordered, highest, "right") > np.searchsorted(ordered, lowest, "left")
    return ~np.asarray(reliable) | within
