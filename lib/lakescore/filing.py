"""Filing: whether workers may write the files of a table, and what is in them.

Where a table is plain enough, rows never cross the JVM's writer, which costs several times what
scoring does for a cheap model: a task writes a Parquet file, and says what it wrote. A commit then
has these files and no others, so that a task which is tried again, or twice at once, leaves a file
behind, and never rows. What is not understood here is declined: then Spark writes, as it always
can.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakescore import executor
from lakescore.arrow import arrow_type, is_plain, is_writable
from lakescore.errors import WrittenFilesMissing
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
"""One of a list of columns, in back-ticks or without."""


@dataclass(frozen=True)
class Form:
    """What a table is when files are committed to it."""

    schema: StructType
    properties: Mapping[str, str]
    partitioned_by: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where the values of a column are in the rows that workers write."""

    position: int
    child: int | None = None
    """The field, where that column is a struct."""
    decided: executor.Decided | None = None
    """What its values are made into."""


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
    """Return where and how workers write rows.

    Args:
        runner: its settings say how Spark would write.
        log: of the table.
        form: the table's when the files are committed.
        written: the columns that it gets.
        places: where the rows hold them.
        parts: by the text that tells parts apart, the values that all rows of one have besides:
            those of the columns that divide the table, and of columns that have no place.
        by: the position of that text; without, there is one part.

    Raises:
        NotEligible: it would not be exactly what Spark writes, or this cannot be told.
    """
    log.check_writable()
    _check_columns(form.schema, written)
    compression = runner.setting("spark.sql.parquet.compression.codec", "snappy") or ""
    if compression not in _COMPRESSIONS:
        raise NotEligible(f"Spark writes {compression} files")
    if runner.setting("spark.sql.files.maxRecordsPerFile", "0") != "0":
        raise NotEligible("Spark shall divide the files by spark.sql.files.maxRecordsPerFile")
    promised = _promised(form.properties, form.schema)
    constants = next(iter(parts.values()))
    return executor.Sink(
        folder=log.folder.path,
        columns=tuple(
            _filed(field, places, constants, promised)
            for field in written
            if field.name not in form.partitioned_by
        ),
        parts=parts,
        by=by,
        compression=_COMPRESSIONS[compression],
        store=log.folder.store,
    )


def files(
    found: Iterable[Mapping[str, Any]], sink: executor.Sink, partitioned_by: Sequence[str]
) -> list[NewFile]:
    """Return the files that tasks said they wrote, for a table that these columns divide.

    Raises:
        WrittenFilesMissing: one is not there, or is not what its task wrote.
    """
    new = []
    for file in found:
        path, size = file["path"], file["size"]
        if sink.store.size(f"{sink.folder}/{path}") != size:
            raise WrittenFilesMissing(sink.folder, path)
        values = sink.parts[file["part"]]
        partition = {name: str(values[name]) for name in partitioned_by}
        new.append(NewFile(path, partition, file["rows"], size, file["statistics"]))
    return new


def _check_columns(schema: StructType, written: StructType) -> None:
    there = {field.name: field for field in schema}
    for field in written:
        own = there.get(field.name)
        if own is None or own.dataType != field.dataType:
            raise NotEligible(f"column {field.name!r} is another in the table")
        if (field.nullable and not own.nullable) or own.metadata:
            raise NotEligible(f"column {field.name!r} has a rule of its own in the table")
        if not is_writable(own.dataType):
            raise NotEligible(f"column {field.name!r} is {own.dataType.simpleString()}")
    if len(there) != len(written.fields):
        raise NotEligible("the table has further columns")


def _filed(
    field: StructField,
    places: Mapping[str, Place],
    constants: Mapping[str, Any],
    promised: frozenset[str],
) -> executor.OutputColumn:
    place = places.get(field.name)
    if place is None and field.name not in constants:
        raise NotEligible(f"nothing gives column {field.name!r}")
    return executor.OutputColumn(
        name=field.name,
        kind=arrow_type(field.dataType),
        position=place.position if place is not None else None,
        child=place.child if place is not None else None,
        decided=place.decided if place is not None else None,
        bounded=field.name in promised,
    )


def _promised(properties: Mapping[str, str], schema: StructType) -> frozenset[str]:
    """Return the columns whose bounds readers may expect in the log, by the table's property.

    None where it names something else, or what holds values within: some readers take bounds of a
    part for bounds of all.
    """
    asked = properties.get("delta.dataSkippingStatsColumns", "")
    plain = {field.name.lower(): field.name for field in schema}
    found = [(quoted.replace("``", "`") or bare).strip() for quoted, bare in _NAME.findall(asked)]
    names = {name.lower() for name in found if name}
    if not plain.keys() >= names or not all(is_plain(schema[plain[n]].dataType) for n in names):
        return frozenset()
    return frozenset(plain[name] for name in names)
