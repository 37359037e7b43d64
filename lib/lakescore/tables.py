"""Tables: read one snapshot of a Delta table; write a slice and publish it in one commit.

An address is a table's name (`schema.table`), or an absolute path or URI. Only paths and URIs have
a `/`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    DateType,
    DecimalType,
    IntegerType,
    IntegralType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from lakescore import executor, filing, logs
from lakescore.arrow import NO_NAME, collected, frame, is_writable, struct
from lakescore.errors import InputContractError, LakescoreError
from lakescore.filing import FilesUnwritten, Form, Place
from lakescore.logs import AnotherRunWon, FileChange, Log, NotEligible
from lakescore.runner import FAILURES, Runner
from lakescore.snapshots import NotADeltaTable, Snapshot, SnapshotNotFound, ViewNotPinned
from lakescore.storage import (
    FolderRefused,
    StorageFull,
    StorageRefused,
    StorageUnsupported,
    TableNotFound,
    explain_error,
    folder,
    plain_path,
)
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from pyspark.sql import Row, SparkSession
    from pyspark.sql.types import DataType

    from lakescore.logs import NewFile

_BOUNDED = (DateType, DecimalType, IntegralType, TimestampType)
"""The types whose bounds are right for every writer and every reader.

For texts that are not UTF-8, Spark's writer records bounds that make Spark's reader skip the texts.
If a float is NaN, its bound makes delta-rs skip the file.
"""
_METADATA_SETTING = "spark.databricks.delta.commitInfo.userMetadata"
"""The setting that gives Spark's commits their `userMetadata`."""
_COMMITS_SINCE = 50
"""How many of the newest commits are searched for a commit that Spark has just made."""
_VIEWS = {"VIEW", "TEMPORARY"}
_DEFAULTS = "spark.databricks.delta.properties.defaults."
_ONLY_APPENDS = f"{_DEFAULTS}appendOnly"
_CONFLICT = re.compile(
    r"\[DELTA_(?:CONCURRENT_\w+|METADATA_CHANGED|PROTOCOL_CHANGED)[\].]"
    r"|\b(?:ConcurrentAppend|ConcurrentDelete\w+|ConcurrentTransaction|ConcurrentWrite"
    r"|MetadataChanged|ProtocolChanged)Exception\b"
)
"""Delta's errors for another commit that came first."""
_RULE = re.compile(
    r"\[DELTA_(?:VIOLATE_CONSTRAINT_WITH_VALUES|NOT_NULL_CONSTRAINT_VIOLATED"
    r"|EXCEED_CHAR_VARCHAR_LIMIT)\] (.+?)(?=\s*(?:\n\s*at |\n\n|\Z))"
    r"|\[(?:NOT_NULL_ASSERT_VIOLATION|EXCEED_LIMIT_LENGTH)\] ([^\n]+?)(?= SQLSTATE|\n|\Z)"
    r"|NullPointerException: (Null value appeared in non-nullable field[^\n]*)",  # Spark 3.5
    re.DOTALL,
)
"""Errors for a row that breaks a rule of the table.

Delta names the rule after the failed operation, or before a trace. Spark names it for a MERGE, but
without the column.
"""
_REFUSED = re.compile(
    r"\[DELTA_CANNOT_CREATE_LOG_PATH\] [^\n]+"
    r"|(?:Permission denied|Operation not permitted|Read-only file system)"
)
_MISPLACED = re.compile(rf"\b{executor.Misplaced.__name__}: (.+)")
_UNWRITTEN = re.compile(rf"\b{executor.Unwritten.__name__}: (.+)")
_NO_FILE = "[DELTA_FILE_NOT_FOUND]"
_NO_SPACE = "No space left on device"


class TableNotMade(InputContractError):
    """A table to write to does not exist, and cannot be created."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the table {address} cannot be created: {reason}; fix that (CREATE SCHEMA, or another "
            "name for a column), or name another table"
        )


class SchemaDrift(InputContractError):
    """The output table has other columns than the run writes."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the output table {address} does not accept these rows: {reason}; name another "
            "output, or alter that table"
        )


class TableAppendOnly(InputContractError):
    """Rows of an append-only table cannot be replaced."""

    def __init__(self, address: str, *, default: bool) -> None:
        cause = (
            "spark.databricks.delta.properties.defaults.appendOnly makes new tables append-only"
            if default
            else "it is append-only (delta.appendOnly)"
        )
        super().__init__(
            f"rows of {address} cannot be replaced: {cause}; nothing was written there; for "
            "predictions set write_mode: append; otherwise unset delta.appendOnly, or name another "
            "table"
        )


def snapshot(spark: SparkSession | Runner, address: str, version: int | None = None) -> Snapshot:
    """Pin the table at *address* to *version*, or to its latest version.

    Raises:
        TableNotFound, NotADeltaTable: the address has no table, or something that is not a Delta
            table.
        SnapshotNotFound: the table has no such version.
    """
    runner = Runner.of(spark)
    table = _Table.at(runner, address)
    pinned = table.version if version is None else version

    def read() -> DataFrame:
        session = runner.start(f"Spark reads rows of {address}")
        reader = session.read.format("delta").option("versionAsOf", pinned)
        try:
            with _explain_storage_errors(address):
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
        runner.start(not_eligible)
        _ = pinned_table.rows  # only Spark knows whether the version exists
    return pinned_table


