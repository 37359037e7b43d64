"""Logs: read the log of a Delta table, and commit to it, with delta-rs and without Spark.

This module declines every table that delta-rs does not read or write exactly as Spark does; then
Spark reads or writes it.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakescore.errors import ConflictError
from lakescore.storage import explain_error, folder
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deltalake import DeltaTable
    from pyarrow.dataset import Dataset

    from lakescore.storage import Folder, Setting

MADE = {"lakescore": "made this table, for a run that has not published yet"}
"""The commit metadata of the commit that makes a table."""
STORED = "delta.columnMapping.physicalName"
_READS = frozenset(
    {
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)
"""Features of Delta's protocol that are read here as Spark reads them."""
_WRITES = frozenset(
    {"appendOnly", "deletionVectors", "invariants", "v2Checkpoint", "vacuumProtocolCheck"}
)
"""Features that demand nothing of a writer of new files, because no column here has an invariant or
another constraint."""
_OLD_PROTOCOL = 2
"""A version of the writer protocol; newer versions without named features demand more."""
_NAMED_PROTOCOL = 7
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
"""Properties of a table that demand nothing of a new file, or only things that are done here."""
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_MOST_TRIES = 100
"""How often a commit is tried if other commits come first."""
_CHECKPOINT_EVERY = 10
"""Delta's default interval, in commits."""
_COMMIT_NAME = "lakescoreCommit"
"""The key that names a commit of lakescore, to find the commit if the answer to it was lost."""


class AnotherRunWon(ConflictError):
    """Another run wrote the same slice first."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__(
            f"another run wrote {what} of {address} while this run scored it; "
            "this run did not write it"
        )


class NotEligible(Exception):
    """The reason why Spark has to read or write."""


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


@dataclass(frozen=True)
class FileChange:
    """A file of a table that was added or removed by a commit that changed rows."""

    version: int
    """The version of the commit."""
    name: str
    """The file's name without folders; no other file of the table has it."""
    added: bool
    partition: Mapping[str, str | None]
    """The partition values of all its rows, as texts, by the columns' names in the files."""
    size: int
    """The file's size in bytes."""


