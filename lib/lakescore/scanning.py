"""Scanning: whether workers may read a table's files themselves, and which worker reads what.

Where a Delta snapshot is plain enough, the model's inputs never cross the JVM: Spark hands out
pieces of Parquet files, workers read them with pyarrow, and only what is kept goes back. Delta
itself says which files hold a selection, which of their rows are deleted, and how columns are named
in them. What is not understood here is declined: then Spark reads, as it always can.

The price: Delta's JVM classes behind a DataFrame's plan are no public interface, so whatever they
do not answer as expected is a reason to decline too.
"""

from __future__ import annotations

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from inspect import signature as parameters_of
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from lakescore import executor
from lakescore.errors import FilesGone, FileUnreadable, listed
from lakescore.storage import plain_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType

_FEATURES = frozenset(
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
"""Reader features of Delta's protocol that are read properly here, or that Delta's log reads."""
_TYPES = (
    BinaryType,
    BooleanType,
    ByteType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    TimestampNTZType,
    TimestampType,
)
_USUAL = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
}
"""Settings by which Spark reads dates and times as they stand in the files."""
_MOST_ROWS_A_TASK = 1_000_000
_MOST_SECONDS_A_TASK = 60.0
_SECONDS_TO_READ = 2e-7
"""A row, roughly: what a second worker pays that reads a row group to use half of it."""
_SECONDS_TO_SHUFFLE = 2e-6
"""A row, roughly: what Spark pays that spreads rows."""
_BYTES_A_ROW_GROUP = 128 * 2**20
"""Parquet's usual size: Spark splits files there or later, and a split without a start is idle."""
_FOOTERS_AT_ONCE = 16
_MOST_FOOTERS_HERE = 512
"""Of more files than these Spark's workers read the footers."""
_MOST_PIECES = 100_000
_MOST_HASHES_A_TASK = 8_000_000
_BUCKETS_A_TASK = 16
"""So that tasks get about as many, whatever their numbers' own hashes are."""
_MOST_BYTES = "spark.sql.execution.arrow.maxBytesPerBatch"
_NOT_MEASURED = 2**31 - 1
"""The limit for which Spark does not look (`BatchedPythonArrowInput.underBatchSizeLimit`)."""
_NEXT_TO_A_SCAN = {"ColumnarToRow", "InputAdapter", "Project", "WholeStageCodegen"}
"""What is planned between a scan and a function of Python that takes its batches as they are."""
_GONE = re.compile(r"FILE_NOT_EXIST\] .*? reading file (.+?)\. File does not exist")
_UNREADABLE = re.compile(
    r"\[FAILED_READ_FILE[.\w]*\] [^\n]*? reading file (.+?)\.\s+(?:([A-Z][^\n]*?)\.?\s+)?SQLSTATE"
)
_UNNAMED = re.compile(r": (java\.lang\.\w+(?:: [^\n]*)?)\n\s*at org\.apache\.parquet\.")
"""How a reader of Parquet fails of which Spark does not say what it read."""
_MOST_SUSPECTS = 20
_CAUSE = re.compile(r"\nCaused by: (?:[\w.$]+: )?([^\n]*)")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2}))?)?")
"""How the log may write partitions' values of these types, in which Spark's casts all agree."""
_IN_UTC: dict[str, Any] = (
    {"timezone": "UTC"} if "timezone" in parameters_of(to_arrow_type).parameters else {}
)
"""PySpark before 4.2 takes times for UTC without being told."""


class Declined(Exception):
    """Why Spark has to read, or to write."""


@dataclass(frozen=True)
class Selection:
    """Rows of a snapshot, chosen in a way that Spark and workers understand alike."""

    snapshot: DataFrame
    """All rows of the snapshot, as `tables.snapshot` gives them."""
    choose: Callable[[DataFrame], DataFrame]
    """Filters rows by `column` and adds the column `adds`: a transform that may be repeated."""
    adds: str
    column: str | None = None
    """The only column that `choose` looks at, if it does."""
    among: tuple[date | int | str, ...] | None = None
    """The values of `column` that are chosen; all but null and NaN when none are given."""

    @property
    def rows(self) -> DataFrame:
        """The chosen rows, with the column `adds`."""
        return self.choose(self.snapshot)


