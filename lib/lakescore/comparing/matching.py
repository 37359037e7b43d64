"""What runs in workers on rows with their predictions: made ready to be added up, and told apart.

It is pickled by value, as `gathering` is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakescore.comparing.gathering import BUCKETS, Bools, Floats, Task, floats, partition
from lakescore.executor import SAID, WHY, row_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Function = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

FAILURES = pa.schema({"version": pa.int32(), "error_type": pa.string(), "error": pa.string()})
"""What `failing` gives after the keys."""
FLIPS = pa.schema(
    {
        "version": pa.int32(),
        "rows": pa.int64(),
        "flips": pa.int64(),
        "mended": pa.int64(),
        "broken": pa.int64(),
    }
)
"""What `flipping` gives: of a version's labels against the baseline's."""
DISAGREEMENT = "disagreement"
_LEAST_PLAIN, _MOST_PLAIN = 1e-3, 1e7
_ROWS_A_TASK = 33
"""In bits: a task's rows are counted from here on, so that no two have one place."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where the columns of rows with their predictions are, and what they mean."""

    task: Task
    classes: tuple[str, ...]
    label: int
    versions: tuple[int, ...]
    fields: tuple[tuple[str, ...] | None, ...]
    """By version, the class of each field of its struct of probabilities, if it is one."""
    weight: int | None = None
    """1 without."""
    slices: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    errors: int | None = None
    """A list of `WHY`; there are none without."""
    said: int | None = None
    """What tasks say of themselves, in rows that are null elsewhere."""


