"""Scanning: whether workers can read a table's files themselves, and which worker reads which part.

If a Delta snapshot is plain enough, the model's inputs do not pass through the JVM: Spark hands out
pieces of Parquet files, workers read them with pyarrow, and only the kept columns go back. The
table's log says which files hold a selection, which of their rows are deleted, and which names the
columns have in the files. This module declines every table that it does not fully understand; then
Spark reads.
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
from lakescore.errors import InputContractError
from lakescore.logs import NotEligible
from lakescore.runner import FAILURES, Runner
from lakescore.snapshots import Snapshot
from lakescore.storage import plain_path
from lakescore.wording import listed

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
"""The settings with which Spark reads dates and times from the files without changing them.

EXCEPTION, the default of Spark 3, differs in one point: with it, Spark refuses to read days before
1582 in files that it did not write.
"""
_MOST_ROWS_A_TASK = 1_000_000
_MOST_SECONDS_A_TASK = 60.0
_SECONDS_TO_READ = 2e-7
"""Seconds a row, roughly, that a second worker wastes if it reads a row group to use half of it."""
_SECONDS_TO_SHUFFLE = 2e-6
"""Seconds a row, roughly, that Spark needs to spread rows."""
_BYTES_A_ROW_GROUP = 128 * 2**20
"""Parquet's usual size. Spark splits files at this size or later; a split in which no row group
begins is idle."""
_FOOTERS_AT_ONCE = 16
_MOST_FOOTERS_HERE = 512
"""If there are more files, tasks read the footers."""
_MOST_PIECES = 100_000
_MOST_HASHES_A_TASK = 8_000_000
_MOST_ROWS_HERE = 200_000
"""If there are more rows, workers read the column or the keys."""
_MOST_ROWS_ALONE = 20_000_000
"""If there are more rows, Spark is started to read a column; this process needs seconds for it."""
_MOST_FILES_PROBED = 16
_MOST_HASHES_HERE = 20_000_000
"""If there are more keys, Spark compares their hashes, which take 8 bytes each."""
_BUCKETS_A_TASK = 16
"""Spark spreads buckets by hashes of their numbers; with several buckets a task, tasks get about
equally many rows."""
_MOST_BYTES = "spark.sql.execution.arrow.maxBytesPerBatch"
_NOT_MEASURED = 2**31 - 1
"""The limit at which Spark does not measure (`BatchedPythonArrowInput.underBatchSizeLimit`)."""
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
"""Errors of a Parquet reader for which Spark does not name the file."""
_MOST_SUSPECTS = 20
_PLACE = "_lakescore_place"
_CAUSE = re.compile(r"\nCaused by: (?:[\w.$]+: )?([^\n]*)")
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
"""The units of bytes in Spark's settings, as powers of two."""


class FilesGone(InputContractError):
    """Files that a version of a table needs do not exist any more."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the file {path} does not exist any more, but the version of the table that the run "
            "reads needs it; probably VACUUM removed it; restore it, or read a newer version, and "
            "keep files longer (delta.deletedFileRetentionDuration)"
        )


class FileUnreadable(InputContractError):
    """Spark cannot read a file of a table."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"Spark cannot read {path}, a file of the table: {reason}; write its rows again in a "
            "format that Spark reads, with the types of the table, or restore the file"
        )


