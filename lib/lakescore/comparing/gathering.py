"""The functions that add up rows in Spark's Python workers while versions are compared.

A task adds up its rows by version, slice and bucket of the row's key, and returns a few vectors.
Element 0 of a vector is the sum over all rows. Element b is the sum in which each row counts as
often as the b-th Poisson bootstrap draws it. The draws depend on the row's key alone. Therefore
versions share them, which makes differences paired, and repeated tasks draw the same.

This module, and the modules of this package that it imports, import only `executor` of lakescore.
All of them are pickled by value, so executors never need our package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakescore.comparing.batches import Array, Floats, Ints, floats, larger
from lakescore.comparing.binning import BINS, BINS_OF_CALIBRATION, bins_of, bins_of_scores
from lakescore.comparing.bootstrapping import BUCKETS
from lakescore.comparing.terms import Terms, decide, terms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lakescore.metrics import Task

LARGEST = "largest "
"""A sum whose name begins so is a maximum: two of them make the larger one."""
MOST_SLICES = 200
MOST_CLASSES = 100
_MOST_PARTS = 4000
"""The maximum of slices times classes: 32 MB for each version and sum."""
PART = "\x1f"
"""The separator between the name of a sum and its class or bin."""
SCHEMA = pa.schema(
    {
        "slice_by": pa.int32(),
        "slice": pa.string(),
        "version": pa.int32(),
        "scope": pa.string(),
        "name": pa.string(),
        "bins": pa.binary(),
        "sums": pa.binary(),
    }
)
"""The rows that `gather` returns. `slice_by` is -1 for all rows. `version` is -1 for sums of no
version. `bins` is null except for histograms."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The description of the sums."""

    task: Task
    versions: int
    slices: int
    """The number of slice columns."""
    draws: np.ndarray[Any, np.dtype[np.uint8]]
    """By bucket: 1, then how often each bootstrap draws the bucket."""
    shift: float = 0.0
    """A number that is subtracted from labels before they are squared, so that no digits cancel."""
    classes: tuple[str, ...] = ()
    """The classes in the order of the probabilities; other classes of labels come after them."""
    of_interest: tuple[int, ...] = ()
    """The classes whose scores are counted for curves."""
    threshold: float | None = None
    """For two classes, the lowest score that decides for the second class."""
    custom: tuple[tuple[str, Callable[..., Any]], ...] = ()
    """By name, functions of (labels, predictions) that return one or more numbers for each row."""


def gather(spec: Spec) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that adds up a task's rows into rows of `SCHEMA`.

    The batches have the columns `bucket`, `label`, `weight`, the slices, and a prediction for each
    version: a number, a label, or a list of probabilities in the order of the classes.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = Sums(spec)
        for batch in larger(batches):
            sums.take(batch)
        yield from sums.given()

    return run


def combine(name: str, one: Floats, other: Floats) -> Floats:
    """Return two vectors of the sum *name*, of different rows, as one."""
    together: Floats = np.maximum(one, other) if name.startswith(LARGEST) else one + other
    return together


