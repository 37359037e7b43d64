"""Delta at the edges: read one snapshot, write one slice and let all see it in one commit.

An address is a table's name (`schema.table`) or an absolute path or URI, which alone holds a `/`.
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
from lakescore.errors import (
    AnotherRunWon,
    FilesUnwritten,
    FolderRefused,
    LakescoreError,
    NotADeltaTable,
    SchemaDrift,
    SnapshotNotFound,
    StorageFull,
    StorageRefused,
    StorageUnsupported,
    TableAppendOnly,
    TableNotFound,
    TableNotMade,
    ViewNotPinned,
    listed,
)
from lakescore.filing import Form, Place
from lakescore.logs import FileChange, Log, NotEligible
from lakescore.runner import FAILURES, Runner
from lakescore.snapshots import Snapshot
from lakescore.storage import explain_error, folder, plain_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from pyspark.sql import Row, SparkSession
    from pyspark.sql.types import DataType

    from lakescore.logs import NewFile

_BOUNDED = (DateType, DecimalType, IntegralType, TimestampType)
"""The types whose bounds are right whoever writes them, and for every reader.

Of texts that are no UTF-8, Spark's writer tells bounds by which Spark's reader skips them. Where a
float is NaN, its bound makes delta-rs skip the file.
"""
_SAYING = "spark.databricks.delta.commitInfo.userMetadata"
"""The setting that gives Spark's own commits their `userMetadata`."""
_COMMITS_SINCE = 50
"""How many commits of others may come between one of Spark's and its reading back."""
_VIEWS = {"VIEW", "TEMPORARY"}
_DEFAULTS = "spark.databricks.delta.properties.defaults."
_ONLY_APPENDS = f"{_DEFAULTS}appendOnly"
_CONFLICT = re.compile(
    r"\[DELTA_(?:CONCURRENT_\w+|METADATA_CHANGED|PROTOCOL_CHANGED)[\].]"
    r"|\b(?:ConcurrentAppend|ConcurrentDelete\w+|ConcurrentTransaction|ConcurrentWrite"
    r"|MetadataChanged|ProtocolChanged)Exception\b"
)
"""How Delta says that another commit came first."""
_RULE = re.compile(
    r"\[DELTA_(?:VIOLATE_CONSTRAINT_WITH_VALUES|NOT_NULL_CONSTRAINT_VIOLATED"
    r"|EXCEED_CHAR_VARCHAR_LIMIT)\] (.+?)(?=\s*(?:\n\s*at |\n\n|\Z))"
    r"|\[(?:NOT_NULL_ASSERT_VIOLATION|EXCEED_LIMIT_LENGTH)\] ([^\n]+?)(?= SQLSTATE|\n|\Z)"
    r"|NullPointerException: (Null value appeared in non-nullable field[^\n]*)",  # Spark 3.5
    re.DOTALL,
)
"""How Delta says which rule of a table a row breaks: after what it was doing, or before a trace.

And how Spark does, of a MERGE, without the column.
"""
_REFUSED = re.compile(
    r"\[DELTA_CANNOT_CREATE_LOG_PATH\] [^\n]+"
    r"|(?:Permission denied|Operation not permitted|Read-only file system)"
)
_MISPLACED = re.compile(rf"\b{executor.Misplaced.__name__}: (.+)")
_UNWRITTEN = re.compile(rf"\b{executor.Unwritten.__name__}: (.+)")
_NO_FILE = "[DELTA_FILE_NOT_FOUND]"
_NO_SPACE = "No space left on device"


def snapshot(spark: SparkSession | Runner, address: str, version: int | None = None) -> Snapshot:
    """Pin the table at *address* to *version*, or to its latest one.

    Raises:
        TableNotFound, NotADeltaTable: there is no table, or not a Delta table.
        SnapshotNotFound: the table has no such version.
    """
    runner = Runner.of(spark)
    table = _Table.at(runner, address)
    pinned = table.version if version is None else version

    def read() -> DataFrame:
        session = runner.start(f"Spark reads rows of {address}")
        reader = session.read.format("delta").option("versionAsOf", pinned)
        try:
            with _reaching(address):
                rows = reader.load(address) if "/" in address else reader.table(address)
                _ = rows.schema  # a client of Spark Connect looks no sooner
        except AnalysisException as error:  # that version's files were cleaned up
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
    found = Snapshot(address, pinned, table.table_id, runner, read, known, not_eligible)
    if known is None:
        runner.start(not_eligible)
        _ = found.rows  # only Spark knows whether it is there
    return found


