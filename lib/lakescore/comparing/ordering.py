"""The functions in Spark's Python workers for metrics that need sorted rows.

The area under a ROC curve, average precision and quantiles of errors need sorted rows. Spark sorts
the rows by group and value. Areas need all rows, so a group can lie in several partitions. A first
walk adds up each partition, so that a second walk knows the weights before its partition. For
quantiles, the first pass over the rows gives the total weights and the rough positions. Therefore a
group lies in one partition, and one walk finds its quantiles. All walks count each row as often as
each bootstrap draws it.

The module is pickled by value, as `gathering` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakescore.comparing.batches import Bools, Floats, Ints, floats, larger, partition
from lakescore.comparing.bootstrapping import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROWS = pa.schema(
    {
        "part": pa.int32(),
        "value": pa.float64(),
        "bucket": pa.int32(),
        "first": pa.float64(),
        "second": pa.float64(),
    }
)
"""Rows to sort. `first` is the weight (of a positive row), `second` that of a negative row."""
RESULTS = pa.schema(
    {"partition": pa.int32(), "part": pa.int32(), "name": pa.string(), "sums": pa.binary()}
)
"""The results of walks."""
_ROWS_AT_ONCE = 256
"""Times the number of bootstraps, they are a block of numbers that fits in a core's cache. A search
for quantiles skips such a block at once if no bootstrap's quantile lies in it."""
_TOLERANCE = 1e-12
"""Relative: sums of weights whose distance is at most this are equal."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that are sorted together."""

    version: int
    scope: str
    by: int
    """The index of the slice column; -1 for all rows."""
    value: str | None
    class_: int | None = None
    """The index of the class of the scores; None for errors."""
    windows: tuple[float, ...] = ()
    """The starts and ends of windows, ascending. Only errors in windows are sorted one by one. The
    last window can have no end."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The layout of a batch of rows: `bucket`, `label`, `weight`, slices, predictions."""

    slices: int
    versions: int
    classes: tuple[str, ...]
    """Empty for a regression."""