def exists(spark: SparkSession | Runner, address: str) -> bool:
    """Return whether *address* has a Delta table.

    Raises:
        NotADeltaTable: the address has something that is not a Delta table.
    """
    try:
        _Table.at(Runner.of(spark), address)
    except TableNotFound:
        return False
    return True


@dataclass(frozen=True)
class _Table:
    """An existing table at its newest version."""

    runner: Runner
    address: str
    location: str
    """The table's folder or URI."""
    known: Log | None
    not_eligible: str
    """Why the log cannot be read without Spark; empty if it can."""
    detail: Mapping[str, Any]
    """The result of Spark's `DESCRIBE DETAIL`; empty if Spark was not used."""

    @classmethod
    def at(cls, runner: Runner, address: str) -> _Table:
        """Look up the table at *address*.

        Raises:
            TableNotFound, NotADeltaTable: the address has no table, or something that is not a
                Delta table.
        """
        detail: Mapping[str, Any] = {}
        if "/" not in address:
            detail = _describe_name(runner.start(f"{address} is a name in a catalog"), address)
        elif _can_be_elsewhere(runner, address):
            spark = runner.start(f"Hadoop can find {address} at another place")
            detail = _describe_path(spark, address)
        location, known, not_eligible = detail.get("location") or address, None, ""
        try:
            known = Log(location, setting=runner.setting)
        except FileNotFoundError as error:
            if not detail:
                raise _missing_error(runner, address) from error
            not_eligible = f"Spark sees the table at {detail['location']}, but the driver does not"
        except (NotEligible, StorageRefused) as error:
            try:  # Spark can have other credentials
                detail = detail or _describe_path(runner.start(str(error)), address)
            except StorageUnsupported:
                raise error from None
            not_eligible = str(error)
        if known is not None and detail and known.table_id != str(detail["id"]):
            known, not_eligible = None, f"the driver sees another table at {location}"
        return cls(runner, address, location, known, not_eligible, detail)

    @property
    def spark(self) -> SparkSession:
        """The session of Spark, for facts that delta-rs does not have."""
        return self.runner.start(self.not_eligible or f"Spark reads {self.address}")

    @cached_property
    def version(self) -> int:
        """The newest version."""
        if self.known is not None:
            return self.known.version
        return int(_history(self.spark, self.address, 1)[0]["version"])

    @property
    def table_id(self) -> str:
        """Delta's id of the table."""
        return self.known.table_id if self.known is not None else str(self.detail["id"])

    @property
    def properties(self) -> Mapping[str, str]:
        """The table's properties."""
        return self.known.properties if self.known is not None else self.detail["properties"]

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The partition columns of the table."""
        if self.known is not None:
            return self.known.partitioned_by
        return tuple(self.detail["partitionColumns"])

    @cached_property
    def schema(self) -> StructType:
        """The columns of the table."""
        if self.known is not None:
            return StructType.fromJson(self.known.schema)
        return _read_rows(self.spark, self.address).schema

    def commits(self) -> list[dict[str, Any]]:
        """Return the commits that the log still has, in the form of `DESCRIBE HISTORY`."""
        return [row.asDict() for row in _history(self.spark, self.address)]


class Transaction:
    """Rows for a table that nobody sees before `commit`.

    Either `write` takes all rows of a frame, or `add` takes files that workers wrote. VACUUM
    removes files that are never committed. If delta-rs cannot commit to the table, the rows wait in
    a staging table beside it, and Spark's writer publishes them; the end of the `with` statement
    removes the staging table.

    Raises:
        SchemaDrift: the table does not take these columns.
    """

    def __init__(  # noqa: PLR0913 - all but the first two by name
        self,
        table: _Table,
        written: StructType,
        *,
        where: Mapping[str, Sequence[str]],
        metadata: str,
        append: bool,
        new_properties: Mapping[str, str] | None,
    ) -> None:
        self._table, self._where, self._metadata = table, where, metadata
        self._append, self._new_properties = append, new_properties
        self._what = listed(value for values in where.values() for value in values)
        self.written = written
        """The columns of the files."""
        self.how, self.reason = "direct", ""
        """The writer: the workers that scored (`direct`), workers to which Spark handed the rows
        (`handed over`), or Spark (`spark`); and why it was not the workers that scored."""
        self.said: list[bytes] = []
        """The messages of tasks about themselves."""
        self._files: list[NewFile] = []
        self._staged: _Staged | None = None
        self._published: dict[str, int] = {"bytes_written": 0, "files_written": 0}
        if new_properties is None:
            _check_columns(self.written, table.address, table.schema)

    @property
    def commits_itself(self) -> bool:
        """Whether delta-rs can commit files to the table, even if no rows were written yet."""
        if self._table.known is None:
            return False
        try:
            self._table.known.check_writable()
        except NotEligible:
            return False
        return True

    @property
    def form(self) -> Form:
        """The form of the table after the commit."""
        table = self._table
        if self._new_properties is None:
            return Form(table.schema, table.properties, table.partitioned_by)
        schema = StructType.fromJson(_columns_json(self.written))
        return Form(schema, self._new_properties, tuple(self._where))

    def sink(
        self,
        places: Mapping[str, Place],
        parts: Mapping[str, Mapping[str, Any]],
        by: int | None,
    ) -> executor.Sink:
        """Return the sink into which workers write the rows; see `filing.sink`.

        Raises:
            NotEligible: Spark has to write.
        """
        if self._table.known is None:
            raise NotEligible(self._table.not_eligible)
        return filing.sink(
            self._table.runner,
            self._table.known,
            self.form,
            written=self.written,
            places=places,
            parts=parts,
            by=by,
        )

    def write(self, rows: DataFrame, writer: str = "direct") -> Self:
        """Write *rows* so that nobody sees them before the commit.

        Args:
            rows: rows with the columns of the files; a column `SAID`, if any, has the messages of
                tasks.
            writer: `spark` lets Spark write in any case.

        Raises:
            SchemaDrift: a row breaks a rule of the table, or does not match *where*.
            StorageFull, FilesUnwritten, FolderRefused: the storage has no room or no permission.
        """
        with _explain_errors(self._table.address, self._what):
            reason = "asked for" if writer == "spark" else self._hand_over(rows)
            if reason is not None:
                self.how, self.reason = "spark", reason
                self._stage(rows)
        return self

    def _hand_over(self, rows: DataFrame) -> str | None:
        """Let Spark hand *rows* to workers that write the files; return why it cannot, or None."""
        names = rows.columns
        column = max(self._where, key=lambda name: len(self._where[name]))
        others = {name: values for name, values in self._where.items() if name != column}
        if any(len(values) != 1 for values in others.values()):
            return f"more than one of {listed(self._where)} has several values"
        constants = {name: values[0] for name, values in others.items()}
        parts = {value: {**constants, column: value} for value in self._where[column]}
        places = {name: Place(n) for n, name in enumerate(names)}
        try:
            sink = self.sink(places, parts, names.index(column))
        except NotEligible as not_eligible:
            return str(not_eligible)
        reports = rows.mapInArrow(executor.filer(sink), struct(executor.FILES))
        self.add(collected(reports).to_pylist(), sink)
        self.how = "handed over"
        return None

    def put(self, rows: pa.Table, parts: Mapping[str, Mapping[str, Any]], by: str | None) -> Self:
        """Write *rows* of this process so that nobody sees them before the commit.

        Args:
            rows: rows with the columns of the files, and the text *by* that identifies a part.
            parts: the values that all rows of a part share, by that text.
            by: the column of that text; None if there is only one part.

        Raises:
            NotEligible: Spark has to write.
            SchemaDrift, StorageFull, FilesUnwritten, FolderRefused: as in `write`.
        """
        names = rows.column_names
        places = {name: Place(n) for n, name in enumerate(names)}
        sink = self.sink(places, parts, None if by is None else names.index(by))
        with _explain_errors(self._table.address, self._what):
            reports = list(executor.filer(sink)(iter(rows.to_batches())))
        self.add([row for batch in reports for row in batch.to_pylist()], sink)
        return self

    def _stage(self, rows: DataFrame) -> None:
        self._staged = _Staged.write(rows, self._table)
        self.said += self._staged.said()

    def add(self, reports: Sequence[Mapping[str, Any]], sink: executor.Sink) -> None:
        """Add the files that tasks wrote into *sink* and reported, as rows of `executor.FILES`.

        Raises:
            WrittenFilesMissing: a file is missing, or its size is not the size that its task
                reported.
        """
        key = executor.SAID
        self.said += [bytes(row[key]) for row in reports if row[key] is not None]
        written = [row for row in reports if row[key] is None]
        self._files += filing.files(written, sink, self.form.partitioned_by)

    def counts(self, column: str) -> dict[str, int]:
        """Return the number of written rows by value of the partition column *column*."""
        if self._staged is not None:
            return self._staged.counts(column)
        counts: dict[str, int] = {}
        for file in self._files:
            value = file.partition[column]
            counts[value] = counts.get(value, 0) + file.rows
        return counts

    def facts(self) -> dict[str, Any]:
        """Return the facts of the write, for the receipt."""
        writer = {"write": self.how} | ({"write_reason": self.reason} if self.reason else {})
        if self._staged is not None:
            return self._published | writer
        size = sum(file.size for file in self._files)
        return {"bytes_written": size, "files_written": len(self._files), **writer}

    def commit(self) -> int:
        """Publish the rows in one commit; return the table's version.

        Raises:
            AnotherRunWon: another write to the same rows came first; this one changed nothing.
        """
        with _explain_errors(self._table.address, self._what):
            if self._staged is not None:
                return self._publish(self._staged)
            log = self._table.known
            assert log is not None  # noqa: S101 - `sink` and `commits_itself` have checked the log
            if self._new_properties is not None:
                return log.renew(
                    self._files,
                    _columns_json(self.written),
                    tuple(self._where),
                    self._new_properties,
                    metadata=self._metadata,
                    what=self._what,
                )
            return log.commit(
                self._files,
                self._where,
                append=self._append,
                metadata=self._metadata,
                what=self._what,
            )

    def _publish(self, staged: _Staged) -> int:
        """Let Spark's writer publish the staged rows."""
        table, address, rows = self._table, self._table.address, staged.rows.count()
        self._check_untouched()
        if self._new_properties is not None:
            assert table.known is not None  # noqa: S101 - without a log, a table is published
            table.known.set_properties(self._new_properties, what=self._what)
            _publish_with_schema(staged.rows, address, list(self._where), self._metadata)
        elif self._append:
            _append(staged.rows, address, self._where, self._metadata)
        else:
            _publish(staged.rows, address, _predicate(self._where), self._metadata)
        commit = _find_commit(table.spark, address, self._metadata)
        if commit is None and rows == 0:  # then Delta makes no commit
            return _Table.at(table.runner, address).version
        if commit is None:
            raise AnotherRunWon(address, self._what)
        version, published = commit
        if self._append and published < rows:  # the same run had appended the other rows before
            raise AnotherRunWon(address, self._what)
        self._published = added(table.runner, address, version)
        return version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._staged is not None:
            self._staged.remove()

    def _check_untouched(self) -> None:
        """Check that nobody wrote rows that match *where* since the transaction began."""
        now = _Table.at(self._table.runner, self._table.address)
        since = changes(now, self._table.version)
        conditions = self._where.items()
        if now.table_id != self._table.table_id or _columns_json(now.schema) != _columns_json(
            self._table.schema
        ):
            raise AnotherRunWon(self._table.address, self._what)
        if since is None or any(
            all(change.partition.get(column) in values for column, values in conditions)
            for change in since
        ):
            raise AnotherRunWon(self._table.address, self._what)