def exists(spark: SparkSession | Runner, address: str) -> bool:
    """Tell whether there is a Delta table at *address*.

    Raises:
        NotADeltaTable: there is something else.
    """
    try:
        _Table.at(Runner.of(spark), address)
    except TableNotFound:
        return False
    return True


@dataclass(frozen=True)
class _Table:
    """A table that is there, as it is now."""

    runner: Runner
    address: str
    location: str
    """Its folder or URI."""
    known: Log | None
    not_eligible: str
    """Why the log cannot be read without Spark, if so."""
    detail: Mapping[str, Any]
    """What Spark says of it, where it was asked."""

    @classmethod
    def at(cls, runner: Runner, address: str) -> _Table:
        """Look the table up.

        Raises:
            TableNotFound, NotADeltaTable: there is none, or something else.
        """
        detail: Mapping[str, Any] = {}
        if "/" not in address:
            detail = _named(runner.start(f"{address} is a name, which a catalog knows"), address)
        elif _may_be_elsewhere(runner, address):
            detail = _described(runner.start(f"Hadoop may know where {address} is"), address)
        location, known, not_eligible = detail.get("location") or address, None, ""
        try:
            known = Log(location, setting=runner.setting)
        except FileNotFoundError as error:
            if not detail:
                raise _missing(runner, address) from error
            not_eligible = f"Spark sees the table at {detail['location']}, and the driver does not"
        except (NotEligible, StorageRefused) as error:
            try:  # Spark may have other credentials
                detail = detail or _described(runner.start(str(error)), address)
            except StorageUnsupported:
                raise error from None
            not_eligible = str(error)
        if known is not None and detail and known.table_id != str(detail["id"]):
            known, not_eligible = None, f"the driver sees another table at {location}"
        return cls(runner, address, location, known, not_eligible, detail)

    @property
    def spark(self) -> SparkSession:
        """The session of Spark, for what delta-rs cannot tell."""
        return self.runner.start(self.not_eligible or f"Spark looks at {self.address}")

    @cached_property
    def version(self) -> int:
        """The newest version."""
        if self.known is not None:
            return self.known.version
        return int(_history(self.spark, self.address, 1)[0]["version"])

    @property
    def table_id(self) -> str:
        """Delta's own id."""
        return self.known.table_id if self.known is not None else str(self.detail["id"])

    @property
    def properties(self) -> Mapping[str, str]:
        """The table's properties."""
        return self.known.properties if self.known is not None else self.detail["properties"]

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The columns that divide it."""
        if self.known is not None:
            return self.known.partitioned_by
        return tuple(self.detail["partitionColumns"])

    @cached_property
    def schema(self) -> StructType:
        """Its columns."""
        if self.known is not None:
            return StructType.fromJson(self.known.schema)
        return _rows(self.spark, self.address).schema

    def commits(self) -> list[dict[str, Any]]:
        """Return the commits that the log still holds, as `DESCRIBE HISTORY` tells them."""
        return [row.asDict() for row in _history(self.spark, self.address)]


class Transaction:
    """Rows for a table, that nobody sees before `commit`.

    Either `write` takes all rows of a frame, or `add` takes files that others wrote. Files that are
    never committed are left for VACUUM. Where delta-rs may not commit to the table, the rows wait
    in a Delta table of their own beside it, and Spark's writer publishes them; that table is
    removed at the end of a `with` statement.

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
        anew: Mapping[str, str] | None,
    ) -> None:
        self._table, self._where, self._metadata = table, where, metadata
        self._append, self._anew = append, anew
        self._what = listed(value for values in where.values() for value in values)
        self.written = written
        """The columns that files hold."""
        self.how, self.reason = "direct", ""
        """Who wrote: the workers that scored (`direct`), workers that Spark handed the rows to
        (`handed over`), or Spark (`spark`); and why not the workers that scored."""
        self.said: list[bytes] = []
        """What tasks said of themselves."""
        self._files: list[NewFile] = []
        self._staged: _Staged | None = None
        self._published: dict[str, int] = {"bytes_written": 0, "files_written": 0}
        if anew is None:
            _check_columns(self.written, table.address, table.schema)

    @property
    def commits_itself(self) -> bool:
        """Whether delta-rs may commit files to the table, which the rows need not be in yet."""
        if self._table.known is None:
            return False
        try:
            self._table.known.check_writable()
        except NotEligible:
            return False
        return True

    @property
    def form(self) -> Form:
        """What the table is from the commit on."""
        table = self._table
        if self._anew is None:
            return Form(table.schema, table.properties, table.partitioned_by)
        schema = StructType.fromJson(_columns(self.written))
        return Form(schema, self._anew, tuple(self._where))

    def sink(
        self,
        places: Mapping[str, Place],
        parts: Mapping[str, Mapping[str, Any]],
        by: int | None,
    ) -> executor.Sink:
        """Return where workers write what has the columns of the rows; see `filing.sink`.

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

    def write(self, rows: DataFrame, asked: str = "direct") -> Self:
        """Write *rows*, where nobody sees them.

        Args:
            rows: the columns that files hold; a column `SAID` besides is what tasks say.
            asked: `spark` has Spark write in any case.

        Raises:
            SchemaDrift: a row breaks a rule of the table, or is of no place.
            StorageFull, FilesUnwritten, FolderRefused: there is no room, or no permission.
        """
        with _explained(self._table.address, self._what):
            reason = "asked for" if asked == "spark" else self._hand_over(rows)
            if reason is not None:
                self.how, self.reason = "spark", reason
                self._stage(rows)
        return self

    def _hand_over(self, rows: DataFrame) -> str | None:
        """Let Spark hand *rows* to workers that write the files, or return why it cannot."""
        names = rows.columns
        column = max(self._where, key=lambda name: len(self._where[name]))
        others = {name: values for name, values in self._where.items() if name != column}
        if any(len(values) != 1 for values in others.values()):
            return f"several values of {listed(self._where)} tell rows apart"
        fixed = {name: values[0] for name, values in others.items()}
        parts = {value: {**fixed, column: value} for value in self._where[column]}
        places = {name: Place(n) for n, name in enumerate(names)}
        try:
            sink = self.sink(places, parts, names.index(column))
        except NotEligible as not_eligible:
            return str(not_eligible)
        found = rows.mapInArrow(executor.filer(sink), struct(executor.FILES))
        self.add(collected(found).to_pylist(), sink)
        self.how = "handed over"
        return None

    def put(self, rows: pa.Table, parts: Mapping[str, Mapping[str, Any]], by: str | None) -> Self:
        """Write *rows*, which this process holds, where nobody sees them.

        Args:
            rows: columns that files hold, and the text *by* which tells parts apart.
            parts: the values that all rows of one have besides.
            by: the column of that text; without, there is one part.

        Raises:
            NotEligible: Spark has to write.
            SchemaDrift, StorageFull, FilesUnwritten, FolderRefused: as `write`.
        """
        names = rows.column_names
        places = {name: Place(n) for n, name in enumerate(names)}
        sink = self.sink(places, parts, None if by is None else names.index(by))
        with _explained(self._table.address, self._what):
            found = list(executor.filer(sink)(iter(rows.to_batches())))
        self.add([row for batch in found for row in batch.to_pylist()], sink)
        return self

    def _stage(self, rows: DataFrame) -> None:
        self._staged = _Staged.write(rows, self._table)
        self.said += self._staged.said()

    def add(self, found: Sequence[Mapping[str, Any]], sink: executor.Sink) -> None:
        """Take what tasks that wrote into *sink* gave: `executor.FILES`.

        Raises:
            WrittenFilesMissing: a file is not there, or is not what its task wrote.
        """
        said = executor.SAID
        self.said += [bytes(row[said]) for row in found if row[said] is not None]
        written = [row for row in found if row[said] is None]
        self._files += filing.files(written, sink, self.form.partitioned_by)

    def counts(self, column: str) -> dict[str, int]:
        """Return the rows written by value of *column*, which divides the table."""
        if self._staged is not None:
            return self._staged.counts(column)
        found: dict[str, int] = {}
        for file in self._files:
            value = file.partition[column]
            found[value] = found.get(value, 0) + file.rows
        return found

    def facts(self) -> dict[str, Any]:
        """Return what was written, for the receipt."""
        how = {"write": self.how} | ({"write_reason": self.reason} if self.reason else {})
        if self._staged is not None:
            return self._published | how
        size = sum(file.size for file in self._files)
        return {"bytes_written": size, "files_written": len(self._files), **how}

    def commit(self) -> int:
        """Let everybody see the rows at once; return the table's version.

        Raises:
            AnotherRunWon: another write to the same rows came first; nothing is seen of this one.
        """
        with _explained(self._table.address, self._what):
            if self._staged is not None:
                return self._publish(self._staged)
            log = self._table.known
            assert log is not None  # noqa: S101 - files were added to it, or may be
            if self._anew is not None:
                return log.renew(
                    self._files,
                    _columns(self.written),
                    tuple(self._where),
                    self._anew,
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
        """Let Spark's writer publish the rows that wait."""
        table, address, rows = self._table, self._table.address, staged.rows.count()
        self._check_untouched()
        if self._anew is not None:
            assert table.known is not None  # noqa: S101 - else it counts as published
            table.known.set_properties(self._anew, what=self._what)
            _publish_anew(staged.rows, address, list(self._where), self._metadata)
        elif self._append:
            _append(staged.rows, address, self._where, self._metadata)
        else:
            _publish(staged.rows, address, _predicate(self._where), self._metadata)
        made = _version_of(table.spark, address, self._metadata)
        if made is None and rows == 0:  # then Delta makes no commit
            return _Table.at(table.runner, address).version
        if made is None:
            raise AnotherRunWon(address, self._what)
        version, published = made
        if self._append and published < rows:  # those were there, of the very same run
            raise AnotherRunWon(address, self._what)
        self._published = added(table.runner, address, version)
        return version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._staged is not None:
            self._staged.remove()

    def _check_untouched(self) -> None:
        """Hold that nobody wrote to the place since the transaction began."""
        now = _Table.at(self._table.runner, self._table.address)
        since = changes(now, self._table.version)
        place = self._where.items()
        if now.table_id != self._table.table_id or _columns(now.schema) != _columns(
            self._table.schema
        ):
            raise AnotherRunWon(self._table.address, self._what)
        if since is None or any(
            all(change.partition.get(column) in values for column, values in place)
            for change in since
        ):
            raise AnotherRunWon(self._table.address, self._what)