def expand(
    layout: Layout, groups: tuple[Group, ...]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that returns rows of `ROWS` for each of *groups*.

    Errors below and between a group's windows are added up by bucket, because their order does not
    matter. Errors above the windows are left out.
    """
    windows = [np.array(group.windows) for group in groups]

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        gaps: dict[int, Floats] = {}
        for batch in larger(batches):
            bucket = batch.column(0).to_numpy().astype(np.int64)
            weight = floats(batch.column(2))
            slices = [batch.column(3 + n) for n in range(layout.slices)]
            columns = [batch.column(3 + layout.slices + n) for n in range(layout.versions)]
            read = _scores if layout.classes else _errors
            predicted = [read(layout, batch.column(1), column) for column in columns]
            scored = [~np.isnan(values[:, 0]) for values, _ in predicted]
            common = np.logical_and.reduce(scored)
            in_slice: dict[tuple[int, str | None], Any] = {}
            for number, group in enumerate(groups):
                place = (group.by, group.value)
                if group.by >= 0 and place not in in_slice:
                    in_slice[place] = _is_equal(slices[group.by], group.value)
                mask = common if group.scope == "common" else scored[group.version]
                if group.by >= 0:
                    mask = mask & in_slice[place]
                values, positive = predicted[group.version]
                column = group.class_ or 0
                rows = (values[mask, column], bucket[mask], weight[mask])
                if positive is not None:
                    yield _score_rows(number, *rows, positive[mask, column])
                else:
                    in_windows = _rows_in_windows(number, *rows, windows[number], gaps)
                    if in_windows.num_rows:
                        yield in_windows
        for number, weights in gaps.items():
            yield _gap_rows(number, weights, windows[number])

    return run


def add_up(
    draws: np.ndarray[Any, np.dtype[np.uint8]],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that adds up each group of a partition.

    It returns rows of `RESULTS`, named `first` and `second`.
    """
    table = draws.astype(np.float64)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[int, Floats] = {}
        for batch in batches:
            part, _, bucket, first, second = _columns(batch)
            for group in np.unique(part):
                mask = part == group
                group_sums = sums.setdefault(int(group), np.zeros((2, len(table))))
                for n, weight in enumerate((first, second)):
                    group_sums[n] += np.bincount(bucket[mask], weight[mask], len(table))
        results = [
            (group, name, group_sums[n] @ table)
            for group, group_sums in sums.items()
            for n, name in enumerate(("first", "second"))
        ]
        yield _result_batch(results)

    return run


def walk(
    draws: np.ndarray[Any, np.dtype[np.uint8]],
    before: Mapping[tuple[int, int], tuple[Floats, Floats]],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that walks along a partition's sorted rows.

    It returns rows of `RESULTS`. Their sums over all partitions are `area` (of positives times
    negatives, highest scores first) and `precision` (the sum over the positives of the precision).

    Args:
        draws: by bucket, how often each bootstrap draws it.
        before: by partition and group, the weights before it in the order.
    """
    table = draws.astype(np.float64)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = [_columns(batch) for batch in batches]
        if not rows:
            return
        part, value, bucket, first, second = (
            np.concatenate(parts) for parts in zip(*rows, strict=True)
        )
        partition_number = partition()
        results = []
        for group in np.unique(part):
            mask = part == group
            columns = (value[mask], bucket[mask], first[mask], second[mask])
            sums = _areas(table, columns, before[partition_number, int(group)])
            results += [(int(group), name, vector) for name, vector in sums.items()]
        yield _result_batch(results)

    return run


def cross(
    draws: np.ndarray[Any, np.dtype[np.uint8]],
    weights: Mapping[int, Floats],
    quantiles: Mapping[str, float],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that finds quantiles of groups of one partition.

    It returns rows of `RESULTS`, `<name> lower` and `<name> upper`: the two values whose mean is
    the quantile. They are NaN in a bootstrap that draws none of the rows. The quantile is type 2 of
    Hyndman and Fan: Sample Quantiles in Statistical Packages, 1996. If the weights reach the target
    exactly at a value, the quantile lies midway between this value and the next.

    Args:
        draws: by bucket, how often each bootstrap draws it.
        weights: by group, the total weight.
        quantiles: the quantiles by name.
    """
    table = draws.astype(np.float64)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        searches: dict[int, _Search] = {}
        for batch in filter(len, larger(batches)):
            part, *columns = _columns(batch)
            ends = [*np.flatnonzero(np.diff(part)) + 1, len(part)]
            for start, end in zip([0, *ends], ends, strict=False):
                group = int(part[start])
                if group not in searches:
                    searches[group] = _Search(table, weights[group], quantiles)
                value, bucket, first, _ = (column[start:end] for column in columns)
                searches[group].take(value, bucket, first)
        yield _result_batch(
            [
                (group, name, values)
                for group, search in searches.items()
                for name, values in search.found.items()
            ]
        )

    return run


class _Search:
    """The search for values at which the cumulated weight of each bootstrap crosses its targets."""

    def __init__(self, table: Floats, weight: Floats, quantiles: Mapping[str, float]) -> None:
        self._table = table
        self._reached = np.zeros_like(weight)
        self._sought: dict[str, tuple[Any, Floats]] = {}
        for name, q in quantiles.items():
            self._sought[f"{name} lower"] = (np.less, q * weight * (1 - _TOLERANCE))
            self._sought[f"{name} upper"] = (np.less_equal, q * weight * (1 + _TOLERANCE))
        self.found: dict[str, Floats] = {n: np.full(len(weight), np.nan) for n in self._sought}

    def take(self, value: Floats, bucket: Ints, weight: Floats) -> None:
        """Continue the search with the next rows in the order."""
        buckets = len(self._table)
        step = np.arange(len(value)) // _ROWS_AT_ONCE
        steps = int(step[-1]) + 1
        added = np.bincount(step * buckets + bucket, weight, steps * buckets)
        sums = added.reshape(steps, buckets) @ self._table
        ends = self._reached + np.cumsum(sums, axis=0)
        starts = np.vstack([self._reached[None], ends[:-1]])
        for name, (is_below, target) in self._sought.items():
            passed = is_below(ends, target).sum(axis=0)
            crosses = is_below(self._reached, target) & (passed < steps)
            for n in np.unique(passed[crosses]):
                (drawn,) = np.nonzero(crosses & (passed == n))
                rows = slice(n * _ROWS_AT_ONCE, (n + 1) * _ROWS_AT_ONCE)
                weights = self._table[np.ix_(bucket[rows], drawn)] * weight[rows, None]
                so_far = starts[n, drawn] + np.cumsum(weights, axis=0)
                # The step ends beyond the target, but rounding can let its rows end just below.
                at = np.minimum(is_below(so_far, target[drawn]).sum(axis=0), len(so_far) - 1)
                self.found[name][drawn] = value[rows][at]
        self._reached = ends[-1]


def _areas(
    table: Floats, columns: tuple[Any, ...], before: tuple[Floats, Floats]
) -> dict[str, Floats]:
    """Add up the areas of one group, whose rows come in descending order of scores.

    Rows of equal scores are one step of the curve, as in sklearn.metrics.roc_curve.
    """
    value, bucket, first, second = columns
    area, precision = np.zeros(table.shape[1]), np.zeros(table.shape[1])
    hits, misses = before
    last_hits, last_misses = before
    is_last = np.append(value[1:] != value[:-1], True)
    for start in range(0, len(value), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        drawn = table[bucket[rows]]
        all_hits = hits + np.cumsum(drawn * first[rows, None], axis=0)
        all_misses = misses + np.cumsum(drawn * second[rows, None], axis=0)
        hits, misses = all_hits[-1], all_misses[-1]
        ends = is_last[rows]
        if not ends.any():
            continue
        end_hits, end_misses = all_hits[ends], all_misses[ends]
        rise = np.diff(end_hits, axis=0, prepend=last_hits[None])
        run = np.diff(end_misses, axis=0, prepend=last_misses[None])
        area += (run * (end_hits - rise / 2)).sum(axis=0)
        precision += (
            rise * end_hits / np.maximum(end_hits + end_misses, np.finfo(np.float64).tiny)
        ).sum(axis=0)
        last_hits, last_misses = end_hits[-1], end_misses[-1]
    return {"area": area, "precision": precision}


def _errors(_layout: Layout, label: pa.Array, column: pa.Array) -> tuple[Floats, None]:
    return np.abs(floats(label) - floats(column))[:, None], None


def _scores(layout: Layout, label: pa.Array, column: pa.Array) -> tuple[Floats, Any]:
    width = len(layout.classes)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    scores = np.full((len(column), width), np.nan)
    scores[known] = floats(column.drop_null().flatten()).reshape(-1, width)
    scores[np.isnan(scores).any(axis=1)] = np.nan
    true = label.to_numpy(zero_copy_only=False)
    return -scores, true[:, None] == np.array(layout.classes, dtype=object)


def _score_rows(
    number: int, value: Floats, bucket: Ints, weight: Floats, positive: Bools
) -> pa.RecordBatch:
    return _rows(number, value, bucket, weight * positive, weight * ~positive)


def _rows_in_windows(  # noqa: PLR0913, PLR0917 - rows have these columns
    number: int,
    value: Floats,
    bucket: Ints,
    weight: Floats,
    windows: Floats,
    gaps: dict[int, Floats],
) -> pa.RecordBatch:
    """Return the rows in *windows*; add up the rows below and between the windows in *gaps*."""
    position = np.searchsorted(windows, value, side="right")
    below = (position % 2 == 0) & (position < len(windows))
    size = ((len(windows) + 1) // 2, BUCKETS)
    added = np.bincount(
        position[below] // 2 * BUCKETS + bucket[below], weight[below], size[0] * BUCKETS
    )
    group_gaps = gaps.setdefault(number, np.zeros(size))
    group_gaps += added.reshape(size)
    inside = position % 2 == 1
    weights = weight[inside]
    return _rows(number, value[inside], bucket[inside], weights, np.zeros(len(weights)))


def _gap_rows(number: int, gaps: Floats, windows: Floats) -> pa.RecordBatch:
    """Return a row for each bucket of each gap, sorted before the rows of the window above it."""
    gap, bucket = np.nonzero(gaps)
    weights = gaps[gap, bucket]
    ends = np.concatenate([[-1.0], windows[1:-1:2]])
    return _rows(number, ends[gap], bucket, weights, np.zeros(len(weights)))


def _rows(
    number: int, value: Floats, bucket: Ints, first: Floats, second: Floats
) -> pa.RecordBatch:
    arrays = [
        pa.array(np.full(len(value), number, np.int32)),
        pa.array(value),
        pa.array(bucket.astype(np.int32)),
        pa.array(first),
        pa.array(second),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=["part", "value", "bucket", "first", "second"])


def _result_batch(results: list[tuple[int, str, Floats]]) -> pa.RecordBatch:
    arrays = [
        pa.array([partition()] * len(results), pa.int32()),
        pa.array([part for part, _, _ in results], pa.int32()),
        pa.array([name for _, name, _ in results], pa.string()),
        pa.array([sums.tobytes() for _, _, sums in results], pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=["partition", "part", "name", "sums"])


def _columns(batch: pa.RecordBatch) -> tuple[Any, ...]:
    return tuple(column.to_numpy() for column in batch.columns)


def _is_equal(column: pa.Array, value: str | None) -> Bools:
    same = column.is_null() if value is None else pc.equal(column, value).fill_null(False)  # noqa: FBT003
    is_equal: Bools = same.to_numpy(zero_copy_only=False)
    return is_equal