@dataclass(frozen=True)
class Selection:
    """Rows of a snapshot, chosen in a way that Spark and workers understand alike."""

    snapshot: Snapshot | DataFrame
    """The source of the rows; only Spark reads a frame that is not a snapshot."""
    choose: Callable[[DataFrame], DataFrame]
    """Filters rows by `column`: a transform."""
    adds: StructField
    """The column that is added."""
    value: Callable[[], Column]
    """The value of the added column, computed from `column`."""
    column: str | None = None
    """The only column that `choose` filters by; None if it does not filter."""
    constant: str = ""
    """The text of `adds` in all rows, if there is no `column`."""
    size: int | None = None
    """The number of chosen rows, if it is known."""
    among: tuple[date | int | str, ...] | None = None
    """The values of `column` that are chosen; None for all values except null and NaN."""
    within: Mapping[str, tuple[date | int | str, ...]] = field(default_factory=dict)
    """Values of other columns in the chosen rows: files that cannot hold them are not read."""

    @property
    def whole(self) -> DataFrame:
        """All rows, as Spark reads them."""
        return self.snapshot.rows if isinstance(self.snapshot, Snapshot) else self.snapshot

    @property
    def runner(self) -> Runner:
        """The runner of the tasks that read the rows."""
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
            NotEligible: only Spark reads the log, or the rows are not from a snapshot.
        """
        return _snapshot_log(self.snapshot)

    @property
    def wanted(self) -> dict[str, tuple[date | int | str, ...]]:
        """The values that the chosen rows have, by column."""
        if self.column is None or self.among is None:
            return dict(self.within)
        return {**self.within, self.column: self.among}


@dataclass(frozen=True)
class Direct:
    """The plan of a scan by workers, and of the way from their rows to those of the selection."""

    scan: executor.Scan
    selection: Selection
    carried: tuple[str, ...]
    """The table's columns that workers return, in this order, before the predictions."""
    fields: tuple[StructField, ...]
    """The fields of `carried`."""
    size: int
    """The bytes of the files that are read."""
    rows: int
    """The number of chosen rows if it is known; otherwise the number of rows in the files."""

    @property
    def batches(self) -> int:
        """The number of batches that workers make of the pieces, if no row is left out."""
        stored = [column for column in self.scan.columns if not column.partition]
        most = executor.rows_at_once(len(stored))
        pieces = [piece for task in self.scan.tasks for piece in task]
        # Batches begin at multiples of this number in a row group, also if a piece begins between.
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
        keep: the columns of `selection.rows` that the output has.
        features: the model's columns, with their names in the table and their types for the model.
        seconds_a_row: the seconds that a model needs for a row; expensive rows are spread over more
            tasks.

    Raises:
        NotEligible: the rows could differ from those that Spark reads.
    """
    files = _files(selection)
    if not files:
        raise NotEligible("there are no files to read")
    return _plan_files(selection, files, keep, features, seconds_a_row=seconds_a_row)


def _plan_files(
    selection: Selection,
    files: Sequence[File],
    keep: Sequence[str],
    features: Sequence[StructField],
    *,
    seconds_a_row: float,
) -> Direct:
    """Return the plan of `direct` for *files* only."""
    log = selection.log
    carried = [name for name in keep if name != selection.adds.name]
    if selection.column and selection.column not in carried:
        carried.append(selection.column)
    schema = StructType.fromJson(log.schema)
    fields = [*[schema[name] for name in carried], *features]
    columns = tuple(_scan_column(log, schema, field) for field in fields)
    runner = selection.runner
    _check_session_settings(runner, columns)
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
    row_filter = None
    if selection.column:
        row_filter = executor.PartitionFilter(
            column=carried.index(selection.column), among=selection.among
        )
    return Direct(
        scan=executor.Scan(columns=columns, tasks=pieces, only=row_filter, store=store),
        selection=selection,
        carried=tuple(carried),
        fields=tuple(fields[: len(carried)]),
        size=sum(file.size for file in files),
        rows=rows if selection.size is None else selection.size,
    )


def _files(selection: Selection) -> list[File]:
    """Return the files that can hold rows of *selection*.

    Raises:
        NotEligible: the log does not have this information, or Spark does not compare the values of
            a column as they are in the files.
    """
    log = selection.log
    schema = StructType.fromJson(log.schema)
    for name in selection.wanted:  # a check before files are left out because of their bounds
        _scan_column(log, schema, schema[name])
    return log.files(selection.wanted)


def read(selection: Selection, names: Sequence[str], most: int) -> pa.Table:
    """Read the columns *names* of all rows of *selection* in this process, without Spark.

    The result can have rows whose values are not in `within`.

    Raises:
        NotEligible: the rows could differ from those that Spark reads, or are more than *most*.
    """
    files = _files(selection)
    if (rows := sum(file.rows for file in files)) > most:
        raise NotEligible(f"{rows} rows need Spark's memory")
    if not files:
        kinds = [(name, arrow_type(selection.schema[name].dataType)) for name in names]
        return pa.schema(kinds).empty_table()
    table_columns = [name for name in names if name != selection.adds.name]
    planned = _plan_files(selection, files, table_columns, (), seconds_a_row=0.0)
    schema = pa.schema([(column.name, arrow_type(column.dataType)) for column in planned.fields])
    batches = [
        batch.rename_columns(schema.names)
        for batch in executor.read_tasks(planned.scan, _task_numbers(planned.scan))
    ]
    return named(pa.Table.from_batches(batches, schema), planned, names)


def scattered(selection: Selection, features: Sequence[StructField], most: int) -> pa.Table:
    """Read scattered rows of *selection* in this process, the same rows in every call.

    Returns:
        The same columns as `first`.

    Raises:
        NotEligible: as in `first`.
    """
    files = _files(selection)
    generator = random.Random(0)  # noqa: S311 - no secret
    chosen = generator.sample(files, min(len(files), _MOST_FILES_PROBED))
    if sum(file.rows for file in chosen) > _MOST_ROWS_HERE:
        raise NotEligible("there are too many rows to read in this process")
    scan = _plan_files(selection, chosen, [], features, seconds_a_row=0.0).scan
    batches = list(executor.read_tasks(scan, _task_numbers(scan)))
    if not batches:
        raise NotEligible("there are no rows to read")
    rows = pa.Table.from_batches(batches)
    taken = rows.take(sorted(generator.sample(range(rows.num_rows), min(most, rows.num_rows))))
    return _number_features(taken, len(features))


def _number_features(rows: pa.Table, features: int) -> pa.Table:
    """Return the last columns of *rows*, as many as *features*, with the names f0, f1, ..."""
    columns = rows.columns[len(rows.columns) - features :]
    return pa.table({f"f{n}": column for n, column in enumerate(columns)})


def first(selection: Selection, features: Sequence[StructField], most: int) -> pa.Table:
    """Read the first rows of *selection* in this process, without Spark.

    Args:
        selection: the rows.
        features: the columns, with their names in the table and their types for the model.
        most: the maximum number of rows.

    Returns:
        The columns f0, f1, ... in the order of *features*; no rows if the selection is empty.

    Raises:
        NotEligible: the rows could differ from those that Spark reads, or too many other rows come
            before them.
    """
    taken: list[pa.RecordBatch] = []
    rows_read = 0
    for file in _files(selection):
        scan = _plan_files(selection, [file], [], features, seconds_a_row=0.0).scan
        for batch in executor.read_tasks(scan, _task_numbers(scan)):
            missing = most - sum(part.num_rows for part in taken)
            taken.append(batch.slice(0, missing))
            if batch.num_rows >= missing:
                break
        else:
            if (rows_read := rows_read + file.rows) > _row_limit(selection.snapshot):
                raise NotEligible("too many other rows come before the selected rows")
            continue
        break
    if not taken:
        kinds = [(f"f{n}", arrow_type(feature.dataType)) for n, feature in enumerate(features)]
        return pa.schema(kinds).empty_table()
    return _number_features(pa.Table.from_batches(taken), len(features))


def _task_numbers(scan: executor.Scan) -> list[pa.RecordBatch]:
    """Return the numbers of all tasks of *scan*, in a batch like those that Spark hands out."""
    return [pa.RecordBatch.from_pydict({"id": list(range(len(scan.tasks)))})]


def spread(
    rows: DataFrame, *, seconds_a_row: float, selection: Selection | None = None
) -> int | None:
    """Return the number of partitions for *rows* before an expensive model; None if it is no gain.

    Spark divides files by bytes and never divides a row group. So few large row groups, or few
    partitions, would leave cores idle.

    Args:
        rows: the rows to spread.
        seconds_a_row: the seconds that a model needs for a row.
        selection: the selection of a snapshot that *rows* come from, if any.
    """
    if seconds_a_row < _SECONDS_TO_SHUFFLE:
        return None
    slots, partitions = Runner.of(rows.sparkSession).slots, tasks(rows)
    try:
        if selection is None:
            raise NotEligible("the rows are not a snapshot's")  # noqa: TRY301 - as all others
        files = _files(selection)
        groups = sum(math.ceil(file.size / _BYTES_A_ROW_GROUP) for file in files)
    except NotEligible:
        groups = partitions
    return 2 * slots if min(groups, partitions) < slots else None


@contextmanager
def skip_batch_size_check(
    spark: SparkSession | Runner, sent: Callable[[], Iterable[DataType]]
) -> Iterator[None]:
    """Let Spark skip the size check of batches while the body runs, if they cannot be too large.

    At each row, Spark adds up the buffers of all columns, which takes 40 % of the time to hand
    twenty doubles over (docs/benchmark/README.md). The check is skipped if rows of fixed width
    stay below the limit in bytes even in the largest batch; rows with texts are still checked.

    Args:
        spark: the session, or the runner.
        sent: returns the types of a row.
    """
    runner = Runner.of(spark)
    if not runner.is_started:
        yield
        return
    conf = runner.spark.conf
    try:
        limit = str(conf.get(_MOST_BYTES))
    except FAILURES:  # Spark 4.0 does not have this limit
        yield
        return
    size = _SIZE.fullmatch(limit.strip())
    most = int(size[1]) << _UNITS[size[2].lower()] if size is not None else _NOT_MEASURED
    rows = int(conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") or 0)
    if most >= _NOT_MEASURED or not 0 < rows * _row_width(sent()) < most:
        yield
        return
    conf.set(_MOST_BYTES, _NOT_MEASURED)
    try:
        yield
    finally:
        conf.set(_MOST_BYTES, limit)


def _row_width(kinds: Iterable[DataType]) -> float:
    """Return the bytes of a row of *kinds* in Arrow; infinite if the widths of values vary."""
    try:
        return float(sum(max(8, arrow_type(kind).bit_width) / 8 + 1 for kind in kinds))
    except (PySparkException, ValueError):
        return math.inf


@contextmanager
def reading(snapshot: Snapshot) -> Iterator[None]:
    """Raise a one-line error if Spark cannot read a file of *snapshot* while the body runs.

    Raises:
        FilesGone, FileUnreadable: Spark cannot read a file.
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
    """Return the lakescore error for an *error* of Spark that could not read a file of a table.

    Args:
        error: the error that Spark raised.
        read: returns the rows that Spark read, to find the file if Spark does not name it.
    """
    text = str(error)
    if (match := _GONE.search(text)) is not None:
        return FilesGone(match["file"] or match["of_3_5"])
    if (match := _UNREADABLE.search(text)) is not None:
        causes = [cause for cause in _CAUSE.findall(text[match.end() :]) if cause]
        why = match["why"] or match["why_of_3_5"]
        reason = why or (causes[-1] if causes else "Spark gives no reason")
        return FileUnreadable(unquote(match["file"] or match["of_3_5"]), reason)
    if (match := _UNNAMED.search(text)) is None:
        return None
    path, reason = _find_unreadable(read()) if read is not None else ("", "")
    return FileUnreadable(path or "one that it does not name", reason or match[1] or match[2])


