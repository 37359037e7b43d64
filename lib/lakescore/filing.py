"""Filing: whether workers may write the files of predictions themselves, and what is in them.

Where the table is plain enough, predictions never cross the JVM, whose writer costs several times
what scoring does for a cheap model: a task writes a Parquet file, and says what it wrote. The
transaction then has these files and no others, so that a task which is tried again, or twice at
once, leaves a file behind, and never rows. What is not understood here is declined: then Spark
writes, as it always can.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pyspark.sql.types import TimestampNTZType

from lakescore import executor
from lakescore.errors import FilesUnseen, listed
from lakescore.scanning import Declined, arrow_type, is_plain, local
from lakescore.tables import NewFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyspark.sql import Row
    from pyspark.sql.types import StructField, StructType

    from lakescore.scoring import Plan
    from lakescore.tables import Layout

WriteName = Literal["direct", "spark"]
_FEATURES = frozenset(
    {"appendOnly", "deletionVectors", "invariants", "v2Checkpoint", "vacuumProtocolCheck"}
)
"""Features of Delta's protocol that ask nothing of a writer of new files, as they are used here:
without columns that have a rule of their own."""
_PROPERTIES = frozenset(
    {
        "delta.checkpointInterval",
        "delta.checkpointPolicy",
        "delta.dataSkippingNumIndexedCols",
        "delta.dataSkippingStatsColumns",
        "delta.deletedFileRetentionDuration",
        "delta.enableDeletionVectors",
        "delta.logRetentionDuration",
        "delta.minReaderVersion",
        "delta.minWriterVersion",
    }
)
"""Properties of a table that ask nothing of a file, or what is done here."""
_COMPRESSIONS = {
    "gzip": "gzip",
    "none": "none",
    "snappy": "snappy",
    "uncompressed": "none",
    "zstd": "zstd",
}
_NAME = re.compile(r"`((?:[^`]|``)+)`|([^`,]+)")
"""One of a list of columns, in back-ticks or without."""
_FEW_FILES = 8
_FEWEST_ROWS_A_FILE = 50_000
"""Each task would write a file for each slice: of smaller ones Spark had better make fewer."""


def sink(  # noqa: PLR0913, PLR0917 - each is a fact of its own
    asked: WriteName,
    planned: Plan,
    layout: Layout,
    written: StructType,
    constants: Mapping[str, Mapping[str, Any]],
    rows: int,
) -> executor.Sink:
    """Return where and how workers write the rows of *planned*.

    Args:
        asked: `direct` lets workers write where that is exactly what Spark writes.
        planned: what is scored.
        layout: the table of predictions.
        written: the columns that it gets.
        constants: the values that rows carry besides their own, by slice and column.
        rows: how many there are.

    Raises:
        Declined: it would not be exactly what Spark writes, or this cannot be told.
    """
    if asked != "direct":
        raise Declined("asked for")
    if planned.engine != "arrow":
        raise Declined(f"the engine is {planned.engine}")
    if planned.contracts[0].decision is not None:
        raise Declined("Spark makes the decision column")
    if len(constants) > 1:
        _check_sizes(planned, len(constants), rows)
    _check(layout, written)
    setting = planned.rows.sparkSession.conf.get
    compression = setting("spark.sql.parquet.compression.codec") or ""
    if compression not in _COMPRESSIONS:
        raise Declined(f"Spark writes {compression} files")
    if setting("spark.sql.files.maxRecordsPerFile") != "0":
        raise Declined("Spark shall divide the files by spark.sql.files.maxRecordsPerFile")
    positions = {name: n for n, name in enumerate(planned.carried)}
    promised = _promised(layout)
    return executor.Sink(
        folder=local(layout.folder),
        columns=tuple(
            _filed(planned, field, positions, next(iter(constants.values())), promised)
            for field in written
            if field.name not in layout.partitioned_by
        ),
        parts=constants,
        by=planned.slice_at if len(constants) > 1 else None,
        compression=_COMPRESSIONS[compression],
    )


def files(
    found: Iterable[Row],
    folder: str,
    partitioned_by: Sequence[str],
    constants: Mapping[str, Mapping[str, Any]],
) -> list[NewFile]:
    """Return the files that tasks said they wrote into *folder*.

    Raises:
        FilesUnseen: one is not there, or is not what its task wrote.
    """
    new = []
    for file in found:
        path = Path(folder, file.path)
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            raise FilesUnseen(folder, file.path)
        values = constants[file.part]
        partition = {name: str(values[name]) for name in partitioned_by}
        new.append(NewFile(file.path, partition, file.rows, file.size, file.statistics))
    return new


def _check_sizes(planned: Plan, slices: int, rows: int) -> None:
    if planned.slice_at is None:
        raise Declined("nothing in the rows names their slice")
    files = planned.tasks * slices
    if files > _FEW_FILES and rows < _FEWEST_ROWS_A_FILE * files:
        raise Declined(f"{planned.tasks} tasks would write small files of {slices} slices")


def _check(layout: Layout, written: StructType) -> None:
    unknown = sorted(layout.features - _FEATURES)
    unknown += sorted(set(layout.properties) - _PROPERTIES)
    if unknown:
        raise Declined(f"the table uses {listed(unknown)}")
    there = {field.name: field for field in layout.schema}
    for field in written:
        own = there.get(field.name)
        if own is None or own.dataType != field.dataType:
            raise Declined(f"column {field.name!r} is another in the table")
        if (field.nullable and not own.nullable) or own.metadata:
            raise Declined(f"column {field.name!r} has a rule of its own in the table")
        if not is_plain(own.dataType) or isinstance(own.dataType, TimestampNTZType):
            raise Declined(f"column {field.name!r} is {own.dataType.simpleString()}")
    if len(there) != len(written.fields):
        raise Declined("the table has further columns")


def _filed(
    planned: Plan,
    field: StructField,
    positions: Mapping[str, int],
    constants: Mapping[str, Any],
    promised: frozenset[str],
) -> executor.Filed:
    outputs = planned.contracts[0].outputs.names
    position, child = positions.get(field.name), None
    if field.name in constants:
        position = None
    elif field.name in outputs:
        position = len(positions)
        child = outputs.index(field.name) if len(outputs) > 1 else None
    elif position is None:
        raise Declined(f"nothing gives column {field.name!r}")
    return executor.Filed(
        name=field.name,
        kind=arrow_type(field.dataType),
        position=position,
        child=child,
        bounded=field.name in promised,
    )


def _promised(layout: Layout) -> frozenset[str]:
    """Return the columns whose bounds readers may expect in the log, by the table's property.

    None where it names something else: some readers take bounds of a part for bounds of all.
    """
    asked = layout.properties.get("delta.dataSkippingStatsColumns", "")
    plain = {field.name.lower(): field.name for field in layout.schema}
    found = [(quoted.replace("``", "`") or bare).strip() for quoted, bare in _NAME.findall(asked)]
    names = {name.lower() for name in found if name}
    if not plain.keys() >= names:
        return frozenset()
    return frozenset(plain[name] for name in names)