def match(columns: Columns, task: int | None = None) -> Function:
    """Return the function for `mapInArrow` that gives rows as they are added up.

    They are `bucket`, `label`, `weight`, the slices as texts `s0`, ..., the predictions `v0`, ...
    (numbers, labels as texts, or lists of probabilities in the order of the classes), the keys
    `k0`, ..., `errors`, and what tasks say of themselves where it is given.

    Args:
        columns: where they are in the batches.
        task: its number; that of Spark's partition when left out.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        before = (partition() if task is None else task) << _ROWS_A_TASK
        for batch in batches:
            yield _matched(columns, batch, before)
            before += batch.num_rows

    return run


def _matched(columns: Columns, batch: pa.RecordBatch, before: int) -> pa.RecordBatch:
    given = batch.columns
    label = given[columns.label]
    regression = columns.task == "regression"
    cells = {
        "bucket": _buckets([given[n] for n in columns.keys], before, batch.num_rows),
        "label": _doubles(label) if regression else class_texts(label),
        "weight": pa.repeat(pa.scalar(1.0), batch.num_rows)
        if columns.weight is None
        else _doubles(given[columns.weight]),
    }
    cells |= {f"s{n}": texts(given[place]) for n, place in enumerate(columns.slices)}
    for n, (place, fields) in enumerate(zip(columns.versions, columns.fields, strict=True)):
        cells[f"v{n}"] = _prediction(columns, given[place], fields)
    cells |= {f"k{n}": given[place] for n, place in enumerate(columns.keys)}
    cells["errors"] = (
        pa.nulls(batch.num_rows, pa.list_(WHY)) if columns.errors is None else given[columns.errors]
    )
    if columns.said is not None:
        cells[SAID] = given[columns.said]
    return pa.RecordBatch.from_arrays(list(cells.values()), names=list(cells))


def _buckets(keys: Sequence[pa.Array], before: int, rows: int) -> pa.Array:
    """Return the bucket of each row, by its keys; without keys by how many come before it."""
    if not keys:
        keys = [pa.array(np.arange(before, before + rows))]
    hashes = row_hashes(pa.RecordBatch.from_arrays(keys, names=[str(n) for n in range(len(keys))]))
    return pa.array((hashes % np.uint64(BUCKETS)).astype(np.int32))


def _prediction(columns: Columns, values: pa.Array, fields: tuple[str, ...] | None) -> pa.Array:
    if columns.task == "regression":
        return _doubles(values)
    if columns.task == "labels":
        return class_texts(values)
    if fields is None:
        score = floats(values)
        return _lists(np.column_stack([1.0 - score, score]))
    known = values.is_valid().to_numpy(zero_copy_only=False)
    scores = np.zeros((len(values), len(columns.classes)))
    for name, child in zip(fields, values.flatten(), strict=True):
        scores[:, columns.classes.index(name)] = floats(child)
    scores[~known] = np.nan
    return _lists(scores)


def _doubles(values: pa.Array) -> pa.Array:
    """Return numbers as doubles, the nearest where one is longer."""
    return values.cast(pa.float64(), safe=False)


def _lists(scores: Floats) -> pa.Array:
    """Return rows of *scores* as lists, null where one is NaN."""
    width = scores.shape[1]
    unknown = np.isnan(scores).any(axis=1)
    lengths = np.where(unknown, 0, width)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(scores[~unknown].reshape(-1)), mask=pa.array(unknown)
    )


def class_texts(values: pa.Array) -> pa.Array:
    """Return classes as texts: 1 for 1.0."""
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        return _each(values, _class)
    return texts(values)


def texts(values: pa.Array) -> pa.Array:
    """Return values as Spark writes them."""
    kind = values.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _each(values, _fraction)
    if pa.types.is_timestamp(kind):
        found = values.cast(pa.timestamp("us")).cast(pa.string())
        return _signed(pc.replace_substring_regex(found, r"\.?0*$", ""))
    found = values.cast(pa.string())
    return _signed(found) if pa.types.is_date(kind) else found


def _signed(days: pa.Array) -> pa.Array:
    """Return texts of *days* with the plus that Spark writes before a year of five digits."""
    return pc.replace_substring_regex(days, r"^(\d{5})", r"+\1")


def _each(values: pa.Array, text: Callable[[Any], str]) -> pa.Array:
    """Return what *text* makes of each different value."""
    encoded = values.dictionary_encode()
    known = encoded.dictionary.to_numpy(zero_copy_only=False)
    words = pa.array([text(value) for value in known], pa.string())
    return words.take(encoded.indices)


def _class(value: float | Decimal) -> str:
    if math.isfinite(value) and value == int(value):
        return str(int(value))
    return _fraction(value)


def _fraction(value: float | Decimal) -> str:
    """Return a number as Java writes it: with an exponent below 0.001, and from 10,000,000 on."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or _LEAST_PLAIN <= abs(value) < _MOST_PLAIN:
        return np.format_float_positional(value, trim="0")
    sign, digits, exponent = Decimal(str(value)).normalize().as_tuple()
    rest = "".join(map(str, digits[1:])) or "0"
    return f"{'-' * sign}{digits[0]}.{rest}E{int(exponent) + len(digits) - 1}"


