"""Scanning: whether workers may read a table's files themselves, and which worker reads what.

Where a Delta snapshot is plain enough, the model's inputs never cross the JVM: Spark hands out
pieces of Parquet files, workers read them with pyarrow, and only what is kept goes back. The
table's log says which files hold a selection, which of their rows are deleted, and how columns are
named in them. What is not understood here is declined: then Spark reads, as it always can.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    DateType,
    DecimalType,
    DoubleType,
    IntegralType,
    StringType,
    StructField,
    StructType,
)

from lakescore import executor
from lakescore.arrow import arrow_type, collected, frame, is_plain, struct
from lakescore.classic import tasks
from lakescore.errors import FilesGone, FileUnreadable, listed
from lakescore.logs import NotEligible
from lakescore.runner import FAILURES, Runner
from lakescore.snapshots import Snapshot
from lakescore.storage import plain_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import DataType

    from lakescore.logs import File, Log

_USUAL = {
    "spark.sql.session.timeZone": ("UTC",),
    "spark.sql.parquet.datetimeRebaseModeInRead": ("CORRECTED", "EXCEPTION"),
    "spark.sql.parquet.int96RebaseModeInRead": ("CORRECTED", "EXCEPTION"),
}
"""Settings by which Spark reads dates and times as they stand in the files.

EXCEPTION, the default of Spark 3, differs for days before 1582 in files that Spark did not write:
it refuses to read them.
"""
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
_MOST_ROWS_HERE = 200_000
"""Of more rows workers look at a column, or the keys."""
_MOST_ROWS_ALONE = 20_000_000
"""Of more rows Spark is started to look at a column, which takes seconds here."""
_MOST_FILES_PROBED = 16
_MOST_HASHES_HERE = 20_000_000
"""Of more keys Spark holds the hashes, which are 8 bytes each."""
_BUCKETS_A_TASK = 16
"""So that tasks get about as many, whatever their numbers' own hashes are."""
_MOST_BYTES = "spark.sql.execution.arrow.maxBytesPerBatch"
_NOT_MEASURED = 2**31 - 1
"""The limit for which Spark does not look (`BatchedPythonArrowInput.underBatchSizeLimit`)."""
_GONE = re.compile(
    r"FILE_NOT_EXIST\] .*? reading file (?P<file>.+?)\. File does not exist"
    r"|File (?P<of_3_5>[^\n]+) does not exist\s+It is possible the underlying files"
)
_UNREADABLE = re.compile(
    r"\[FAILED_READ_FILE[.\w]*\] [^\n]*? reading file (?P<file>.+?)\."
    r"\s+(?:(?P<why>[A-Z][^\n]*?)\.?\s+)?SQLSTATE"
    r"|(?:error while reading|cannot be converted in) file (?P<of_3_5>\S+)\."
    r"(?: (?P<why_of_3_5>Column: [^\n]*?)\.?\n)?"
)
_UNNAMED = re.compile(
    r": (java\.lang\.\w+(?:: [^\n]*)?)\n\s*at org\.apache\.parquet\."
    r"|SparkRuntimeException: (Found duplicate field[^\n]*)"
)
"""How a reader of Parquet fails of which Spark does not say what it read."""
_MOST_SUSPECTS = 20
_PLACE = "_lakescore_place"
_CAUSE = re.compile(r"\nCaused by: (?:[\w.$]+: )?([^\n]*)")
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
"""How Spark's settings write bytes."""


