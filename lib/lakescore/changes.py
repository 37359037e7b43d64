"""Changes: which slices of a table were touched since a version of it."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import scanning, tables
from lakescore.classic import FAILURES
from lakescore.errors import RunnerRefused, SnapshotNotFound
from lakescore.logs import NotEligible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lakescore.logs import FileChange
    from lakescore.snapshots import Snapshot

_MOST_VERSIONS_READ = 50
"""Of more commits that took files away, reading what these held costs more than scoring."""
_MOST_FILES_READ = 10_000


def last_changed(source: Snapshot, column: str | None, since: int) -> dict[str, int] | None:
    """Return, by slice, the last version after *since* that added or removed rows of it.

    Compaction changes no row, and does not count. A slice may be named whose rows did not change,
    where a file that was rewritten holds it too; none is left out.

    Args:
        source: the table as it is to be scored.
        column: what divides it into slices; without one, the whole is the slice `""`.
        since: an older version, or the same.

    Returns:
        None where it cannot be told: the log, or files that were removed, are gone.
    """
    found = tables.file_changes(source, since)
    if found is None or column is None:
        return None if found is None else _latest([("", each.version) for each in found])
    kind = source.schema[column].dataType
    if all(column in each.partition for each in found):
        with suppress(NotEligible):
            return _latest(
                [
                    (scanning.partition_name(each.partition[column], kind), each.version)
                    for each in found
                ]
            )
    try:
        return _latest(_read(source, column, found))
    except (_TooMuch, SnapshotNotFound, RunnerRefused):
        return None
    except FAILURES:
        return None


class _TooMuch(Exception):
    """So many files that looking costs more than scoring."""


def _read(source: Snapshot, column: str, found: Iterable[FileChange]) -> list[tuple[str, int]]:
    """Read which slices the files hold: those added now, those removed just before they went."""
    removed: dict[int, list[FileChange]] = defaultdict(list)
    for each in found:
        if not each.added:
            removed[each.version].append(each)
    gone = {each.name for files in removed.values() for each in files}
    added = [each for each in found if each.added and each.name not in gone]
    if len(removed) > _MOST_VERSIONS_READ or len(added) + len(gone) > _MOST_FILES_READ:
        raise _TooMuch
    pairs = _slices(source, column, added)
    for version, files in removed.items():
        before = tables.snapshot(source.runner, source.address, version - 1)
        pairs += _slices(before, column, files)
    return pairs


def _slices(table: Snapshot, column: str, files: list[FileChange]) -> list[tuple[str, int]]:
    versions = {each.name: each.version for each in files}
    if not versions:
        return []
    try:
        held = scanning.held(table, column, versions)
    except NotEligible as not_eligible:
        table.runner.start(str(not_eligible))
    else:
        return [(value, versions[name]) for name, values in held.items() for value in values]
    rows = table.rows
    name = F.substring_index(F.col("_metadata.file_path"), "/", -1)
    named = rows.select(name.alias("file"), F.col(f"`{column}`").cast("string").alias("slice"))
    chosen = named.where(F.col("file").isin(list(versions))).distinct().dropna()
    return [(row["slice"], versions[row["file"]]) for row in chosen.collect()]


def _latest(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    latest: dict[str, int] = {}
    for name, version in pairs:
        latest[name] = max(version, latest.get(name, version))
    return latest