def failing(keys: int, uris: Sequence[str], *, regression: bool) -> Function:
    """Return the function for `mapInArrow` that gives a row for each version that failed on a row.

    It has the first *keys* of the row, then `FAILURES`.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for n, uri in enumerate(uris):
                lacks = ~_known(batch.column(f"v{n}"), regression=regression)
                if lacks.any():
                    rows = batch.filter(pa.array(lacks))
                    reasons = [_reason(uri, found) for found in rows.column("errors").to_pylist()]
                    arrays = [
                        *[rows.column(f"k{k}") for k in range(keys)],
                        pa.array([n] * rows.num_rows, pa.int32()),
                        pa.array([kind for kind, _ in reasons], pa.string()),
                        pa.array([message for _, message in reasons], pa.string()),
                    ]
                    names = [*[f"k{k}" for k in range(keys)], *FAILURES.names]
                    yield pa.RecordBatch.from_arrays(arrays, names=names)

    return run


def _known(values: pa.Array, *, regression: bool) -> Bools:
    if regression:
        return ~np.isnan(floats(values))
    known: Bools = values.is_valid().to_numpy(zero_copy_only=False)
    return known


def _reason(uri: str, errors: Sequence[dict[str, str]] | None) -> tuple[str, str]:
    for error in errors or ():
        if error["version"] == uri:
            return error["type"], error["message"]
    return "NoPrediction", "the model gave no value"


def disagreeing(keys: int, versions: int, task: Task, most: int) -> Function:
    """Return the function for `mapInArrow` that gives the rows on which versions disagree most.

    They are *most* of each task at the most, with their keys, `disagreement` and the predictions.
    """
    names = [*[f"k{n}" for n in range(keys)], *[f"v{n}" for n in range(versions)]]

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held: pa.Table | None = None
        for batch in batches:
            sizes = _disagreement([batch.column(f"v{n}") for n in range(versions)], task)
            columns = [batch.column(name) for name in names]
            columns.insert(keys, pa.array(sizes))
            named = [*names[:keys], DISAGREEMENT, *names[keys:]]
            rows = pa.RecordBatch.from_arrays(columns, names=named).filter(pa.array(sizes > 0))
            parts = [pa.Table.from_batches([rows])]
            held = greatest(pa.concat_tables([held, *parts] if held else parts), keys, most)
        if held is not None:
            yield from held.to_batches()

    return run


def greatest(rows: pa.Table, keys: int, most: int) -> pa.Table:
    """Return the *most* rows with the largest disagreement, those of the first keys first."""
    order = [(DISAGREEMENT, "descending"), *[(f"k{n}", "ascending") for n in range(keys)]]
    return rows.take(pc.sort_indices(rows, sort_keys=order)[:most])


def _disagreement(columns: Sequence[pa.Array], task: Task) -> Floats:
    """Return how far versions lie apart, 0 where one has no prediction."""
    if len(columns) == 1:
        return np.zeros(len(columns[0]))
    known = np.logical_and.reduce([_known(c, regression=task == "regression") for c in columns])
    found = np.zeros(len(known))
    if not known.any():
        return found
    rows = [column.filter(pa.array(known)) for column in columns]
    if task == "labels":
        values = np.column_stack([row.to_numpy(zero_copy_only=False) for row in rows])
        found[known] = [len(set(row)) - 1 for row in values.tolist()]
        return found
    if task == "regression":
        stacked = np.column_stack([floats(row) for row in rows])[:, None, :]
    else:
        scores = [floats(row.flatten()).reshape(int(known.sum()), -1) for row in rows]
        stacked = np.stack(scores, axis=2)
    with np.errstate(invalid="ignore"):  # both may be infinite
        found[known] = (stacked.max(axis=2) - stacked.min(axis=2)).max(axis=1)
    return found


def flipping(
    versions: Sequence[int],
    baseline: int,
    classes: tuple[str, ...],
    threshold: float | None,
) -> Function:
    """Return the function for `mapInArrow` that counts labels against the baseline's: `FLIPS`."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            label = batch.column("label")
            base = _decided(batch.column(f"v{baseline}"), classes, threshold)
            rows = []
            for n in versions:
                decided = _decided(batch.column(f"v{n}"), classes, threshold)
                differs = pc.not_equal(decided, base)
                mended = pc.and_(differs, pc.equal(decided, label))
                broken = pc.and_(differs, pc.equal(base, label))
                counts = [pc.sum(each).as_py() or 0 for each in (differs, mended, broken)]
                rows.append((n, len(differs) - differs.null_count, *counts))
            columns = [list(column) for column in zip(*rows, strict=True)]
            yield pa.RecordBatch.from_arrays(
                [pa.array(c, f.type) for c, f in zip(columns, FLIPS, strict=True)], schema=FLIPS
            )

    return run


def _decided(values: pa.Array, classes: tuple[str, ...], threshold: float | None) -> pa.Array:
    """Return the predicted class as a text: that of the first highest score, or by threshold."""
    if not classes:
        return values
    known = values.is_valid().to_numpy(zero_copy_only=False)
    places = np.zeros(len(values), np.int64)
    if known.any():
        scores = floats(values.drop_null().flatten()).reshape(-1, len(classes))
        places[known] = scores.argmax(axis=1) if threshold is None else scores[:, 1] >= threshold
    return pa.array(list(classes), pa.string()).take(pa.array(places, mask=~known))
