"""Committing: a commit on top of the version of a log, unless another write came first."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from lakescore.logs.errors import AnotherRunWon
from lakescore.logs.history import MADE, changes
from lakescore.logs.opening import open_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakescore.logs.files import NewFile
    from lakescore.logs.log import Log

_MOST_TRIES = 100
"""How often a commit is tried if other commits come first."""
_CHECKPOINT_EVERY = 10
"""Delta's default interval, in commits."""
_COMMIT_NAME = "lakescoreCommit"
"""The key that names a commit of lakescore, to find the commit if the answer to it was lost."""


def commit(  # noqa: PLR0913 - all but the first three by name
    log: Log,
    files: Sequence[NewFile],
    where: Mapping[str, Sequence[str]],
    *,
    append: bool,
    metadata: str,
    what: str,
) -> int:
    """Add *files* in one commit as `Log.commit` does."""
    newest, name = log, uuid.uuid4().hex
    for _ in range(_MOST_TRIES):
        try:
            return _commit(newest, files, where, append=append, metadata=metadata, name=name)
        except _delta_error() as error:
            newest = _reopen(log, newest.version)
            if (made := _find_commit(newest, name, log.version)) is not None:
                return made  # the commit succeeded, but its answer was lost
            if newest.version == log.version:
                raise
            if not _is_untouched(log, newest, where):
                raise AnotherRunWon(log.address, what) from error
    raise AnotherRunWon(log.address, what)


def _reopen(log: Log, base: int) -> Log:
    """Return the newest log, after a commit on top of the version *base* was refused.

    An object store can refuse to make a file that exists but is not visible yet.
    """
    for seconds in (0.1, 0.3, 1.0, 3.0, 0.0):
        newest = log.reopen()
        if newest.version > base or log.folder.is_local:
            break
        time.sleep(seconds)
    return newest


def renew(  # noqa: PLR0913 - all but the first five by name
    log: Log,
    files: Sequence[NewFile],
    schema: Mapping[str, Any],
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    *,
    metadata: str,
    what: str,
) -> int:
    """Give the empty table other columns, and add *files* to it, as `Log.renew` does."""
    from deltalake import Schema  # noqa: PLC0415 - not needed for --help

    changed = set_properties(log, properties, what=what)
    new_form = (Schema.from_json(json.dumps(schema)), list(partition_by))
    name = uuid.uuid4().hex
    with _refuse_conflicts(changed, what):
        return _commit(
            changed, files, {}, append=False, metadata=metadata, name=name, new_form=new_form
        )


def set_properties(log: Log, properties: Mapping[str, str], *, what: str) -> Log:
    """Set *properties* of the table as `Log.set_properties` does."""
    from deltalake import CommitProperties  # noqa: PLC0415 - not needed for --help

    metadata = {"userMetadata": json.dumps(MADE), "operationMetrics": {"numOutputRows": "0"}}
    with _refuse_conflicts(log, what):
        # An object of its own: delta-rs moves it to the new version.
        table, _links = open_table(log.folder, log.address, log.version)
        table.alter.set_table_properties(
            dict(properties),
            commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=0),
        )
    return log.reopen(log.version + 1)


@contextmanager
def _refuse_conflicts(log: Log, what: str) -> Iterator[None]:
    try:
        yield
    except _delta_error() as error:
        if log.reopen().version == log.version:
            raise
        raise AnotherRunWon(log.address, what) from error


def _commit(  # noqa: PLR0913 - all but the first three by name
    log: Log,
    files: Sequence[NewFile],
    where: Mapping[str, Sequence[str]],
    *,
    append: bool,
    metadata: str,
    name: str,
    new_form: tuple[Any, list[str]] | None = None,
) -> int:
    from deltalake import CommitProperties  # noqa: PLC0415 - not needed for --help
    from deltalake.transaction import (  # noqa: PLC0415
        AddAction,
        PostCommitHookProperties,
        RemoveAction,
    )

    now = int(time.time() * 1000)
    added: list[AddAction | RemoveAction] = [
        AddAction(f.path, f.size, f.partition, now, True, f.statistics)  # noqa: FBT003 - the signature of delta-rs
        for f in files
    ]
    counts = {
        "numFiles": len(files),
        "numOutputRows": sum(file.rows for file in files),
        "numOutputBytes": sum(file.size for file in files),
    }
    commit_info = {
        "userMetadata": metadata,
        "operationMetrics": {key: str(count) for key, count in counts.items()},
        "isBlindAppend": False,
        _COMMIT_NAME: name,
    }
    schema, partition_by = new_form or (log.table.schema(), list(log.partitioned_by))
    filters = [(column, "in", list(values)) for column, values in where.items()]
    log.table.create_write_transaction(
        added,
        "append" if append else "overwrite",
        schema,
        partition_by=partition_by,
        partition_filters=None if append or new_form else filters,
        # With retries, delta-rs would accept a concurrent append to a replaced partition.
        commit_properties=CommitProperties(custom_metadata=commit_info, max_commit_retries=0),
        # Failures of steps after the commit must not make the commit look failed.
        post_commithook_properties=PostCommitHookProperties(
            create_checkpoint=False, cleanup_expired_logs=False
        ),
    )
    version = log.version + 1
    interval = int(log.properties.get("delta.checkpointInterval", _CHECKPOINT_EVERY))
    if version % max(1, interval) == 0:
        with suppress(Exception):  # readers work without a checkpoint
            table, _links = open_table(log.folder, log.address, version)
            table.create_checkpoint()
    return version


def _find_commit(log: Log, name: str, after: int) -> int | None:
    for commit in log.history():
        if commit.get(_COMMIT_NAME) == name and int(commit["version"]) > after:
            return int(commit["version"])
    return None


def _is_untouched(log: Log, newer: Log, where: Mapping[str, Sequence[str]]) -> bool:
    """Return whether no commit up to *newer* changed rows that match, or the table's form."""
    facts = ("table_id", "schema", "partitioned_by", "properties")
    features = ("reader_features", "writer_features")
    if any(getattr(log, name) != getattr(newer, name) for name in (*facts, *features)):
        return False
    since = changes(log.folder, log.version, newer.version)
    return since is not None and not any(
        all(change.partition.get(column) in values for column, values in where.items())
        for change in since
    )


def _delta_error() -> type[Exception]:
    from deltalake.exceptions import DeltaError  # noqa: PLC0415 - not needed for --help

    return DeltaError
