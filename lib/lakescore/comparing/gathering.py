"""What runs in Spark's Python workers while versions are compared: rows in, sums out.

A task adds its rows up, by version, slice and bucket of the row's key, and gives a few vectors
back: element 0 is the sum over all rows, element b the sum with each row counted as often as the
b-th Poisson bootstrap draws it. The draws depend on the row's key alone, so versions share them,
which makes differences paired, and so do tasks that are tried again.

It imports nothing of lakescore but `executor`, and both are pickled by value, so executors never
need our package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakescore.executor import gathered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Array = np.ndarray[Any, Any]
"""Of numbers or codes of classes, by the task."""
Terms = dict[str, tuple[Floats, Ints | None]]
"""What a row adds to each sum, and to which part of it (a class, a bin)."""

BUCKETS = 1024
"""Rows whose keys fall into one bucket are drawn together: 2 % of noise in a standard error."""
MOST_SLICES = 200
MOST_CLASSES = 100
_MOST_PARTS = 4000
"""Slices times classes: 32 MB a version and sum."""
BINS_OF_CALIBRATION = 10
PART = "\x1f"
"""Stands between a sum's name and the class or bin that it is of."""
_ROWS_AT_ONCE = 65_536
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
"""What `gather` gives: `slice_by` is -1 for all rows, `version` -1 for what is of none; `bins` is
null but for histograms."""

# A histogram's bins are the leading bits of a double: sign, exponent and 5 bits of the fraction,
# so 32 bins for each power of two, whose edges are exact. What is nearer to 0 than 2^-40 is one
# bin, what is farther than 2^60 too.
_FRACTION = 5
_LEAST, _MOST = -40, 60
_BASE = (1023 + _LEAST) << _FRACTION
_HALF = (_MOST - _LEAST) << _FRACTION
BINS = 2 * _HALF + 1
"""Bin `_HALF` holds 0; those of negative numbers come before it."""
_MIDDLE = ((-1 - _LEAST) << _FRACTION) + 1
"""The bin of the probability 0.5, when that of 0 is the first."""