def _find_unreadable(rows: DataFrame) -> tuple[str, str]:
    """Return the first file of *rows* that Spark cannot read, and how its types differ."""
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
            file_rows = rows.sparkSession.read.schema(rows.schema).parquet(plain_path(path))
            try:
                file_rows.write.format("noop").mode("append").save()
            except FAILURES:
                return path, f"it {reason}"
    return "", ""


def counted(
    snapshot: Snapshot | DataFrame, by: str | None, among: Sequence[date | int | str] | None = None
) -> dict[str, int]:
    """Return the number of rows for each value of the column *by*, as `tallied` counts them.

    Args:
        snapshot: the rows.
        by: a column; its values are returned as Spark writes them, and null as `""`. Without a
            column, all rows are counted as `""`.
        among: the values that are counted; the default is all values.

    Raises:
        NotEligible: as in `tallied`.
    """
    counts: dict[str, int] = {}
    wanted = {by: among} if by is not None and among is not None else {}
    for values, rows in tallied(snapshot, () if by is None else (by,), wanted).items():
        value = "" if not values or values[0] is None else str(values[0])
        counts[value] = counts.get(value, 0) + rows
    return counts


def tallied(
    snapshot: Snapshot | DataFrame,
    by: Sequence[str],
    wanted: Mapping[str, Sequence[date | int | str]],
) -> dict[tuple[Any, ...], int]:
    """Return the number of rows for each combination of values in the columns *by*.

    The log has the counts if the columns are partition columns; otherwise this process reads the
    rows.

    Args:
        snapshot: the rows.
        by: the columns; without columns, all rows are counted under the empty key.
        wanted: columns, each with the values that rows must have there.

    Raises:
        NotEligible: the log does not have the counts, and this process cannot read the rows, or
            they are too many.
    """
    log = _snapshot_log(snapshot)
    names = list(dict.fromkeys([*wanted, *by]))
    schema = StructType.fromJson(log.schema)
    others = [name for name in names if name not in log.partitioned_by]
    for name in names:  # a check before files are left out because of their bounds
        _scan_column(log, schema, schema[name])
    files = log.files(wanted)
    if others and sum(file.rows for file in files) > _row_limit(snapshot):
        raise NotEligible(f"the table is not partitioned by {listed(others)}")
    places = [names.index(name) for name in by]
    counts: dict[tuple[Any, ...], int] = {}
    for values, rows in (
        _count_by_reading(snapshot, files, names) if others else _count_by_partition(files, names)
    ):
        value_of = dict(zip(names, values, strict=True))
        if all(value_of[name] in among for name, among in wanted.items()):
            key = tuple(values[n] for n in places)
            counts[key] = counts.get(key, 0) + rows
    return counts


