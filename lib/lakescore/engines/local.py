"""Local: workers of this machine read and score the rows of a plan without Spark."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from lakescore import executor, scanning
from lakescore.arrow import arrow_type
from lakescore.engines.plan import ERRORS
from lakescore.executor import SAID
from lakescore.slicing import RESERVED_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lakescore.engines.arrow import ArrowPlan


def score(planned: ArrowPlan) -> tuple[pa.Table, list[bytes]]:
    """Return the rows that could be scored, and the reports of tasks.

    The rows have the columns `keep` and `decisive` of *planned*, whose workers read the files.
    """
    columns = _worker_columns(planned)
    reports_at = len(planned.carried) + 1 + len(planned.version_columns)
    columns.append(executor.OutputColumn(name=SAID, kind=pa.binary(), position=reports_at))
    schema = pa.schema([(column.name, column.kind) for column in columns])
    make_task = partial(executor.narrowed, planned.predictor("aside"), columns)
    rows, reports = _run(planned, make_task, schema)
    return _name_columns(planned, rows), reports


def side_by_side_places(planned: ArrowPlan) -> dict[str, int]:
    """Return, by name, the positions in workers of the columns of `scoring.side_by_side`."""
    assert planned.direct is not None  # noqa: S101 - narrows for mypy
    direct, kept = planned.direct, len(planned.carried)
    places = {name: n for n, name in enumerate(planned.carried)}
    if direct.selection.column is not None:
        places[direct.selection.adds.name] = places[direct.selection.column]
    names = [*planned.uris, ERRORS, SAID]
    return places | {name: kept + n for n, name in enumerate(names)}


def map_side_by_side(
    planned: ArrowPlan, make_next: Callable[[int], executor.Task], schema: pa.Schema
) -> tuple[pa.Table, list[bytes]]:
    """Apply further tasks to the result of `scoring.side_by_side`.

    Args:
        planned: a plan whose workers read the files.
        make_next: makes, from a task's number, the function for the batches of that task.
        schema: the schema of that function's result.

    Returns:
        The rows in *schema* without the column of reports, and the reports of tasks.
    """
    return _run(planned, partial(_chain_tasks, planned.predictor("null"), make_next), schema)


def _run(
    planned: ArrowPlan, make_task: Callable[[], executor.Task], schema: pa.Schema
) -> tuple[pa.Table, list[bytes]]:
    rows = planned.runner.run(make_task, planned.tasks, schema)
    reports = rows.column(SAID)
    scored = rows.filter(reports.is_null()).drop_columns([SAID])
    return scored, reports.drop_null().to_pylist()


def _chain_tasks(
    make_first: Callable[[], executor.Task], make_next: Callable[[int], executor.Task]
) -> executor.Task:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row, number in enumerate(batch.column(0).to_pylist()):
                yield from make_next(number)(make_first()(iter([batch.slice(row, 1)])))

    return run


def preview(planned: ArrowPlan, most: int) -> pa.Table:
    """Score at most *most* rows in this process; return the columns `keep` and `decisive`."""
    assert planned.direct is not None  # noqa: S101 - narrows for mypy
    columns = _worker_columns(planned)
    short = scanning.shortened(planned.direct.scan, most)
    for scan in (short, planned.direct.scan):
        make_task = partial(
            executor.predictor,
            planned.placed_versions(is_here=True),
            kept=len(planned.carried),
            scan=scan,
            tells=planned.member_facts(),
            failing="aside",
            expected=planned.placed_expected(),
        )
        batches = planned.runner.call(executor.few, make_task, len(scan.tasks), most, columns)
        if sum(batch.num_rows for batch in batches) >= most or short == planned.direct.scan:
            break
    schema = pa.schema([(column.name, column.kind) for column in columns])
    return _name_columns(planned, pa.Table.from_batches(batches, schema))


def _worker_columns(planned: ArrowPlan) -> list[executor.OutputColumn]:
    """Return the columns that workers carry, then `decisive` under names of lakescore.

    The names are needed because an output can have the name of the column that names the slice.
    """
    places = planned.places()
    kinds = {field.name: arrow_type(field.dataType) for field in planned.output_columns}
    carried = [
        executor.OutputColumn(name=field.name, kind=arrow_type(field.dataType), position=n)
        for n, field in enumerate(planned.carried_fields)
    ]
    decisive = [
        executor.OutputColumn(name=f"{RESERVED_PREFIX}o{n}", kind=kinds[name], **vars(places[name]))
        for n, name in enumerate(planned.decisive)
    ]
    return [*carried, *decisive]


def _name_columns(planned: ArrowPlan, rows: pa.Table) -> pa.Table:
    """Return *rows* of `_worker_columns` as the columns `keep` and `decisive`."""
    assert planned.direct is not None  # noqa: S101 - narrows for mypy
    named = scanning.named(rows, planned.direct, planned.keep)
    return named.rename_columns([*planned.keep, *planned.decisive])