@dataclass(frozen=True)
class _Staged:
    """Rows that wait in a staging table, a Delta table whose column names are always allowed."""

    frame: DataFrame
    """All rows, also those with the messages of tasks."""
    rows: DataFrame
    """The rows to publish, with their final column names."""
    folder: str
    setting: Callable[[str], str | None]

    @classmethod
    def write(cls, rows: DataFrame, table: _Table) -> _Staged:
        """Write *rows* beside *table*."""
        address = f"{table.location.rstrip('/')}_staged_{uuid.uuid4().hex}"
        names = [f"c{n}" for n in range(len(rows.columns))]
        try:
            rows.toDF(*names).write.format("delta").option(
                "delta.dataSkippingNumIndexedCols", "0"
            ).save(address)
        except BaseException:
            _remove(address, table.runner.setting)
            raise
        frame = table.spark.read.format("delta").load(address).toDF(*rows.columns)
        staged_rows = frame
        if executor.SAID in rows.columns:
            staged_rows = frame.where(F.col(executor.SAID).isNull()).drop(executor.SAID)
        return cls(frame, staged_rows, address, table.runner.setting)

    def said(self) -> list[bytes]:
        """Return the messages of tasks."""
        if executor.SAID not in self.frame.columns:
            return []
        messages = self.frame.where(F.col(executor.SAID).isNotNull()).select(executor.SAID)
        return [bytes(row[0]) for row in messages.collect()]

    def counts(self, column: str) -> dict[str, int]:
        """Return the number of rows by value of *column*."""
        return dict(map(tuple, self.rows.groupBy(f"`{column}`").count().collect()))

    def remove(self) -> None:
        """Remove the staging table."""
        _remove(self.folder, self.setting)


