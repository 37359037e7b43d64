"""Delta at the edges: read one snapshot, replace one slice in one commit, append.

An address is a table's name (`schema.table`) or an absolute path or URI, which alone holds a `/`.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
    MetadataChangedException,
    ProtocolChangedException,
)
from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DateType, NumericType, StringType, TimestampType

from lakescore.errors import (
    AnotherRunWon,
    NotADeltaTable,
    SchemaDrift,
    SnapshotNotFound,
    TableNotFound,
    listed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from pyspark.sql import DataFrame, DataFrameWriter, SparkSession

_CONFLICTS = (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
    MetadataChangedException,  # two runs made the table at once
    ProtocolChangedException,
)
_SKIPPABLE = (DateType, NumericType, StringType, TimestampType)
"""The types of which Delta keeps the smallest and largest values."""
_COMMITS_SINCE = 50
"""How many commits of others may come between ours and its reading back."""


@dataclass(frozen=True)
class Snapshot:
    """A Delta table at one version."""

    address: str
    version: int
    committed_at: datetime
    """When the version was committed: another table that takes the address has another time."""
    rows: DataFrame


def snapshot(spark: SparkSession, address: str, version: int | None = None) -> Snapshot:
    """Pin the table at *address* to *version*, or to its latest one.

    Raises:
        TableNotFound, NotADeltaTable: there is no table, or not a Delta table.
        SnapshotNotFound: the table has no such version.
    """
    table = _delta_table(spark, address)
    commits = table.history(1 if version is None else None).select("version", "timestamp").collect()
    found = [row for row in commits if version in (None, row["version"])]
    newest = max(row["version"] for row in commits)
    if not found:
        raise SnapshotNotFound(address, version, newest)
    pinned, committed_at = found[0]
    reader = spark.read.format("delta").option("versionAsOf", pinned)
    try:
        rows = reader.load(address) if "/" in address else reader.table(address)
    except AnalysisException as error:  # that version's files were cleaned up
        raise SnapshotNotFound(address, pinned, newest) from error
    return Snapshot(address, pinned, committed_at, rows)


def exists(spark: SparkSession, address: str) -> bool:
    """Tell whether there is a Delta table at *address*.

    Raises:
        NotADeltaTable: there is something else.
    """
    try:
        _delta_table(spark, address)
    except TableNotFound:
        return False
    return True


def replace(
    rows: DataFrame,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
    find_by: Sequence[str] = (),
) -> int:
    """Replace the rows of the table for which *where* holds by *rows*; return the commit's version.

    The table is made when it does not exist, partitioned by *where*'s columns. All of *rows* must
    satisfy *where* (Delta refuses others). Committing twice is harmless, so Delta's transaction
    ids, which skip silently what they take for a repetition, are not used.

    Args:
        rows: what the table shall hold there.
        address: the table.
        where: columns and the values that they may have: typed, since a raw predicate such as
            `slice = 'a' or 1 = 1` would replace the whole table.
        metadata: the commit's `userMetadata`, as JSON; no two commits may have the same.
        find_by: the columns that rows will be looked for by. A new table keeps the smallest and
            largest values of these alone for each file: they cost more than the writing itself.

    Raises:
        AnotherRunWon: another write to the same rows came first; nothing was written.
        SchemaDrift: the table has other columns; nothing was written.
    """
    spark = rows.sparkSession
    text = json.dumps(metadata, default=str)
    what = listed(value for values in where.values() for value in values)
    predicate = " AND ".join(
        f"`{column}` IN ({', '.join(map(_literal, values))})" for column, values in where.items()
    )
    writer = (
        rows.write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", predicate)
        .option("userMetadata", text)
    )
    with _explained(address, what):
        _save(writer if exists(spark, address) else _new(writer, rows, where, find_by), address)
    return _committed(spark, address, text, what)


def _new(
    writer: DataFrameWriter, rows: DataFrame, by: Iterable[str], find_by: Sequence[str]
) -> DataFrameWriter:
    skippable = [name for name in find_by if isinstance(rows.schema[name].dataType, _SKIPPABLE)]
    if skippable:
        quoted = ",".join(f"`{name}`" for name in skippable)
        writer = writer.option("delta.dataSkippingStatsColumns", quoted)
    return writer.partitionBy(*by)


def commits(spark: SparkSession, address: str) -> DataFrame:
    """Return `version` and `userMetadata` of the table's commits that its log still holds."""
    return _delta_table(spark, address).history().select("version", "userMetadata")


def _delta_table(spark: SparkSession, address: str) -> DeltaTable:
    if "/" in address:
        if DeltaTable.isDeltaTable(spark, address):
            return DeltaTable.forPath(spark, address)
        raise NotADeltaTable(address) if _holds_files(spark, address) else TableNotFound(address)
    if not spark.catalog.tableExists(address):
        raise TableNotFound(address)
    try:
        return DeltaTable.forName(spark, address)
    except AnalysisException as error:
        raise NotADeltaTable(address) from error


def _holds_files(spark: SparkSession, path: str) -> bool:
    try:
        found = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(path)
        return found.select("path").head() is not None
    except AnalysisException:
        return False


def _literal(text: str) -> str:
    """Return *text* as a literal of Spark SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _save(writer: DataFrameWriter, address: str) -> None:
    if "/" in address:
        writer.save(address)
    else:
        writer.saveAsTable(address)


def _committed(spark: SparkSession, address: str, metadata: str, what: str) -> int:
    """Read the commit back: no error from a write does not mean that it was written."""
    history = _delta_table(spark, address).history(_COMMITS_SINCE)
    found = history.where(F.col("userMetadata") == metadata).select("version").head()
    if found is None:
        raise AnotherRunWon(address, what)
    return int(found[0])


@contextmanager
def _explained(address: str, what: str) -> Iterator[None]:
    try:
        yield
    except _CONFLICTS as error:
        raise AnotherRunWon(address, what) from error
    except AnalysisException as error:
        if "already exists" in str(error):
            raise AnotherRunWon(address, what) from error
        raise SchemaDrift(address, str(error).splitlines()[0]) from error