@dataclass(frozen=True)
class Selection:
    """Rows of a snapshot, chosen in a way that Spark and workers understand alike."""

    snapshot: Snapshot | DataFrame
    """All rows; of a frame that is no snapshot only Spark reads them."""
    choose: Callable[[DataFrame], DataFrame]
    """Filters rows by `column`: a transform."""
    adds: StructField
    """The column that is added."""
    value: Callable[[], Column]
    """Its value, which `column` tells."""
    column: str | None = None
    """The only column that `choose` looks at, if it does."""
    constant: str = ""
    """The text that `adds` holds in all rows, where no `column` tells it."""
    size: int | None = None
    """How many rows these are, where it is known."""
    among: tuple[date | int | str, ...] | None = None
    """The values of `column` that are chosen; all but null and NaN when none are given."""
    within: Mapping[str, tuple[date | int | str, ...]] = field(default_factory=dict)
    """Values that the rows have besides, by column: files that cannot hold them are not read."""

    @property
    def whole(self) -> DataFrame:
        """All rows, as Spark reads them."""
        return self.snapshot.rows if isinstance(self.snapshot, Snapshot) else self.snapshot

    @property
    def runner(self) -> Runner:
        """What runs the tasks that read them."""
        if isinstance(self.snapshot, Snapshot):
            return self.snapshot.runner
        return Runner.of(self.snapshot.sparkSession)

    @property
    def rows(self) -> DataFrame:
        """The chosen rows, with the column `adds`."""
        return self.choose(self.whole).withColumn(self.adds.name, self.value())

    @property
    def schema(self) -> StructType:
        """The columns of `rows`."""
        return StructType([*self.snapshot.schema.fields, self.adds])

    @property
    def log(self) -> Log:
        """The log of the snapshot.

        Raises:
            NotEligible: only Spark reads it, or the rows are no snapshot's.
        """
        return _log(self.snapshot)

    @property
    def wanted(self) -> dict[str, tuple[date | int | str, ...]]:
        """The values that the chosen rows have, by column."""
        if self.column is None or self.among is None:
            return dict(self.within)
        return {**self.within, self.column: self.among}


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
    rows: int
    """Rows that are chosen, or that the files hold."""

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
        NotEligible: it would not be exactly what Spark reads, or this cannot be told.
    """
    files = _files(selection)
    if not files:
        raise NotEligible("there are no files to read")
    return _direct(selection, files, keep, features, seconds_a_row=seconds_a_row)


def _direct(
    selection: Selection,
    files: Sequence[File],
    keep: Sequence[str],
    features: Sequence[StructField],
    *,
    seconds_a_row: float,
) -> Direct:
    """Plan what `direct` does of *files* alone."""
    log = selection.log
    carried = [name for name in keep if name != selection.adds.name]
    if selection.column and selection.column not in carried:
        carried.append(selection.column)
    schema = StructType.fromJson(log.schema)
    fields = [*[schema[name] for name in carried], *features]
    columns = tuple(_column(log, schema, field) for field in fields)
    runner = selection.runner
    _check_sessions_settings(runner, columns)
    store = log.folder.store
    groups = _row_groups(runner, files, columns, store)
    rows = sum(file.rows for file in files)
    pieces = _pieces(
        files,
        groups,
        [f.name if c.partition else None for c, f in zip(columns, fields, strict=True)],
        rows=rows,
        slots=runner.sharing(seconds_a_row * (rows if selection.size is None else selection.size)),
        seconds_a_row=seconds_a_row,
    )
    only = None
    if selection.column:
        only = executor.PartitionFilter(
            column=carried.index(selection.column), among=selection.among
        )
    return Direct(
        scan=executor.Scan(columns=columns, tasks=pieces, only=only, store=store),
        selection=selection,
        carried=tuple(carried),
        fields=tuple(fields[: len(carried)]),
        size=sum(file.size for file in files),
        rows=rows if selection.size is None else selection.size,
    )


def _files(selection: Selection) -> list[File]:
    """Return the files that may hold rows of *selection*.

    Raises:
        NotEligible: the log cannot tell, or Spark compares the values of a column with others than
            those that the files hold.
    """
    log = selection.log
    schema = StructType.fromJson(log.schema)
    for name in selection.wanted:  # before any file is left out for its bounds
        _column(log, schema, schema[name])
    return log.files(selection.wanted)


def read(selection: Selection, names: Sequence[str], most: int) -> pa.Table:
    """Read *names* of all rows of *selection* here, without Spark.

    Rows of other values than those `within` may be among them.

    Raises:
        NotEligible: they would not be exactly what Spark reads, or there are more than *most*.
    """
    files = _files(selection)
    if (rows := sum(file.rows for file in files)) > most:
        raise NotEligible(f"{rows} rows are held by Spark")
    if not files:
        kinds = [(name, arrow_type(selection.schema[name].dataType)) for name in names]
        return pa.schema(kinds).empty_table()
    own = [name for name in names if name != selection.adds.name]
    planned = _direct(selection, files, own, (), seconds_a_row=0.0)
    held = pa.schema([(column.name, arrow_type(column.dataType)) for column in planned.fields])
    batches = [
        batch.rename_columns(held.names)
        for batch in executor.read_tasks(planned.scan, _numbers(planned.scan))
    ]
    return named(pa.Table.from_batches(batches, held), planned, names)


def scattered(selection: Selection, features: Sequence[StructField], most: int) -> pa.Table:
    """Read rows of *selection* here that lie far from each other, the same ones each time.

    Returns:
        What `first` does.

    Raises:
        NotEligible: as `first`.
    """
    files = _files(selection)
    chance = random.Random(0)  # noqa: S311 - no secret
    chosen = chance.sample(files, min(len(files), _MOST_FILES_PROBED))
    if sum(file.rows for file in chosen) > _MOST_ROWS_HERE:
        raise NotEligible("there are too many rows to look at here")
    scan = _direct(selection, chosen, [], features, seconds_a_row=0.0).scan
    batches = list(executor.read_tasks(scan, _numbers(scan)))
    if not batches:
        raise NotEligible("there are no rows to read")
    rows = pa.Table.from_batches(batches)
    taken = rows.take(sorted(chance.sample(range(rows.num_rows), min(most, rows.num_rows))))
    return _numbered(taken, len(features))


def _numbered(rows: pa.Table, features: int) -> pa.Table:
    """Return the last columns of *rows*, so many *features*, as f0, f1, ..."""
    wanted = rows.columns[len(rows.columns) - features :]
    return pa.table({f"f{n}": column for n, column in enumerate(wanted)})


def first(selection: Selection, features: Sequence[StructField], most: int) -> pa.Table:
    """Read the first rows of *selection* here, without Spark.

    Args:
        selection: the rows.
        features: the columns: their names in the table, their types for the model.
        most: how many rows at most.

    Returns:
        The columns f0, f1, ... in the order of *features*; no row where there is none.

    Raises:
        NotEligible: they would not be exactly what Spark reads, or lie too far behind.
    """
    taken: list[pa.RecordBatch] = []
    looked_at = 0
    for file in _files(selection):
        scan = _direct(selection, [file], [], features, seconds_a_row=0.0).scan
        for batch in executor.read_tasks(scan, _numbers(scan)):
            missing = most - sum(each.num_rows for each in taken)
            taken.append(batch.slice(0, missing))
            if batch.num_rows >= missing:
                break
        else:
            if (looked_at := looked_at + file.rows) > _most_rows(selection.snapshot):
                raise NotEligible("the rows lie too far behind")
            continue
        break
    if not taken:
        kinds = [(f"f{n}", arrow_type(feature.dataType)) for n, feature in enumerate(features)]
        return pa.schema(kinds).empty_table()
    return _numbered(pa.Table.from_batches(taken), len(features))


def _numbers(scan: executor.Scan) -> list[pa.RecordBatch]:
    """Return the numbers of all tasks of *scan*, as Spark hands them out."""
    return [pa.RecordBatch.from_pydict({"id": list(range(len(scan.tasks)))})]


def spread(
    rows: DataFrame, *, seconds_a_row: float, selection: Selection | None = None
) -> int | None:
    """Return into how many partitions to spread *rows* before a dear model, if that pays.

    Spark divides files by bytes, and one row group is never divided: few large ones, or few
    partitions, would leave cores idle.

    Args:
        rows: what is spread.
        seconds_a_row: what a model takes.
        selection: of which snapshot they are, if they are of one.
    """
    if seconds_a_row < _SECONDS_TO_SHUFFLE:
        return None
    at_once, partitions = Runner.of(rows.sparkSession).slots, tasks(rows)
    try:
        if selection is None:
            raise NotEligible("the rows are no snapshot's")  # noqa: TRY301 - as all others
        files = _files(selection)
        groups = sum(math.ceil(file.size / _BYTES_A_ROW_GROUP) for file in files)
    except NotEligible:
        groups = partitions
    return 2 * at_once if min(groups, partitions) < at_once else None


@contextmanager
def skip_batch_size_check(
    spark: SparkSession | Runner, sent: Callable[[], Iterable[DataType]]
) -> Iterator[None]:
    """Spare Spark to measure the batches of rows of the types *sent*, evaluated meanwhile.

    At each row it adds up the buffers of all columns, which is 40 % of what it takes to hand twenty
    doubles over (docs/benchmark/README.md). Rows of fixed width may not be so many that they reach
    the limit in bytes; texts are measured.
    """
    runner = Runner.of(spark)
    if not runner.is_started:
        yield
        return
    conf = runner.spark.conf
    try:
        limit = str(conf.get(_MOST_BYTES))
    except FAILURES:  # Spark 4.0 has no such limit
        yield
        return
    size = _SIZE.fullmatch(limit.strip())
    most = int(size[1]) << _UNITS[size[2].lower()] if size is not None else _NOT_MEASURED
    rows = int(conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") or 0)
    if most >= _NOT_MEASURED or not 0 < rows * _width(sent()) < most:
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
def reading(snapshot: Snapshot) -> Iterator[None]:
    """Tell in one line which file of *snapshot* Spark cannot read, where that is what is wrong.

    Raises:
        FilesGone, FileUnreadable: it cannot read one.
    """
    try:
        yield
    except FAILURES as error:
        if (known := unread(error, lambda: snapshot.rows)) is not None:
            raise known from error
        raise


def unread(
    error: BaseException, read: Callable[[], DataFrame] | None = None
) -> FilesGone | FileUnreadable | None:
    """Return what *error* of Spark means where it could not read a file of a table.

    Args:
        error: what Spark raised.
        read: gives what it read, so that the file can be looked for that it does not name.
    """
    text = str(error)
    if (found := _GONE.search(text)) is not None:
        return FilesGone(found["file"] or found["of_3_5"])
    if (found := _UNREADABLE.search(text)) is not None:
        causes = [each for each in _CAUSE.findall(text[found.end() :]) if each]
        why = found["why"] or found["why_of_3_5"]
        reason = why or (causes[-1] if causes else "Spark does not say why")
        return FileUnreadable(unquote(found["file"] or found["of_3_5"]), reason)
    if (found := _UNNAMED.search(text)) is None:
        return None
    path, reason = _culprit(read()) if read is not None else ("", "")
    return FileUnreadable(path or "one that it does not name", reason or found[1] or found[2])


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
            except FAILURES:
                return path, f"it {reason}"
    return "", ""


def counted(
    snapshot: Snapshot | DataFrame, by: str | None, among: Sequence[date | int | str] | None = None
) -> dict[str, int]:
    """Return how many rows each value of the column *by* has, as the log counts them.

    Args:
        snapshot: the rows.
        by: a column, whose values are told as Spark writes them, null as `""`; without one, the
            whole of the rows is counted as `""`.
        among: the values that are counted; all when left out.

    Raises:
        NotEligible: the log cannot tell.
    """
    found: dict[str, int] = {}
    wanted = {by: among} if by is not None and among is not None else {}
    for values, rows in tallied(snapshot, () if by is None else (by,), wanted).items():
        value = "" if not values or values[0] is None else str(values[0])
        found[value] = found.get(value, 0) + rows
    return found


def tallied(
    snapshot: Snapshot | DataFrame,
    by: Sequence[str],
    wanted: Mapping[str, Sequence[date | int | str]],
) -> dict[tuple[Any, ...], int]:
    """Return how many rows have the same values *by* columns: as the log counts them, or read here.

    Args:
        snapshot: the rows.
        by: columns; the whole of the rows has no value.
        wanted: columns and the values that rows must have there.

    Raises:
        NotEligible: the log cannot tell, and there are too many rows to be read here.
    """
    log = _log(snapshot)
    names = list(dict.fromkeys([*wanted, *by]))
    schema = StructType.fromJson(log.schema)
    others = [name for name in names if name not in log.partitioned_by]
    for name in names:  # before any file is left out for its bounds
        _column(log, schema, schema[name])
    files = log.files(wanted)
    if others and sum(file.rows for file in files) > _most_rows(snapshot):
        raise NotEligible(f"the table is not partitioned by {listed(others)}")
    places = [names.index(name) for name in by]
    found: dict[tuple[Any, ...], int] = {}
    for values, rows in _alike(snapshot, files, names) if others else _told(files, names):
        held = dict(zip(names, values, strict=True))
        if all(held[name] in among for name, among in wanted.items()):
            key = tuple(values[n] for n in places)
            found[key] = found.get(key, 0) + rows
    return found


def held(snapshot: Snapshot, column: str, files: Collection[str]) -> dict[str, list[str]]:
    """Return which values of *column* each of the *files* of a snapshot holds, by its name.

    Args:
        snapshot: the table.
        column: its values are told as Spark writes them; nulls are left out.
        files: their names, without folders.

    Raises:
        NotEligible: there are too many rows to be read here, or they cannot be.
    """
    log = snapshot.log
    schema = StructType.fromJson(log.schema)
    _column(log, schema, schema[column])
    by_name = {file.path.rsplit("/", 1)[-1]: file for file in log.files({})}
    chosen = {name: by_name[name] for name in files if name in by_name}
    rows = sum(file.rows for file in chosen.values())
    if len(chosen) < len(files) or rows > _most_rows(snapshot):
        raise NotEligible(f"slices by {column} are looked for in {len(files)} files")
    return {
        name: [
            str(value) for (value,), _ in _alike(snapshot, [file], [column]) if value is not None
        ]
        for name, file in chosen.items()
    }


def _told(files: Sequence[File], names: Sequence[str]) -> list[tuple[tuple[Any, ...], int]]:
    """Return the values of each file in columns that divide the table, and how many rows it has."""
    return [
        (tuple(file.partition[name] for name in names), file.rows - len(file.deleted))
        for file in files
    ]


def _alike(
    snapshot: Snapshot | DataFrame, files: Sequence[File], names: Sequence[str]
) -> list[tuple[tuple[Any, ...], int]]:
    """Return the values in the columns *names*, and how many rows of *files* have the same ones."""
    if not files:
        return []
    scan = _direct(_everything(snapshot), files, names, (), seconds_a_row=0.0).scan
    found: Counter[tuple[Any, ...]] = Counter()
    for batch in executor.read_tasks(scan, _numbers(scan)):
        rows = pa.Table.from_batches([batch])
        counts = rows.group_by(rows.column_names).aggregate([([], "count_all")])
        *values, sizes = [counts.column(name) for name in [*rows.column_names, "count_all"]]
        try:
            columns = [column.to_pylist() for column in values]
        except (ValueError, OverflowError) as error:  # no UTF-8, or no date of Python's
            raise NotEligible(f"{listed(names)} holds {error}") from error
        for key, size in zip(zip(*columns, strict=True), sizes.to_pylist(), strict=True):
            found[key] += size
    return list(found.items())


def _everything(snapshot: Snapshot | DataFrame) -> Selection:
    nothing = StructField("", StringType())
    return Selection(snapshot, lambda rows: rows, nothing, lambda: F.lit(""))


def matching(
    snapshot: Snapshot | DataFrame, few: pa.Table, keys: Sequence[str], wanted: Sequence[str]
) -> pa.Table:
    """Return the rows of *few* with further columns of those rows of a snapshot that share a key.

    Args:
        snapshot: the rows.
        few: held by this process.
        keys: columns of both; null equals nothing.
        wanted: columns of the snapshot that *few* lacks.
    """
    names = [*keys, *wanted]
    try:
        found = _sharing(snapshot, few, keys, names)
    except NotEligible as not_eligible:
        if isinstance(snapshot, Snapshot):
            snapshot.runner.start(str(not_eligible))
        rows = snapshot.rows if isinstance(snapshot, Snapshot) else snapshot
        chosen = rows.select(*[F.col(f"`{name}`") for name in names])
        by_key = frame(rows.sparkSession, few.select(keys).append_column(_PLACE, _places(few)))
        found = collected(chosen.join(F.broadcast(by_key), list(keys)))
    joined = few.take(found.column(_PLACE))
    for name in wanted:
        joined = joined.append_column(name, found.column(name))
    return joined


def _sharing(
    snapshot: Snapshot | DataFrame, few: pa.Table, keys: Sequence[str], names: Sequence[str]
) -> pa.Table:
    """Read the columns *names* of the rows that share a key with *few*, and its place there."""
    log = _log(snapshot)
    files = log.files({})
    if sum(file.rows for file in files) > _most_rows(snapshot):
        raise NotEligible("there are too many rows to look for the keys of some")
    places: dict[tuple[Any, ...], list[int]] = {}
    for n, key in enumerate(_keys(few.select(keys))):
        if None not in key:
            places.setdefault(key, []).append(n)
    schema = StructType.fromJson(log.schema)
    empty = pa.schema([(name, arrow_type(schema[name].dataType)) for name in names])
    found = [empty.append(pa.field(_PLACE, pa.int64())).empty_table()]
    if not files or not places:
        return found[0]
    scan = _direct(_everything(snapshot), files, names, (), seconds_a_row=0.0).scan
    sought = np.sort(executor.row_hashes(_one_batch(few.select(keys))))
    for batch in executor.read_tasks(scan, _numbers(scan)):
        rows = batch.rename_columns(list(names))
        hashes = executor.row_hashes(rows.select(keys))
        at = np.minimum(np.searchsorted(sought, hashes), len(sought) - 1)
        near = rows.filter(pa.array(sought[at] == hashes))
        # Where several rows have one key, each of these has each of those, as in a join.
        pairs = [
            (n, place)
            for n, key in enumerate(_keys(pa.Table.from_batches([near.select(keys)])))
            for place in places.get(key, ())
        ]
        taken = near.take(pa.array([n for n, _ in pairs], pa.int64()))
        own = pa.array([place for _, place in pairs], pa.int64())
        found.append(pa.Table.from_batches([taken]).append_column(_PLACE, own))
    return pa.concat_tables(found)


def _keys(rows: pa.Table) -> list[tuple[Any, ...]]:
    """Return the values of each row, in types that Python holds and compares exactly."""
    columns = []
    for column in rows.columns:
        kind = column.type
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.int64())  # noqa: PLW2901 - the same values
        elif pa.types.is_date(kind):
            column = column.cast(pa.int32())  # noqa: PLW2901 - likewise
        elif pa.types.is_string(kind):
            column = column.cast(pa.binary())  # noqa: PLW2901 - likewise
        values = column.to_pylist()
        if pa.types.is_floating(kind):  # NaN is NaN here, and -0.0 is 0.0
            values = ["NaN" if v is not None and math.isnan(v) else v for v in values]
        columns.append(values)
    return list(zip(*columns, strict=True))


def _places(rows: pa.Table) -> pa.Array:
    return pa.array(range(rows.num_rows), pa.int64())


def _one_batch(rows: pa.Table) -> pa.RecordBatch:
    return rows.combine_chunks().to_batches()[0]


def _most_rows(snapshot: Snapshot | DataFrame) -> int:
    """Return of how many rows at most the driver reads a column itself."""
    alone = isinstance(snapshot, Snapshot) and not snapshot.runner.is_started
    return _MOST_ROWS_ALONE if alone else _MOST_ROWS_HERE


def _log(snapshot: Snapshot | DataFrame) -> Log:
    if not isinstance(snapshot, Snapshot):
        raise NotEligible("the rows are no snapshot's")
    return snapshot.log


def partition_name(text: str | None, kind: DataType) -> str:
    """Return the one way to write the value that the log writes as *text*, null as `""`.

    The log may write an integer in several ways, such as `1` and `01`.

    Raises:
        NotEligible: only Spark can tell what it reads as *kind*.
    """
    if not text:
        return ""
    if isinstance(kind, StringType):
        return text
    try:
        if isinstance(kind, IntegralType):
            return str(int(text))
        if isinstance(kind, DateType) and date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise NotEligible(f"the log writes the value {text!r} for a partition of {kind.simpleString()}")


def repeats(selection: Selection, keys: Sequence[str]) -> int:
    """Return how many rows of a slice seem to have the *keys* of another one of it.

    Never less than there are, and more only where two keys have one 64-bit hash.

    Raises:
        NotEligible: workers cannot read the keys themselves, or not as Spark would.
    """
    planned = direct(selection, keys, (), seconds_a_row=0.0)
    runner, count = selection.runner, len(planned.scan.tasks)
    rows = sum(piece.rows for task in planned.scan.tasks for piece in task)
    if rows <= _MOST_ROWS_HERE:
        return _repeated(executor.hashed(planned.scan, 1)(_numbers(planned.scan)))
    if not runner.is_started and rows <= _MOST_HASHES_HERE:
        made = partial(executor.hashed, planned.scan, _BUCKETS_A_TASK)
        return _repeated(runner.run(made, count, executor.BLOCKS).to_batches())
    spark = runner.start(f"the keys of {rows} rows are looked at")
    parts = max(runner.slots, math.ceil(rows / _MOST_HASHES_A_TASK))
    blocks = spark.range(0, count, 1, count).mapInArrow(
        executor.hashed(planned.scan, parts * _BUCKETS_A_TASK), struct(executor.BLOCKS)
    )
    exchanged = blocks.repartition(parts, "bucket")
    counts = exchanged.mapInArrow(executor.repeated, struct(executor.REPEATED)).collect()
    return sum(row.repeated for row in counts)


def nulls(selection: Selection, names: Sequence[str]) -> dict[str, int]:
    """Return how many rows of *selection* have a null in each of the columns *names*.

    Raises:
        NotEligible: workers cannot read the columns themselves, or not as Spark would.
    """
    if not (files := _files(selection)):
        return dict.fromkeys(names, 0)
    planned = _direct(selection, files, names, (), seconds_a_row=0.0)
    made = partial(executor.nulls, planned.scan, len(names))
    if sum(piece.rows for task in planned.scan.tasks for piece in task) <= _MOST_ROWS_HERE:
        counted = pa.Table.from_batches(made()(iter(_numbers(planned.scan))))
    else:
        counted = selection.runner.run(made, len(planned.scan.tasks), executor.NULLS)
    counts = dict.fromkeys(names, 0)
    for row in counted.to_pylist():
        counts[names[row["column"]]] += row["rows"]
    return counts


def _repeated(blocks: Iterable[pa.RecordBatch]) -> int:
    return sum(batch.column(0)[0].as_py() for batch in executor.repeated(blocks))


def _check_partition(field: StructField) -> None:
    """See that delta-rs and Spark read alike what the log has for a partition's values."""
    if not isinstance(field.dataType, (StringType, DateType, IntegralType)):
        raise NotEligible(f"the table is partitioned by a {field.dataType.simpleString()}")


