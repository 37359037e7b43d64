"""Planning: how workers read a selection, and the way from their rows to those of the selection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import StructField, StructType

from lakescore import executor
from lakescore.logs import NotEligible
from lakescore.scanning.dividing import divide_files, row_groups
from lakescore.scanning.eligibility import check_session_settings, scan_column
from lakescore.scanning.selection import selected_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

    from lakescore.logs import File
    from lakescore.scanning.selection import Selection


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
        pieces = [piece for task in self.scan.tasks for piece in task if piece.rows]
        return sum((p.skip + p.rows - 1) // p.at_once - p.skip // p.at_once + 1 for p in pieces)


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
    files = selected_files(selection)
    if not files:
        raise NotEligible("there are no files to read")
    return plan_files(selection, files, keep, features, seconds_a_row=seconds_a_row)


def plan_files(
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
    columns = (
        *(scan_column(log, schema, field) for field in fields[: len(carried)]),
        *(scan_column(log, schema, feature, nested=True) for feature in features),
    )
    runner = selection.runner
    check_session_settings(runner, columns)
    store = log.folder.store
    groups = row_groups(runner, files, columns, store)
    rows = sum(file.rows for file in files)
    pieces = divide_files(
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


def as_selected(applied: DataFrame, plan: Direct, keep: Sequence[str]) -> DataFrame:
    """Return the columns *keep* of the workers' rows, then their other columns.

    The other columns are predictions, errors and messages of tasks. The column that the selection
    adds is computed from each row's value. So a row that workers return by mistake would belong to
    no slice that is due.
    """
    others = [name for name in applied.columns if name not in plan.carried]
    chosen = applied.withColumn(plan.selection.adds.name, plan.selection.value())
    return chosen.select(*[F.col(f"`{name}`") for name in [*keep, *others]])


def named(rows: pa.Table, plan: Direct, keep: Sequence[str]) -> pa.Table:
    """Return the result of `as_selected` for rows in the driver; the added column is a text."""
    column, others = plan.selection.column, [n for n in rows.column_names if n not in plan.carried]
    if column is None:
        texts = pa.repeat(pa.scalar(plan.selection.constant, pa.string()), rows.num_rows)
    else:
        texts = rows.column(column).cast(pa.string())
    return rows.append_column(plan.selection.adds.name, texts).select([*keep, *others])


def shortened(scan: executor.Scan, most: int) -> executor.Scan:
    """Return *scan* with at most *most* rows of each piece."""
    tasks = tuple(
        tuple(replace(piece, rows=min(piece.rows, most)) for piece in task) for task in scan.tasks
    )
    return replace(scan, tasks=tasks)