def held(snapshot: Snapshot, column: str, files: Collection[str]) -> dict[str, list[str]]:
    """Return the values of *column* in each of the *files* of a snapshot, by the file's name.

    Args:
        snapshot: the table.
        column: the column; its values are returned as Spark writes them, without nulls.
        files: the names of the files, without folders.

    Raises:
        NotEligible: this process cannot read the rows, or they are too many.
    """
    log = snapshot.log
    schema = StructType.fromJson(log.schema)
    _scan_column(log, schema, schema[column])
    by_name = {file.path.rsplit("/", 1)[-1]: file for file in log.files({})}
    chosen = {name: by_name[name] for name in files if name in by_name}
    rows = sum(file.rows for file in chosen.values())
    if len(chosen) < len(files) or rows > _row_limit(snapshot):
        raise NotEligible(f"{len(files)} files are searched for slices by {column}")
    return {
        name: [
            str(value)
            for (value,), _ in _count_by_reading(snapshot, [file], [column])
            if value is not None
        ]
        for name, file in chosen.items()
    }


def _count_by_partition(
    files: Sequence[File], names: Sequence[str]
) -> list[tuple[tuple[Any, ...], int]]:
    """Return the values in partition columns, and the number of rows, of each file."""
    return [
        (tuple(file.partition[name] for name in names), file.rows - len(file.deleted))
        for file in files
    ]


