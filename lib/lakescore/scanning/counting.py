"""Counting: rows by value, nulls and repeated keys, which workers or this process count."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql.types import StructType

from lakescore import executor
from lakescore.arrow import struct
from lakescore.logs import NotEligible
from lakescore.scanning import fetching
from lakescore.scanning.eligibility import scan_column
from lakescore.scanning.fetching import row_limit, task_numbers
from lakescore.scanning.planning import direct, plan_files
from lakescore.scanning.selection import select_all, selected_files, snapshot_log
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import date

    from pyspark.sql import DataFrame

    from lakescore.logs import File
    from lakescore.scanning.selection import Selection
    from lakescore.snapshots import Snapshot

_MOST_HASHES_A_TASK = 8_000_000
_MOST_HASHES_HERE = 20_000_000
"""If there are more keys, Spark compares their hashes, which take 8 bytes each."""
_BUCKETS_A_TASK = 16
"""Spark spreads buckets by hashes of their numbers; with several buckets a task, tasks get about
equally many rows."""


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
    log = snapshot_log(snapshot)
    names = list(dict.fromkeys([*wanted, *by]))
    schema = StructType.fromJson(log.schema)
    others = [name for name in names if name not in log.partitioned_by]
    for name in names:  # a check before files are left out because of their bounds
        scan_column(log, schema, schema[name])
    files = log.files(wanted)
    if others and sum(file.rows for file in files) > row_limit(snapshot):
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
    scan_column(log, schema, schema[column])
    by_name = {file.path.rsplit("/", 1)[-1]: file for file in log.files({})}
    chosen = {name: by_name[name] for name in files if name in by_name}
    rows = sum(file.rows for file in chosen.values())
    if len(chosen) < len(files) or rows > row_limit(snapshot):
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
    scan = plan_files(select_all(snapshot), files, names, (), seconds_a_row=0.0).scan
    totals: Counter[tuple[Any, ...]] = Counter()
    for batch in executor.read_tasks(scan, task_numbers(scan)):
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


def nulls(selection: Selection, names: Sequence[str]) -> dict[str, int]:
    """Return the number of rows of *selection* with a null, for each of the columns *names*.

    Raises:
        NotEligible: workers cannot read the columns themselves, or not as Spark would.
    """
    if not (files := selected_files(selection)):
        return dict.fromkeys(names, 0)
    planned = plan_files(selection, files, names, (), seconds_a_row=0.0)
    make_task = partial(executor.nulls, planned.scan, len(names))
    if sum(piece.rows for task in planned.scan.tasks for piece in task) <= fetching.MOST_ROWS_HERE:
        null_rows = pa.Table.from_batches(make_task()(iter(task_numbers(planned.scan))))
    else:
        null_rows = selection.runner.run(make_task, len(planned.scan.tasks), executor.NULLS)
    counts = dict.fromkeys(names, 0)
    for row in null_rows.to_pylist():
        counts[names[row["column"]]] += row["rows"]
    return counts


def repeats(selection: Selection, keys: Sequence[str]) -> int:
    """Return the number of rows of a slice that repeat the *keys* of another row of the slice.

    The number is never too small. It is too large only if two keys have the same 64-bit hash.

    Raises:
        NotEligible: workers cannot read the keys themselves, or not as Spark would.
    """
    planned = direct(selection, keys, (), seconds_a_row=0.0)
    runner, count = selection.runner, len(planned.scan.tasks)
    rows = sum(piece.rows for task in planned.scan.tasks for piece in task)
    if rows <= fetching.MOST_ROWS_HERE:
        return _count_repeated(executor.hashed(planned.scan, 1)(task_numbers(planned.scan)))
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


def _count_repeated(blocks: Iterable[pa.RecordBatch]) -> int:
    return sum(batch.column(0)[0].as_py() for batch in executor.repeated(blocks))