def _remove(address: str, setting: Callable[[str], str | None]) -> None:
    place = folder(address, setting)
    if place is None:
        return
    with suppress(OSError):
        if place.is_local:
            shutil.rmtree(place.path)
        else:
            place.store.system.delete_dir(place.path)


def begin(  # noqa: PLR0913 - each argument is a separate fact
    spark: SparkSession | Runner,
    written: StructType,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
    find_by: Sequence[str] = (),
    append: bool = False,
    made_with: Mapping[str, Any] | None = None,
) -> Transaction:
    """Begin a transaction that replaces the rows that match *where*, or appends rows to them.

    A table that does not exist is made, with the columns of *where* as partition columns. A table
    to which no run has published gets a new schema. All new rows must match *where*.

    Args:
        spark: the session, or the runner.
        written: the columns of the new rows.
        address: the table.
        where: columns, each with the values that match. They are values and not a raw predicate,
            because one such as `slice = 'a' or 1 = 1` would replace all rows of the table.
        metadata: the commit's `userMetadata`, which is written as JSON.
        find_by: the columns by which rows will be searched. A new table keeps file statistics (the
            smallest and largest values) of these columns only, if their type allows it: file
            statistics cost more than the writing of the rows.
        append: keep the existing rows.
        made_with: more commit metadata for the commit that makes the table.

    Raises:
        NotADeltaTable: *address* has something that is not a Delta table.
        TableAppendOnly: rows of the table, or of any new table, cannot be replaced.
        TableNotMade, FolderRefused: the table cannot be made.
        SchemaDrift: the table does not take these columns.
    """
    runner, properties = Runner.of(spark), _properties(written, find_by)
    try:
        table = _Table.at(runner, address)
    except TableNotFound:
        if not append and runner.setting(_ONLY_APPENDS) == "true":
            raise TableAppendOnly(address, default=True) from None
        _create(runner, written, address, list(where), properties, made_with or {})
        table = _Table.at(runner, address)
    if not append and table.properties.get("delta.appendOnly") == "true":
        raise TableAppendOnly(address, default=False)
    requested = (_columns_json(written), tuple(where))
    existing = (_columns_json(table.schema), table.partitioned_by)
    new_properties = None if existing == requested or _is_published(table) else properties
    return Transaction(
        table,
        written,
        where=where,
        metadata=json.dumps(metadata, default=str),
        append=append,
        new_properties=new_properties,
    )