def _count_by_reading(
    snapshot: Snapshot | DataFrame, files: Sequence[File], names: Sequence[str]
) -> list[tuple[tuple[Any, ...], int]]:
    """Return the distinct values in *names* of the rows of *files*, with their numbers of rows."""
    if not files:
        return []
    scan = _plan_files(_select_all(snapshot), files, names, (), seconds_a_row=0.0).scan
    totals: Counter[tuple[Any, ...]] = Counter()
    for batch in executor.read_tasks(scan, _task_numbers(scan)):
        rows = pa.Table.from_batches([batch])
        counts = rows.group_by(rows.column_names).aggregate([([], "count_all")])
        *values, sizes = [counts.column(name) for name in [*rows.column_names, "count_all"]]
        try:
            columns = [column.to_pylist() for column in values]
        except (ValueError, OverflowError) as error:  # not UTF-8, or a date that Python lacks
            raise NotEligible(f"{listed(names)} holds {error}") from error
        for key, size in zip(zip(*columns, strict=True), sizes.to_pylist(), strict=True):
            totals[key] += size
    return list(totals.items())


def _select_all(snapshot: Snapshot | DataFrame) -> Selection:
    nothing = StructField("", StringType())
    return Selection(snapshot, lambda rows: rows, nothing, lambda: F.lit(""))


def matching(
    snapshot: Snapshot | DataFrame, sample: pa.Table, keys: Sequence[str], wanted: Sequence[str]
) -> pa.Table:
    """Return the rows of *sample*, with columns from the rows of a snapshot that share their keys.

    Args:
        snapshot: the rows.
        sample: the few rows that this process has.
        keys: the key columns of both; a null equals nothing.
        wanted: the columns of the snapshot to add to *sample*.
    """
    names = [*keys, *wanted]
    try:
        matches = _read_matching(snapshot, sample, keys, names)
    except NotEligible as not_eligible:
        if isinstance(snapshot, Snapshot):
            snapshot.runner.start(str(not_eligible))
        rows = snapshot.rows if isinstance(snapshot, Snapshot) else snapshot
        chosen = rows.select(*[F.col(f"`{name}`") for name in names])
        key_places = sample.select(keys).append_column(_PLACE, _places(sample))
        by_key = frame(rows.sparkSession, key_places)
        matches = collected(chosen.join(F.broadcast(by_key), list(keys)))
    joined = sample.take(matches.column(_PLACE))
    for name in wanted:
        joined = joined.append_column(name, matches.column(name))
    return joined


