"""Fetching: this process reads rows of a selection itself, without Spark, if they are not many."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import StructType

from lakescore import executor
from lakescore.arrow import arrow_type, collected, frame
from lakescore.logs import NotEligible
from lakescore.scanning.planning import named, plan_files
from lakescore.scanning.selection import select_all, selected_files, snapshot_log
from lakescore.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructField

    from lakescore.scanning.selection import Selection

MOST_ROWS_HERE = 200_000
"""If there are more rows, workers read the column or the keys."""
_MOST_ROWS_ALONE = 20_000_000
"""If there are more rows, Spark is started to read a column; this process needs seconds for it."""
_MOST_FILES_PROBED = 16
_PLACE = "_lakescore_place"


def read(selection: Selection, names: Sequence[str], most: int) -> pa.Table:
    """Read the columns *names* of all rows of *selection* in this process, without Spark.

    The result can have rows whose values are not in `within`.

    Raises:
        NotEligible: the rows could differ from those that Spark reads, or are more than *most*.
    """
    files = selected_files(selection)
    if (rows := sum(file.rows for file in files)) > most:
        raise NotEligible(f"{rows} rows need Spark's memory")
    if not files:
        kinds = [(name, arrow_type(selection.schema[name].dataType)) for name in names]
        return pa.schema(kinds).empty_table()
    table_columns = [name for name in names if name != selection.adds.name]
    planned = plan_files(selection, files, table_columns, (), seconds_a_row=0.0)
    schema = pa.schema([(column.name, arrow_type(column.dataType)) for column in planned.fields])
    batches = [
        batch.rename_columns(schema.names)
        for batch in executor.read_tasks(planned.scan, task_numbers(planned.scan))
    ]
    return named(pa.Table.from_batches(batches, schema), planned, names)


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
    for file in selected_files(selection):
        scan = plan_files(selection, [file], [], features, seconds_a_row=0.0).scan
        for batch in executor.read_tasks(scan, task_numbers(scan)):
            missing = most - sum(part.num_rows for part in taken)
            taken.append(batch.slice(0, missing))
            if batch.num_rows >= missing:
                break
        else:
            if (rows_read := rows_read + file.rows) > row_limit(selection.snapshot):
                raise NotEligible("too many other rows come before the selected rows")
            continue
        break
    if not taken:
        kinds = [(f"f{n}", arrow_type(feature.dataType)) for n, feature in enumerate(features)]
        return pa.schema(kinds).empty_table()
    return _number_features(pa.Table.from_batches(taken), len(features))


def scattered(selection: Selection, features: Sequence[StructField], most: int) -> pa.Table:
    """Read scattered rows of *selection* in this process, the same rows in every call.

    Returns:
        The same columns as `first`.

    Raises:
        NotEligible: as in `first`.
    """
    files = selected_files(selection)
    generator = random.Random(0)  # noqa: S311 - no secret
    chosen = generator.sample(files, min(len(files), _MOST_FILES_PROBED))
    if sum(file.rows for file in chosen) > MOST_ROWS_HERE:
        raise NotEligible("there are too many rows to read in this process")
    scan = plan_files(selection, chosen, [], features, seconds_a_row=0.0).scan
    batches = list(executor.read_tasks(scan, task_numbers(scan)))
    if not batches:
        raise NotEligible("there are no rows to read")
    rows = pa.Table.from_batches(batches)
    taken = rows.take(sorted(generator.sample(range(rows.num_rows), min(most, rows.num_rows))))
    return _number_features(taken, len(features))


def _number_features(rows: pa.Table, features: int) -> pa.Table:
    """Return the last columns of *rows*, as many as *features*, with the names f0, f1, ..."""
    columns = rows.columns[len(rows.columns) - features :]
    return pa.table({f"f{n}": column for n, column in enumerate(columns)})


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
    log = snapshot_log(snapshot)
    files = log.files({})
    if sum(file.rows for file in files) > row_limit(snapshot):
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
    scan = plan_files(select_all(snapshot), files, names, (), seconds_a_row=0.0).scan
    sample_hashes = np.sort(executor.row_hashes(_one_batch(sample.select(keys))))
    for batch in executor.read_tasks(scan, task_numbers(scan)):
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


def task_numbers(scan: executor.Scan) -> list[pa.RecordBatch]:
    """Return the numbers of all tasks of *scan*, in a batch like those that Spark hands out."""
    return [pa.RecordBatch.from_pydict({"id": list(range(len(scan.tasks)))})]


def row_limit(snapshot: Snapshot | DataFrame) -> int:
    """Return the maximum number of rows for the driver to read a column itself."""
    is_alone = isinstance(snapshot, Snapshot) and not snapshot.runner.is_started
    return _MOST_ROWS_ALONE if is_alone else MOST_ROWS_HERE
