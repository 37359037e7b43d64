"""Sketching: a few values of number columns, and all values of category columns.

From a sketch of the baseline, the driver chooses the bins in which `profiling` counts rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .histograms import finite_numbers, texts
from .reading import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .histograms import Floats
    from .predicting import Task
    from .reading import Scan

MOST_VALUES = 10_000
"""A category column with more values identifies rows rather than groups of them."""
SKETCH = pa.schema(
    {
        "column": pa.int32(),
        "value": pa.string(),
        "rows": pa.int64(),
        "sample": pa.binary(),
        "low": pa.float64(),
        "high": pa.float64(),
    }
)
"""The rows of a sketch: a category's value with its number of rows; or the sample of a number
column, with its number of finite numbers, the smallest and the largest. A null value with -1 rows
says that the column has more than `MOST_VALUES` values."""


def sketch(scan: Scan, numbers: tuple[int, ...], categories: tuple[int, ...], every: int) -> Task:
    """Return the function for `mapInArrow` that sketches columns of *scan*.

    Args:
        scan: the rows.
        numbers: positions of number columns.
        categories: positions of category columns.
        every: the sample has the first of so many rows, counted from the start of a row group, so
            that it does not depend on the number of tasks.
    """

    def run(tasks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        made = _Sketch(numbers, categories, every)
        for batch in tasks:
            for number in batch.column(0).to_pylist():
                for piece in scan.tasks[number]:
                    made.start(piece.skip)
                    for rows in read(scan, piece):
                        made.take(rows)
        yield made.result()

    return run


def sketch_rows(
    numbers: tuple[int, ...], categories: tuple[int, ...], every: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that sketches rows that Spark reads."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        made = _Sketch(numbers, categories, every)
        for rows in batches:
            made.take(rows)
        yield made.result()

    return run


class _Sketch:
    def __init__(self, numbers: tuple[int, ...], categories: tuple[int, ...], every: int) -> None:
        self._every, self._position = every, 0
        self._samples: dict[int, list[Floats]] = {place: [] for place in numbers}
        self._ranges = dict.fromkeys(numbers, (np.inf, -np.inf, 0))
        self._values: dict[int, dict[str, int]] = {place: {} for place in categories}

    def start(self, position: int) -> None:
        """Begin rows at a *position* in a row group."""
        self._position = position

    def take(self, rows: pa.RecordBatch) -> None:
        """Add the *rows*."""
        first = -self._position % self._every
        self._position += rows.num_rows
        for place, samples in self._samples.items():
            column = rows.column(place)
            if len(finite := finite_numbers(column)):
                low, high, count = self._ranges[place]
                self._ranges[place] = (
                    min(low, float(finite.min())),
                    max(high, float(finite.max())),
                    count + len(finite),
                )
            samples.append(
                finite_numbers(column.take(pa.array(range(first, len(column), self._every))))
            )
        for place, known in self._values.items():
            if len(known) > MOST_VALUES:
                continue
            for pair in texts(rows.column(place)).value_counts().to_pylist():
                if pair["values"] is not None:
                    known[pair["values"]] = known.get(pair["values"], 0) + pair["counts"]

    def result(self) -> pa.RecordBatch:
        """Return the sketch as rows of `SKETCH`."""
        rows: list[tuple[Any, ...]] = []
        for place, samples in self._samples.items():
            low, high, count = self._ranges[place]
            sample = np.concatenate([*samples, np.empty(0)])
            rows.append((place, None, count, sample.tobytes(), low, high))
        for place, known in self._values.items():
            values = known.items() if len(known) <= MOST_VALUES else [(None, -1)]
            rows += [(place, value, count, None, None, None) for value, count in values]
        return as_batch(rows, SKETCH)


def as_batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    """Return *rows* as a batch, also if there are none."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(c, kind) for c, kind in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