def _read_matching(
    snapshot: Snapshot | DataFrame, sample: pa.Table, keys: Sequence[str], names: Sequence[str]
) -> pa.Table:
    """Read *names* of the rows that share a key with *sample*, and the place of the key there."""
    log = _snapshot_log(snapshot)
    files = log.files({})
    if sum(file.rows for file in files) > _row_limit(snapshot):
        raise NotEligible("there are too many rows to find keys in this process")
    places: dict[tuple[Any, ...], list[int]] = {}
    for n, key in enumerate(_keys(sample.select(keys))):
        if None not in key:
            places.setdefault(key, []).append(n)
    schema = StructType.fromJson(log.schema)
    empty = pa.schema([(name, arrow_type(schema[name].dataType)) for name in names])
    matches = [empty.append(pa.field(_PLACE, pa.int64())).empty_table()]
    if not files or not places:
        return matches[0]
    scan = _plan_files(_select_all(snapshot), files, names, (), seconds_a_row=0.0).scan
    sample_hashes = np.sort(executor.row_hashes(_one_batch(sample.select(keys))))
    for batch in executor.read_tasks(scan, _task_numbers(scan)):
        rows = batch.rename_columns(list(names))
        hashes = executor.row_hashes(rows.select(keys))
        positions = np.minimum(np.searchsorted(sample_hashes, hashes), len(sample_hashes) - 1)
        similar = rows.filter(pa.array(sample_hashes[positions] == hashes))
        # If several rows have the same key, every pair of them is a match, as in a join.
        pairs = [
            (n, place)
            for n, key in enumerate(_keys(pa.Table.from_batches([similar.select(keys)])))
            for place in places.get(key, ())
        ]
        taken = similar.take(pa.array([n for n, _ in pairs], pa.int64()))
        row_places = pa.array([place for _, place in pairs], pa.int64())
        matches.append(pa.Table.from_batches([taken]).append_column(_PLACE, row_places))
    return pa.concat_tables(matches)


def _keys(rows: pa.Table) -> list[tuple[Any, ...]]:
    """Return the values of each row, in types that Python represents and compares exactly."""
    columns = []
    for column in rows.columns:
        kind = column.type
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.int64())  # noqa: PLW2901 - the same values
        elif pa.types.is_date(kind):
            column = column.cast(pa.int32())  # noqa: PLW2901 - as above
        elif pa.types.is_string(kind):
            column = column.cast(pa.binary())  # noqa: PLW2901 - as above
        values = column.to_pylist()
        if pa.types.is_floating(kind):  # NaN equals NaN here, and -0.0 equals 0.0
            values = ["NaN" if v is not None and math.isnan(v) else v for v in values]
        columns.append(values)
    return list(zip(*columns, strict=True))


def _places(rows: pa.Table) -> pa.Array:
    return pa.array(range(rows.num_rows), pa.int64())


def _one_batch(rows: pa.Table) -> pa.RecordBatch:
    return rows.combine_chunks().to_batches()[0]


def _row_limit(snapshot: Snapshot | DataFrame) -> int:
    """Return the maximum number of rows for the driver to read a column itself."""
    is_alone = isinstance(snapshot, Snapshot) and not snapshot.runner.is_started
    return _MOST_ROWS_ALONE if is_alone else _MOST_ROWS_HERE


def _snapshot_log(snapshot: Snapshot | DataFrame) -> Log:
    if not isinstance(snapshot, Snapshot):
        raise NotEligible("the rows are not a snapshot's")
    return snapshot.log


