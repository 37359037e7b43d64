"""Filing: whether workers can write the files of a table, and the columns of these files.

If a table is plain enough, rows do not pass through the JVM's writer, which costs several times as
much as the scoring of a cheap model. Instead, each task writes a Parquet file and reports it. The
commit has exactly the reported files. So a task that runs again, or twice at once, can leave an
extra file behind, but never extra rows. This module declines every table that it does not fully
understand; then Spark writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakescore import executor
from lakescore.arrow import arrow_type, is_plain, is_writable
from lakescore.errors import ConfigError, IntegrityError
from lakescore.logs import NewFile, NotEligible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyspark.sql.types import StructField, StructType

    from lakescore.logs import Log
    from lakescore.runner import Runner

_COMPRESSIONS = {
    "gzip": "gzip",
    "none": "none",
    "snappy": "snappy",
    "uncompressed": "none",
    "zstd": "zstd",
}
_NAME = re.compile(r"`((?:[^`]|``)+)`|([^`,]+)")
"""A name in a list of columns, in back-ticks or without."""


class FilesUnwritten(ConfigError):
    """Workers cannot write to the folder of the table of predictions."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(
            f"workers cannot write to {folder}: {reason}; nothing more was published; allow the "
            "user that runs Spark's workers to write there, then run the job again"
        )


class WrittenFilesMissing(IntegrityError):
    """The driver does not find a file that workers wrote."""

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(
            f"workers wrote {name} into {folder}, but the driver does not find the same file "
            "there; nothing more was published; keep tables in a folder that all machines share"
        )


@dataclass(frozen=True)
class Form:
    """The form of a table at the moment when files are committed to it."""

    schema: StructType
    properties: Mapping[str, str]
    partitioned_by: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """The place of a column's values in the rows that workers write."""

    position: int
    child: int | None = None
    """The position of the field, if the column at `position` is a struct."""
    decided: executor.Decided | None = None
    """The decision that replaces the values; None to write them unchanged."""


def sink(  # noqa: PLR0913 - all but the first three by name
    runner: Runner,
    log: Log,
    form: Form,
    *,
    written: StructType,
    places: Mapping[str, Place],
    parts: Mapping[str, Mapping[str, Any]],
    by: int | None,
) -> executor.Sink:
    """Return the sink that says where and how workers write rows.

    Args:
        runner: the runner, whose settings say how Spark would write.
        log: the log of the table.
        form: the form of the table when the files are committed.
        written: the columns to write.
        places: the places of these columns in the rows.
        parts: for each part, by the text that identifies it, the values that all rows of the part
            share: those of the partition columns, and of columns that have no place.
        by: the position of the column with that text; None if there is only one part.

    Raises:
        NotEligible: the files could differ from those that Spark writes.
    """
    log.check_writable()
    _check_columns(form.schema, written)
    compression = runner.setting("spark.sql.parquet.compression.codec", "snappy") or ""
    if compression not in _COMPRESSIONS:
        raise NotEligible(f"Spark writes {compression} files")
    if runner.setting("spark.sql.files.maxRecordsPerFile", "0") != "0":
        raise NotEligible("only Spark divides files by spark.sql.files.maxRecordsPerFile")
    bounded = _bounded_columns(form.properties, form.schema)
    constants = next(iter(parts.values()))
    return executor.Sink(
        folder=log.folder.path,
        columns=tuple(
            _output_column(field, places, constants, bounded)
            for field in written
            if field.name not in form.partitioned_by
        ),
        parts=parts,
        by=by,
        compression=_COMPRESSIONS[compression],
        store=log.folder.store,
    )


def files(
    reported: Iterable[Mapping[str, Any]], sink: executor.Sink, partitioned_by: Sequence[str]
) -> list[NewFile]:
    """Return the files that tasks reported, for a table with these partition columns.

    Raises:
        WrittenFilesMissing: a file is missing, or its size is not the size that its task reported.
    """
    new = []
    for file in reported:
        path, size = file["path"], file["size"]
        if sink.store.size(f"{sink.folder}/{path}") != size:
            raise WrittenFilesMissing(sink.folder, path)
        values = sink.parts[file["part"]]
        partition = {name: str(values[name]) for name in partitioned_by}
        new.append(NewFile(path, partition, file["rows"], size, file["statistics"]))
    return new


def _check_columns(schema: StructType, written: StructType) -> None:
    existing = {field.name: field for field in schema}
    for field in written:
        column = existing.get(field.name)
        if column is None or column.dataType != field.dataType:
            raise NotEligible(f"column {field.name!r} is missing or has another type in the table")
        if (field.nullable and not column.nullable) or column.metadata:
            raise NotEligible(f"column {field.name!r} has a constraint or metadata in the table")
        if not is_writable(column.dataType):
            raise NotEligible(f"column {field.name!r} is {column.dataType.simpleString()}")
    if len(existing) != len(written.fields):
        raise NotEligible("the table has more columns")


def _output_column(
    field: StructField,
    places: Mapping[str, Place],
    constants: Mapping[str, Any],
    bounded: frozenset[str],
) -> executor.OutputColumn:
    place = places.get(field.name)
    if place is None and field.name not in constants:
        raise NotEligible(f"column {field.name!r} has no values")
    return executor.OutputColumn(
        name=field.name,
        kind=arrow_type(field.dataType),
        position=place.position if place is not None else None,
        child=place.child if place is not None else None,
        decided=place.decided if place is not None else None,
        bounded=field.name in bounded,
    )


def _bounded_columns(properties: Mapping[str, str], schema: StructType) -> frozenset[str]:
    """Return the columns whose bounds readers can expect in the log, by the table's property.

    No column is returned if the property names an unknown column or one with nested values, because
    some readers take the bounds of one part for the bounds of all.
    """
    listing = properties.get("delta.dataSkippingStatsColumns", "")
    columns = {field.name.lower(): field.name for field in schema}
    parsed = [
        (quoted.replace("``", "`") or bare).strip() for quoted, bare in _NAME.findall(listing)
    ]
    names = {name.lower() for name in parsed if name}
    if not columns.keys() >= names or not all(
        is_plain(schema[columns[name]].dataType) for name in names
    ):
        return frozenset()
    return frozenset(columns[name] for name in names)