@dataclass(frozen=True)
class Direct:
    """What workers read, and how the rows that they give become those of the selection."""

    scan: executor.Scan
    selection: Selection
    carried: tuple[str, ...]
    """The table's columns that workers give back, in this order, before the predictions."""
    fields: tuple[StructField, ...]
    """Of `carried`."""
    size: int
    """Bytes of the files that are read."""

    @property
    def batches(self) -> int:
        """How many batches workers make of the pieces, if no row is left out."""
        stored = [column for column in self.scan.columns if not column.partition]
        most = executor.rows_at_once(len(stored))
        pieces = [piece for task in self.scan.tasks for piece in task]
        # A batch begins where the row group's next one does, whatever part of it a piece is.
        return sum((p.skip + p.rows - 1) // most - p.skip // most + 1 for p in pieces if p.rows)


def direct(
    selection: Selection,
    keep: Sequence[str],
    features: Sequence[StructField],
    *,
    seconds_a_row: float,
) -> Direct:
    """Plan how workers read *selection* themselves.

    Args:
        selection: the rows.
        keep: columns of `selection.rows` that the output holds.
        features: the model's columns: their names in the table, their types for the model.
        seconds_a_row: what a model takes; dear rows are spread over more tasks.

    Raises:
        Declined: it would not be exactly what Spark reads, or this cannot be told.
    """
    if is_remote(selection.rows.sparkSession):
        raise Declined("a client of Spark Connect does not reach the table's log")
    with _as_expected():
        _plain(selection.snapshot)
    table, files = _scanned(selection.rows)
    if not files:
        raise Declined("there are no files to read")
    carried = [name for name in keep if name != selection.adds]
    if selection.column and selection.column not in carried:
        carried.append(selection.column)
    fields = [*[table.schema[name] for name in carried], *features]
    columns = tuple(_column(table, field) for field in fields)
    spark = selection.rows.sparkSession
    _check_sessions_settings(spark, columns)
    groups = _row_groups(spark, files, columns)
    rows = sum(file.rows for file in files)
    slots = spark.sparkContext.defaultParallelism
    pieces = _pieces(files, groups, columns, rows=rows, slots=slots, seconds_a_row=seconds_a_row)
    only = None
    if selection.column:
        only = executor.Only(column=carried.index(selection.column), among=selection.among)
    return Direct(
        scan=executor.Scan(columns=columns, tasks=pieces, only=only),
        selection=selection,
        carried=tuple(carried),
        fields=tuple(fields[: len(carried)]),
        size=sum(file.size for file in files),
    )


def spread(rows: DataFrame, *, seconds_a_row: float) -> int | None:
    """Return into how many partitions to spread *rows* before a dear model, if that pays.

    Spark divides files by bytes, and one row group is never divided: few large ones, or few
    partitions, would leave cores idle. A client of Spark Connect cannot know how many there are.
    """
    if seconds_a_row < _SECONDS_TO_SHUFFLE or is_remote(rows.sparkSession):
        return None
    slots = rows.sparkSession.sparkContext.defaultParallelism
    partitions = rows.rdd.getNumPartitions()
    try:
        groups = sum(math.ceil(file.size / _BYTES_A_ROW_GROUP) for file in _scanned(rows)[1])
    except Declined:
        groups = partitions
    return 2 * slots if min(groups, partitions) < slots else None


def is_remote(spark: SparkSession) -> bool:
    """Tell whether *spark* is a client of Spark Connect, which does not reach the server's JVM."""
    return ".connect." in type(spark).__module__


def readable(rows: DataFrame) -> DataFrame:
    """Return *rows* with dates and times as Spark writes them: Python knows fewer years."""
    texts = {
        field.name: F.col(f"`{field.name}`").cast(_legible(field.dataType))
        for field in rows.schema
        if _legible(field.dataType) != field.dataType
    }
    return rows.withColumns(texts)


def _legible(kind: DataType) -> DataType:
    """Return *kind* with texts in the place of dates and times, in whatever holds them.

    And in the place of a map's keys that Python cannot hold as such.
    """
    if isinstance(kind, (DateType, TimestampType, TimestampNTZType)):
        return StringType()
    if isinstance(kind, ArrayType):
        return ArrayType(_legible(kind.elementType), kind.containsNull)
    if isinstance(kind, MapType):
        unhashable = isinstance(kind.keyType, (ArrayType, BinaryType, StructType))
        key = StringType() if unhashable else _legible(kind.keyType)
        return MapType(key, _legible(kind.valueType), kind.valueContainsNull)
    if isinstance(kind, StructType):
        fields = [StructField(f.name, _legible(f.dataType), f.nullable, f.metadata) for f in kind]
        return StructType(fields)
    return kind


def is_columnar(rows: DataFrame) -> bool:
    """Tell whether Spark hands *rows* to a function of Python in the batches that it reads."""
    node: Any = rows._jdf.queryExecution().executedPlan()  # noqa: SLF001 - no other way to ask
    while node.nodeName().split()[0] in _NEXT_TO_A_SCAN:
        node = node.children().head()
    return bool(node.supportsColumnar())


@contextmanager
def unmeasured(spark: SparkSession, sent: Iterable[DataType]) -> Iterator[None]:
    """Spare Spark to measure the batches of rows of the types *sent*, evaluated meanwhile.

    At each row it adds up the buffers of all columns, which is 40 % of what it takes to hand twenty
    doubles over (docs/benchmark/README.md). Rows of fixed width may not be so many that they reach
    the limit in bytes; texts are measured.
    """
    conf = spark.conf
    if is_remote(spark):
        yield
        return
    try:
        limit = str(conf.get(_MOST_BYTES))
    except PySparkException:  # Spark 4.0 has no such limit
        yield
        return
    bytes_of: Any = spark._jvm.org.apache.spark.network.util.JavaUtils.byteStringAsBytes  # type: ignore[union-attr]  # noqa: SLF001
    rows = int(conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") or 0)
    if bytes_of(limit) >= _NOT_MEASURED or not 0 < rows * _width(sent) < bytes_of(limit):
        yield
        return
    conf.set(_MOST_BYTES, _NOT_MEASURED)
    try:
        yield
    finally:
        conf.set(_MOST_BYTES, limit)


def _width(kinds: Iterable[DataType]) -> float:
    """Return how many bytes a row of *kinds* takes in Arrow, infinite where values differ."""
    try:
        return float(sum(max(8, arrow_type(kind).bit_width) / 8 + 1 for kind in kinds))
    except (PySparkException, ValueError):
        return math.inf


@contextmanager
def reading(rows: DataFrame) -> Iterator[None]:
    """Tell in one line which file of *rows* Spark cannot read, where that is what is wrong.

    Raises:
        FilesGone, FileUnreadable: it cannot read one.
    """
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        if (known := unread(error, rows)) is not None:
            raise known from error
        raise


def unread(error: Exception, rows: DataFrame | None = None) -> FilesGone | FileUnreadable | None:
    """Return what *error* of Spark means where it could not read a file of a table.

    Args:
        error: what Spark raised.
        rows: what it read, so that the file can be looked for that it does not name.
    """
    text = str(error)
    if (found := _GONE.search(text)) is not None:
        return FilesGone(found[1])
    if (found := _UNREADABLE.search(text)) is not None:
        causes = [each for each in _CAUSE.findall(text[found.end() :]) if each]
        reason = found[2] or (causes[-1] if causes else "Spark does not say why")
        return FileUnreadable(unquote(found[1]), reason)
    if (found := _UNNAMED.search(text)) is None:
        return None
    path, reason = _culprit(rows) if rows is not None else ("", "")
    return FileUnreadable(path or "one that it does not name", reason or found[1])


def _culprit(rows: DataFrame) -> tuple[str, str]:
    """Return the first file of *rows* with other types that Spark cannot read, and its types."""
    columns = [
        executor.Column(stored=f.name, partition=False, read=kind, give=kind, widens=False)
        for f in rows.schema
        if is_plain(f.dataType)
        for kind in [arrow_type(f.dataType)]
    ]
    tried = 0
    for uri in rows.inputFiles():
        path = unquote(urlsplit(uri).path)
        reason = executor.footer(path, columns)[1] if urlsplit(uri).scheme == "file" else None
        if reason and tried < _MOST_SUSPECTS:
            tried += 1
            alone = rows.sparkSession.read.schema(rows.schema).parquet(plain_path(path))
            try:
                alone.write.format("noop").mode("append").save()
            except (Py4JJavaError, PySparkException):
                return path, f"it {reason}"
    return "", ""


def counted(rows: DataFrame, by: str | None) -> dict[str, int]:
    """Return how many of *rows* each value of the column *by* has, as the log counts them.

    Args:
        rows: the rows of one snapshot, filtered by the column *by* and no other.
        by: a column, whose values are told as Spark writes them, null as `""`; without one, the
            whole of *rows* is counted as `""`.

    Raises:
        Declined: the log cannot tell.
    """
    table, files = _scanned(rows)
    if by is not None and by not in table.partitioned_by:
        raise Declined(f"the table is not partitioned by {by}")
    if by is not None:
        _check_unpadded(table.schema[by])
    found: dict[str, int] = {}
    for file in files:
        value = ""
        if by is not None:
            value = partition_name(file.partition.get(table.stored[by]), table.schema[by].dataType)
        found[value] = found.get(value, 0) + file.rows - len(file.deleted)
    return found


def partition_name(text: str | None, kind: DataType) -> str:
    """Return the one way to write the value that the log writes as *text*, null as `""`.

    The log may write an integer or a date in several ways, such as `1` and `01`.

    Raises:
        Declined: only Spark can tell what it reads as *kind*.
    """
    value = _partition_value(text, arrow_type(kind))
    return "" if value is None else str(value)


def repeats(selection: Selection, keys: Sequence[str]) -> int:
    """Return how many rows of a slice seem to have the *keys* of another one of it.

    Never less than there are, and more only where two keys have one 64-bit hash.

    Raises:
        Declined: workers cannot read the keys themselves, or not as Spark would.
    """
    planned = direct(selection, keys, (), seconds_a_row=0.0)
    spark, tasks = selection.rows.sparkSession, len(planned.scan.tasks)
    rows = sum(piece.rows for task in planned.scan.tasks for piece in task)
    parts = max(spark.sparkContext.defaultParallelism, math.ceil(rows / _MOST_HASHES_A_TASK))
    blocks = spark.range(0, tasks, 1, tasks).mapInArrow(
        executor.hashed(planned.scan, parts * _BUCKETS_A_TASK), _struct(executor.BLOCKS)
    )
    exchanged = blocks.repartition(parts, "bucket")
    found = exchanged.mapInArrow(executor.repeated, _struct(executor.REPEATED)).collect()
    return sum(row.repeated for row in found)


def _struct(schema: pa.Schema) -> StructType:
    return StructType([StructField(f.name, from_arrow_type(f.type)) for f in schema])


@dataclass(frozen=True)
class _Table:
    """What the log says of the table."""

    schema: StructType
    stored: dict[str, str]
    """The name of each column in the files."""
    partitioned_by: tuple[str, ...]
    widens: bool
    folder: str


@dataclass(frozen=True)
class _File:
    path: str
    rows: int
    size: int
    partition: dict[str, str | None]
    deleted: np.ndarray[Any, np.dtype[np.int64]]
    """Positions of deleted rows, sorted."""


def _scanned(rows: DataFrame) -> tuple[_Table, list[_File]]:
    """Return the only table that *rows* reads, and those of its files that hold them."""
    with _as_expected():
        scan = _relation(rows)
        table = _table(scan)
        return table, _files(rows.sparkSession, scan, table)


@contextmanager
def _as_expected() -> Iterator[None]:
    """Decline where Delta's classes do not answer as they are known to."""
    try:
        yield
    except (Py4JError, PySparkException, LookupError, TypeError, ValueError) as error:
        reason = f"Delta does not say what its plan reads ({type(error).__name__})"
        raise Declined(reason) from error


def _relation(rows: DataFrame) -> Any:  # noqa: ANN401 - an object of the JVM
    """Return the file index of the only table that *rows* reads, pruned by Delta."""
    plan: Any = rows._jdf.queryExecution().optimizedPlan()  # noqa: SLF001 - no other way to ask
    leaves = plan.collectLeaves()
    if leaves.length() != 1 or leaves.head().nodeName().split()[0] != "LogicalRelation":
        raise Declined("the rows are not those of one Delta table")
    location = leaves.head().relation().location()
    if not location.getClass().getName().endswith(".PreparedDeltaFileIndex"):
        raise Declined("the rows are not those of one Delta snapshot")
    return location.preparedScan()


def _plain(snapshot: DataFrame) -> None:
    """See that nothing stands between the files and *snapshot*, such as padding or a filter."""
    node: Any = snapshot._jdf.queryExecution().analyzed()  # noqa: SLF001 - see above
    while node.nodeName().split()[0] == "SubqueryAlias":
        node = node.child()
    if node.nodeName().split()[0] not in {"LogicalRelation", "Relation"}:
        raise Declined(f"Spark reads the table by way of a {node.nodeName().split()[0]}")


def _table(scan: Any) -> _Table:  # noqa: ANN401 - an object of the JVM
    snapshot = scan.scannedSnapshot()
    protocol = json.loads(snapshot.protocol().json())["protocol"]
    unknown = sorted(set(protocol.get("readerFeatures", [])) - _FEATURES)
    if unknown:
        raise Declined(f"the table uses {listed(unknown)}")
    metadata = json.loads(snapshot.metadata().json())["metaData"]
    mode = metadata["configuration"].get("delta.columnMapping.mode", "none")
    if mode not in {"none", "name"}:
        raise Declined(f"its columns are mapped by {mode}")
    schema = StructType.fromJson(json.loads(metadata["schemaString"]))
    folder = str(snapshot.deltaLog().dataPath().toString())  # which Hadoop does not encode
    return _Table(
        schema=schema,
        stored={
            field.name: field.metadata.get("delta.columnMapping.physicalName", field.name)
            for field in schema
        },
        partitioned_by=tuple(metadata["partitionColumns"]),
        widens=any("typeWidening" in each for each in protocol.get("readerFeatures", [])),
        folder=local(folder),
    )


def _files(spark: SparkSession, scan: Any, table: _Table) -> list[_File]:  # noqa: ANN401 - see above
    jvm: Any = spark._jvm  # noqa: SLF001 - see above
    counted = scan.scannedSnapshot().filesForScan(scan.allFilters().toSeq(), True)  # noqa: FBT003
    anything = getattr(jvm.scala.reflect, "ManifestFactory$").__getattr__("MODULE$").Any()
    text = jvm.org.apache.spark.sql.delta.util.JsonUtils.toJson(counted.files(), anything)
    files = []
    for n, each in enumerate(json.loads(text)):
        stats = json.loads(each.get("stats") or "{}")
        if "numRecords" not in stats:
            raise Declined("the log does not count the rows of each file")
        deleted = np.empty(0, np.int64)
        if each.get("deletionVector"):
            deleted = _deleted(jvm, scan.scannedSnapshot().deltaLog(), counted.files().apply(n))
        files.append(
            _File(
                path=_placed(each["path"], table.folder),
                rows=stats["numRecords"],
                size=each["size"],
                partition=each["partitionValues"],
                deleted=deleted,
            )
        )
    return files


def _placed(path: str, folder: str) -> str:
    """Return *path*, as the log writes it, as a path of the local file system."""
    _check_local(path)
    plain = unquote(urlsplit(path).path)
    return plain if plain.startswith("/") else f"{folder}/{plain}"


def local(folder: str) -> str:
    """Return a table's *folder* as a path of the local file system.

    Raises:
        Declined: it is of another one, which workers have no credentials for.
    """
    _check_local(folder)
    return "/" + folder.removeprefix("file:").lstrip("/")


def _check_local(address: str) -> None:
    scheme = urlsplit(address).scheme
    if scheme not in {"", "file"}:
        raise Declined(f"files lie on {scheme}:, where only Spark goes with the job's credentials")


def is_plain(kind: DataType) -> bool:
    """Return whether workers read and write values of *kind* exactly as Spark does."""
    return type(kind) in _TYPES and not kind.simpleString().startswith("string ")  # a collation


def arrow_type(kind: DataType) -> pa.DataType:
    """Return the type in which Spark hands values of *kind* to workers, times in UTC.

    Raises:
        PySparkException: Arrow holds no such values.
    """
    return to_arrow_type(kind, **_IN_UTC)


def _deleted(jvm: Any, log: Any, file: Any) -> np.ndarray[Any, np.dtype[np.int64]]:  # noqa: ANN401
    """Return the positions of a file's deleted rows, as Delta reads and checks them."""
    delta = jvm.org.apache.spark.sql.delta
    store = delta.storage.dv.HadoopFileSystemDVStore(log.newDeltaHadoopConf())
    folder = jvm.scala.Option.apply(log.dataPath())
    vector = delta.deletionvectors.DeletionVectorStoredBitmap(file.deletionVector(), folder)
    positions = vector.load(store).toArray()
    buffer = jvm.java.nio.ByteBuffer.allocate(8 * len(positions))
    buffer.asLongBuffer().put(positions)  # one answer, where the array would be one a row
    return np.frombuffer(bytes(buffer.array()), ">i8").astype(np.int64)


def _column(table: _Table, field: StructField) -> executor.Column:
    """Return how the table's column *field*.name is read, and given on as *field*'s type."""
    own = table.schema[field.name]
    if not is_plain(own.dataType):
        raise Declined(f"column {own.name!r} is {own.dataType.simpleString()}")
    if isinstance(own.dataType, DecimalType) and isinstance(field.dataType, DoubleType):
        raise Declined(f"column {own.name!r} is cast from a decimal, which Arrow does not round")
    _check_unpadded(own)
    return executor.Column(
        stored=table.stored[own.name],
        partition=own.name in table.partitioned_by,
        read=arrow_type(own.dataType),
        give=arrow_type(field.dataType),
        widens=table.widens,
    )


def _check_unpadded(field: StructField) -> None:
    """See that Spark gives values as they are stored: those of `CHAR` are filled up with spaces."""
    odd = [key for key in field.metadata if key.startswith(("__CHAR", "EXISTS_DEFAULT"))]
    if odd:
        raise Declined(f"column {field.name!r} carries {listed(odd)}")


def _check_sessions_settings(spark: SparkSession, columns: Sequence[executor.Column]) -> None:
    if any(pa.types.is_temporal(column.read) for column in columns):
        for key, usual in _USUAL.items():
            if (value := spark.conf.get(key)) != usual:
                raise Declined(f"{key} is {value}, not {usual}")


def _row_groups(
    spark: SparkSession, files: Sequence[_File], columns: Sequence[executor.Column]
) -> list[tuple[int, ...]]:
    """Return the rows of each row group of each of *files*, whose footers fit log and columns."""
    paths = [file.path for file in files]
    wanted = tuple(dict.fromkeys(column for column in columns if not column.partition))
    if len(files) <= _MOST_FOOTERS_HERE:
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            footers = list(pool.map(lambda path: executor.footer(path, wanted), paths))
    else:
        tasks = spark.sparkContext.defaultParallelism * 4
        counted = spark.range(0, len(files), 1, tasks).mapInArrow(
            executor.footers(paths, wanted), "file long, rows array<long>, problem string"
        )
        footers = [(tuple(row[1]), row[2]) for row in counted.orderBy("file").collect()]
    for file, (rows, problem) in zip(files, footers, strict=True):
        if problem:
            raise Declined(f"a file of the table {problem}")
        if sum(rows) != file.rows:
            raise Declined(f"a file holds {sum(rows)} rows where the log counts {file.rows}")
    return [rows for rows, _ in footers]


def _pieces(  # noqa: PLR0913 - facts of one plan
    files: Sequence[_File],
    groups: Sequence[tuple[int, ...]],
    columns: Sequence[executor.Column],
    *,
    rows: int,
    slots: int,
    seconds_a_row: float,
) -> tuple[tuple[executor.Piece, ...], ...]:
    """Divide the files into tasks of about as many rows: by row groups, dear ones by rows too."""
    most = max(1, min(_MOST_ROWS_A_TASK, int(_MOST_SECONDS_A_TASK / max(seconds_a_row, 1e-9))))
    tasks = slots * max(1, math.ceil(rows / most / slots))
    share = max(1, math.ceil(rows / tasks))
    divides = seconds_a_row > _SECONDS_TO_READ
    pieces = []
    for file, sizes in zip(files, groups, strict=True):
        values = tuple(
            _partition_value(file.partition.get(c.stored), c.read) if c.partition else None
            for c in columns
        )
        first = 0
        for group, size in enumerate(sizes):
            part = math.ceil(size / math.ceil(size / share)) if divides and size else size
            for skip in range(0, size, max(1, part)):
                count = min(part, size - skip)
                pieces.append(
                    executor.Piece(
                        path=file.path,
                        row_group=group,
                        skip=skip,
                        rows=count,
                        deleted=_bits(file.deleted, first + skip, count),
                        values=values,
                    )
                )
            first += size
    if not 0 < len(pieces) <= _MOST_PIECES:
        raise Declined(f"it would be {len(pieces)} pieces")
    return _dealt(pieces, tasks)


def _dealt(pieces: Sequence[executor.Piece], tasks: int) -> tuple[tuple[executor.Piece, ...], ...]:
    """Deal *pieces* to *tasks*, the largest first, each to the task with the fewest rows."""
    hands: list[list[executor.Piece]] = [[] for _ in range(min(tasks, len(pieces)))]
    loads = [0] * len(hands)
    for piece in sorted(pieces, key=lambda each: each.rows, reverse=True):
        n = loads.index(min(loads))
        hands[n].append(piece)
        loads[n] += piece.rows
    return tuple(tuple(hand) for hand in hands if hand)


def _bits(deleted: np.ndarray[Any, np.dtype[np.int64]], first: int, count: int) -> bytes | None:
    """Return one bit a row, set where it is deleted, or none where none is."""
    start, end = np.searchsorted(deleted, [first, first + count])
    if start == end:
        return None
    mask = np.zeros(count, np.uint8)
    mask[deleted[start:end] - first] = 1
    return np.packbits(mask).tobytes()


def _partition_value(text: str | None, kind: pa.DataType) -> date | int | str | None:
    """Read a partition's value, which the log writes as *text*, as Spark does.

    The empty text is null. Spark casts the others, and reads more than what is known here.

    Raises:
        Declined: only Spark can tell what it is.
    """
    if not text:
        return None
    if pa.types.is_string(kind):
        return text
    try:
        if pa.types.is_integer(kind) and _INTEGER.fullmatch(text):
            return int(pa.scalar(int(text), kind).as_py())  # which raises where it does not fit
        if pa.types.is_date(kind) and (parts := _DATE.fullmatch(text)):
            return date(int(parts[1]), int(parts[2] or 1), int(parts[3] or 1))
    except (ValueError, OverflowError, pa.ArrowException):
        pass
    raise Declined(f"the log writes the value {text!r} for a partition of {kind}")


def as_selected(applied: DataFrame, plan: Direct, keep: Sequence[str]) -> DataFrame:
    """Return *keep* of what workers gave, then the predictions `p0`, `p1`, ...

    The selection's own transform is applied once more: it adds its column, and a row that workers
    ought not to have given could not slip through.
    """
    predictions = [name for name in applied.columns if name not in plan.carried]
    chosen = plan.selection.choose(applied)
    return chosen.select(*[F.col(f"`{name}`") for name in [*keep, *predictions]])
