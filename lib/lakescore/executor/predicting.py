"""Predicting: what a task of Spark runs, from the rows that it gets to those that it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from .applying import attempt
from .choosing import BYTES_GATHERED, Family
from .keeping import counted
from .reading import gathered, read_tasks
from .tallying import SAID, Part
from .writing import FILES, chosen, written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .applying import Version
    from .reading import Scan
    from .writing import OutputColumn, Sink


Task = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""What runs in a worker: a function for `mapInArrow`."""
_Applied = tuple[pa.RecordBatch, Sequence[pa.Array], pa.Array]
"""Rows, the columns that are added, and why some rows failed."""
Failing = Literal["raise", "null", "aside"]
"""What becomes of a row that cannot be scored."""


def predictor(  # noqa: PLR0913 - all but the first by name
    versions: Sequence[Version | Family],
    *,
    kept: int,
    scan: Scan | None = None,
    tells: pa.RecordBatch | None = None,
    failing: Failing = "raise",
    says: int | None = None,
    sink: Sink | None = None,
) -> Task:
    """Return the function for `mapInArrow`: the first *kept* columns, then one for each version.

    Args:
        versions: what is applied.
        kept: how many columns go back as they came.
        scan: what the worker reads itself; the batches that it gets then number its tasks.
        tells: of the only one of *versions*, a family, what rows say of the member that scored
            them, in further columns: one row a member. Rows without a member are left out then.
        failing: the first row that cannot be scored is an error (`raise`); or it has a null, and a
            further column says why, and by which version: a list of `WHY`, null where all could
            (`null`); or it is left out, and listed in what the task says (`aside`).
        says: where given, a last column is null but in one more row, a task's last, in which it
            says what the task did; of failed rows it lists so many bytes.
        sink: the rows are written there, and `FILES` go back instead.
    """
    names = [f"p{n}" for n in range(len(versions))]
    names += [] if tells is None else tells.schema.names

    def predict(batches: Iterable[pa.RecordBatch], part: Part) -> Iterator[pa.RecordBatch]:
        loads, aligned = counted("loads"), counted("aligned")
        for batch, predicted, why in _applied(versions, tells, batches):
            part.rows += batch.num_rows
            part.failed += len(why) - why.null_count
            columns, held = batch.columns[:kept], batch.schema.names[:kept]
            given, named = [*columns, *predicted], [*held, *names]
            if failing == "null":
                yield pa.RecordBatch.from_arrays([*given, why], names=[*named, "why"])
                continue
            rows = pa.RecordBatch.from_arrays(given, names=named)
            if why.null_count < len(why):
                if failing == "raise":
                    raise _error_of(why)
                part.add(pa.RecordBatch.from_arrays([*columns, why], names=[*held, "why"]))
                rows = rows.filter(why.is_null())
            yield rows
        part.aligned = int(counted("aligned") - aligned)
        part.loads = int(counted("loads") - loads)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        part = Part() if says is None else Part(most=says)
        rows = predict(batches if scan is None else read_tasks(scan, batches), part)
        if sink is not None:
            yield from written(sink, rows)
            yield told(FILES, part.said())
            return
        given = None
        for batch in rows:
            given = batch.schema
            yield batch if says is None else _silent(batch)
        if says is not None and given is not None:
            yield told(_silent_schema(given), part.said())

    return run


def _applied(
    versions: Sequence[Version | Family],
    tells: pa.RecordBatch | None,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[_Applied]:
    """Yield batches, their predictions with what rows tell of a member, and why some failed."""
    families = [version for version in versions if isinstance(version, Family)]
    if families:  # a call costs, and a member gets but a part of the rows
        batches = gathered(batches, lambda batch: int(batch.nbytes), BYTES_GATHERED)
    for batch in batches:
        if tells is None:
            yield batch, *attempt(versions, batch)
            continue
        numbers = families[0].numbered(batch)
        rows = batch if (numbers >= 0).all() else batch.filter(pa.array(numbers >= 0))
        if rows.num_rows:
            predicted, why = attempt(versions, rows)
            told_of = tells.take(pa.array(numbers[numbers >= 0]))
            yield rows, [*predicted, *told_of.columns], why


def _error_of(why: pa.Array) -> ValueError:
    first = why.drop_null()[0].as_py()[0]
    return ValueError(
        f"{first['version']} could not score a row (failing='null' keeps it, with the error "
        f"beside it): {first['type']}: {first['message']}"
    )


def few(
    made: Callable[[], Task], tasks: int, most: int, columns: Sequence[OutputColumn]
) -> list[pa.RecordBatch]:
    """Return *columns* of the first rows that tasks give, *most* of them."""
    found: list[pa.RecordBatch] = []
    for number in range(tasks):
        numbers = pa.RecordBatch.from_pydict({"id": [number]})
        for batch in made()(iter([numbers])):
            missing = most - sum(each.num_rows for each in found)
            found.append(chosen(batch.slice(0, missing), columns))
            if batch.num_rows >= missing:
                return found
    return found


def narrowed(made: Callable[[], Task], columns: Sequence[OutputColumn]) -> Task:
    """Return the function of a task that gives *columns* of what the one that is *made* gives."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in made()(batches):
            yield chosen(batch, columns)

    return run


def told(schema: pa.Schema, said: bytes) -> pa.RecordBatch:
    """Return the one row of *schema* in which a task says what it did: the rest of it is null."""
    columns = [
        pa.array([said], pa.binary()) if field.name == SAID else pa.nulls(1, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


def _silent(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [*batch.columns, pa.nulls(batch.num_rows, pa.binary())]
    return pa.RecordBatch.from_arrays(columns, names=[*batch.schema.names, SAID])


def _silent_schema(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field(SAID, pa.binary()))
