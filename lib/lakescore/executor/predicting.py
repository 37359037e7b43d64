"""Predicting: what a task of Spark runs, from the rows that it gets to those that it gives."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from .applying import attempt
from .keeping import counted
from .reading import read_tasks
from .tallying import Part, Tally
from .writing import written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .applying import Version
    from .reading import Scan
    from .writing import Sink


Failing = Literal["raise", "null", "quarantine"]
"""What becomes of a row that cannot be scored."""


def predictor(  # noqa: PLR0913 - all but the first by name
    versions: Sequence[Version],
    *,
    kept: int,
    scan: Scan | None = None,
    tally: Any = None,
    failing: Failing = "raise",
    sink: Sink | None = None,
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow`: the first *kept* columns, then one for each version.

    Args:
        versions: what is applied.
        kept: how many columns go back as they came.
        scan: what the worker reads itself; the batches that it gets then number its tasks.
        tally: a Spark accumulator of `Tally`, to which each task adds.
        failing: the first row that cannot be scored is an error (`raise`); or it has a null, and a
            last column says why, and by which version: a list of `WHY`, null where all could
            (`null`); or it goes to *tally* alone (`quarantine`), and without one is an error.
        sink: the rows are written there, and `FILES` go back instead.
    """

    def predict(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        part, loads, aligned = Part(), counted("loads"), counted("aligned")
        names = [f"p{n}" for n in range(len(versions))]
        for batch in batches if scan is None else read_tasks(scan, batches):
            predicted, why = attempt(versions, batch)
            part.rows += batch.num_rows
            part.failed += len(why) - why.null_count
            columns, held = batch.columns[:kept], batch.schema.names[:kept]
            if failing == "null":
                columns, held = [*columns, *predicted, why], [*held, *names, "why"]
                yield pa.RecordBatch.from_arrays(columns, names=held)
                continue
            rows = pa.RecordBatch.from_arrays([*columns, *predicted], names=[*held, *names])
            if why.null_count < len(why):
                if tally is None or failing == "raise":
                    first = why.drop_null()[0].as_py()[0]
                    raise ValueError(
                        f"{first['version']} could not score a row (failing='null' keeps it, with "
                        f"the error beside it): {first['type']}: {first['message']}"
                    )
                part.add(pa.RecordBatch.from_arrays([*columns, why], names=[*held, "why"]))
                rows = rows.filter(why.is_null())
            yield rows
        part.aligned = int(counted("aligned") - aligned)
        if tally is not None:
            tally.add(
                Tally(
                    parts={_task(): part},
                    loads=int(counted("loads") - loads),
                    workers=frozenset({_worker()}),
                )
            )

    if sink is None:
        return predict
    return lambda batches: written(sink, predict(batches))


def _task() -> tuple[int, int]:
    from pyspark import TaskContext  # noqa: PLC0415 - at hand in every worker

    task = TaskContext.get()
    return (task.stageId(), task.partitionId()) if task else (0, 0)


def _worker() -> str:
    return f"{platform.node()}:{os.getpid()}"
