"""Dividing: the parts of the input that tasks get, so that all cores have work.

Workers get pieces of Parquet files; Spark gets a number of partitions.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lakescore import executor
from lakescore.classic import tasks
from lakescore.logs import NotEligible
from lakescore.runner import Runner
from lakescore.scanning.selection import selected_files
from lakescore.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

    from lakescore.logs import File
    from lakescore.scanning.selection import Selection

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


def row_groups(
    runner: Runner,
    files: Sequence[File],
    columns: Sequence[executor.Column],
    store: executor.Store,
) -> list[tuple[executor.RowGroup, ...]]:
    """Return all row groups, for each of *files*; check footers by log and columns."""
    paths = [file.path for file in files]
    wanted = tuple(dict.fromkeys(column for column in columns if not column.partition))
    if len(files) <= _MOST_FOOTERS_HERE:
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            footers = list(pool.map(lambda path: executor.footer(path, wanted, store), paths))
    else:
        tasks = runner.slots * 4
        make_task = partial(executor.footers, paths, wanted, tasks, store)
        table = runner.run(make_task, tasks, executor.FOOTERS).sort_by("file")
        footers = [
            (tuple(map(executor.RowGroup, row["rows"], row["at_once"])), row["problem"])
            for row in table.to_pylist()
        ]
    for file, (groups, problem) in zip(files, footers, strict=True):
        if problem:
            raise NotEligible(f"a file of the table {problem}")
        if (rows := sum(group.rows for group in groups)) != file.rows:
            raise NotEligible(f"a file has {counted(rows, 'row')}, but the log counts {file.rows}")
    return [groups for groups, _ in footers]


def divide_files(  # noqa: PLR0913 - facts of one plan
    files: Sequence[File],
    groups: Sequence[tuple[executor.RowGroup, ...]],
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
    for file, file_groups in zip(files, groups, strict=True):
        values = tuple(file.partition[name] if name else None for name in partition_columns)
        first = 0
        for number, (size, at_once) in enumerate(file_groups):
            part = math.ceil(size / math.ceil(size / share)) if divide_groups and size else size
            for skip in range(0, size, max(1, part)):
                count = min(part, size - skip)
                pieces.append(
                    executor.Piece(
                        path=file.path,
                        row_group=number,
                        skip=skip,
                        rows=count,
                        deleted=_deleted_bits(file.deleted, first + skip, count),
                        values=values,
                        at_once=at_once,
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
        files = selected_files(selection)
        groups = sum(math.ceil(file.size / _BYTES_A_ROW_GROUP) for file in files)
    except NotEligible:
        groups = partitions
    return 2 * slots if min(groups, partitions) < slots else None
