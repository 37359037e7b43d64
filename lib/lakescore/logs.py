"""Logs: what the log of a Delta table says, and commits to it, by delta-rs and without Spark.

What delta-rs does not read or write exactly as Spark does is declined: then Spark has to, as it
always can.
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

from lakescore.errors import AnotherRunWon, listed
from lakescore.storage import explain_error, folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deltalake import DeltaTable
    from pyarrow.dataset import Dataset

    from lakescore.storage import Folder, Setting

MADE = {"lakescore": "made this table, for a run that has not published yet"}
"""What the commit says that makes a table."""
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
"""Features of Delta's protocol by which files are read as they are read here."""
_WRITES = frozenset(
    {"appendOnly", "deletionVectors", "invariants", "v2Checkpoint", "vacuumProtocolCheck"}
)
"""Features that ask nothing of a writer of new files, as they are used here: without columns that
have a rule of their own."""
_OLD_PROTOCOL = 2
"""Of writers: newer ones, before features had names, ask for more."""
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
"""Properties of a table that ask nothing of a file, or what is done here."""
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_MOST_TRIES = 100
"""So many commits of others may come between a look at the table and ours."""
_CHECKPOINT_EVERY = 10
"""Delta's own interval."""
_OURS = "lakescoreCommit"
"""Names a commit of ours, so that one whose answer was lost can be looked for."""


class NotEligible(Exception):
    """Why Spark has to read, or to write."""


@dataclass(frozen=True)
class File:
    """A Parquet file of a table."""

    path: str
    """Of the machine's disks, or from the bucket on."""
    rows: int
    size: int
    partition: Mapping[str, Any]
    """The values that all its rows have, by the columns' names, typed; an empty text is null."""
    deleted: np.ndarray[Any, np.dtype[np.int64]]
    """Positions of deleted rows, sorted."""


@dataclass(frozen=True)
class NewFile:
    """A Parquet file in a table's folder that the table does not have yet."""

    path: str
    """From the folder: letters, digits, dots and dashes."""
    partition: Mapping[str, str]
    rows: int
    size: int
    statistics: str
    """As Delta's log keeps them, in JSON."""


@dataclass(frozen=True)
class FileChange:
    """A file of a table that came or went with a commit that changed rows."""

    version: int
    """The commit's."""
    name: str
    """The file's own name, which no other file of the table has."""
    added: bool
    partition: Mapping[str, str | None]
    """The values that all its rows have, by the names that columns have in the files, as texts."""
    size: int
    """Its bytes."""