@dataclass(frozen=True)
class _Staged:
    """Rows that wait in a Delta table of their own, under names that any table may have."""

    frame: DataFrame
    """All rows, with what tasks said."""
    rows: DataFrame
    """The rows, named as they will be."""
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
        kept = frame
        if executor.SAID in rows.columns:
            kept = frame.where(F.col(executor.SAID).isNull()).drop(executor.SAID)
        return cls(frame, kept, address, table.runner.setting)

    def said(self) -> list[bytes]:
        """Return what tasks said."""
        if executor.SAID not in self.frame.columns:
            return []
        told = self.frame.where(F.col(executor.SAID).isNotNull()).select(executor.SAID)
        return [bytes(row[0]) for row in told.collect()]

    def counts(self, column: str) -> dict[str, int]:
        """Return the rows by value of *column*."""
        return dict(map(tuple, self.rows.groupBy(f"`{column}`").count().collect()))

    def remove(self) -> None:
        """Leave nothing behind."""
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


def begin(  # noqa: PLR0913 - each is a fact of its own
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
    """Begin to put rows in the place of those for which *where* holds, or beside them.

    The table is made when it does not exist, partitioned by *where*'s columns, and made anew where
    no run has published to it. All of the rows must satisfy *where*.

    Args:
        spark: the session, or the runner.
        written: the columns of what the table shall hold there.
        address: the table.
        where: columns and the values that they may have: typed, since a raw predicate such as
            `slice = 'a' or 1 = 1` would replace the whole table.
        metadata: the commit's `userMetadata`, as JSON.
        find_by: the columns that rows will be looked for by. A new table keeps the smallest and
            largest values of these alone for each file, where their type allows it: they cost more
            than the writing itself.
        append: leave the rows that are there.
        made_with: what the commit that makes the table says besides, in its `userMetadata`.

    Raises:
        NotADeltaTable: there is something else at *address*.
        TableAppendOnly: rows of the table, or of any new one, cannot be replaced.
        TableNotMade, FolderRefused: it cannot be made.
        SchemaDrift: it does not take these columns.
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
    asked = (_columns(written), tuple(where))
    as_it_is = (_columns(table.schema), table.partitioned_by)
    anew = None if as_it_is == asked or _is_published(table) else properties
    return Transaction(
        table,
        written,
        where=where,
        metadata=json.dumps(metadata, default=str),
        append=append,
        anew=anew,
    )


def is_published(spark: SparkSession | Runner, address: str) -> bool:
    """Tell whether the table at *address* is more than what runs that published nothing left."""
    return _is_published(_Table.at(Runner.of(spark), address))


def _is_published(table: _Table) -> bool:
    """Say yes of a table that only Spark understands: none of those is as we make them."""
    return table.known is None or table.known.is_published()


def replace(
    rows: DataFrame,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
    find_by: Sequence[str] = (),
) -> int:
    """Replace the rows of the table for which *where* holds by *rows*; return the commit's version.

    Args are those of `begin`.

    Raises:
        AnotherRunWon: another write to the same rows came first; nothing was written.
        SchemaDrift: the table has other columns; nothing was written.
    """
    spark, written = rows.sparkSession, rows.schema
    with begin(spark, written, address, where=where, metadata=metadata, find_by=find_by) as begun:
        return begun.write(rows).commit()


def put(  # noqa: PLR0913 - all but the first three by name
    spark: SparkSession | Runner,
    rows: pa.Table | DataFrame,
    address: str,
    *,
    constants: Mapping[str, Any],
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> int:
    """Do what `replace` does, of rows that this process holds too, each with the same *constants*.

    Args:
        spark: the session, or the runner.
        rows: a frame, or a table that this process holds.
        address: as for `begin`.
        constants: columns that all rows have besides, and their values.
        where: as for `begin`; columns among *constants*.
        metadata: as for `begin`.

    Raises:
        AnotherRunWon, SchemaDrift: as `replace`.
    """
    if isinstance(rows, DataFrame):
        return replace(_with(rows, constants), address, where=where, metadata=metadata)
    runner = Runner.of(spark)
    same = [StructField(name, _kind(value), nullable=False) for name, value in constants.items()]
    written = StructType([*struct(rows.schema).fields, *same])
    with begin(runner, written, address, where=where, metadata=metadata) as begun:
        try:
            begun.put(rows, {"": constants}, None)
        except NotEligible as not_eligible:
            held = frame(runner.start(f"Spark writes {address}: {not_eligible}"), rows)
            begun.write(_with(held, constants))
        return begun.commit()


def _with(rows: DataFrame, constants: Mapping[str, Any]) -> DataFrame:
    return rows.select("*", *[F.lit(value).alias(name) for name, value in constants.items()])


def _kind(value: object) -> DataType:
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
    """Remove the rows of a table for which *where* holds.

    Args are those of `begin`.

    Raises:
        AnotherRunWon: another write to the same rows came first; nothing was removed.
    """
    runner = Runner.of(spark)
    written = _Table.at(runner, address).schema
    with begin(runner, written, address, where=where, metadata=metadata) as begun:
        if not begun.commits_itself:
            begun.write(runner.start(f"Spark clears {address}").createDataFrame([], written))
        begun.commit()


def merge(
    rows: DataFrame,
    address: str,
    *,
    keys: Sequence[str],
    within: Mapping[str, str],
    metadata: Mapping[str, Any],
) -> int:
    """Put *rows* in the place of those with the same *keys*, and the others beside them.

    Args:
        rows: what is read several times, and must be held.
        address: the table, which exists.
        keys: columns whose values are compared; a null equals a null.
        within: columns and the value that the rows in question have.
        metadata: the commit's `userMetadata`, as JSON.

    Returns:
        The commit's version.

    Raises:
        AnotherRunWon: nothing was written.
        SchemaDrift: nothing was written; the table lacks a column of *rows*, or has another type
            there, to which Delta would cast (1.9 to 1) or without which it would merge.
    """
    spark, text = rows.sparkSession, json.dumps(metadata, default=str)
    fixed = [f"there.{_quoted(name)} = {_literal(value)}" for name, value in within.items()]
    same = [f"there.{_quoted(name)} <=> new.{_quoted(name)}" for name in keys]
    what = listed(within.values())
    _check_columns(rows.schema, address, _Table.at(Runner.of(spark), address).schema)
    with _explained(address, what):
        _merge(rows, address, [*fixed, *same], "WHEN MATCHED THEN UPDATE SET *", text)
    made = _version_of(spark, address, text)
    if made is None:
        raise AnotherRunWon(address, what)
    return made[0]


def _merge(
    rows: DataFrame, address: str, conditions: Sequence[str], matched: str, text: str
) -> None:
    spark, name = rows.sparkSession, f"lakescore_{uuid.uuid4().hex}"
    there = _rows(spark, address)
    there.createOrReplaceTempView(f"{name}_there")
    rows.createOrReplaceTempView(f"{name}_new")
    try:
        with _saying(spark, text):
            spark.sql(
                f"MERGE INTO {name}_there AS there USING {name}_new AS new "
                f"ON {' AND '.join(conditions)} {matched} WHEN NOT MATCHED THEN INSERT *"
            ).collect()
    finally:
        for view in ("there", "new"):
            spark.catalog.dropTempView(f"{name}_{view}")


def _append(rows: DataFrame, address: str, where: Mapping[str, Sequence[str]], text: str) -> None:
    """Append *rows* so that others who write to the place are a conflict, and twice is once.

    Spark's writer looks at nothing when it appends; a MERGE reads the place.
    """
    own = "scoring_run_id"
    fixed = [_predicate(where, "there.")]
    same = [f"there.{_quoted(name)} = new.{_quoted(name)}" for name in where]
    same += [f"there.{own} = new.{own}"] if own in rows.columns else ["false"]
    _merge(rows, address, [*fixed, *same], "", text)


def _publish(rows: DataFrame, address: str, replaced: str, text: str) -> None:
    """Let Spark write *rows* in the place of those for which *replaced* holds."""
    own = {name.lower() for name in rows.columns}
    lacking = [f for f in _rows(rows.sparkSession, address).schema if f.name.lower() not in own]
    for field in lacking:  # a writer by name asks for them, and one by path fills them so
        rows = rows.withColumn(field.name, F.lit(None).cast(field.dataType))
    if "/" in address:
        writer = rows.write.format("delta").mode("overwrite").option("replaceWhere", replaced)
        writer.option("userMetadata", text).save(address)
    else:  # saveAsTable would stage the whole table, which Delta 3.3 cannot from Spark 3.5.6 on
        rows.writeTo(address).option("userMetadata", text).overwrite(F.expr(replaced))


def _publish_anew(rows: DataFrame, address: str, by: Sequence[str], text: str) -> None:
    """Let Spark write *rows* as all that the table holds, with their columns."""
    writer = rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
    writer = writer.option("userMetadata", text).partitionBy(*by)
    if "/" in address:
        writer.save(address)
    else:
        writer.saveAsTable(address)


def _predicate(where: Mapping[str, Sequence[str]], of: str = "") -> str:
    return " AND ".join(
        f"{of}{_quoted(column)} IN ({', '.join(map(_literal, values))})"
        for column, values in where.items()
    )


def _version_of(spark: SparkSession, address: str, text: str) -> tuple[int, int] | None:
    """Return the version of the commit that says *text*, and the rows that it wrote."""
    for row in _history(spark, address, _COMMITS_SINCE):
        if row["userMetadata"] == text:
            metrics = row["operationMetrics"] or {}
            rows = metrics.get("numTargetRowsInserted", metrics.get("numOutputRows", 0))
            return int(row["version"]), int(rows)
    return None


def _check_columns(written: StructType, address: str, there: StructType) -> None:
    """Hold that a table has these columns, of these types: Spark's writers would cast some."""
    kinds = {each["name"].lower(): each["type"] for each in _columns(there)["fields"]}
    for field in _columns(written)["fields"]:
        kind = kinds.get(field["name"].lower())
        if kind is None:
            raise SchemaDrift(address, f"it has no column {field['name']}")
        if kind != field["type"]:
            raise SchemaDrift(
                address, f"its column {field['name']} is {kind}, and theirs {field['type']}"
            )


@contextmanager
def _saying(spark: SparkSession, text: str) -> Iterator[None]:
    """Let Spark's own commits have *text* as their `userMetadata`."""
    spark.conf.set(_SAYING, text)
    try:
        yield
    finally:
        spark.conf.unset(_SAYING)


def _columns(schema: StructType) -> Any:  # noqa: ANN401 - JSON
    """Return *schema* as JSON, in which all may be null, as in tables that Spark makes."""
    nullable = ("nullable", "containsNull", "valueContainsNull")
    return json.loads(
        schema.json(), object_hook=lambda said: said | {n: True for n in nullable if n in said}
    )


def _properties(written: StructType, find_by: Sequence[str]) -> dict[str, str]:
    bounded = [name for name in find_by if isinstance(written[name].dataType, _BOUNDED)]
    if not bounded:  # else Delta would bound the first 32 columns, whatever they are
        return {"delta.dataSkippingNumIndexedCols": "0"}
    return {"delta.dataSkippingStatsColumns": ",".join(map(_quoted, bounded))}


def _create(  # noqa: PLR0913, PLR0917 - each is a fact of its own
    runner: Runner,
    written: StructType,
    address: str,
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    made_with: Mapping[str, Any],
) -> None:
    """Make the table, empty.

    Else files of a run that fails would lie there without a table, and two runs that both need it
    would be in each other's way.

    Raises:
        TableNotMade: there is no such catalog or schema, or columns have names that Delta refuses.
        FolderRefused: nothing can be written there.
    """
    try:
        _check_known_to_delta_rs(runner, written, address)
        with _reaching(address):
            logs.create(
                address,
                _columns(written),
                partition_by=partition_by,
                properties=properties,
                metadata=made_with,
                setting=runner.setting,
            )
    except NotEligible as not_eligible:
        spark = runner.start(f"Spark makes the table {address}: {not_eligible}")
        _create_by_spark(spark, written, address, partition_by, properties, made_with)


def _check_known_to_delta_rs(runner: Runner, written: StructType, address: str) -> None:
    """Hold that delta-rs would make the very table that Spark makes.

    Raises:
        NotEligible: it would not, or Spark has to say what is wrong with the columns.
    """
    if "/" not in address or _may_be_elsewhere(runner, address):
        raise NotEligible("Spark knows where the table is to be")
    for field in written:
        kind = field.dataType
        if field.metadata or not is_writable(kind):
            raise NotEligible(f"column {field.name!r} has a rule of its own")
        if NO_NAME.search(field.name):
            raise NotEligible(f"a column is called {field.name!r}")
    if len({name.lower() for name in written.names}) < len(written):
        raise NotEligible("columns share a name")
    if named := runner.settings(_DEFAULTS):
        raise NotEligible(f"new tables get {listed(named)}")


def _create_by_spark(  # noqa: PLR0913, PLR0917 - those of `_create`
    spark: SparkSession,
    written: StructType,
    address: str,
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    made_with: Mapping[str, Any],
) -> None:
    empty, said = spark.createDataFrame([], written), {**logs.MADE, **made_with}
    try:
        with _explained(address, "its first commit"), _saying(spark, json.dumps(said)):
            try:
                _make(empty, address, partition_by, properties)
            except FAILURES as error:
                if not _is_conflict(error):
                    raise
                # Another run is making it: by now it has, or it died.
                _make(empty, address, partition_by, properties)
    except (SchemaDrift, AnotherRunWon) as error:
        if not exists(spark, address):
            raise TableNotMade(address, str(error.__cause__).strip().splitlines()[0]) from error


def _make(
    empty: DataFrame, address: str, partition_by: Sequence[str], properties: Mapping[str, str]
) -> None:
    if "/" in address:
        writer = empty.write.format("delta").options(**properties)
        writer.partitionBy(*partition_by).save(address)
        return
    named = empty.writeTo(address).using("delta")
    named = named.partitionedBy(*[F.col(name) for name in partition_by])
    for name, value in properties.items():
        named = named.tableProperty(name, value)
    named.create()


def file_changes(source: Snapshot, after: int) -> list[FileChange] | None:
    """Return the files that came and went after the version *after* up to *source*'s.

    None where the log does not hold these commits any more.
    """
    return changes(_Table.at(source.runner, source.address), after, source.version)


def changes(table: _Table, after: int, last: int | None = None) -> list[FileChange] | None:
    """Return what `file_changes` does, with the partitions by the columns' own names."""
    place = folder(table.location, table.runner.setting)
    if place is None:
        return None
    found = logs.changes(place, after, table.version if last is None else last)
    if found is None:
        return None
    stored = {field.metadata.get(logs.STORED, field.name): field.name for field in table.schema}
    return [
        dataclasses.replace(
            change,
            partition={stored.get(name, name): value for name, value in change.partition.items()},
        )
        for change in found
    ]


def added(runner: Runner, address: str, version: int) -> dict[str, int]:
    """Return `files_written` and `bytes_written` of a commit; nothing where nobody can tell.

    Its rows are published, so no error of a look at the log is one of the job.
    """
    try:
        found = changes(_Table.at(runner, address), version - 1, version)
    except (LakescoreError, OSError, ValueError):
        return {}
    if found is None:
        return {}
    sizes = [change.size for change in found if change.added]
    return {"bytes_written": sum(sizes), "files_written": len(sizes)}


def partitioned_by(spark: SparkSession | Runner, address: str) -> list[str]:
    """Return the columns that divide the table."""
    return list(_Table.at(Runner.of(spark), address).partitioned_by)


def commits(spark: SparkSession | Runner, address: str) -> list[tuple[int, dict[str, Any]]]:
    """Return what commits say of themselves in `userMetadata`, the newest first.

    Those that the log still holds; others than ours may say anything, and are left out then.
    """
    table = _Table.at(Runner.of(spark), address)
    if table.known is not None:
        return table.known.commits()
    rows = [(int(row["version"]), logs.said(row["userMetadata"])) for row in table.commits()]
    found = [(version, said) for version, said in rows if said is not None]
    return sorted(found, key=itemgetter(0), reverse=True)


def _named(spark: SparkSession, address: str) -> Mapping[str, Any]:
    """Return what Spark says of the table of that name.

    Raises:
        TableNotFound, NotADeltaTable, ViewNotPinned: it is not there, or something else.
    """
    try:
        there = spark.catalog.tableExists(address)
    except AnalysisException as error:  # there is no such catalog
        raise TableNotFound(address) from error
    if not there:
        raise TableNotFound(address)
    try:
        detail = spark.sql(f"DESCRIBE DETAIL {address}").head()
    except AnalysisException as error:
        raise (ViewNotPinned if _is_view(spark, address) else NotADeltaTable)(address) from error
    if detail is None or detail["format"] != "delta" or _is_view(spark, address):
        raise (ViewNotPinned if _is_view(spark, address) else NotADeltaTable)(address)
    return detail.asDict()


def _may_be_elsewhere(runner: Runner, address: str) -> bool:
    """Tell whether Spark may find a path in another place than this process would."""
    if "://" in address:
        return False
    settings = runner.setting("spark.hadoop.fs.defaultFS")
    hadoop = {"HADOOP_CONF_DIR", "YARN_CONF_DIR", "DATABRICKS_RUNTIME_VERSION"} & os.environ.keys()
    return bool(runner.is_client or settings or hadoop)


def _described(spark: SparkSession, address: str) -> Mapping[str, Any]:
    """Return what Spark says of the table at the path *address*."""
    try:
        with _reaching(address):
            detail = spark.sql(f"DESCRIBE DETAIL {_literal(address)}").head()
    except FAILURES as error:
        if isinstance(error, AnalysisException) or _NO_FILE in str(error):
            raise _missing(Runner.of(spark), address) from error
        raise
    if detail is None or detail["format"] != "delta":
        raise _missing(Runner.of(spark), address)
    return detail.asDict()


def _missing(runner: Runner, address: str) -> NotADeltaTable | TableNotFound:
    return NotADeltaTable(address) if _holds_files(runner, address) else TableNotFound(address)


def _history(spark: SparkSession, address: str, most: int | None = None) -> list[Row]:
    target = _literal(address) if "/" in address else address
    limit = f" LIMIT {most}" if most is not None else ""
    columns = ("version", "userMetadata", "operationMetrics")
    with _reaching(address):
        return spark.sql(f"DESCRIBE HISTORY {target}{limit}").select(*columns).collect()


def _rows(spark: SparkSession, address: str) -> DataFrame:
    if "/" in address:
        return spark.read.format("delta").load(address)
    return spark.read.table(address)


def _is_view(spark: SparkSession, name: str) -> bool:
    try:
        return spark.catalog.getTable(name).tableType in _VIEWS
    except AnalysisException:  # its catalog does not say
        return False


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Tell in one line what keeps the object store of the table at *address* from answering."""
    try:
        yield
    except FAILURES as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        raise


def _holds_files(runner: Runner, path: str) -> bool:
    place = folder(path, runner.setting)
    if place is not None and not _may_be_elsewhere(runner, path):
        with suppress(OSError):  # Spark may have other credentials
            return place.holds_files()
    files = (
        runner.start(f"Spark looks for {path}")
        .read.format("binaryFile")
        .option("recursiveFileLookup", "true")
    )
    try:
        with _reaching(path):
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
def _explained(address: str, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        known = _meaning(error, address, what)
        if known is None:
            raise
        raise known from error


def _meaning(error: Exception, address: str, what: str) -> LakescoreError | None:
    """Return what *error* of Delta or Spark says of the table that was to be written to."""
    if isinstance(error, FAILURES):
        return _of_spark(error, address, what) or _of_storage(error, address)
    if isinstance(error, OSError) or type(error).__module__.startswith("_internal"):
        return _of_storage(error, address)
    return None


def _of_spark(  # noqa: PLR0911 - a case a line
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


def _of_storage(error: Exception, address: str) -> LakescoreError | None:
    text = str(error)
    if _NO_SPACE in text:
        return StorageFull(address)
    if (known := explain_error(error, address)) is not None:
        return known
    # A model, whose traces are Python's, may be refused by a folder of its own.
    refused = None if "Traceback (most recent call last)" in text else _REFUSED.search(text)
    return FolderRefused(address, refused[0]) if refused else None
