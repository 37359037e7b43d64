"""Delta at the edges: read one snapshot, write one slice and let all see it in one commit.

An address is a table's name (`schema.table`) or an absolute path or URI, which alone holds a `/`.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import and_, itemgetter
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
    MetadataChangedException,
    ProtocolChangedException,
)
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    DateType,
    DecimalType,
    IntegralType,
    StructType,
    TimestampType,
)

from lakescore.errors import (
    AnotherRunWon,
    FolderRefused,
    NotADeltaTable,
    RowsUncounted,
    SchemaDrift,
    SnapshotNotFound,
    StorageFull,
    TableAppendOnly,
    TableNotFound,
    TableNotMade,
    ViewNotPinned,
    listed,
)
from lakescore.storage import plain_path, trouble

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from lakescore.errors import LakescoreError

_CONFLICTS = (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
    MetadataChangedException,  # two runs made the table at once
    ProtocolChangedException,
)
_BOUNDED = (DateType, DecimalType, IntegralType, TimestampType)
"""The types whose bounds are right whoever writes them, and for every reader.

Of texts that are no UTF-8, Spark's writer tells bounds by which Spark's reader skips them. Where a
float is NaN, its bound makes delta-rs skip the file.
"""


_SAYING = "spark.databricks.delta.commitInfo.userMetadata"
"""The setting that gives Spark's own commits their `userMetadata`."""
_MADE = {"lakescore": "made this table, for a run that has not published yet"}
"""What the commit says that makes a table."""
_STORED = "delta.columnMapping.physicalName"
_COMMITS_SINCE = 50
"""How many commits of others may come between a merge and its reading back."""
_VIEWS = {"VIEW", "TEMPORARY"}
_ONLY_APPENDS = "spark.databricks.delta.properties.defaults.appendOnly"
_RULE = re.compile(
    r"\[DELTA_(?:VIOLATE_CONSTRAINT_WITH_VALUES|NOT_NULL_CONSTRAINT_VIOLATED"
    r"|EXCEED_CHAR_VARCHAR_LIMIT)\] (.+?)(?=\s*(?:\n\s*at |\n\n|\Z))",
    re.DOTALL,
)
"""How Delta says which rule of a table a row breaks: after what it was doing, or before a trace."""
_REFUSED = re.compile(
    r"\[DELTA_CANNOT_CREATE_LOG_PATH\] [^\n]+"
    r"|(?:Permission denied|Operation not permitted|Read-only file system)"
)


@dataclass(frozen=True)
class Snapshot:
    """A Delta table at one version."""

    address: str
    version: int
    table_id: str
    """Delta's own: another table that takes the address has another."""
    rows: DataFrame


def snapshot(spark: SparkSession, address: str, version: int | None = None) -> Snapshot:
    """Pin the table at *address* to *version*, or to its latest one.

    Raises:
        TableNotFound, NotADeltaTable: there is no table, or not a Delta table.
        SnapshotNotFound: the table has no such version.
    """
    _delta_table(spark, address)
    latest = _Target.at(spark, address).latest()
    newest = int(latest.version())
    pinned = newest if version is None else version
    reader = spark.read.format("delta").option("versionAsOf", pinned)
    try:
        rows = reader.load(address) if "/" in address else reader.table(address)
    except AnalysisException as error:  # that version's files were cleaned up
        raise SnapshotNotFound(address, pinned, newest) from error
    return Snapshot(address, pinned, str(latest.metadata().id()), rows)


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