def _column(log: Log, schema: StructType, field: StructField) -> executor.Column:
    """Return how the table's column *field*.name is read, and given on as *field*'s type."""
    own = schema[field.name]
    if not is_plain(own.dataType):
        raise NotEligible(f"column {own.name!r} is {own.dataType.simpleString()}")
    if isinstance(own.dataType, DecimalType) and isinstance(field.dataType, DoubleType):
        raise NotEligible(f"column {own.name!r} is cast from a decimal, which Arrow does not round")
    _check_unpadded(own)
    divides = own.name in log.partitioned_by
    if divides:
        _check_partition(own)
    return executor.Column(
        stored=log.stored[own.name],
        partition=divides,
        read=arrow_type(own.dataType),
        give=arrow_type(field.dataType),
        widens=log.widens,
    )


def _check_unpadded(field: StructField) -> None:
    """See that Spark gives values as they are stored: those of `CHAR` are filled up with spaces."""
    odd = [key for key in field.metadata if key.startswith(("__CHAR", "EXISTS_DEFAULT"))]
    if odd:
        raise NotEligible(f"column {field.name!r} carries {listed(odd)}")


def _check_sessions_settings(runner: Runner, columns: Sequence[executor.Column]) -> None:
    if any(pa.types.is_temporal(column.read) for column in columns):
        for key, usual in _USUAL.items():
            if (value := runner.setting(key, usual[0])) not in usual:
                raise NotEligible(f"{key} is {value}, not {usual[0]}")