class Log:
    """The log of a table at one version.

    Args:
        address: the table's folder or URI, as Spark takes it.
        version: the newest when left out.
        setting: Spark's properties.

    Raises:
        NotEligible: only Spark reaches the table, or reads its log.
        FileNotFoundError: there is no table, or no such version.
        StorageUnavailable, StorageRefused, BucketMissing: of an object store.
    """

    def __init__(
        self, address: str, version: int | None = None, setting: Setting | None = None
    ) -> None:
        place = folder(address, setting)
        if place is None:
            scheme = address.partition(":")[0]
            raise NotEligible(f"files lie on {scheme}:, where only Spark goes")
        self.address, self.folder, self._setting = address, place, setting
        self._links: TemporaryDirectory[str] | None = None
        self._table = _opened(self, version)

    @property
    def version(self) -> int:
        """The table's version."""
        return int(self._table.version())

    @cached_property
    def metadata(self) -> Any:  # noqa: ANN401 - delta-rs's own
        """Delta's metadata: id, partition_columns, configuration."""
        return self._table.metadata()

    @property
    def table_id(self) -> str:
        """Delta's own id: another table that takes the address has another."""
        return str(self.metadata.id)

    @property
    def properties(self) -> dict[str, str]:
        """The table's properties."""
        return dict(self.metadata.configuration)

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The columns that divide the table."""
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
        """Whether older files may hold narrower types than the table's."""
        return any("typeWidening" in feature for feature in self._features()[0])

    def _features(self) -> tuple[list[str], list[str]]:
        protocol = self._table.protocol()
        return list(protocol.reader_features or []), list(protocol.writer_features or [])

    def check_readable(self) -> None:
        """Hold that files are read here as Spark reads them.

        Raises:
            NotEligible: they are not, or this cannot be told.
        """
        unknown = sorted(set(self._features()[0]) - _READS)
        if unknown:
            raise NotEligible(f"the table uses {listed(unknown)}")
        mode = self.properties.get("delta.columnMapping.mode", "none")
        if mode not in {"none", "name"}:
            raise NotEligible(f"its columns are mapped by {mode}")

    def check_writable(self) -> None:
        """Hold that new files need nothing but what is done here.

        Raises:
            NotEligible: they do.
        """
        protocol = self._table.protocol()
        unknown = sorted(set(self._features()[1]) - _WRITES)
        unknown += sorted(set(self.properties) - _PROPERTIES)
        if unknown:
            raise NotEligible(f"the table uses {listed(unknown)}")
        if _OLD_PROTOCOL < protocol.min_writer_version < _NAMED_PROTOCOL:
            raise NotEligible(f"the table's minWriterVersion is {protocol.min_writer_version}")

    def files(self, among: Mapping[str, Sequence[Any]] | None = None) -> list[File]:
        """Return the files that may hold rows with values *among* those given, by column.

        Raises:
            NotEligible: the log does not count their rows, or delta-rs does not read it so.
        """
        self.check_readable()
        actions = self._actions()
        chosen = actions.take(pa.array(np.flatnonzero(self._may_hold(actions, among or {}))))
        deleted = self._deleted() if chosen.num_rows else {}
        parts = _column(chosen, "partition")
        columns = ("path", "size_bytes", "num_records")
        files = []
        for partition, path, size, rows in zip(
            parts, *[_column(chosen, name) for name in columns], strict=True
        ):
            if rows is None:
                raise NotEligible("the log does not count the rows of each file")
            placed = _placed(path, self.folder)
            values = {name: v if v != "" else None for name, v in (partition or {}).items()}
            gone = deleted.get(placed.rsplit("/", 1)[-1], _NONE)
            files.append(File(placed, rows, size, values, gone))
        return files

    def _may_hold(self, actions: pa.Table, among: Mapping[str, Sequence[Any]]) -> Any:  # noqa: ANN401 - numpy's
        """Tell of each file whether it may hold a row with all these values."""
        mask = np.ones(actions.num_rows, bool)
        for column, values in among.items():
            if column in self.partitioned_by:
                held = _column(actions, "partition", column)
                mask &= np.array([value in values for value in held], bool)
                continue
            mask &= _between(actions, self.stored[column], values)
        return mask

    def _actions(self) -> pa.Table:
        with _as_expected(self.address):
            return pa.table(self._table.get_add_actions(flatten=False))

    def _deleted(self) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
        """Return the positions of deleted rows, by the file's name."""
        if "deletionVectors" not in self._features()[0]:
            return {}
        found = {}
        with _as_expected(self.address):
            for batch in self._table.deletion_vectors():
                rows = pa.record_batch(batch)
                for path, kept in zip(rows.column(0).to_pylist(), rows.column(1), strict=True):
                    mask = kept.values.to_numpy(zero_copy_only=False)
                    name = unquote(urlsplit(path).path).rsplit("/", 1)[-1]
                    found[name] = np.flatnonzero(~mask.astype(bool)).astype(np.int64)
        return found

    def commits(self) -> list[tuple[int, dict[str, Any]]]:
        """Return what commits say of themselves in `userMetadata`, the newest first.

        Those that the log still holds; others than ours may say anything, and are left out then.
        """
        found = [(int(c["version"]), said(c.get("userMetadata"))) for c in self._history()]
        return [(version, told) for version, told in found if told is not None]

    def _history(self) -> list[dict[str, Any]]:
        with _as_expected(self.address):
            return self._table.history()

    def dataset(self) -> Dataset:
        """Return the rows, to be read as long as the log is kept.

        No file is skipped for what the log says of its values.

        What some writers say there is not so: Spark of texts that are no UTF-8, and nothing of NaN.

        Raises:
            NotEligible: delta-rs does not read them.
        """
        import pyarrow.dataset as ds  # noqa: PLC0415 - no part of --help

        # Spark may write times of which some are beyond what pyarrow's own unit for them holds.
        options = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")
        with _as_expected(self.address):
            whole = self._table.to_pyarrow_dataset(parquet_read_options=options)
        fragments = []
        for file in whole.get_fragments():
            held = ds.get_partition_keys(file.partition_expression).items()
            same = [
                pc.field(name) == pa.scalar(value, whole.schema.field(name).type)
                for name, value in held
            ]
            divided = reduce(and_, same, ds.scalar(True))  # noqa: FBT003 - an expression
            fragments.append(
                whole.format.make_fragment(file.path, file.filesystem, partition_expression=divided)
            )
        return ds.FileSystemDataset(fragments, whole.schema, whole.format, whole.filesystem)

    def is_published(self) -> bool:
        """Tell whether the table is more than what runs that published nothing left.

        That is a table that we made, with no commit since that holds rows or is another's. Only the
        newest version can tell: what is not published there was not published before.
        """
        with _as_expected(self.address):
            if self._table.get_add_actions().num_rows:
                return True
        commits = sorted(self._history(), key=lambda commit: int(commit["version"]))
        ours = [
            told
            for commit in commits
            if _rows(commit) == "0" and (told := said(commit.get("userMetadata"))) is not None
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
        """Let everybody see *files* at once, in the place of those for which *where* holds.

        Args:
            files: what workers wrote.
            where: columns that divide the table, and the values that they may have.
            append: leave the files that are there.
            metadata: the commit's `userMetadata`.
            what: the place, for messages.

        Returns:
            The table's version.

        Raises:
            AnotherRunWon: another write to the same place, or of the table's columns, came first;
                nothing is seen of this one.
        """
        log, name = self, uuid.uuid4().hex
        for _ in range(_MOST_TRIES):
            try:
                return log._commit(files, where, append=append, metadata=metadata, name=name)
            except _conflicts() as error:
                log = self._newer(log.version)
                if (made := log._made_by(name, self.version)) is not None:  # noqa: SLF001 - its own class
                    return made  # whose answer was lost
                if log.version == self.version:
                    raise
                if not self._is_untouched(log, where):
                    raise AnotherRunWon(self.address, what) from error
        raise AnotherRunWon(self.address, what)

    def _newer(self, than: int) -> Log:
        """Return the log as it is now, after a commit behind the version *than* was refused.

        An object store may refuse to make a file that it is only about to show.
        """
        for seconds in (0.1, 0.3, 1.0, 3.0, 0.0):
            log = Log(self.address, setting=self._setting)
            if log.version > than or self.folder.is_local:
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
        """Let the table, which holds nothing, have other columns, and *files*.

        Whoever commits anything to it meanwhile is a conflict.

        Args:
            files: what workers wrote.
            schema: the columns, as Spark writes them in JSON.
            partition_by: those that divide the table.
            properties: the table's, besides those that it has.
            metadata: the commit's `userMetadata`.
            what: the place, for messages.

        Returns:
            The table's version.

        Raises:
            AnotherRunWon: another commit came first; nothing is seen of this one.
        """
        from deltalake import Schema  # noqa: PLC0415 - no part of --help

        changed = self.set_properties(properties, what=what)
        anew = (Schema.from_json(json.dumps(schema)), list(partition_by))
        with changed._alone(what):  # noqa: SLF001 - its own class
            return changed._commit(  # noqa: SLF001 - likewise
                files, {}, append=False, metadata=metadata, name=uuid.uuid4().hex, anew=anew
            )

    def set_properties(self, properties: Mapping[str, str], *, what: str) -> Log:
        """Let the table, to which no run published, have *properties*; return its log then.

        Raises:
            AnotherRunWon: another commit came first.
        """
        from deltalake import CommitProperties  # noqa: PLC0415 - no part of --help

        made = {"userMetadata": json.dumps(MADE), "operationMetrics": {"numOutputRows": "0"}}
        with self._alone(what):
            _opened(self, self.version).alter.set_table_properties(
                dict(properties),
                commit_properties=CommitProperties(custom_metadata=made, max_commit_retries=0),
            )
        return Log(self.address, self.version + 1, self._setting)

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        try:
            yield
        except _conflicts() as error:
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
        anew: tuple[Any, list[str]] | None = None,
    ) -> int:
        from deltalake import CommitProperties  # noqa: PLC0415 - no part of --help
        from deltalake.transaction import (  # noqa: PLC0415
            AddAction,
            PostCommitHookProperties,
            RemoveAction,
        )

        now = int(time.time() * 1000)
        added: list[AddAction | RemoveAction] = [
            AddAction(f.path, f.size, f.partition, now, True, f.statistics)  # noqa: FBT003 - theirs
            for f in files
        ]
        counts = {
            "numFiles": len(files),
            "numOutputRows": sum(file.rows for file in files),
            "numOutputBytes": sum(file.size for file in files),
        }
        said = {
            "userMetadata": metadata,
            "operationMetrics": {key: str(count) for key, count in counts.items()},
            "isBlindAppend": False,
            _OURS: name,
        }
        schema, by = anew or (self._table.schema(), list(self.partitioned_by))
        place = [(column, "in", list(values)) for column, values in where.items()]
        self._table.create_write_transaction(
            added,
            "append" if append else "overwrite",
            schema,
            partition_by=by,
            partition_filters=None if append or anew else place,
            # With retries, its own check lets an append into a place pass that is being replaced.
            commit_properties=CommitProperties(custom_metadata=said, max_commit_retries=0),
            # What comes after the commit must not make it look as if it had failed.
            post_commithook_properties=PostCommitHookProperties(
                create_checkpoint=False, cleanup_expired_logs=False
            ),
        )
        version = self.version + 1
        every = int(self.properties.get("delta.checkpointInterval", _CHECKPOINT_EVERY))
        if version % max(1, every) == 0:
            with suppress(Exception):  # readers do without
                _opened(self, version).create_checkpoint()
        return version

    def _made_by(self, name: str, after: int) -> int | None:
        for commit in self._history():
            if commit.get(_OURS) == name and int(commit["version"]) > after:
                return int(commit["version"])
        return None

    def _is_untouched(self, newer: Log, where: Mapping[str, Sequence[str]]) -> bool:
        """Tell whether no commit up to *newer* changed rows of a place, or the table's form."""
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
    """Make an empty table at *address*, unless another run does at the same moment.

    Args:
        address: a folder or URI, as Spark takes it.
        schema: the columns, as Spark writes them in JSON.
        partition_by: those that divide the table.
        properties: the table's.
        metadata: what the commit says in `userMetadata`, besides that it is ours.
        setting: Spark's properties.

    Raises:
        NotEligible: Spark has to make it, or to say why it cannot be made.
    """
    from deltalake import CommitProperties, DeltaTable, Schema  # noqa: PLC0415 - no part of --help

    place = folder(address, setting)
    if place is None or _ENCODED.search(place.path):
        raise NotEligible("delta-rs does not go there")
    told = {**MADE, **metadata}
    said = {"userMetadata": json.dumps(told), "operationMetrics": {"numOutputRows": "0"}}
    try:
        DeltaTable.create(
            place.uri,
            Schema.from_json(json.dumps(schema)),
            partition_by=list(partition_by),
            configuration=dict(properties),
            storage_options=dict(place.options) or None,
            commit_properties=CommitProperties(custom_metadata=said, max_commit_retries=0),
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, Spark says it better
        try:
            Log(address, setting=setting)
        except FileNotFoundError:
            first = (str(error).splitlines() or [""])[0][:200]
            raise NotEligible(f"delta-rs does not make the table: {first}") from error


def changes(place: Folder, after: int, last: int) -> list[FileChange] | None:
    """Return the files that came and went after the version *after* up to *last*.

    None where the log does not hold these commits any more, as files of JSON.
    """
    found = []
    for version in range(after + 1, last + 1):
        text = place.read(f"_delta_log/{version:020}.json")
        if text is None:
            return None
        for line in text.decode().splitlines():
            found += list(_changed(version, json.loads(line)))
    return found


def _changed(version: int, action: Mapping[str, Any]) -> Iterator[FileChange]:
    for kind in action.keys() & {"add", "remove"}:
        file = action[kind]
        if file.get("dataChange", True):
            name = unquote(file["path"]).rsplit("/", 1)[-1]
            partition, size = file.get("partitionValues") or {}, file.get("size") or 0
            yield FileChange(version, name, kind == "add", partition, size)


def _opened(log: Log, version: int | None) -> DeltaTable:
    from deltalake import DeltaTable  # noqa: PLC0415 - no part of --help
    from deltalake.exceptions import TableNotFoundError  # noqa: PLC0415

    place = log.folder
    uri = place.uri
    if place.is_local:
        if not Path(place.path, "_delta_log").is_dir():
            raise FileNotFoundError(place.path)
        if _ENCODED.search(place.path):
            # delta-rs decodes a path twice, so it looks for `a%20b` at `a b`; it follows links.
            links = TemporaryDirectory(prefix="lakescore-")
            log._links = links  # noqa: SLF001 - it lives as long as the log
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
        first = (str(error).splitlines() or [""])[0][:200]
        raise NotEligible(f"delta-rs does not open the table: {first}") from error


@contextmanager
def _as_expected(address: str) -> Iterator[None]:
    """Decline what delta-rs does not read."""
    try:
        yield
    except Exception as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        first = (str(error).splitlines() or [""])[0][:200]
        raise NotEligible(f"delta-rs does not read the table's log: {first}") from error


def _conflicts() -> type[Exception]:
    from deltalake.exceptions import DeltaError  # noqa: PLC0415 - no part of --help

    return DeltaError


def _placed(path: str, place: Folder) -> str:
    """Return *path*, as the log writes it, as one of the folder's file system."""
    parts = urlsplit(path)
    if parts.scheme in {"", "file"} and place.is_local:
        plain = unquote(parts.path if parts.scheme else path)
        return plain if plain.startswith("/") else f"{place.path}/{plain}"
    if parts.scheme:
        raise NotEligible(f"a file lies elsewhere than the table: at {parts.scheme}:")
    return f"{place.path}/{unquote(path)}"


def _column(table: pa.Table, name: str, field: str | None = None) -> list[Any]:
    """Return the values of a column, or of a field of its structs; nulls where there is none.

    Raises:
        NotEligible: Python knows no such values, as dates of the year 10000.
    """
    found = _array(table, name, field)
    try:
        return [None] * table.num_rows if found is None else list(found.to_pylist())
    except (ValueError, OverflowError) as error:
        raise NotEligible(f"the log holds values that Python does not know: {error}") from error


def _array(table: pa.Table, name: str, field: str | None = None) -> pa.ChunkedArray | None:
    if name not in table.column_names:
        return None
    column = table.column(name)
    if field is None:
        return column
    return pc.struct_field(column, field) if column.type.get_field_index(field) >= 0 else None


def _between(actions: pa.Table, stored: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - numpy's
    """Tell of each file whether one of *values* is within its bounds, or these tell nothing.

    Those of integers and dates do, and those of texts within ASCII, beyond which writers differ.
    """
    low, high = (_array(actions, name, stored) for name in ("min", "max"))
    if low is None or high is None:
        return np.ones(actions.num_rows, bool)
    sure = pc.and_(pc.is_valid(low), pc.is_valid(high))
    asked = pa.array(list(values), low.type)
    if pa.types.is_string(low.type):
        plain = pc.and_(pc.string_is_ascii(low), pc.string_is_ascii(high))
        sure = pc.and_(sure, plain.combine_chunks().fill_null(False))  # noqa: FBT003 - a value
        ends = [np.array(each.fill_null("").to_pylist(), object) for each in (low, high, asked)]
    elif pa.types.is_integer(low.type) or pa.types.is_date(low.type):
        whole = pa.int32() if pa.types.is_date(low.type) else low.type
        ends = [np.asarray(each.cast(whole).fill_null(0)) for each in (low, high, asked)]
    else:
        return np.ones(actions.num_rows, bool)
    least, most, ordered = ends[0], ends[1], np.sort(ends[2])
    within = np.searchsorted(ordered, most, "right") > np.searchsorted(ordered, least, "left")
    return ~np.asarray(sure) | within


def _rows(commit: Mapping[str, Any]) -> str | None:
    metrics = commit.get("operationMetrics") or {}
    found = metrics.get("numOutputRows")
    return None if found is None else str(found)


def said(text: str | None) -> dict[str, Any] | None:
    """Return what a commit's `userMetadata` says, if it is such that it may be ours."""
    try:
        said = json.loads(text or "null")
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