class Log:
    """The log of a table at one version.

    Args:
        address: the table's folder or URI, as Spark takes it.
        version: the table's version; the default is the newest.
        setting: Spark's properties.

    Raises:
        NotEligible: only Spark reaches the table or reads its log.
        FileNotFoundError: the table or its version does not exist.
        StorageUnavailable, StorageRefused, BucketMissing: the object store raised an error.
    """

    def __init__(
        self, address: str, version: int | None = None, setting: Setting | None = None
    ) -> None:
        place = folder(address, setting)
        if place is None:
            scheme = address.partition(":")[0]
            raise NotEligible(f"only Spark reaches files on {scheme}:")
        self.address, self.folder, self._setting = address, place, setting
        self._links: TemporaryDirectory[str] | None = None
        self._table = _open_table(self, version)

    @property
    def version(self) -> int:
        """The table's version."""
        return int(self._table.version())

    @cached_property
    def metadata(self) -> Any:  # noqa: ANN401 - a class of delta-rs
        """Delta's metadata: id, partition_columns, configuration."""
        return self._table.metadata()

    @property
    def table_id(self) -> str:
        """Delta's id of the table; a new table at the same address has another id."""
        return str(self.metadata.id)

    @property
    def properties(self) -> dict[str, str]:
        """The table's properties."""
        return dict(self.metadata.configuration)

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The partition columns of the table."""
        return tuple(self.metadata.partition_columns)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The table's columns, as Delta and Spark write them in JSON."""
        return dict(json.loads(self._table.schema().to_json()))

    @cached_property
    def stored(self) -> dict[str, str]:
        """The name of each column in the files and the log."""
        return {f["name"]: f["metadata"].get(STORED, f["name"]) for f in self.schema["fields"]}

    @property
    def widens(self) -> bool:
        """Whether older files can have narrower types than the table has now."""
        return any("typeWidening" in feature for feature in self._features()[0])

    def _features(self) -> tuple[list[str], list[str]]:
        protocol = self._table.protocol()
        return list(protocol.reader_features or []), list(protocol.writer_features or [])

    def check_readable(self) -> None:
        """Check that files are read here as Spark reads them.

        Raises:
            NotEligible: the files could be read differently.
        """
        unknown = sorted(set(self._features()[0]) - _READS)
        if unknown:
            raise NotEligible(f"the table uses {listed(unknown)}")
        mode = self.properties.get("delta.columnMapping.mode", "none")
        if mode not in {"none", "name"}:
            raise NotEligible(f"the table maps its columns by {mode}")

    def check_writable(self) -> None:
        """Check that the table demands nothing of new files that is not done here.

        Raises:
            NotEligible: the table demands more.
        """
        protocol = self._table.protocol()
        unknown = sorted(set(self._features()[1]) - _WRITES)
        unknown += sorted(set(self.properties) - _PROPERTIES)
        if unknown:
            raise NotEligible(f"the table uses {listed(unknown)}")
        if _OLD_PROTOCOL < protocol.min_writer_version < _NAMED_PROTOCOL:
            raise NotEligible(f"the table's minWriterVersion is {protocol.min_writer_version}")

    def files(self, among: Mapping[str, Sequence[Any]] | None = None) -> list[File]:
        """Return the files that can have rows with one of the values *among*, for each column.

        Raises:
            NotEligible: the log has no row counts of these files, or delta-rs does not read the log
                as Spark does.
        """
        self.check_readable()
        actions = self._read_actions()
        mask = self._match_files(actions, among or {})
        chosen = actions.take(pa.array(np.flatnonzero(mask)))
        deleted = self._read_deleted() if chosen.num_rows else {}
        partitions = _column_values(chosen, "partition")
        columns = ("path", "size_bytes", "num_records")
        files = []
        for partition, path, size, rows in zip(
            partitions, *[_column_values(chosen, name) for name in columns], strict=True
        ):
            if rows is None:
                raise NotEligible("the log does not count the rows of each file")
            file_path = _file_path(path, self.folder)
            values = {name: v if v != "" else None for name, v in (partition or {}).items()}
            positions = deleted.get(file_path.rsplit("/", 1)[-1], _NONE)
            files.append(File(file_path, rows, size, values, positions))
        return files

    def _match_files(self, actions: pa.Table, among: Mapping[str, Sequence[Any]]) -> Any:  # noqa: ANN401 - numpy's
        """Return a mask of the files that can have a row with one of the values of each column."""
        mask = np.ones(actions.num_rows, bool)
        for column, values in among.items():
            if column in self.partitioned_by:
                partition_values = _column_values(actions, "partition", column)
                mask &= np.array([value in values for value in partition_values], bool)
                continue
            mask &= _match_bounds(actions, self.stored[column], values)
        return mask

    def _read_actions(self) -> pa.Table:
        with _decline_errors(self.address):
            return pa.table(self._table.get_add_actions(flatten=False))

    def _read_deleted(self) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
        """Return the positions of deleted rows, by the file's name."""
        if "deletionVectors" not in self._features()[0]:
            return {}
        deleted = {}
        with _decline_errors(self.address):
            for batch in self._table.deletion_vectors():
                rows = pa.record_batch(batch)
                for path, kept in zip(rows.column(0).to_pylist(), rows.column(1), strict=True):
                    mask = kept.values.to_numpy(zero_copy_only=False)
                    name = unquote(urlsplit(path).path).rsplit("/", 1)[-1]
                    deleted[name] = np.flatnonzero(~mask.astype(bool)).astype(np.int64)
        return deleted

    def commits(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the versions of commits with their metadata in `userMetadata`, the newest first.

        Only commits that the log still has. Other writers can put anything into `userMetadata`;
        commits without a JSON object there are left out.
        """
        versions = [(int(c["version"]), said(c.get("userMetadata"))) for c in self._history()]
        return [(version, metadata) for version, metadata in versions if metadata is not None]

    def _history(self) -> list[dict[str, Any]]:
        with _decline_errors(self.address):
            return self._table.history()

    def dataset(self) -> Dataset:
        """Return the rows as a dataset that can be read while this log object exists.

        Reads skip no file because of its file statistics, since some writers record wrong ones:
        Spark for texts that are not UTF-8, and none of them counts NaN.

        Raises:
            NotEligible: delta-rs does not read the table.
        """
        import pyarrow.dataset as ds  # noqa: PLC0415 - not needed for --help

        # Spark can write times that do not fit into nanoseconds, pyarrow's default unit for them.
        options = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")
        with _decline_errors(self.address):
            dataset = self._table.to_pyarrow_dataset(parquet_read_options=options)
        fragments = []
        for file in dataset.get_fragments():
            partition = ds.get_partition_keys(file.partition_expression).items()
            conditions = [
                pc.field(name) == pa.scalar(value, dataset.schema.field(name).type)
                for name, value in partition
            ]
            expression = reduce(and_, conditions, ds.scalar(True))  # noqa: FBT003 - an expression
            fragments.append(
                dataset.format.make_fragment(
                    file.path, file.filesystem, partition_expression=expression
                )
            )
        return ds.FileSystemDataset(fragments, dataset.schema, dataset.format, dataset.filesystem)

    def is_published(self) -> bool:
        """Return whether anything was published to the table.

        Nothing was published if lakescore made the table, and every later commit is a commit of
        lakescore without rows. Only the newest version gives a reliable answer: if it has nothing
        published, no version before it has.
        """
        with _decline_errors(self.address):
            if self._table.get_add_actions().num_rows:
                return True
        commits = sorted(self._history(), key=lambda commit: int(commit["version"]))
        ours = [
            metadata
            for commit in commits
            if _row_count(commit) == "0"
            and (metadata := said(commit.get("userMetadata"))) is not None
        ]
        is_made = bool(ours) and MADE.items() <= ours[0].items()
        return len(ours) < len(commits) or not is_made or commits[0]["version"] != 0

    def commit(
        self,
        files: Sequence[NewFile],
        where: Mapping[str, Sequence[str]],
        *,
        append: bool,
        metadata: str,
        what: str,
    ) -> int:
        """Add *files* to the table in one commit; they replace the files that match *where*.

        Args:
            files: the files that workers wrote.
            where: partition columns of the table, each with the values that match.
            append: keep the existing files.
            metadata: the commit's `userMetadata`.
            what: the name of the written rows, for messages.

        Returns:
            The table's version after the commit.

        Raises:
            AnotherRunWon: another commit to the same rows, or to the table's form, came first; this
                commit changed nothing.
        """
        log, name = self, uuid.uuid4().hex
        for _ in range(_MOST_TRIES):
            try:
                return log._commit(files, where, append=append, metadata=metadata, name=name)
            except _delta_error() as error:
                log = self._reopen(log.version)
                if (made := log._find_commit(name, self.version)) is not None:  # noqa: SLF001 - its own class
                    return made  # the commit succeeded, but its answer was lost
                if log.version == self.version:
                    raise
                if not self._is_untouched(log, where):
                    raise AnotherRunWon(self.address, what) from error
        raise AnotherRunWon(self.address, what)

    def _reopen(self, base: int) -> Log:
        """Return the newest log, after a commit on top of the version *base* was refused.

        An object store can refuse to make a file that exists but is not visible yet.
        """
        for seconds in (0.1, 0.3, 1.0, 3.0, 0.0):
            log = Log(self.address, setting=self._setting)
            if log.version > base or self.folder.is_local:
                break
            time.sleep(seconds)
        return log

    def renew(  # noqa: PLR0913 - all but the first four by name
        self,
        files: Sequence[NewFile],
        schema: Mapping[str, Any],
        partition_by: Sequence[str],
        properties: Mapping[str, str],
        *,
        metadata: str,
        what: str,
    ) -> int:
        """Give the empty table other columns, and add *files* to it.

        Any other commit in the meantime is a conflict.

        Args:
            files: the files that workers wrote.
            schema: the columns, as Spark writes them in JSON.
            partition_by: the partition columns.
            properties: properties to add to those of the table.
            metadata: the commit's `userMetadata`.
            what: the name of the written rows, for messages.

        Returns:
            The table's version after the commit.

        Raises:
            AnotherRunWon: another commit came first; *files* are not in the table.
        """
        from deltalake import Schema  # noqa: PLC0415 - not needed for --help

        changed = self.set_properties(properties, what=what)
        new_form = (Schema.from_json(json.dumps(schema)), list(partition_by))
        with changed._refuse_conflicts(what):  # noqa: SLF001 - its own class
            return changed._commit(  # noqa: SLF001 - as above
                files, {}, append=False, metadata=metadata, name=uuid.uuid4().hex, new_form=new_form
            )

    def set_properties(self, properties: Mapping[str, str], *, what: str) -> Log:
        """Set *properties* of the table, to which no run has published; return its new log.

        Raises:
            AnotherRunWon: another commit came first.
        """
        from deltalake import CommitProperties  # noqa: PLC0415 - not needed for --help

        metadata = {"userMetadata": json.dumps(MADE), "operationMetrics": {"numOutputRows": "0"}}
        with self._refuse_conflicts(what):
            _open_table(self, self.version).alter.set_table_properties(
                dict(properties),
                commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=0),
            )
        return Log(self.address, self.version + 1, self._setting)

    @contextmanager
    def _refuse_conflicts(self, what: str) -> Iterator[None]:
        try:
            yield
        except _delta_error() as error:
            if Log(self.address, setting=self._setting).version == self.version:
                raise
            raise AnotherRunWon(self.address, what) from error

    def _commit(  # noqa: PLR0913 - all but the first two by name
        self,
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
        schema, partition_by = new_form or (self._table.schema(), list(self.partitioned_by))
        filters = [(column, "in", list(values)) for column, values in where.items()]
        self._table.create_write_transaction(
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
        version = self.version + 1
        interval = int(self.properties.get("delta.checkpointInterval", _CHECKPOINT_EVERY))
        if version % max(1, interval) == 0:
            with suppress(Exception):  # readers work without a checkpoint
                _open_table(self, version).create_checkpoint()
        return version

    def _find_commit(self, name: str, after: int) -> int | None:
        for commit in self._history():
            if commit.get(_COMMIT_NAME) == name and int(commit["version"]) > after:
                return int(commit["version"])
        return None

    def _is_untouched(self, newer: Log, where: Mapping[str, Sequence[str]]) -> bool:
        """Return whether no commit up to *newer* changed rows that match, or the table's form."""
        form = ("table_id", "schema", "partitioned_by", "properties")
        if any(getattr(self, name) != getattr(newer, name) for name in form):
            return False
        if self._features() != newer._features():
            return False
        since = changes(self.folder, self.version, newer.version)
        return since is not None and not any(
            all(change.partition.get(column) in values for column, values in where.items())
            for change in since
        )


_NONE: np.ndarray[Any, np.dtype[np.int64]] = np.empty(0, np.int64)


def create(  # noqa: PLR0913 - all but the first two by name
    address: str,
    schema: Mapping[str, Any],
    *,
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    metadata: Mapping[str, Any],
    setting: Setting | None = None,
) -> None:
    """Make an empty table at *address*, unless another run makes it at the same moment.

    Args:
        address: a folder or URI, as Spark takes it.
        schema: the columns, as Spark writes them in JSON.
        partition_by: the partition columns.
        properties: the properties of the table.
        metadata: the commit metadata in `userMetadata`, besides `MADE`.
        setting: Spark's properties.

    Raises:
        NotEligible: Spark has to make the table, or to report why it cannot be made.
    """
    from deltalake import CommitProperties, DeltaTable, Schema  # noqa: PLC0415 - not needed for --help

    place = folder(address, setting)
    if place is None or _ENCODED.search(place.path):
        raise NotEligible("delta-rs does not reach the table's folder")
    user_metadata = {**MADE, **metadata}
    commit_info = {
        "userMetadata": json.dumps(user_metadata),
        "operationMetrics": {"numOutputRows": "0"},
    }
    try:
        DeltaTable.create(
            place.uri,
            Schema.from_json(json.dumps(schema)),
            partition_by=list(partition_by),
            configuration=dict(properties),
            storage_options=dict(place.options) or None,
            commit_properties=CommitProperties(custom_metadata=commit_info, max_commit_retries=0),
        )
    except Exception as error:  # noqa: BLE001 - Spark reports any error better
        try:
            Log(address, setting=setting)
        except FileNotFoundError:
            first_line = (str(error).splitlines() or [""])[0][:200]
            raise NotEligible(f"delta-rs does not make the table: {first_line}") from error


def changes(place: Folder, after: int, last: int) -> list[FileChange] | None:
    """Return the files that were added or removed after the version *after*, up to *last*.

    The result is None if the log no longer has these commits as files of JSON.
    """
    file_changes = []
    for version in range(after + 1, last + 1):
        text = place.read(f"_delta_log/{version:020}.json")
        if text is None:
            return None
        for line in text.decode().splitlines():
            file_changes += list(_file_changes(version, json.loads(line)))
    return file_changes


def _file_changes(version: int, action: Mapping[str, Any]) -> Iterator[FileChange]:
    for kind in action.keys() & {"add", "remove"}:
        file = action[kind]
        if file.get("dataChange", True):
            name = unquote(file["path"]).rsplit("/", 1)[-1]
            partition, size = file.get("partitionValues") or {}, file.get("size") or 0
            yield FileChange(version, name, kind == "add", partition, size)


def _open_table(log: Log, version: int | None) -> DeltaTable:
    from deltalake import DeltaTable  # noqa: PLC0415 - not needed for --help
    from deltalake.exceptions import TableNotFoundError  # noqa: PLC0415

    place = log.folder
    uri = place.uri
    if place.is_local:
        if not Path(place.path, "_delta_log").is_dir():
            raise FileNotFoundError(place.path)
        if _ENCODED.search(place.path):
            # delta-rs decodes a path twice, so it looks for `a%20b` at `a b`. But it follows links.
            links = TemporaryDirectory(prefix="lakescore-")
            log._links = links  # noqa: SLF001 - the links must exist as long as the log
            for entry in Path(place.path).iterdir():
                Path(links.name, entry.name).symlink_to(entry)
            uri = Path(links.name).as_uri()
    try:
        return DeltaTable(uri, version=version, storage_options=dict(place.options) or None)
    except TableNotFoundError as error:
        raise FileNotFoundError(log.address) from error
    except Exception as error:
        if (known := explain_error(error, log.address)) is not None:
            raise known from error
        if version is not None and "version" in str(error).lower():
            raise FileNotFoundError(f"{log.address} at version {version}") from error
        first_line = (str(error).splitlines() or [""])[0][:200]
        raise NotEligible(f"delta-rs does not open the table: {first_line}") from error


@contextmanager
def _decline_errors(address: str) -> Iterator[None]:
    """Decline a log that delta-rs does not read."""
    try:
        yield
    except Exception as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        first_line = (str(error).splitlines() or [""])[0][:200]
        raise NotEligible(f"delta-rs does not read the table's log: {first_line}") from error


def _delta_error() -> type[Exception]:
    from deltalake.exceptions import DeltaError  # noqa: PLC0415 - not needed for --help

    return DeltaError


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


def _row_count(commit: Mapping[str, Any]) -> str | None:
    metrics = commit.get("operationMetrics") or {}
    count = metrics.get("numOutputRows")
    return None if count is None else str(count)


def said(text: str | None) -> dict[str, Any] | None:
    """Return the metadata in a commit's `userMetadata`; None if it is not a JSON object."""
    try:
        metadata = json.loads(text or "null")
    except ValueError:
        return None
    return metadata if isinstance(metadata, dict) else None