def partition_name(text: str | None, kind: DataType) -> str:
    """Return the canonical text of a partition value that the log writes as *text*; null is `""`.

    The log can write an integer in several ways, such as `1` and `01`.

    Raises:
        NotEligible: only Spark knows the value that it reads from *text* as *kind*.
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
    raise NotEligible(f"the log has the value {text!r} for a partition of {kind.simpleString()}")


def repeats(selection: Selection, keys: Sequence[str]) -> int:
    """Return the number of rows of a slice that repeat the *keys* of another row of the slice.

    The number is never too small. It is too large only if two keys have the same 64-bit hash.

    Raises:
        NotEligible: workers cannot read the keys themselves, or not as Spark would.
    """
    planned = direct(selection, keys, (), seconds_a_row=0.0)
    runner, count = selection.runner, len(planned.scan.tasks)
    rows = sum(piece.rows for task in planned.scan.tasks for piece in task)
    if rows <= _MOST_ROWS_HERE:
        return _count_repeated(executor.hashed(planned.scan, 1)(_task_numbers(planned.scan)))
    if not runner.is_started and rows <= _MOST_HASHES_HERE:
        make_task = partial(executor.hashed, planned.scan, _BUCKETS_A_TASK)
        return _count_repeated(runner.run(make_task, count, executor.BLOCKS).to_batches())
    spark = runner.start(f"the keys of {rows} rows are compared")
    parts = max(runner.slots, math.ceil(rows / _MOST_HASHES_A_TASK))
    blocks = spark.range(0, count, 1, count).mapInArrow(
        executor.hashed(planned.scan, parts * _BUCKETS_A_TASK), struct(executor.BLOCKS)
    )
    exchanged = blocks.repartition(parts, "bucket")
    counts = exchanged.mapInArrow(executor.repeated, struct(executor.REPEATED)).collect()
    return sum(row.repeated for row in counts)


def nulls(selection: Selection, names: Sequence[str]) -> dict[str, int]:
    """Return the number of rows of *selection* with a null, for each of the columns *names*.

    Raises:
        NotEligible: workers cannot read the columns themselves, or not as Spark would.
    """
    if not (files := _files(selection)):
        return dict.fromkeys(names, 0)
    planned = _plan_files(selection, files, names, (), seconds_a_row=0.0)
    make_task = partial(executor.nulls, planned.scan, len(names))
    if sum(piece.rows for task in planned.scan.tasks for piece in task) <= _MOST_ROWS_HERE:
        null_rows = pa.Table.from_batches(make_task()(iter(_task_numbers(planned.scan))))
    else:
        null_rows = selection.runner.run(make_task, len(planned.scan.tasks), executor.NULLS)
    counts = dict.fromkeys(names, 0)
    for row in null_rows.to_pylist():
        counts[names[row["column"]]] += row["rows"]
    return counts


def _count_repeated(blocks: Iterable[pa.RecordBatch]) -> int:
    return sum(batch.column(0)[0].as_py() for batch in executor.repeated(blocks))


def _check_partition(field: StructField) -> None:
    """Check that delta-rs and Spark read the log's partition values of this column alike."""
    if not isinstance(field.dataType, (StringType, DateType, IntegralType)):
        raise NotEligible(f"the table is partitioned by a {field.dataType.simpleString()}")


def _scan_column(log: Log, schema: StructType, field: StructField) -> executor.Column:
    """Return how to read the table's column *field*.name, and to convert it to *field*'s type."""
    stored = schema[field.name]
    name, kind = stored.name, stored.dataType
    if not is_plain(kind):
        raise NotEligible(f"column {name!r} is {kind.simpleString()}")
    if isinstance(kind, DecimalType) and isinstance(field.dataType, DoubleType):
        raise NotEligible(f"column {name!r} is cast from a decimal, which Arrow does not round")
    _check_unpadded(stored)
    is_partition = name in log.partitioned_by
    if is_partition:
        _check_partition(stored)
    return executor.Column(
        stored=log.stored[name],
        partition=is_partition,
        read=arrow_type(kind),
        give=arrow_type(field.dataType),
        widens=log.widens,
    )


def _check_unpadded(field: StructField) -> None:
    """Check that Spark returns values as they are stored; it pads values of `CHAR` with spaces."""
    keys = [key for key in field.metadata if key.startswith(("__CHAR", "EXISTS_DEFAULT"))]
    if keys:
        raise NotEligible(f"column {field.name!r} carries {listed(keys)}")


def _check_session_settings(runner: Runner, columns: Sequence[executor.Column]) -> None:
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
    """Return the rows of all row groups, for each of *files*; check footers by log and columns."""
    paths = [file.path for file in files]
    wanted = tuple(dict.fromkeys(column for column in columns if not column.partition))
    if len(files) <= _MOST_FOOTERS_HERE:
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            footers = list(pool.map(lambda path: executor.footer(path, wanted, store), paths))
    else:
        tasks = runner.slots * 4
        make_task = partial(executor.footers, paths, wanted, tasks, store)
        table = runner.run(make_task, tasks, executor.FOOTERS).sort_by("file")
        footers = [(tuple(row["rows"]), row["problem"]) for row in table.to_pylist()]
    for file, (rows, problem) in zip(files, footers, strict=True):
        if problem:
            raise NotEligible(f"a file of the table {problem}")
        if sum(rows) != file.rows:
            raise NotEligible(f"a file has {sum(rows)} rows, but the log counts {file.rows}")
    return [rows for rows, _ in footers]