def _row_groups(
    runner: Runner,
    files: Sequence[File],
    columns: Sequence[executor.Column],
    store: executor.Store,
) -> list[tuple[int, ...]]:
    """Return the rows of each row group of each of *files*, whose footers fit log and columns."""
    paths = [file.path for file in files]
    wanted = tuple(dict.fromkeys(column for column in columns if not column.partition))
    if len(files) <= _MOST_FOOTERS_HERE:
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            footers = list(pool.map(lambda path: executor.footer(path, wanted, store), paths))
    else:
        tasks = runner.slots * 4
        made = partial(executor.footers, paths, wanted, tasks, store)
        read = runner.run(made, tasks, executor.FOOTERS).sort_by("file")
        footers = [(tuple(row["rows"]), row["problem"]) for row in read.to_pylist()]
    for file, (rows, problem) in zip(files, footers, strict=True):
        if problem:
            raise NotEligible(f"a file of the table {problem}")
        if sum(rows) != file.rows:
            raise NotEligible(f"a file holds {sum(rows)} rows where the log counts {file.rows}")
    return [rows for rows, _ in footers]


def _pieces(  # noqa: PLR0913 - facts of one plan
    files: Sequence[File],
    groups: Sequence[tuple[int, ...]],
    divided_by: Sequence[str | None],
    *,
    rows: int,
    slots: int,
    seconds_a_row: float,
) -> tuple[tuple[executor.Piece, ...], ...]:
    """Divide the files into tasks of about as many rows: by row groups, dear ones by rows too.

    *divided_by* names the columns that the log holds the values of, in the order of the scan's.
    """
    most = max(1, min(_MOST_ROWS_A_TASK, int(_MOST_SECONDS_A_TASK / max(seconds_a_row, 1e-9))))
    tasks = slots * max(1, math.ceil(rows / most / slots))
    share = max(1, math.ceil(rows / tasks))
    divides = seconds_a_row > _SECONDS_TO_READ
    pieces = []
    for file, sizes in zip(files, groups, strict=True):
        values = tuple(file.partition[name] if name else None for name in divided_by)
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
        raise NotEligible(f"it would be {len(pieces)} pieces")
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