Task = Literal["regression", "labels", "scores"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is added up."""

    task: Task
    versions: int
    slices: int
    """How many columns of slices there are."""
    draws: np.ndarray[Any, np.dtype[np.uint8]]
    """By bucket: 1, then how often each bootstrap draws it."""
    shift: float = 0.0
    """Subtracted from labels before they are squared, so that no digits cancel."""
    classes: tuple[str, ...] = ()
    """In the order of a version's probabilities; labels of others come after them."""
    of_interest: tuple[int, ...] = ()
    """The classes whose scores are counted for curves."""
    threshold: float | None = None
    """Of two classes, the score from which the second is decided."""
    custom: tuple[tuple[str, Callable[..., Any]], ...] = ()
    """By name, functions of (labels, predictions) that give a number or several for each row."""


def draws(replicates: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return how often each bootstrap draws the rows of each bucket; column 0 is all ones.

    Poisson(1) counts: Chamandy, Muralidharan, Najmi, Naidu: Estimating Uncertainty for Massive
    Data Streams, 2012. `RandomState` keeps its stream over versions of numpy.
    """
    drawn = np.random.RandomState(seed).poisson(1.0, (BUCKETS, replicates))
    ones = np.ones((BUCKETS, 1))
    return np.hstack([ones, drawn]).astype(np.uint8)


def gather(spec: Spec) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that adds up a task's rows, in rows of `SCHEMA`.

    The batches hold `bucket`, `label`, `weight`, the slices, then a prediction for each version:
    a number, a label, or a list of probabilities in the order of the classes.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = Sums(spec)
        for batch in larger(batches):
            sums.take(batch)
        yield from sums.given()

    return run


def merge(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Add up rows of `SCHEMA` that stand for the same; for `mapInArrow`."""
    found: dict[tuple[Any, ...], Floats] = {}
    counts: dict[tuple[Any, ...], Floats] = {}
    for batch in batches:
        *keys, bins, sums = (column.to_pylist() for column in batch.columns)
        for key, bin_ids, values in zip(zip(*keys, strict=True), bins, sums, strict=True):
            vector = np.frombuffer(values)
            if bin_ids is not None:
                counted = counts.setdefault(key, np.zeros(BINS))
                counted[np.frombuffer(bin_ids, np.int64)] += vector
            elif key not in found:
                found[key] = vector.copy()
            elif key[4] == "max_error":
                np.maximum(found[key], vector, out=found[key])
            else:
                found[key] += vector
    rows = [(*key, None, vector.tobytes()) for key, vector in found.items()]
    rows += [(*key, *_sparse(counted)) for key, counted in counts.items()]
    yield _batch(rows)


def bins_of(values: Floats) -> Ints:
    """Return the bins of *values*, ascending as they are; infinities lie in the outermost."""
    magnitude = np.abs(values, dtype=np.float64)
    leading = (magnitude.view(np.int64) >> (52 - _FRACTION)) - _BASE + 1
    found: Ints = _HALF + np.sign(values).astype(np.int64) * np.clip(leading, 0, _HALF)
    return found


def edges() -> Floats:
    """Return the bins' edges, one more than there are bins: bin n lies from edge n to n + 1.

    A positive bin holds its lower edge, a negative one its upper; that of 0 neither.
    """
    outer = np.append(_powers(), np.inf)
    return np.concatenate([-outer[::-1], outer])


def bins_of_scores(scores: Floats) -> Ints:
    """Return the bins of probabilities, ascending, as fine towards 1 as towards 0."""
    high = scores > 0.5  # noqa: PLR2004 - the middle
    from_top = 2 * _MIDDLE + 1 + _HALF - bins_of(1.0 - scores)
    return np.where(high, from_top, bins_of(scores) - _HALF)


def thresholds() -> Floats:
    """Return the smallest probability that each bin of `bins_of_scores` may hold."""
    upper = _powers()[: _MIDDLE + 1]
    low = np.concatenate([[0.0], upper[:_MIDDLE]])
    # The bin of 1 - p from `lo` to `hi` holds every p above 1 - hi.
    high = np.nextafter(np.maximum(1.0 - upper, 0.5), 2.0)[::-1]
    return np.concatenate([low, high])


def _powers() -> Floats:
    """Return the lower edges of the bins of positive numbers."""
    bits = (np.arange(_HALF, dtype=np.int64) + _BASE) << (52 - _FRACTION)
    return bits.view(np.float64)


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
        codes = [self._codes(n, batch.column(3 + n)) for n in range(spec.slices)]
        places = [(-1, None), *enumerate(codes)]
        predictions = [
            self._prediction(batch.column(3 + spec.slices + n)) for n in range(spec.versions)
        ]
        labels = floats(label) if spec.task == "regression" else self._class_codes(label)
        buckets = bucket.to_numpy().astype(np.int64)
        scored = [ok for _, ok in predictions]
        common = np.logical_and.reduce(scored)
        for n, (predicted, ok) in enumerate(predictions):
            for scope, chosen in (("common", common), ("extra", ok & ~common)):
                if not chosen.any():
                    continue
                rows = slice(None) if chosen.all() else chosen
                terms = self._terms(labels[rows], predicted[rows], weights[rows])
                for by, code in places:
                    place = None if code is None else code[rows]
                    self._add(n, by, scope, terms, place, buckets[rows])
                    if by < 0:
                        self._count(n, scope, labels[rows], predicted[rows], weights[rows])
                    if spec.task == "regression":
                        size = np.abs(labels[rows] - predicted[rows])
                        self._sizes((n, by, scope), size, weights[rows], place, buckets[rows])

    def given(self) -> Iterator[pa.RecordBatch]:
        """Yield the sums, in rows of `SCHEMA`."""
        draws = self._spec.draws.astype(np.float64)
        rows: list[tuple[Any, ...]] = [
            (-1, None, -1, "", name, None, np.array([float(count)]).tobytes())
            for name, count in (("rows", self._rows), ("wrong weights", self._wrong_weights))
        ]
        names = list(self._classes)
        for key, sums in self._sums.items():
            vectors = sums @ draws
            for value, slice_vectors in zip(self._values(key[1]), vectors, strict=False):
                for part, vector in enumerate(slice_vectors):
                    name = self._named(key[3], part, sums, names)
                    rows.append(_row(key, value, name, None, vector.tobytes()))
        drawn = self._spec.draws.T > 0
        for key, highest in self._highest.items():
            for value, sizes in zip(self._values(key[1]), highest, strict=False):
                most = np.where(drawn, sizes, 0.0).max(axis=1)
                rows.append(_row(key, value, key[3], None, most.tobytes()))
        for key, counted in self._counts.items():
            for value, counts in zip(self._values(key[1]), counted, strict=False):
                rows.append(_row(key, value, key[3], *_sparse(counts)))
        for (version, scope), cells in self._cells.items():
            for true, predicted in np.argwhere(cells):
                name = PART.join(["cell", names[true], names[predicted]])
                cell = cells[true, predicted].tobytes()
                rows.append((-1, None, version, scope, name, None, cell))
        yield _batch(rows)

    def _values(self, by: int) -> list[str | None]:
        return [None] if by < 0 else list(self._slices[by])

    @staticmethod
    def _named(name: str, part: int, sums: Floats, classes: list[str]) -> str:
        if name in {"support", "predicted", "hits"}:
            return name + PART + classes[part]
        return name if sums.shape[1] == 1 else name + PART + str(part)

    def _codes(self, n: int, column: pa.Array) -> Ints:
        known = self._slices[n]
        encoded = column.dictionary_encode(null_encoding="encode")
        own = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
        if len(known) > MOST_SLICES:
            raise ValueError(_too_many(n, MOST_SLICES))
        codes: Ints = np.array(own, np.int64)[encoded.indices.to_numpy()]
        return codes

    def _class_codes(self, column: pa.Array) -> Ints:
        encoded = column.dictionary_encode()
        own = [
            self._classes.setdefault(value, len(self._classes))
            for value in encoded.dictionary.to_pylist()
        ]
        if len(self._classes) > MOST_CLASSES:
            raise ValueError(f"labels and predictions have more than {MOST_CLASSES} classes")
        codes: Ints = np.array([*own, -1], np.int64)[encoded.indices.fill_null(len(own)).to_numpy()]
        return codes

    def _prediction(self, column: pa.Array) -> tuple[Any, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Return the predictions, and which rows have one."""
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

    def _terms(self, label: Array, predicted: Array, weight: Floats) -> Terms:
        spec = self._spec
        terms: Terms = {
            "n": (np.ones(len(weight)), None),
            "w": (weight, None),
            "ww": (weight * weight, None),
        }
        if spec.task == "regression":
            error, shifted = label - predicted, label - spec.shift
            size = np.abs(error)
            relative = size / np.maximum(np.abs(label), np.finfo(np.float64).eps)
            for name, values in (
                ("error", error), ("absolute", size), ("squared", error * error),
                ("relative", relative), ("label", shifted), ("label squared", shifted * shifted),
            ):  # fmt: skip
                terms[name] = (weight * values, None)
        else:
            decided = self._decided(predicted)
            terms["support"] = (weight, label)
            terms["predicted"] = (weight, decided)
            terms["hits"] = (weight * (label == decided), label)
            if spec.task == "scores":
                terms |= self._of_scores(label, predicted, decided, weight)
        for name, function in spec.custom:
            known = np.array([*self._classes, ""], dtype=object)
            truth = label if spec.task == "regression" else known[label]
            said = known[predicted] if spec.task == "labels" else predicted
            values = np.asarray(function(truth, said), np.float64)
            flat = values.reshape(len(weight), -1)
            parts = np.tile(np.arange(flat.shape[1]), len(weight))
            terms[f"custom {name}"] = ((flat * weight[:, None]).reshape(-1), parts)
        return terms

    def _decided(self, predicted: Array) -> Ints:
        """Return the classes that labels or scores stand for."""
        if self._spec.task == "labels":
            return predicted
        found: Ints = (
            predicted.argmax(axis=1)
            if self._spec.threshold is None
            else (predicted[:, 1] >= self._spec.threshold).astype(np.int64)
        )
        return found

    def _of_scores(self, label: Ints, scores: Floats, decided: Ints, weight: Floats) -> Terms:
        width = scores.shape[1]
        known = label < width
        true = np.where(known, scores[np.arange(len(label)), np.minimum(label, width - 1)], 0.0)
        epsilon = np.finfo(np.float64).eps
        one_hot = (np.arange(width) == label[:, None]).astype(np.float64)
        distance = ((one_hot - scores) ** 2).sum(axis=1) + ~known
        if len(self._spec.of_interest) == 1:  # binary: the score of the positive class
            (positive,) = self._spec.of_interest
            sure, right = scores[:, positive], (label == positive).astype(np.float64)
        else:
            sure, right = scores.max(axis=1), (label == decided).astype(np.float64)
        # As sklearn.calibration.calibration_curve has it: an edge belongs to the bin below.
        inner = np.linspace(0.0, 1.0, BINS_OF_CALIBRATION + 1)[1:-1]
        place = np.searchsorted(inner, sure)
        return {
            "log loss": (-weight * np.log(np.clip(true, epsilon, 1.0 - epsilon)), None),
            "distance": (weight * distance, None),
            "bin weight": (weight, place),
            "bin score": (weight * sure, place),
            "bin right": (weight * right, place),
        }

    def _add(  # noqa: PLR0913, PLR0917 - a place has these coordinates
        self, version: int, by: int, scope: str, terms: Terms, code: Ints | None, bucket: Ints
    ) -> None:
        slices = len(self._values(by))
        for name, (values, part) in terms.items():
            parts = self._parts(name, part)
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
            self._sums[key] = _grown(self._sums.get(key), added.shape)
            self._sums[key] += added

    def _parts(self, name: str, part: Ints | None) -> int:
        if part is None:
            return 1
        if name in {"support", "predicted", "hits"}:
            return len(self._classes)
        return BINS_OF_CALIBRATION if name.startswith("bin ") else int(part.max()) + 1

    def _count(
        self, version: int, scope: str, label: Array, predicted: Array, weight: Floats
    ) -> None:
        """Count what has bins, and the cells of the confusion matrix, over all rows."""
        key = (version, -1, scope)
        if self._spec.task == "regression":
            self._histogram((*key, "residual"), bins_of(label - predicted), weight)
            self._histogram((*key, "prediction"), bins_of(predicted), weight)
            return
        decided = self._decided(predicted)
        if self._spec.task == "scores":
            for n in self._spec.of_interest:
                found = bins_of_scores(predicted[:, n])
                for truth, chosen in (("1", label == n), ("0", label != n)):
                    name = PART.join(["score", self._spec.classes[n], truth])
                    self._histogram((*key, name), found[chosen], weight[chosen])
        many = len(self._classes)
        counted = np.bincount(label * many + decided, weight, many * many).reshape(many, many)
        cells = _grown(self._cells.get((version, scope)), counted.shape)
        self._cells[version, scope] = cells + counted

    def _sizes(
        self,
        of: tuple[int, int, str],
        size: Floats,
        weight: Floats,
        code: Ints | None,
        bucket: Ints,
    ) -> None:
        """Count absolute errors, and keep the largest of each bucket."""
        self._histogram((*of, "absolute error"), bins_of(size), weight, code)
        key = (*of, "max_error")
        highest = _grown(self._highest.get(key), (len(self._values(of[1])), BUCKETS))
        place = np.zeros_like(bucket) if code is None else code
        np.maximum.at(highest.reshape(-1), place * BUCKETS + bucket, size)
        self._highest[key] = highest

    def _histogram(
        self,
        key: tuple[int, int, str, str],
        found: Ints,
        weight: Floats,
        code: Ints | None = None,
    ) -> None:
        slices = len(self._values(key[1]))
        index = found if code is None else code * BINS + found
        counted = np.bincount(index, weight, slices * BINS).reshape(slices, BINS)
        self._counts[key] = _grown(self._counts.get(key), counted.shape)
        self._counts[key] += counted


def _too_many(column: int, most: int) -> str:
    return f"slices by column {column} have more than {most} values"


def larger(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of *batches* in fewer ones: each costs as much as there are slices."""
    return gathered(batches, len, _ROWS_AT_ONCE)


def partition() -> int:
    """Return the number of Spark's partition that this task works on; 0 where Spark does not."""
    from pyspark import TaskContext  # noqa: PLC0415 - in a worker only

    context = TaskContext.get()
    return context.partitionId() if context else 0


def floats(column: pa.Array) -> Floats:
    """Return numbers; null is NaN."""
    values: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return values


def _grown(held: Floats | None, shape: tuple[int, ...]) -> Floats:
    """Return *held* with zeros after it, where *shape* is larger."""
    if held is None:
        return np.zeros(shape)
    if held.shape == shape:
        return held
    return np.pad(held, [(0, new - old) for new, old in zip(shape, held.shape, strict=True)])


def _row(
    key: tuple[int, int, str, str], value: str | None, name: str, bins: bytes | None, sums: bytes
) -> tuple[Any, ...]:
    version, by, scope, _ = key
    return (by, value, version, scope, name, bins, sums)


def _sparse(counted: Floats) -> tuple[bytes, bytes]:
    (there,) = np.nonzero(counted)
    return there.astype(np.int64).tobytes(), counted[there].tobytes()


def _batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
