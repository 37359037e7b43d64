"""Changes: which slices of a table changed since one of its versions."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import scanning, tables
from lakescore.classic import FAILURES
from lakescore.logs import NotEligible
from lakescore.runner import RunnerRefused
from lakescore.snapshots import SnapshotNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lakescore.logs import FileChange
    from lakescore.snapshots import Snapshot

_MOST_VERSIONS_READ = 50
"""If more commits removed files, reading the removed files costs more than scoring."""
_MOST_FILES_READ = 10_000


def last_changed(source: Snapshot, column: str | None, since: int) -> dict[str, int] | None:
    """Return, by slice, the last version after *since* that added or removed rows of the slice.

    Compaction changes no row and does not count. The result contains every changed slice. It can
    also contain an unchanged slice, if a rewritten file holds rows of that slice too.

    Args:
        source: the snapshot that the job scores.
        column: the column that divides the table into slices. Without a column, the table is one
            slice, `""`.
        since: an older version, or the same.

    Returns:
        The versions by slice; None if the log or removed files no longer exist.
    """
    files = tables.file_changes(source, since)
    if files is None or column is None:
        return None if files is None else _latest_versions([("", file.version) for file in files])
    kind = source.schema[column].dataType
    if all(column in file.partition for file in files):
        with suppress(NotEligible):
            return _latest_versions(
                [
                    (scanning.partition_name(file.partition[column], kind), file.version)
                    for file in files
                ]
            )
    try:
        return _latest_versions(_read_slices(source, column, files))
    except (_TooManyFiles, SnapshotNotFound, RunnerRefused):
        return None
    except FAILURES:
        return None


class _TooManyFiles(Exception):
    """Reading so many files costs more than scoring."""


def _read_slices(
    source: Snapshot, column: str, changed: Iterable[FileChange]
) -> list[tuple[str, int]]:
    """Return the slices that added and removed files hold, with the versions of the changes.

    Removed files are read at the version before their removal.
    """
    removed: dict[int, list[FileChange]] = defaultdict(list)
    for file in changed:
        if not file.added:
            removed[file.version].append(file)
    gone = {file.name for files in removed.values() for file in files}
    added = [file for file in changed if file.added and file.name not in gone]
    if len(removed) > _MOST_VERSIONS_READ or len(added) + len(gone) > _MOST_FILES_READ:
        raise _TooManyFiles
    pairs = _slice_versions(source, column, added)
    for version, files in removed.items():
        before = tables.snapshot(source.runner, source.address, version - 1)
        pairs += _slice_versions(before, column, files)
    return pairs


def _slice_versions(table: Snapshot, column: str, files: list[FileChange]) -> list[tuple[str, int]]:
    versions = {file.name: file.version for file in files}
    if not versions:
        return []
    try:
        slices = scanning.held(table, column, versions)
    except NotEligible as not_eligible:
        table.runner.start(str(not_eligible))
    else:
        return [(value, versions[name]) for name, values in slices.items() for value in values]
    rows = table.rows
    name = F.substring_index(F.col("_metadata.file_path"), "/", -1)
    named = rows.select(name.alias("file"), F.col(f"`{column}`").cast("string").alias("slice"))
    chosen = named.where(F.col("file").isin(list(versions))).distinct().dropna()
    return [(row["slice"], versions[row["file"]]) for row in chosen.collect()]


def _latest_versions(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    latest: dict[str, int] = {}
    for name, version in pairs:
        latest[name] = max(version, latest.get(name, version))
    return latest