def _pieces(  # noqa: PLR0913 - facts of one plan
    files: Sequence[File],
    groups: Sequence[tuple[int, ...]],
    partition_columns: Sequence[str | None],
    *,
    rows: int,
    slots: int,
    seconds_a_row: float,
) -> tuple[tuple[executor.Piece, ...], ...]:
    """Divide the files into tasks of about equally many rows.

    Files are divided by row groups; if rows are expensive, row groups are divided too.
    *partition_columns* has an entry for each column of the scan: the name of a partition column,
    whose values are in the log, or None.
    """
    most = max(1, min(_MOST_ROWS_A_TASK, int(_MOST_SECONDS_A_TASK / max(seconds_a_row, 1e-9))))
    tasks = slots * max(1, math.ceil(rows / most / slots))
    share = max(1, math.ceil(rows / tasks))
    divide_groups = seconds_a_row > _SECONDS_TO_READ
    pieces = []
    for file, sizes in zip(files, groups, strict=True):
        values = tuple(file.partition[name] if name else None for name in partition_columns)
        first = 0
        for group, size in enumerate(sizes):
            part = math.ceil(size / math.ceil(size / share)) if divide_groups and size else size
            for skip in range(0, size, max(1, part)):
                count = min(part, size - skip)
                pieces.append(
                    executor.Piece(
                        path=file.path,
                        row_group=group,
                        skip=skip,
                        rows=count,
                        deleted=_deleted_bits(file.deleted, first + skip, count),
                        values=values,
                    )
                )
            first += size
    if not 0 < len(pieces) <= _MOST_PIECES:
        raise NotEligible(f"the files make {len(pieces)} pieces")
    return _assign_pieces(pieces, tasks)


def _assign_pieces(
    pieces: Sequence[executor.Piece], tasks: int
) -> tuple[tuple[executor.Piece, ...], ...]:
    """Assign *pieces* to *tasks*, the largest first, each to the task with the fewest rows."""
    assigned: list[list[executor.Piece]] = [[] for _ in range(min(tasks, len(pieces)))]
    loads = [0] * len(assigned)
    for piece in sorted(pieces, key=lambda piece: piece.rows, reverse=True):
        n = loads.index(min(loads))
        assigned[n].append(piece)
        loads[n] += piece.rows
    return tuple(tuple(task_pieces) for task_pieces in assigned if task_pieces)


def _deleted_bits(
    deleted: np.ndarray[Any, np.dtype[np.int64]], first: int, count: int
) -> bytes | None:
    """Return one bit a row, set if the row is deleted; None if no row is deleted."""
    start, end = np.searchsorted(deleted, [first, first + count])
    if start == end:
        return None
    mask = np.zeros(count, np.uint8)
    mask[deleted[start:end] - first] = 1
    return np.packbits(mask).tobytes()


def as_selected(applied: DataFrame, plan: Direct, keep: Sequence[str]) -> DataFrame:
    """Return the columns *keep* of the workers' rows, then their other columns.

    The other columns are predictions, errors and messages of tasks. The column that the selection
    adds is computed from each row's value. So a row that workers return by mistake would belong to
    no slice that is due.
    """
    others = [name for name in applied.columns if name not in plan.carried]
    chosen = applied.withColumn(plan.selection.adds.name, plan.selection.value())
    return chosen.select(*[F.col(f"`{name}`") for name in [*keep, *others]])


def shortened(scan: executor.Scan, most: int) -> executor.Scan:
    """Return *scan* with at most *most* rows of each piece."""
    tasks = tuple(
        tuple(replace(piece, rows=min(piece.rows, most)) for piece in task) for task in scan.tasks
    )
    return replace(scan, tasks=tasks)


def named(rows: pa.Table, plan: Direct, keep: Sequence[str]) -> pa.Table:
    """Return the result of `as_selected` for rows in the driver; the added column is a text."""
    column, others = plan.selection.column, [n for n in rows.column_names if n not in plan.carried]
    if column is None:
        texts = pa.repeat(pa.scalar(plan.selection.constant, pa.string()), rows.num_rows)
    else:
        texts = rows.column(column).cast(pa.string())
    return rows.append_column(plan.selection.adds.name, texts).select([*keep, *others])
