"""Reading: one snapshot of a table, and the facts of its commits."""

from __future__ import annotations

import dataclasses
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException

from lakescore import logs
from lakescore.errors import LakescoreError
from lakescore.logs import Log, NotEligible
from lakescore.runner import FAILURES, Runner
from lakescore.snapshots import Snapshot, SnapshotNotFound
from lakescore.storage import folder
from lakescore.tables.failures import explain_storage_errors
from lakescore.tables.lookup import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakescore.logs import FileChange

_READ_ERRORS: tuple[type[Exception], ...] = (
    LakescoreError,
    NotEligible,
    OSError,
    ValueError,
    *FAILURES,
)
"""The errors of a look at a log, of delta-rs, of a store or of Spark."""


def snapshot(spark: SparkSession | Runner, address: str, version: int | None = None) -> Snapshot:
    """Pin the table at *address* to *version*, or to its latest version.

    Raises:
        TableNotFound, NotADeltaTable: the address has no table, or something that is not a Delta
            table.
        SnapshotNotFound: the table has no such version.
    """
    runner = Runner.of(spark)
    table = Table.at(runner, address)
    pinned = table.version if version is None else version

    def read() -> DataFrame:
        session = runner.start_delta(f"Spark reads rows of {address}")
        reader = session.read.format("delta").option("versionAsOf", pinned)
        try:
            with explain_storage_errors(address):
                rows = reader.load(address) if "/" in address else reader.table(address)
                _ = rows.schema  # a client of Spark Connect does not read the table before this
        except AnalysisException as error:  # VACUUM removed the files of that version
            raise SnapshotNotFound(address, pinned, table.version) from error
        return rows

    known, not_eligible = table.known, table.not_eligible
    if known is not None and pinned > known.version:
        raise SnapshotNotFound(address, pinned, known.version)
    if known is not None and pinned != known.version:
        try:
            known = Log(table.location, pinned, runner.setting)
        except (NotEligible, FileNotFoundError) as error:
            known, not_eligible = None, str(error)
    pinned_table = Snapshot(address, pinned, table.table_id, runner, read, known, not_eligible)
    if known is None:
        runner.start_delta(not_eligible)
        _ = pinned_table.rows  # only Spark knows whether the version exists
    return pinned_table


def partitioned_by(spark: SparkSession | Runner, address: str) -> list[str]:
    """Return the partition columns of the table."""
    return list(Table.at(Runner.of(spark), address).partitioned_by)


def is_published(spark: SparkSession | Runner, address: str) -> bool:
    """Return whether anything was published to the table at *address*."""
    return Table.at(Runner.of(spark), address).is_published()


def commits(spark: SparkSession | Runner, address: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the versions of commits with their metadata in `userMetadata`, the newest first.

    Only commits that the log still has. Other writers can put anything into `userMetadata`; commits
    without a JSON object there are left out.
    """
    table = Table.at(Runner.of(spark), address)
    if table.known is not None:
        return table.known.commits()
    rows = [(int(row["version"]), logs.said(row["userMetadata"])) for row in table.commits()]
    versions = [(version, metadata) for version, metadata in rows if metadata is not None]
    return sorted(versions, key=itemgetter(0), reverse=True)


def file_changes(source: Snapshot, after: int) -> list[FileChange] | None:
    """Return the files that were added or removed after the version *after*, up to *source*'s.

    The result is None if the log no longer has these commits.
    """
    return changes(Table.at(source.runner, source.address), after, source.version)


def changes(table: Table, after: int, last: int | None = None) -> list[FileChange] | None:
    """Return changes as `file_changes` does, with the columns' names in the table."""
    place = folder(table.location, table.runner.setting)
    if place is None:
        return None
    stored_changes = logs.changes(place, after, table.version if last is None else last)
    if stored_changes is None:
        return None
    stored = {field.metadata.get(logs.STORED, field.name): field.name for field in table.schema}
    return [
        dataclasses.replace(
            change,
            partition={stored.get(name, name): value for name, value in change.partition.items()},
        )
        for change in stored_changes
    ]


def added(runner: Runner, address: str, version: int) -> dict[str, int]:
    """Return `files_written` and `bytes_written` of a commit; nothing if they are not known.

    The commit's rows are published, so an error while the log is read must not fail the job.
    """
    try:
        commit_changes = changes(Table.at(runner, address), version - 1, version)
    except _READ_ERRORS:
        return {}
    if commit_changes is None:
        return {}
    # A file that only got a deletion vector is removed and added again under its name.
    removed = {change.name for change in commit_changes if not change.added}
    sizes = [
        change.size for change in commit_changes if change.added and change.name not in removed
    ]
    return {"bytes_written": sum(sizes), "files_written": len(sizes)}
