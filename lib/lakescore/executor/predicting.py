"""Predicting: the function that a task runs, from its input rows to its output rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from .expecting import Checks, Expected
from .families import BYTES_GATHERED, Family
from .keeping import counted
from .reading import gathered, read_tasks
from .tallying import SAID, Part
from .writing import FILES, chosen, written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .reading import Scan
    from .version import Version
    from .writing import OutputColumn, Sink


Task = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""The function that runs in a worker, for `mapInArrow`."""
_Applied = tuple[pa.RecordBatch, Sequence[pa.Array], pa.Array]
"""Rows, the columns to add, and the reasons why rows failed."""
Failing = Literal["raise", "null", "aside"]
"""How a task treats a row that cannot be scored."""


def predictor(  # noqa: PLR0913 - all but the first by name
    versions: Sequence[Version | Family],
    *,
    kept: int,
    scan: Scan | None = None,
    tells: pa.RecordBatch | None = None,
    failing: Failing = "raise",
    says: int | None = None,
    sink: Sink | None = None,
    expected: Expected | None = None,
) -> Task:
    """Return the function for `mapInArrow` that yields *kept* columns and the predictions.

    Args:
        versions: the versions and families to apply.
        kept: the number of first columns that are returned unchanged. One column for each version
            follows.
        scan: the rows that the worker reads itself. The batches that it gets then hold the numbers
            of its tasks.
        tells: one row for each member of a family, which is then the only one of *versions*. Its
            columns are added to the rows that the member scored. Rows without a member are
            dropped.
        failing: `raise` raises an error for the first row that cannot be scored. `null` gives the
            row a null, and adds a column with the reasons and the versions: a list of `WHY`, null
            if all versions scored the row. `aside` drops the row, and lists it in the report of
            the task.
        says: if set, a last column holds the report of the task. It is null except in an extra
            last row of the task. The report lists failed rows up to this number of bytes.
        sink: if set, the task writes the rows there, and returns `FILES`.
        expected: what the rows must be like; a row that breaks a rule cannot be scored.
    """
    names = [f"p{n}" for n in range(len(versions))]
    names += [] if tells is None else tells.schema.names

    def predict(batches: Iterable[pa.RecordBatch], part: Part) -> Iterator[pa.RecordBatch]:
        loads, aligned = counted("loads"), counted("aligned")
        checks = Checks(expected or Expected())
        for batch, added, why in _apply(versions, tells, batches, checks):
            part.rows += batch.num_rows
            part.failed += len(why) - why.null_count
            columns, kept_names = batch.columns[:kept], batch.schema.names[:kept]
            del batch  # as in `_apply`
            arrays, all_names = [*columns, *added], [*kept_names, *names]
            if failing == "null":
                yield pa.RecordBatch.from_arrays([*arrays, why], names=[*all_names, "why"])
                continue
            rows = pa.RecordBatch.from_arrays(arrays, names=all_names)
            if why.null_count < len(why):
                if failing == "raise":
                    raise _row_error(why)
                part.add(pa.RecordBatch.from_arrays([*columns, why], names=[*kept_names, "why"]))
                rows = rows.filter(why.is_null())
            yield rows
        part.aligned = int(counted("aligned") - aligned)
        part.loads = int(counted("loads") - loads)
        part.checked = checks.facts() if expected is not None else {}

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        part = Part() if says is None else Part(most=says)
        rows = predict(batches if scan is None else read_tasks(scan, batches), part)
        if sink is not None:
            yield from written(sink, rows)
            yield _report_row(FILES, part.said())
            return
        schema = None
        for batch in rows:
            schema = batch.schema
            yield batch if says is None else _add_report_column(batch)
        if says is not None and schema is not None:
            yield _report_row(_add_report_field(schema), part.said())

    return run


def _apply(
    versions: Sequence[Version | Family],
    tells: pa.RecordBatch | None,
    batches: Iterable[pa.RecordBatch],
    checks: Checks,
) -> Iterator[_Applied]:
    """Yield batches, their predictions with the columns of *tells*, and the reasons of failures."""
    families = [version for version in versions if isinstance(version, Family)]
    if families:  # a call has a cost, and a member gets only a part of the rows
        batches = gathered(batches, lambda batch: int(batch.nbytes), BYTES_GATHERED)
    for batch in batches:
        if tells is None:
            yield batch, *checks.attempt(versions, batch)
            del batch  # so that the next batch gets its memory; new memory costs page faults
            continue
        numbers = families[0].numbered(batch)
        rows = batch if (numbers >= 0).all() else batch.filter(pa.array(numbers >= 0))
        if rows.num_rows:
            predictions, why = checks.attempt(versions, rows)
            member_rows = tells.take(pa.array(numbers[numbers >= 0]))
            yield rows, [*predictions, *member_rows.columns], why


def _row_error(why: pa.Array) -> ValueError:
    first = why.drop_null()[0].as_py()[0]
    return ValueError(
        f"{first['version']} could not score a row (failing='null' keeps it, with the error "
        f"beside it): {first['type']}: {first['message']}"
    )


def few(
    make_task: Callable[[], Task], tasks: int, most: int, columns: Sequence[OutputColumn]
) -> list[pa.RecordBatch]:
    """Return *columns* of the first rows of the tasks, at most *most* rows."""
    pieces: list[pa.RecordBatch] = []
    for number in range(tasks):
        numbers = pa.RecordBatch.from_pydict({"id": [number]})
        for batch in make_task()(iter([numbers])):
            missing = most - sum(piece.num_rows for piece in pieces)
            pieces.append(chosen(batch.slice(0, missing), columns))
            if batch.num_rows >= missing:
                return pieces
    return pieces


def narrowed(make_task: Callable[[], Task], columns: Sequence[OutputColumn]) -> Task:
    """Return the function of a task that yields only *columns* of the task of *make_task*."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in make_task()(batches):
            yield chosen(batch, columns)

    return run


def _report_row(schema: pa.Schema, report: bytes) -> pa.RecordBatch:
    """Return one row of *schema* with the report of a task; its other columns are null."""
    columns = [
        pa.array([report], pa.binary()) if field.name == SAID else pa.nulls(1, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


def _add_report_column(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [*batch.columns, pa.nulls(batch.num_rows, pa.binary())]
    return pa.RecordBatch.from_arrays(columns, names=[*batch.schema.names, SAID])


def _add_report_field(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field(SAID, pa.binary()))