def as_selected(applied: DataFrame, plan: Direct, keep: Sequence[str]) -> DataFrame:
    """Return *keep* of what workers gave, then the rest of it: predictions, errors, sayings.

    What the selection adds is told by each row's own value, so a row that workers ought not to have
    given would be one of no slice that is due.
    """
    others = [name for name in applied.columns if name not in plan.carried]
    chosen = applied.withColumn(plan.selection.adds.name, plan.selection.value())
    return chosen.select(*[F.col(f"`{name}`") for name in [*keep, *others]])


def shortened(scan: executor.Scan, most: int) -> executor.Scan:
    """Return *scan* with *most* rows of each piece at most."""
    tasks = tuple(
        tuple(replace(piece, rows=min(piece.rows, most)) for piece in task) for task in scan.tasks
    )
    return replace(scan, tasks=tasks)


def named(rows: pa.Table, plan: Direct, keep: Sequence[str]) -> pa.Table:
    """Return what `as_selected` does of rows that the driver holds: what is added is a text."""
    column, others = plan.selection.column, [n for n in rows.column_names if n not in plan.carried]
    if column is None:
        texts = pa.repeat(pa.scalar(plan.selection.constant, pa.string()), rows.num_rows)
    else:
        texts = rows.column(column).cast(pa.string())
    return rows.append_column(plan.selection.adds.name, texts).select([*keep, *others])
