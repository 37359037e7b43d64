"""Profiling: the distributions of columns by group, as counts that can be added up.

No row leaves a worker, only counts and sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .histograms import binned, texts
from .reading import gathered, read_tasks
from .sketching import as_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .histograms import Bins, Floats, Ints
    from .predicting import Task
    from .reading import Scan

MOST_GROUPS = 200
"""The most values of a column that divides a unit into segments."""
SEPARATOR = "\x1f"
"""The separator between the texts that name a unit."""
_ROWS_AT_ONCE = 65_536
PROFILE = pa.schema(
    {
        "column": pa.int32(),
        "unit": pa.string(),
        "by": pa.int32(),
        "value": pa.string(),
        "counts": pa.binary(),
        "sums": pa.binary(),
        "squares": pa.binary(),
    }
)
"""The rows of a profile: one for each column and group. `by` is the position of the column that
divides the unit into segments, and -1 for the whole unit. `counts` are whole numbers for all bins.
`sums` are those of the finite numbers less the origin of their bins, for the bins of finite
numbers, and `squares` is the sum of their squares. A row with the column -1 says that `by` has more
than `MOST_GROUPS` values."""


@dataclass(frozen=True, kw_only=True)
class ProfileSpec:
    """The description of a profile; columns are given by their positions in the batches."""

    units: tuple[int, ...]
    """The columns whose texts together name a row's unit; none if all rows are one unit."""
    by: tuple[int, ...]
    """The columns that divide a unit into segments."""
    columns: tuple[tuple[int, Bins], ...]


def profile(scan: Scan, spec: ProfileSpec) -> Task:
    """Return the function for `mapInArrow` that profiles the rows of tasks of *scan*."""

    def run(tasks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _profiled(spec, read_tasks(scan, tasks))

    return run


def profile_rows(
    spec: ProfileSpec,
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that profiles rows that Spark reads."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _profiled(spec, batches)

    return run


def _profiled(spec: ProfileSpec, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    made = _Profile(spec)
    for rows in gathered(batches, len, _ROWS_AT_ONCE):
        made.take(rows)
    yield made.result()


class _Profile:
    """The counts of one task."""

    def __init__(self, spec: ProfileSpec) -> None:
        self._spec = spec
        self._units: dict[str | None, int] = {}
        self._segments: list[dict[str | None, int]] = [{} for _ in spec.by]
        self._crowded: set[int] = set()
        # By column and divider, vectors for each group: unit times segments.
        self._cells: dict[tuple[int, int], dict[tuple[int, int], list[Any]]] = {}

    def take(self, rows: pa.RecordBatch) -> None:
        """Count the *rows*."""
        unit_codes = self._unit_codes(rows)
        dividers: list[tuple[int, Ints | None]] = [
            (n, self._segment_codes(n, rows.column(place))) for n, place in enumerate(self._spec.by)
        ] or [(-1, None)]
        for number, (place, bins) in enumerate(self._spec.columns):
            codes, values = binned(rows.column(place), bins)
            for by, segments in dividers:
                self._add(number, by, bins, codes, values, (unit_codes, segments))

    def result(self) -> pa.RecordBatch:
        """Return the counts as rows of `PROFILE`."""
        units = list(self._units)
        rows: list[tuple[Any, ...]] = [
            (-1, None, by, None, None, None, None) for by in sorted(self._crowded)
        ]
        for (number, by), groups in self._cells.items():
            wholes: dict[int, list[Any]] = {}
            for (unit, segment), vectors in groups.items():
                if by >= 0:
                    value = list(self._segments[by])[segment]
                    rows.append((number, units[unit], by, value, *_packed(vectors)))
                if by <= 0:  # the segments of one divider together are the whole unit
                    _merge(wholes, unit, vectors)
            rows += [
                (number, units[unit], -1, None, *_packed(vectors))
                for unit, vectors in wholes.items()
            ]
        return as_batch(rows, PROFILE)

    def _unit_codes(self, rows: pa.RecordBatch) -> Ints | None:
        if not self._spec.units:
            self._units.setdefault("", 0)
            return None
        names = [texts(rows.column(place)) for place in self._spec.units]
        codes = _codes(pc.binary_join_element_wise(*names, SEPARATOR), self._units)
        return None if len(self._units) == 1 else codes

    def _segment_codes(self, number: int, column: pa.Array) -> Ints:
        known = self._segments[number]
        codes = _codes(column, known)
        if len(known) > MOST_GROUPS:  # `result` says so; the memory stays bounded
            self._crowded.add(number)
            return np.minimum(codes, MOST_GROUPS)
        return codes

    def _add(  # noqa: PLR0913, PLR0917 - one column, one divider
        self,
        number: int,
        by: int,
        bins: Bins,
        codes: Ints,
        values: Floats | None,
        groups: tuple[Ints | None, Ints | None],
    ) -> None:
        units, segments = groups
        width = 1 if segments is None else min(len(self._segments[by]), MOST_GROUPS + 1)
        group: Ints | None = segments
        if units is not None:
            group = units if segments is None else units * width + segments
        count = width * (1 if units is None else len(self._units))
        size = bins.size
        index = codes if group is None else group * size + codes
        counts = np.bincount(index, minlength=count * size).reshape(count, size)
        sums: Any = np.zeros((count, 0))
        squares: Any = sums
        if values is not None:
            shape = (count, size)
            sums = np.bincount(index, values, count * size).reshape(shape)[:, : bins.finite]
            squared = values * values
            if group is None:
                squares = np.array([[squared.sum()]])
            else:
                squares = np.bincount(group, squared, count).reshape(count, 1)
        cells = self._cells.setdefault((number, by), {})
        for place in np.flatnonzero(counts.any(axis=1)):
            key = divmod(int(place), width)
            _merge(cells, key, [counts[place], sums[place], squares[place]])


def _merge(cells: dict[Any, list[Any]], key: Any, vectors: list[Any]) -> None:
    known = cells.get(key)
    cells[key] = vectors if known is None else [a + b for a, b in zip(known, vectors, strict=True)]


def _packed(vectors: list[Any]) -> tuple[bytes, bytes, bytes]:
    counts, sums, squares = vectors
    return counts.astype(np.int64).tobytes(), sums.tobytes(), squares.tobytes()


def _codes(column: pa.Array, known: dict[str | None, int]) -> Ints:
    """Return the numbers of the values of *column* as texts, and add new values to *known*."""
    encoded = texts(column).dictionary_encode(null_encoding="encode")
    numbers = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
    codes: Ints = np.array(numbers, np.int64)[encoded.indices.to_numpy()]
    return codes