def is_published(spark: SparkSession | Runner, address: str) -> bool:
    """Return whether anything was published to the table at *address*."""
    return _is_published(_Table.at(Runner.of(spark), address))


def _is_published(table: _Table) -> bool:
    """Return whether anything was published; always true if only Spark understands the table.

    Lakescore makes no such tables.
    """
    return table.known is None or table.known.is_published()


def replace(
    rows: DataFrame,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
    find_by: Sequence[str] = (),
) -> int:
    """Replace the rows of the table that match *where* by *rows*; return the commit's version.

    The arguments are those of `begin`.

    Raises:
        AnotherRunWon: another write to the same rows came first; nothing was written.
        SchemaDrift: the table has other columns; nothing was written.
    """
    spark, written = rows.sparkSession, rows.schema
    with begin(
        spark, written, address, where=where, metadata=metadata, find_by=find_by
    ) as transaction:
        return transaction.write(rows).commit()


def put(  # noqa: PLR0913 - all but the first three by name
    spark: SparkSession | Runner,
    rows: pa.Table | DataFrame,
    address: str,
    *,
    constants: Mapping[str, Any],
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> int:
    """Replace rows as `replace` does, by a frame or a table, with *constants* in every row.

    Args:
        spark: the session, or the runner.
        rows: a frame, or a table in the memory of this process.
        address: as in `begin`.
        constants: columns to add to all rows, with their values.
        where: as in `begin`; its columns are among *constants*.
        metadata: as in `begin`.

    Raises:
        AnotherRunWon, SchemaDrift: as in `replace`.
    """
    if isinstance(rows, DataFrame):
        return replace(_add_constants(rows, constants), address, where=where, metadata=metadata)
    runner = Runner.of(spark)
    fields = [
        StructField(name, _constant_type(value), nullable=False)
        for name, value in constants.items()
    ]
    written = StructType([*struct(rows.schema).fields, *fields])
    with begin(runner, written, address, where=where, metadata=metadata) as transaction:
        try:
            transaction.put(rows, {"": constants}, None)
        except NotEligible as not_eligible:
            spark_rows = frame(runner.start(f"Spark writes {address}: {not_eligible}"), rows)
            transaction.write(_add_constants(spark_rows, constants))
        return transaction.commit()


def _add_constants(rows: DataFrame, constants: Mapping[str, Any]) -> DataFrame:
    return rows.select("*", *[F.lit(value).alias(name) for name, value in constants.items()])


def _constant_type(value: object) -> DataType:
    """Return the type that Spark gives a constant."""
    kinds: dict[type, DataType] = {
        int: IntegerType(),
        str: StringType(),
        datetime: TimestampType(),
    }
    return kinds[type(value)]


def clear(
    spark: SparkSession | Runner,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> None:
    """Remove the rows of a table that match *where*.

    The arguments are those of `begin`.

    Raises:
        AnotherRunWon: another write to the same rows came first; nothing was removed.
    """
    runner = Runner.of(spark)
    written = _Table.at(runner, address).schema
    with begin(runner, written, address, where=where, metadata=metadata) as transaction:
        if not transaction.commits_itself:
            session = runner.start(f"Spark removes rows of {address}")
            transaction.write(session.createDataFrame([], written))
        transaction.commit()


def merge(
    rows: DataFrame,
    address: str,
    *,
    keys: Sequence[str],
    within: Mapping[str, str],
    metadata: Mapping[str, Any],
) -> int:
    """Replace the rows that have the same *keys* as one of *rows*; append the other *rows*.

    Args:
        rows: the new rows; they are read several times, so they must be persisted.
        address: the table, which exists.
        keys: columns whose values are compared; a null equals a null.
        within: columns, each with the value in all rows that can be replaced.
        metadata: the commit's `userMetadata`, which is written as JSON.

    Returns:
        The commit's version.

    Raises:
        AnotherRunWon: another write came first; nothing was written.
        SchemaDrift: the table lacks a column of *rows*, or has another type for it; nothing was
            written. Delta would merge without the column, or cast its values (1.9 to 1).
    """
    spark, text = rows.sparkSession, json.dumps(metadata, default=str)
    scope = [f"there.{_quoted(name)} = {_literal(value)}" for name, value in within.items()]
    same_keys = [f"there.{_quoted(name)} <=> new.{_quoted(name)}" for name in keys]
    what = listed(within.values())
    _check_columns(rows.schema, address, _Table.at(Runner.of(spark), address).schema)
    with _explain_errors(address, what):
        _merge(rows, address, [*scope, *same_keys], "WHEN MATCHED THEN UPDATE SET *", text)
    commit = _find_commit(spark, address, text)
    if commit is None:
        raise AnotherRunWon(address, what)
    return commit[0]


def _merge(
    rows: DataFrame, address: str, conditions: Sequence[str], matched: str, text: str
) -> None:
    spark, name = rows.sparkSession, f"lakescore_{uuid.uuid4().hex}"
    existing = _read_rows(spark, address)
    existing.createOrReplaceTempView(f"{name}_there")
    rows.createOrReplaceTempView(f"{name}_new")
    try:
        with _set_commit_metadata(spark, text):
            spark.sql(
                f"MERGE INTO {name}_there AS there USING {name}_new AS new "
                f"ON {' AND '.join(conditions)} {matched} WHEN NOT MATCHED THEN INSERT *"
            ).collect()
    finally:
        for view in ("there", "new"):
            spark.catalog.dropTempView(f"{name}_{view}")


def _append(rows: DataFrame, address: str, where: Mapping[str, Sequence[str]], text: str) -> None:
    """Append *rows* by a MERGE, so that a second try of the same run appends nothing.

    Another write of rows that match *where* is a conflict, because a MERGE reads these rows. A
    plain append of Spark's writer reads no rows, so it would find no conflict.
    """
    run_column = "scoring_run_id"
    scope = [_predicate(where, "there.")]
    same = [f"there.{_quoted(name)} = new.{_quoted(name)}" for name in where]
    same += [f"there.{run_column} = new.{run_column}"] if run_column in rows.columns else ["false"]
    _merge(rows, address, [*scope, *same], "", text)


def _publish(rows: DataFrame, address: str, replaced: str, text: str) -> None:
    """Let Spark replace the rows that match the predicate *replaced* by *rows*."""
    names = {name.lower() for name in rows.columns}
    schema = _read_rows(rows.sparkSession, address).schema
    missing = [field for field in schema if field.name.lower() not in names]
    for field in missing:  # Spark requires them for a name, and fills them with nulls for a path
        rows = rows.withColumn(field.name, F.lit(None).cast(field.dataType))
    if "/" in address:
        writer = rows.write.format("delta").mode("overwrite").option("replaceWhere", replaced)
        writer.option("userMetadata", text).save(address)
    else:  # saveAsTable would stage all of the table; Delta 3.3 cannot do this since Spark 3.5.6
        rows.writeTo(address).option("userMetadata", text).overwrite(F.expr(replaced))


def _publish_with_schema(
    rows: DataFrame, address: str, partition_by: Sequence[str], text: str
) -> None:
    """Let Spark replace all rows and columns of the table by *rows* and their columns."""
    writer = rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
    writer = writer.option("userMetadata", text).partitionBy(*partition_by)
    if "/" in address:
        writer.save(address)
    else:
        writer.saveAsTable(address)


def _predicate(where: Mapping[str, Sequence[str]], prefix: str = "") -> str:
    return " AND ".join(
        f"{prefix}{_quoted(column)} IN ({', '.join(map(_literal, values))})"
        for column, values in where.items()
    )


def _find_commit(spark: SparkSession, address: str, text: str) -> tuple[int, int] | None:
    """Return the version of the commit with the metadata *text*, and the rows that it wrote."""
    for row in _history(spark, address, _COMMITS_SINCE):
        if row["userMetadata"] == text:
            metrics = row["operationMetrics"] or {}
            rows = metrics.get("numTargetRowsInserted", metrics.get("numOutputRows", 0))
            return int(row["version"]), int(rows)
    return None


def _check_columns(written: StructType, address: str, existing: StructType) -> None:
    """Check that the table has the columns *written* with their types; Spark would cast some."""
    kinds = {field["name"].lower(): field["type"] for field in _columns_json(existing)["fields"]}
    for field in _columns_json(written)["fields"]:
        kind = kinds.get(field["name"].lower())
        if kind is None:
            raise SchemaDrift(address, f"it has no column {field['name']}")
        if kind != field["type"]:
            raise SchemaDrift(
                address, f"its column {field['name']} is {kind}, not {field['type']} as in the rows"
            )


@contextmanager
def _set_commit_metadata(spark: SparkSession, text: str) -> Iterator[None]:
    """Give Spark's commits *text* as their `userMetadata` while the body runs."""
    spark.conf.set(_METADATA_SETTING, text)
    try:
        yield
    finally:
        spark.conf.unset(_METADATA_SETTING)


def _columns_json(schema: StructType) -> Any:  # noqa: ANN401 - JSON
    """Return *schema* as JSON in which everything is nullable, as in tables that Spark makes."""
    nullable = ("nullable", "containsNull", "valueContainsNull")
    return json.loads(
        schema.json(),
        object_hook=lambda node: node | {key: True for key in nullable if key in node},
    )


def _properties(written: StructType, find_by: Sequence[str]) -> dict[str, str]:
    bounded = [name for name in find_by if isinstance(written[name].dataType, _BOUNDED)]
    if not bounded:  # without this, Delta would keep bounds of the first 32 columns
        return {"delta.dataSkippingNumIndexedCols": "0"}
    return {"delta.dataSkippingStatsColumns": ",".join(map(_quoted, bounded))}


def _create(  # noqa: PLR0913, PLR0917 - each argument is a separate fact
    runner: Runner,
    written: StructType,
    address: str,
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    made_with: Mapping[str, Any],
) -> None:
    """Make the table, without rows.

    So a run that fails does not leave files without a table, and two runs that both need the table
    do not conflict.

    Raises:
        TableNotMade: the catalog or schema does not exist, or Delta refuses a column's name.
        FolderRefused: the folder cannot be written to.
    """
    try:
        _check_creatable(runner, written, address)
        with _explain_storage_errors(address):
            logs.create(
                address,
                _columns_json(written),
                partition_by=partition_by,
                properties=properties,
                metadata=made_with,
                setting=runner.setting,
            )
    except NotEligible as not_eligible:
        spark = runner.start(f"Spark makes the table {address}: {not_eligible}")
        _create_by_spark(spark, written, address, partition_by, properties, made_with)


def _check_creatable(runner: Runner, written: StructType, address: str) -> None:
    """Check that delta-rs makes exactly the table that Spark would make.

    Raises:
        NotEligible: the tables could differ, or Spark has to report an error of the columns.
    """
    if "/" not in address or _can_be_elsewhere(runner, address):
        raise NotEligible("Spark knows the place of the table")
    for field in written:
        kind = field.dataType
        if field.metadata or not is_writable(kind):
            raise NotEligible(
                f"column {field.name!r} has metadata or a type that only Spark writes"
            )
        if NO_NAME.search(field.name):
            raise NotEligible(f"a column is called {field.name!r}")
    if len({name.lower() for name in written.names}) < len(written):
        raise NotEligible("columns have the same name")
    if defaults := runner.settings(_DEFAULTS):
        raise NotEligible(f"new tables get {listed(defaults)}")


def _create_by_spark(  # noqa: PLR0913, PLR0917 - the arguments of `_create`
    spark: SparkSession,
    written: StructType,
    address: str,
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    made_with: Mapping[str, Any],
) -> None:
    empty, metadata = spark.createDataFrame([], written), {**logs.MADE, **made_with}
    try:
        with (
            _explain_errors(address, "its first commit"),
            _set_commit_metadata(spark, json.dumps(metadata)),
        ):
            try:
                _create_empty(empty, address, partition_by, properties)
            except FAILURES as error:
                if not _is_conflict(error):
                    raise
                # Another run was making the table: by now it has finished, or it died.
                _create_empty(empty, address, partition_by, properties)
    except (SchemaDrift, AnotherRunWon) as error:
        if not exists(spark, address):
            raise TableNotMade(address, str(error.__cause__).strip().splitlines()[0]) from error


def _create_empty(
    empty: DataFrame, address: str, partition_by: Sequence[str], properties: Mapping[str, str]
) -> None:
    if "/" in address:
        writer = empty.write.format("delta").options(**properties)
        writer.partitionBy(*partition_by).save(address)
        return
    creator = empty.writeTo(address).using("delta")
    creator = creator.partitionedBy(*[F.col(name) for name in partition_by])
    for name, value in properties.items():
        creator = creator.tableProperty(name, value)
    creator.create()


def file_changes(source: Snapshot, after: int) -> list[FileChange] | None:
    """Return the files that were added or removed after the version *after*, up to *source*'s.

    The result is None if the log no longer has these commits.
    """
    return changes(_Table.at(source.runner, source.address), after, source.version)


def changes(table: _Table, after: int, last: int | None = None) -> list[FileChange] | None:
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


_READ_ERRORS: tuple[type[Exception], ...] = (
    LakescoreError,
    NotEligible,
    OSError,
    ValueError,
    *FAILURES,
)
"""The errors of a look at a log, of delta-rs, of a store or of Spark."""


def added(runner: Runner, address: str, version: int) -> dict[str, int]:
    """Return `files_written` and `bytes_written` of a commit; nothing if they are not known.

    The commit's rows are published, so an error while the log is read must not fail the job.
    """
    try:
        commit_changes = changes(_Table.at(runner, address), version - 1, version)
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


def partitioned_by(spark: SparkSession | Runner, address: str) -> list[str]:
    """Return the partition columns of the table."""
    return list(_Table.at(Runner.of(spark), address).partitioned_by)


def commits(spark: SparkSession | Runner, address: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the versions of commits with their metadata in `userMetadata`, the newest first.

    Only commits that the log still has. Other writers can put anything into `userMetadata`; commits
    without a JSON object there are left out.
    """
    table = _Table.at(Runner.of(spark), address)
    if table.known is not None:
        return table.known.commits()
    rows = [(int(row["version"]), logs.said(row["userMetadata"])) for row in table.commits()]
    versions = [(version, metadata) for version, metadata in rows if metadata is not None]
    return sorted(versions, key=itemgetter(0), reverse=True)


def _describe_name(spark: SparkSession, address: str) -> Mapping[str, Any]:
    """Return Spark's description of the table with the name *address*.

    Raises:
        TableNotFound, NotADeltaTable, ViewNotPinned: the catalog has no such name, or the name is
            not a Delta table.
    """
    try:
        table_exists = spark.catalog.tableExists(address)
    except AnalysisException as error:  # the catalog does not exist
        raise TableNotFound(address) from error
    if not table_exists:
        raise TableNotFound(address)
    try:
        detail = spark.sql(f"DESCRIBE DETAIL {address}").head()
    except AnalysisException as error:
        raise (ViewNotPinned if _is_view(spark, address) else NotADeltaTable)(address) from error
    if detail is None or detail["format"] != "delta" or _is_view(spark, address):
        raise (ViewNotPinned if _is_view(spark, address) else NotADeltaTable)(address)
    return detail.asDict()


def _can_be_elsewhere(runner: Runner, address: str) -> bool:
    """Return whether Spark can find a path at another place than this process does."""
    if "://" in address:
        return False
    default_fs = runner.setting("spark.hadoop.fs.defaultFS")
    hadoop = {"HADOOP_CONF_DIR", "YARN_CONF_DIR", "DATABRICKS_RUNTIME_VERSION"} & os.environ.keys()
    return bool(runner.is_client or default_fs or hadoop)


def _describe_path(spark: SparkSession, address: str) -> Mapping[str, Any]:
    """Return Spark's description of the table at the path *address*."""
    try:
        with _explain_storage_errors(address):
            detail = spark.sql(f"DESCRIBE DETAIL {_literal(address)}").head()
    except FAILURES as error:
        if isinstance(error, AnalysisException) or _NO_FILE in str(error):
            raise _missing_error(Runner.of(spark), address) from error
        raise
    if detail is None or detail["format"] != "delta":
        raise _missing_error(Runner.of(spark), address)
    return detail.asDict()


def _missing_error(runner: Runner, address: str) -> NotADeltaTable | TableNotFound:
    return NotADeltaTable(address) if _holds_files(runner, address) else TableNotFound(address)


def _history(spark: SparkSession, address: str, most: int | None = None) -> list[Row]:
    target = _literal(address) if "/" in address else address
    limit = f" LIMIT {most}" if most is not None else ""
    columns = ("version", "userMetadata", "operationMetrics")
    with _explain_storage_errors(address):
        return spark.sql(f"DESCRIBE HISTORY {target}{limit}").select(*columns).collect()


def _read_rows(spark: SparkSession, address: str) -> DataFrame:
    if "/" in address:
        return spark.read.format("delta").load(address)
    return spark.read.table(address)


def _is_view(spark: SparkSession, name: str) -> bool:
    try:
        return spark.catalog.getTable(name).tableType in _VIEWS
    except AnalysisException:  # the catalog has no type for the name
        return False


@contextmanager
def _explain_storage_errors(address: str) -> Iterator[None]:
    """Turn errors of the object store of the table at *address* into one-line errors."""
    try:
        yield
    except FAILURES as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        raise


def _holds_files(runner: Runner, path: str) -> bool:
    place = folder(path, runner.setting)
    if place is not None and not _can_be_elsewhere(runner, path):
        with suppress(OSError):  # Spark can have other credentials
            return place.holds_files()
    files = (
        runner.start(f"Spark searches for {path}")
        .read.format("binaryFile")
        .option("recursiveFileLookup", "true")
    )
    try:
        with _explain_storage_errors(path):
            return files.load(plain_path(path)).select("path").head() is not None
    except AnalysisException:
        return False


def _literal(text: str) -> str:
    """Return *text* as a literal of Spark SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _is_conflict(error: Exception) -> bool:
    return _CONFLICT.search(f"{type(error).__name__} {error}") is not None


@contextmanager
def _explain_errors(address: str, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        known = _table_error(error, address, what)
        if known is None:
            raise
        raise known from error


def _table_error(error: Exception, address: str, what: str) -> LakescoreError | None:
    """Return the lakescore error for an *error* of Delta or Spark in a write to the table."""
    if isinstance(error, FAILURES):
        return _spark_error(error, address, what) or _storage_error(error, address)
    if isinstance(error, OSError) or type(error).__module__.startswith("_internal"):
        return _storage_error(error, address)
    return None


def _spark_error(  # noqa: PLR0911 - a case a line
    error: Exception, address: str, what: str
) -> LakescoreError | None:
    text = str(error)
    if (misplaced := _MISPLACED.search(text)) is not None:
        return SchemaDrift(address, misplaced[1])
    if _NO_SPACE not in text and (unwritten := _UNWRITTEN.search(text)) is not None:
        return FilesUnwritten(address, unwritten[1])
    if _is_conflict(error):
        return AnotherRunWon(address, what)
    if (rule := _RULE.search(text)) is not None:
        return SchemaDrift(address, " ".join((rule[1] or rule[2] or rule[3]).split()).rstrip(".: "))
    if "[DELTA_CANNOT_MODIFY_APPEND_ONLY]" in text:
        return TableAppendOnly(address, default=False)
    if isinstance(error, AnalysisException):
        if "already exists" in text:
            return AnotherRunWon(address, what)
        return SchemaDrift(address, text.strip().splitlines()[0])
    return None


def _storage_error(error: Exception, address: str) -> LakescoreError | None:
    text = str(error)
    if _NO_SPACE in text:
        return StorageFull(address)
    if (known := explain_error(error, address)) is not None:
        return known
    # In a Python trace, the refused folder can be one that the model uses.
    refused = None if "Traceback (most recent call last)" in text else _REFUSED.search(text)
    return FolderRefused(address, refused[0]) if refused else None