class Transaction:
    """Rows for a table, that nobody sees before `commit`.

    Either `write` has Spark write their files, or `prepare` and `add` take files that others wrote.
    Files that are never committed are left for VACUUM. Spark's own writer commits in the same
    breath as it writes, so the transaction is asked for of Delta's classes in the JVM.
    """

    def __init__(  # noqa: PLR0913 - all but the first three by name
        self,
        target: _Target,
        rows: DataFrame,
        partition_by: Sequence[str],
        *,
        place: str,
        what: str,
        metadata: str,
        append: bool,
    ) -> None:
        self._target, self._what, self._metadata = target, what, metadata
        self.rows = rows
        """What `write` writes, and what files that are added must hold the columns of."""
        self._place, self._where = place, None if append else place
        self._jvm: Any = target.spark._jvm  # noqa: SLF001 - no other way to a transaction
        self._transaction = target.log.startTransaction(target.catalog, self._option(None))
        self._actions: Any = None
        self._partition_by = tuple(partition_by)
        self._by = self._convert.toSeq(list(partition_by))
        self.files: list[_Added] = []

    def remake(self, properties: Mapping[str, str]) -> Self:
        """Let the table have the columns of the rows, and *properties*, from the commit on.

        It has no rows, so it is read whole: whoever adds some before the commit is a conflict.
        """
        said = json.loads(self._transaction.metadata().json())
        said["metaData"] |= {
            "schemaString": json.dumps(_columns(self.rows.schema)),
            "partitionColumns": list(self._partition_by),
            "configuration": dict(properties),
        }
        self._transaction.readWholeTable()
        self._transaction.updateMetadata(self._action(said), False)  # noqa: FBT003
        return self

    def write(self) -> Self:
        """Have Spark write the rows.

        Raises:
            AnotherRunWon, SchemaDrift: nothing can be committed.
        """
        return self._write(self.rows)

    def _write(self, rows: DataFrame) -> Self:
        spark, delta = self._target.spark, self._jvm.org.apache.spark.sql.delta
        session: Any = spark._jsparkSession  # noqa: SLF001 - see above
        convert = self._convert
        given = {"replaceWhere": self._where} if self._where else {}
        command = delta.commands.WriteIntoDelta(
            self._target.log,
            self._mode(),
            delta.DeltaOptions(convert.toScalaMap(given), session.sessionState().conf()),
            self._by,
            convert.toScalaMap({}),
            rows._jdf,  # noqa: SLF001 - see above
            self._target.catalog,
            self._option(None),
            False,  # noqa: FBT003 - of Scala's positional arguments
        )
        with self._active(), _explained(self._target.address, self._what):
            if self._where is None:  # so that two runs that append to one slice are a conflict
                place = command.parsePredicates(session, self._place)
                self._transaction.filterFiles(place, False)  # noqa: FBT003
            self._actions = command.write(self._transaction, session, self._option(None), False)  # noqa: FBT003
        said = [json.loads(action.json()) for action in _iterated(self._actions.iterator())]
        self.files = [_Added.of(each["add"]) for each in said if "add" in each]
        return self

    def prepare(self) -> Self:
        """Make room for the rows, of which none is read: `add` takes the files that hold them.

        Raises:
            AnotherRunWon, SchemaDrift: nothing can be committed.
        """
        return self._write(self._target.spark.createDataFrame([], self.rows.schema))

    def add(self, files: Sequence[NewFile]) -> Self:
        """Take *files* that others wrote into the table's folder after `prepare`."""
        added = [self._action({"add": file.action()}) for file in files]
        self._actions = self._convert.toSeq([*_iterated(self._actions.iterator()), *added])
        self.files += [_Added(file.partition, file.rows, file.size) for file in files]
        self._measure(
            numFiles=len(self.files),
            numOutputRows=sum(file.rows for file in self.files),
            numOutputBytes=self.size,
        )
        return self

    def _action(self, said: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an object of the JVM
        actions = getattr(self._jvm.org.apache.spark.sql.delta.actions, "Action$")
        return getattr(actions, "MODULE$").fromJson(json.dumps(said))

    def _measure(self, **counts: int) -> None:
        """Say what the table's history shall tell of the write."""
        spark: Any = self._target.spark
        metrics = {}
        for name, count in counts.items():
            make = self._jvm.org.apache.spark.sql.execution.metric.SQLMetrics.createMetric
            metrics[name] = make(spark.sparkContext._jsc.sc(), name)  # noqa: SLF001 - see above
            metrics[name].set(count)
        session = spark._jsparkSession  # noqa: SLF001 - see above
        self._transaction.registerSQLMetrics(session, self._convert.toScalaMap(metrics))

    @property
    def layout(self) -> Layout:
        """How the table wants its files to be."""
        metadata = self._transaction.metadata()
        said = json.loads(metadata.json())["metaData"]
        protocol = json.loads(self._transaction.protocol().json())["protocol"]
        return Layout(
            folder=str(self._target.log.dataPath().toString()),  # which Hadoop does not encode
            properties=said["configuration"],
            features=frozenset(protocol.get("writerFeatures", [])),
            schema=StructType.fromJson(json.loads(said["schemaString"])),
            partitioned_by=tuple(said["partitionColumns"]),
        )

    @property
    def _convert(self) -> Any:  # noqa: ANN401 - an object of the JVM
        return self._jvm.org.apache.spark.api.python.PythonUtils

    def counts(self, column: str) -> dict[str, int]:
        """Return the rows written by value of *column*, which divides the table."""
        stored = _stored(self._transaction.metadata())[column]
        found: dict[str, int] = {}
        for file in self.files:
            value = file.partition[stored] or ""
            found[value] = found.get(value, 0) + file.rows
        return found

    @property
    def size(self) -> int:
        """Bytes written."""
        return sum(file.size for file in self.files)

    def commit(self) -> int:
        """Let everybody see the files at once; return the table's version.

        Raises:
            AnotherRunWon: another write to the same rows came first; nothing is seen of this one.
        """
        operation = getattr(self._jvm.org.apache.spark.sql.delta, "DeltaOperations$Write")(
            self._mode(),
            self._option(self._by),
            self._option(self._where),
            self._option(self._metadata),
            *[self._option(None)] * 5,
        )
        nothing = self._convert.toScalaMap({})
        with self._active(), _explained(self._target.address, self._what):
            version = self._transaction.commitIfNeeded(self._actions, operation, nothing)
        if not version.isDefined():
            return int(self._transaction.readVersion())
        self._check_kept(int(version.get()))
        return int(version.get())

    def _check_kept(self, version: int) -> None:
        """See that the commit is there on S3, where drivers can write over each other's.

        It narrows the gap, and does not close it: one may be written over after this look.
        """
        log = self._target.log
        if not str(log.dataPath().toUri().getScheme()).startswith("s3"):
            return
        names = getattr(self._jvm.org.apache.spark.sql.delta.util, "FileNames$")
        path = getattr(names, "MODULE$").unsafeDeltaFile(log.logPath(), version)
        lines = _iterated(log.store().read(path, log.newDeltaHadoopConf()).iterator())
        commits = [said["commitInfo"] for said in map(json.loads, lines) if "commitInfo" in said]
        if [each.get("userMetadata") for each in commits] != [self._metadata]:
            raise AnotherRunWon(self._target.address, self._what)

    def _mode(self) -> Any:  # noqa: ANN401 - an object of the JVM
        modes = self._jvm.org.apache.spark.sql.SaveMode
        return modes.Overwrite if self._where else modes.Append

    def _option(self, value: object) -> Any:  # noqa: ANN401 - an object of the JVM
        return self._jvm.scala.Option.apply(value)

    @contextmanager
    def _active(self) -> Iterator[None]:
        """Make the transaction that of what Delta reads meanwhile."""
        companion = getattr(self._jvm.org.apache.spark.sql.delta, "OptimisticTransaction$")
        transactions = getattr(companion, "MODULE$")
        transactions.setActive(self._transaction)
        try:
            yield
        finally:
            transactions.clearActive()


def _columns(schema: StructType) -> Any:  # noqa: ANN401 - JSON
    """Return *schema* as JSON, in which all may be null, as in tables that Spark makes."""
    nullable = ("nullable", "containsNull", "valueContainsNull")
    return json.loads(
        schema.json(), object_hook=lambda said: said | {n: True for n in nullable if n in said}
    )


def _stored(metadata: Any) -> dict[str, str]:  # noqa: ANN401 - an object of the JVM
    """Return the name of each column in the files and the log."""
    fields = json.loads(metadata.schemaString())["fields"]
    return {each["name"]: each["metadata"].get(_STORED, each["name"]) for each in fields}


def _iterated(iterator: Any) -> Iterator[Any]:  # noqa: ANN401 - objects of the JVM
    while iterator.hasNext():
        yield iterator.next()


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

    def action(self) -> dict[str, Any]:
        """Return what the log says of it."""
        return {
            "path": self.path,
            "partitionValues": self.partition,
            "size": self.size,
            "modificationTime": int(time.time() * 1000),
            "dataChange": True,
            "stats": self.statistics,
        }


@dataclass(frozen=True)
class Layout:
    """How a table wants its files to be."""

    folder: str
    """Its URI or path."""
    properties: Mapping[str, str]
    features: frozenset[str]
    """Of its protocol, for writers; none where the protocol is older than their names."""
    schema: StructType
    partitioned_by: tuple[str, ...]


@dataclass(frozen=True)
class _Added:
    partition: Mapping[str, str | None]
    rows: int
    size: int

    @classmethod
    def of(cls, action: Mapping[str, Any]) -> _Added:
        rows = json.loads(action.get("stats") or "{}").get("numRecords")
        if rows is None:
            raise RowsUncounted
        return cls(action["partitionValues"], rows, action["size"])


@dataclass(frozen=True)
class _Target:
    """A table as Delta's classes know it."""

    spark: SparkSession
    address: str
    log: Any
    catalog: Any

    def latest(self) -> Any:  # noqa: ANN401 - an object of the JVM
        """Return the table's newest snapshot."""
        nothing = self.spark._jvm.scala.Option.apply(None)  # type: ignore[union-attr]  # noqa: SLF001
        return self.log.update(False, nothing, self.catalog)  # noqa: FBT003

    @classmethod
    def at(cls, spark: SparkSession, address: str) -> _Target:
        jvm: Any = spark._jvm  # noqa: SLF001 - no other way to a transaction
        session: Any = spark._jsparkSession  # noqa: SLF001 - likewise
        delta = jvm.org.apache.spark.sql.delta
        if "/" in address:
            log, table = delta.DeltaLog.forTable(session, address), jvm.scala.Option.apply(None)
        else:  # of whichever catalog: Spark alone knows what a name is short for
            plan: Any = spark.read.table(address)._jdf.queryExecution().analyzed()  # noqa: SLF001
            found = plan.collectLeaves().head()
            log, table = found.relation().location().deltaLog(), found.catalogTable()
        return cls(spark, address, log, table)


def begin(  # noqa: PLR0913 - each is a fact of its own
    rows: DataFrame,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
    find_by: Sequence[str] = (),
    append: bool = False,
    made_with: Mapping[str, Any] | None = None,
) -> Transaction:
    """Begin to put *rows* in the place of those for which *where* holds, or beside them.

    The table is made when it does not exist, partitioned by *where*'s columns, and made anew where
    no run has published to it. All of *rows* must satisfy *where* (Delta refuses others, unless
    they are appended).

    Args:
        rows: what the table shall hold there.
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
    """
    spark = rows.sparkSession
    predicate = " AND ".join(
        f"`{column}` IN ({', '.join(map(_literal, values))})" for column, values in where.items()
    )
    properties = _properties(rows, find_by)
    if not exists(spark, address):
        if not append and spark.conf.get(_ONLY_APPENDS, "false") == "true":
            raise TableAppendOnly(address, default=True)
        _create(rows, address, list(where), properties, made_with or {})
    transaction = Transaction(
        _Target.at(spark, address),
        rows,
        list(where),
        place=predicate,
        what=listed(value for values in where.values() for value in values),
        metadata=json.dumps(metadata, default=str),
        append=append,
    )
    layout = transaction.layout
    if not append and layout.properties.get("delta.appendOnly") == "true":
        raise TableAppendOnly(address, default=False)
    asked = (_columns(rows.schema), tuple(where))
    if (_columns(layout.schema), layout.partitioned_by) == asked or is_published(spark, address):
        return transaction
    return transaction.remake(properties)


def is_published(spark: SparkSession, address: str) -> bool:
    """Tell whether the table at *address* is more than what runs that published nothing left.

    That is a table that we made, with no commit since that holds rows or is another's. Only the
    newest version can tell: what is not published there was not published before.
    """
    table = _delta_table(spark, address)
    if table.detail().where("numFiles = 0").isEmpty():
        return True
    history = table.history().select("version", "userMetadata", "operationMetrics.numOutputRows")
    commits = history.orderBy("version").collect()
    ours = [said for _, text, rows in commits if rows == "0" and (said := _said(text)) is not None]
    is_made = bool(ours) and _MADE.items() <= ours[0].items()
    return len(ours) < len(commits) or not is_made or commits[0].version != 0


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
    begun = begin(rows, address, where=where, metadata=metadata, find_by=find_by)
    return begun.write().commit()


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
    fixed = [F.col(f"there.`{name}`") == F.lit(value) for name, value in within.items()]
    same = [F.col(f"there.`{name}`").eqNullSafe(F.col(f"new.`{name}`")) for name in keys]
    table = _delta_table(spark, address)
    _check_columns(rows, address, table.toDF().schema)
    merging = table.alias("there").merge(rows.alias("new"), reduce(and_, [*fixed, *same]))
    with _explained(address, listed(within.values())), _saying(spark, text):
        merging.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
    history = _delta_table(spark, address).history(_COMMITS_SINCE)
    found = history.where(F.col("userMetadata") == text).select("version").head()
    if found is None:
        raise AnotherRunWon(address, listed(within.values()))
    return int(found[0])


def _check_columns(rows: DataFrame, address: str, there: StructType) -> None:
    kinds = {each["name"].lower(): each["type"] for each in _columns(there)["fields"]}
    for field in _columns(rows.schema)["fields"]:
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


def _properties(rows: DataFrame, find_by: Sequence[str]) -> dict[str, str]:
    bounded = [name for name in find_by if isinstance(rows.schema[name].dataType, _BOUNDED)]
    if not bounded:  # else Delta would bound the first 32 columns, whatever they are
        return {"delta.dataSkippingNumIndexedCols": "0"}
    quoted = ",".join("`" + name.replace("`", "``") + "`" for name in bounded)
    return {"delta.dataSkippingStatsColumns": quoted}


def _create(
    rows: DataFrame,
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
    spark = rows.sparkSession
    empty, said = spark.createDataFrame([], rows.schema), {**_MADE, **made_with}
    try:
        with _explained(address, "its first commit"), _saying(spark, json.dumps(said)):
            try:
                _make(empty, address, partition_by, properties)
            except _CONFLICTS:  # another run is making it: by now it has, or it died
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


@dataclass(frozen=True)
class FileChange:
    """A file of a table that came or went with a commit that changed rows."""

    version: int
    """The commit's."""
    name: str
    """The file's own name, which no other file of the table has."""
    added: bool
    partition: Mapping[str, str | None]
    """The values that all its rows have, by column."""


def file_changes(spark: SparkSession, source: Snapshot, after: int) -> list[FileChange] | None:
    """Return the files that came and went after the version *after* up to *source*'s.

    None where the log does not hold these commits any more.
    """
    target = _Target.at(spark, source.address)
    names = {stored: name for name, stored in _stored(target.latest().metadata()).items()}
    try:
        commits = target.log.getChanges(after + 1, source.version, target.catalog, True)  # noqa: FBT003
        return [
            change
            for commit in _iterated(commits)
            for action in _iterated(commit.productElement(1).iterator())
            for change in _changed(int(commit.productElement(0)), action.json(), names)
        ]
    except Py4JJavaError:
        return None


def _changed(version: int, action: str, names: Mapping[str, str]) -> Iterator[FileChange]:
    said = json.loads(action)
    for kind in said.keys() & {"add", "remove"}:
        file = said[kind]
        if file.get("dataChange", True):
            values = (file.get("partitionValues") or {}).items()
            name = unquote(file["path"]).rsplit("/", 1)[-1]
            partition = {names.get(key, key): value for key, value in values}
            yield FileChange(version, name, kind == "add", partition)


def partitioned_by(spark: SparkSession, address: str) -> list[str]:
    """Return the columns that divide the table."""
    columns = _Target.at(spark, address).latest().metadata().partitionColumns()
    return list(_iterated(columns.iterator()))


def commits(spark: SparkSession, address: str) -> list[tuple[int, dict[str, Any]]]:
    """Return what commits say of themselves in `userMetadata`, the newest first.

    Those that the log still holds; others than ours may say anything, and are left out then.
    """
    history = _delta_table(spark, address).history().where("userMetadata IS NOT NULL")
    found = []
    for version, text in history.select("version", "userMetadata").collect():
        if (said := _said(text)) is not None:
            found.append((int(version), said))
    return sorted(found, key=itemgetter(0), reverse=True)


def _said(text: str | None) -> dict[str, Any] | None:
    """Return what a commit's `userMetadata` says, if it is such that it may be ours."""
    try:
        said = json.loads(text or "null")
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _delta_table(spark: SparkSession, address: str) -> DeltaTable:
    if "/" in address:
        with _reaching(address):
            if DeltaTable.isDeltaTable(spark, address):
                return DeltaTable.forPath(spark, address)
            other = _holds_files(spark, address)
        raise NotADeltaTable(address) if other else TableNotFound(address)
    try:
        there = spark.catalog.tableExists(address)
    except AnalysisException as error:  # there is no such catalog
        raise TableNotFound(address) from error
    if not there:
        raise TableNotFound(address)
    try:
        return DeltaTable.forName(spark, address)
    except AnalysisException as error:
        raise (ViewNotPinned if _is_view(spark, address) else NotADeltaTable)(address) from error


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
    except (Py4JJavaError, PySparkException) as error:
        if (known := trouble(error, address)) is not None:
            raise known from error
        raise


def _holds_files(spark: SparkSession, path: str) -> bool:
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    try:
        found = files.load(plain_path(path))
        return found.select("path").head() is not None
    except AnalysisException:
        return False


def _literal(text: str) -> str:
    """Return *text* as a literal of Spark SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@contextmanager
def _explained(address: str, what: str) -> Iterator[None]:
    try:
        yield
    except _CONFLICTS as error:
        raise AnotherRunWon(address, what) from error
    except (PySparkException, Py4JJavaError) as error:
        known = _meaning(error, address, what)
        if known is None:
            raise
        raise known from error


def _meaning(error: Exception, address: str, what: str) -> LakescoreError | None:
    """Return what *error* of Delta or Spark says of the table that was to be written to."""
    text = str(error)
    if (rule := _RULE.search(text)) is not None:
        return SchemaDrift(address, " ".join(rule[1].split()).rstrip("."))
    if "[DELTA_CANNOT_MODIFY_APPEND_ONLY]" in text:
        return TableAppendOnly(address, default=False)
    if isinstance(error, AnalysisException):
        if "already exists" in text:
            return AnotherRunWon(address, what)
        return SchemaDrift(address, text.strip().splitlines()[0])
    return _of_storage(error, address)


def _of_storage(error: Exception, address: str) -> LakescoreError | None:
    text = str(error)
    if "No space left on device" in text:
        return StorageFull(address)
    if (known := trouble(error, address)) is not None:
        return known
    # A model, whose traces are Python's, may be refused by a folder of its own.
    refused = None if "Traceback (most recent call last)" in text else _REFUSED.search(text)
    return FolderRefused(address, refused[0]) if refused else None