def merge(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Add up rows of `SCHEMA` that have the same key; for `mapInArrow`."""
    sums_by_key: dict[tuple[Any, ...], Floats] = {}
    counts: dict[tuple[Any, ...], Floats] = {}
    for batch in batches:
        *keys, bins, vectors = (column.to_pylist() for column in batch.columns)
        for key, bin_ids, values in zip(zip(*keys, strict=True), bins, vectors, strict=True):
            vector = np.frombuffer(values)
            if bin_ids is not None:
                counted = counts.setdefault(key, np.zeros(BINS))
                counted[np.frombuffer(bin_ids, np.int64)] += vector
            elif key not in sums_by_key:
                sums_by_key[key] = vector.copy()
            else:
                sums_by_key[key] = combine(key[4], sums_by_key[key], vector)
    rows = [(*key, None, vector.tobytes()) for key, vector in sums_by_key.items()]
    rows += [(*key, *_sparse(counted)) for key, counted in counts.items()]
    yield _batch(rows)


class Sums:
    """The sums of one task."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._sums: dict[tuple[int, int, str, str], Floats] = {}
        self._highest: dict[tuple[int, int, str, str], Floats] = {}
        self._counts: dict[tuple[int, int, str, str], Floats] = {}
        self._cells: dict[tuple[int, str], Floats] = {}
        self._classes = {name: n for n, name in enumerate(spec.classes)}
        self._slices: list[dict[str | None, int]] = [{} for _ in range(spec.slices)]
        self._rows = 0
        self._wrong_weights = 0

    def take(self, batch: pa.RecordBatch) -> None:
        """Add the rows of *batch*."""
        spec = self._spec
        bucket, label, weight = (batch.column(n) for n in range(3))
        weights = floats(weight)
        wrong = ~(weights >= 0) | ~np.isfinite(weights)
        self._rows += batch.num_rows
        self._wrong_weights += int(wrong.sum())
        codes = [self._slice_codes(n, batch.column(3 + n)) for n in range(spec.slices)]
        places = [(-1, None), *enumerate(codes)]
        predictions = [
            self._prediction(batch.column(3 + spec.slices + n)) for n in range(spec.versions)
        ]
        labels = floats(label) if spec.task == "regression" else self._class_codes(label)
        buckets = bucket.to_numpy().astype(np.int64)
        scored = [is_scored for _, is_scored in predictions]
        common = np.logical_and.reduce(scored)
        for n, (predicted, is_scored) in enumerate(predictions):
            for scope, mask in (("common", common), ("extra", is_scored & ~common)):
                if not mask.any():
                    continue
                rows = slice(None) if mask.all() else mask
                terms = terms_of(
                    spec, list(self._classes), labels[rows], predicted[rows], weights[rows]
                )
                for by, code in places:
                    place = None if code is None else code[rows]
                    self._add(n, by, scope, terms, place, buckets[rows])
                    if by < 0:
                        self._count_rows(n, scope, labels[rows], predicted[rows], weights[rows])
                    if spec.task == "regression":
                        size = np.abs(labels[rows] - predicted[rows])
                        self._count_sizes((n, by, scope), size, weights[rows], place, buckets[rows])

    def given(self) -> Iterator[pa.RecordBatch]:
        """Yield the sums as rows of `SCHEMA`."""
        draws = self._spec.draws.astype(np.float64)
        rows: list[tuple[Any, ...]] = [
            (-1, None, -1, "", name, None, np.array([float(count)]).tobytes())
            for name, count in (("rows", self._rows), ("wrong weights", self._wrong_weights))
        ]
        names = list(self._classes)
        for key, sums in self._sums.items():
            vectors = sums @ draws
            for value, slice_vectors in zip(self._slice_values(key[1]), vectors, strict=False):
                for index, vector in enumerate(slice_vectors):
                    name = self._sum_name(key[3], index, sums, names)
                    rows.append(_row(key, value, name, None, vector.tobytes()))
        drawn = self._spec.draws.T > 0
        for key, highest in self._highest.items():
            for value, sizes in zip(self._slice_values(key[1]), highest, strict=False):
                largest = np.where(drawn, sizes, 0.0).max(axis=1)
                rows.append(_row(key, value, key[3], None, largest.tobytes()))
        for key, counted in self._counts.items():
            for value, counts in zip(self._slice_values(key[1]), counted, strict=False):
                rows.append(_row(key, value, key[3], *_sparse(counts)))
        for (version, scope), cells in self._cells.items():
            for true, predicted in np.argwhere(cells):
                name = PART.join(["cell", names[true], names[predicted]])
                cell = cells[true, predicted].tobytes()
                rows.append((-1, None, version, scope, name, None, cell))
        yield _batch(rows)

    def _slice_values(self, by: int) -> list[str | None]:
        return [None] if by < 0 else list(self._slices[by])

    @staticmethod
    def _sum_name(name: str, part: int, sums: Floats, classes: list[str]) -> str:
        if name in {"support", "predicted", "hits"}:
            return name + PART + classes[part]
        return name if sums.shape[1] == 1 else name + PART + str(part)

    def _slice_codes(self, n: int, column: pa.Array) -> Ints:
        known = self._slices[n]
        encoded = column.dictionary_encode(null_encoding="encode")
        batch_codes = [
            known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()
        ]
        if len(known) > MOST_SLICES:
            raise ValueError(_too_many(n, MOST_SLICES))
        codes: Ints = np.array(batch_codes, np.int64)[encoded.indices.to_numpy()]
        return codes

    def _class_codes(self, column: pa.Array) -> Ints:
        encoded = column.dictionary_encode()
        batch_codes = [
            self._classes.setdefault(value, len(self._classes))
            for value in encoded.dictionary.to_pylist()
        ]
        if len(self._classes) > MOST_CLASSES:
            raise ValueError(f"labels and predictions have more than {MOST_CLASSES} classes")
        codes: Ints = np.array([*batch_codes, -1], np.int64)[
            encoded.indices.fill_null(len(batch_codes)).to_numpy()
        ]
        return codes

    def _prediction(self, column: pa.Array) -> tuple[Any, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Return the predictions, and a mask of the rows that have one."""
        if self._spec.task == "regression":
            values = floats(column)
            return values, ~np.isnan(values)
        if self._spec.task == "labels":
            codes = self._class_codes(column)
            return codes, codes >= 0
        width = len(self._spec.classes)
        known = pc.is_valid(column).to_numpy(zero_copy_only=False)
        scores = np.full((len(column), width), np.nan)
        scores[known] = floats(column.drop_null().flatten()).reshape(-1, width)
        return scores, ~np.isnan(scores).any(axis=1)

    def _add(  # noqa: PLR0913, PLR0917 - a place has these coordinates
        self, version: int, by: int, scope: str, terms: Terms, code: Ints | None, bucket: Ints
    ) -> None:
        slices = len(self._slice_values(by))
        for name, (values, part) in terms.items():
            parts = self._part_count(name, part)
            times = len(values) // len(bucket)
            index = bucket if times == 1 else np.repeat(bucket, times)
            if code is not None or part is not None:
                first = 0 if code is None else (code if times == 1 else np.repeat(code, times))
                index = (first * parts + (0 if part is None else part)) * BUCKETS + index
            if slices * parts > _MOST_PARTS:
                raise ValueError(_too_many(by, _MOST_PARTS // parts))
            size = slices * parts * BUCKETS
            added = np.bincount(index, values, size).reshape(slices, parts, BUCKETS)
            key = (version, by, scope, name)
            self._sums[key] = _grow(self._sums.get(key), added.shape)
            self._sums[key] += added

    def _part_count(self, name: str, part: Ints | None) -> int:
        if part is None:
            return 1
        if name in {"support", "predicted", "hits"}:
            return len(self._classes)
        return BINS_OF_CALIBRATION if name.startswith("bin ") else int(part.max()) + 1

    def _count_rows(
        self, version: int, scope: str, label: Array, predicted: Array, weight: Floats
    ) -> None:
        """Add all rows to the histograms and to the confusion matrix."""
        key = (version, -1, scope)
        if self._spec.task == "regression":
            self._add_to_histogram((*key, "residual"), bins_of(label - predicted), weight)
            self._add_to_histogram((*key, "prediction"), bins_of(predicted), weight)
            return
        decided = decide(self._spec, predicted)
        if self._spec.task == "scores":
            for n in self._spec.of_interest:
                bins = bins_of_scores(predicted[:, n])
                for truth, mask in (("1", label == n), ("0", label != n)):
                    name = PART.join(["score", self._spec.classes[n], truth])
                    self._add_to_histogram((*key, name), bins[mask], weight[mask])
        width = len(self._classes)
        counted = np.bincount(label * width + decided, weight, width * width).reshape(width, width)
        cells = _grow(self._cells.get((version, scope)), counted.shape)
        self._cells[version, scope] = cells + counted

    def _count_sizes(
        self,
        key_start: tuple[int, int, str],
        size: Floats,
        weight: Floats,
        code: Ints | None,
        bucket: Ints,
    ) -> None:
        """Add absolute errors to their histogram, and keep the largest error of each bucket."""
        self._add_to_histogram((*key_start, "absolute error"), bins_of(size), weight, code)
        key = (*key_start, f"{LARGEST}error")
        highest = _grow(self._highest.get(key), (len(self._slice_values(key_start[1])), BUCKETS))
        row_slice = np.zeros_like(bucket) if code is None else code
        np.maximum.at(highest.reshape(-1), row_slice * BUCKETS + bucket, size)
        self._highest[key] = highest

    def _add_to_histogram(
        self,
        key: tuple[int, int, str, str],
        bins: Ints,
        weight: Floats,
        code: Ints | None = None,
    ) -> None:
        slices = len(self._slice_values(key[1]))
        index = bins if code is None else code * BINS + bins
        counted = np.bincount(index, weight, slices * BINS).reshape(slices, BINS)
        self._counts[key] = _grow(self._counts.get(key), counted.shape)
        self._counts[key] += counted


def _too_many(column: int, most: int) -> str:
    return f"slices by column {column} have more than {most} values"


def _grow(sums: Floats | None, shape: tuple[int, ...]) -> Floats:
    """Return *sums*, padded with zeros to *shape*."""
    if sums is None:
        return np.zeros(shape)
    if sums.shape == shape:
        return sums
    return np.pad(sums, [(0, new - old) for new, old in zip(shape, sums.shape, strict=True)])


def _row(
    key: tuple[int, int, str, str], value: str | None, name: str, bins: bytes | None, sums: bytes
) -> tuple[Any, ...]:
    version, by, scope, _ = key
    return (by, value, version, scope, name, bins, sums)


def _sparse(counted: Floats) -> tuple[bytes, bytes]:
    (filled,) = np.nonzero(counted)
    return filled.astype(np.int64).tobytes(), counted[filled].tobytes()


def _batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
