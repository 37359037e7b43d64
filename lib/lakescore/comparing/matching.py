"""The functions that workers run on rows with their predictions.

They prepare rows to be added up, and find failures, disagreements and flips. The module is pickled
by value, as `gathering` is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakescore.comparing.batches import Bools, Floats, floats, partition
from lakescore.comparing.bootstrapping import BUCKETS
from lakescore.executor import SAID, WHY, row_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lakescore.metrics import Task

    Function = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

FAILURES = pa.schema({"version": pa.int32(), "error_type": pa.string(), "error": pa.string()})
"""The columns that `failing` returns after the keys."""
FLIPS = pa.schema(
    {
        "version": pa.int32(),
        "rows": pa.int64(),
        "flips": pa.int64(),
        "mended": pa.int64(),
        "broken": pa.int64(),
    }
)
"""The columns that `flipping` returns: a version's labels compared with the baseline's."""
DISAGREEMENT = "disagreement"
_LEAST_PLAIN, _MOST_PLAIN = 1e-3, 1e7
_ROWS_A_TASK = 33
"""A task numbers its rows from its task number shifted by these bits, so all numbers differ."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The positions of the columns of rows with their predictions, and their meaning."""

    task: Task
    classes: tuple[str, ...]
    label: int
    versions: tuple[int, ...]
    fields: tuple[tuple[str, ...] | None, ...]
    """By version, the class of each field of its struct of probabilities; None without a struct."""
    weight: int | None = None
    """If it is None, each weight is 1."""
    slices: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    errors: int | None = None
    """A list of `WHY`; if it is None, there are no errors."""
    said: int | None = None
    """The reports of tasks, in rows whose other columns are null."""


def match(columns: Columns, task: int | None = None) -> Function:
    """Return the function for `mapInArrow` that returns rows ready to be added up.

    Their columns are `bucket`, `label`, `weight`, the slices as texts `s0`, ..., the predictions
    `v0`, ... (numbers, labels as texts, or lists of probabilities in the order of the classes), the
    keys `k0`, ..., `errors`, and the reports of tasks if *columns* has them.

    Args:
        columns: the positions of the columns in the batches.
        task: the task's number; if it is left out, the number of the Spark partition.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        before = (partition() if task is None else task) << _ROWS_A_TASK
        for batch in batches:
            yield _match_batch(columns, batch, before)
            before += batch.num_rows

    return run


def _match_batch(columns: Columns, batch: pa.RecordBatch, before: int) -> pa.RecordBatch:
    values = batch.columns
    label = values[columns.label]
    regression = columns.task == "regression"
    cells = {
        "bucket": _row_buckets([values[n] for n in columns.keys], before, batch.num_rows),
        "label": _to_doubles(label) if regression else class_texts(label),
        "weight": pa.repeat(pa.scalar(1.0), batch.num_rows)
        if columns.weight is None
        else _to_doubles(values[columns.weight]),
    }
    cells |= {f"s{n}": texts(values[index]) for n, index in enumerate(columns.slices)}
    for n, (index, fields) in enumerate(zip(columns.versions, columns.fields, strict=True)):
        cells[f"v{n}"] = _prediction(columns, values[index], fields)
    cells |= {f"k{n}": values[index] for n, index in enumerate(columns.keys)}
    cells["errors"] = (
        pa.nulls(batch.num_rows, pa.list_(WHY))
        if columns.errors is None
        else values[columns.errors]
    )
    if columns.said is not None:
        cells[SAID] = values[columns.said]
    return pa.RecordBatch.from_arrays(list(cells.values()), names=list(cells))


def _row_buckets(keys: Sequence[pa.Array], before: int, rows: int) -> pa.Array:
    """Return the bucket of each row, by its keys; without keys, by the number of rows before it."""
    if not keys:
        keys = [pa.array(np.arange(before, before + rows))]
    hashes = row_hashes(pa.RecordBatch.from_arrays(keys, names=[str(n) for n in range(len(keys))]))
    return pa.array((hashes % np.uint64(BUCKETS)).astype(np.int32))


def _prediction(columns: Columns, values: pa.Array, fields: tuple[str, ...] | None) -> pa.Array:
    if columns.task == "regression":
        return _to_doubles(values)
    if columns.task == "labels":
        return class_texts(values)
    if fields is None:
        score = floats(values)
        return _to_lists(np.column_stack([1.0 - score, score]))
    known = values.is_valid().to_numpy(zero_copy_only=False)
    scores = np.zeros((len(values), len(columns.classes)))
    for name, child in zip(fields, values.flatten(), strict=True):
        scores[:, columns.classes.index(name)] = floats(child)
    scores[~known] = np.nan
    return _to_lists(scores)


def _to_doubles(values: pa.Array) -> pa.Array:
    """Return numbers as doubles, rounded to the nearest double."""
    return values.cast(pa.float64(), safe=False)


def _to_lists(scores: Floats) -> pa.Array:
    """Return rows of *scores* as lists; a row with NaN becomes null."""
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
        return _map_values(values, _class_text)
    return texts(values)


def texts(values: pa.Array) -> pa.Array:
    """Return values as Spark writes them."""
    kind = values.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _map_values(values, _fraction_text)
    if pa.types.is_timestamp(kind):
        written = values.cast(pa.timestamp("us")).cast(pa.string())
        return _add_plus(pc.replace_substring_regex(written, r"\.?0*$", ""))
    written = values.cast(pa.string())
    return _add_plus(written) if pa.types.is_date(kind) else written


def _add_plus(days: pa.Array) -> pa.Array:
    """Return *days* with the plus sign that Spark writes before a year of five digits."""
    return pc.replace_substring_regex(days, r"^(\d{5})", r"+\1")


def _map_values(values: pa.Array, to_text: Callable[[Any], str]) -> pa.Array:
    """Return the texts of values, and call *to_text* once for each different value."""
    encoded = values.dictionary_encode()
    different = encoded.dictionary.to_numpy(zero_copy_only=False)
    written = pa.array([to_text(value) for value in different], pa.string())
    return written.take(encoded.indices)


def _class_text(value: float | Decimal) -> str:
    if math.isfinite(value) and value == int(value):
        return str(int(value))
    return _fraction_text(value)


def _fraction_text(value: float | Decimal) -> str:
    """Return a number as Java writes it: with an exponent below 0.001 and from 10,000,000."""
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
    """Return the function for `mapInArrow` that returns a row for each row and version that failed.

    Its columns are the first *keys* key columns of the row, then `FAILURES`.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for n, uri in enumerate(uris):
                is_unscored = ~_has_prediction(batch.column(f"v{n}"), regression=regression)
                if is_unscored.any():
                    rows = batch.filter(pa.array(is_unscored))
                    errors = rows.column("errors").to_pylist()
                    reasons = [_reason(uri, row_errors) for row_errors in errors]
                    arrays = [
                        *[rows.column(f"k{k}") for k in range(keys)],
                        pa.array([n] * rows.num_rows, pa.int32()),
                        pa.array([error_type for error_type, _ in reasons], pa.string()),
                        pa.array([message for _, message in reasons], pa.string()),
                    ]
                    names = [*[f"k{k}" for k in range(keys)], *FAILURES.names]
                    yield pa.RecordBatch.from_arrays(arrays, names=names)

    return run


def _has_prediction(values: pa.Array, *, regression: bool) -> Bools:
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
    """Return the function for `mapInArrow` that returns the rows on which versions disagree most.

    It returns at most *most* rows per task, with their keys, `disagreement` and the predictions.
    """
    names = [*[f"k{n}" for n in range(keys)], *[f"v{n}" for n in range(versions)]]

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        worst: pa.Table | None = None
        for batch in batches:
            sizes = _disagreement([batch.column(f"v{n}") for n in range(versions)], task)
            columns = [batch.column(name) for name in names]
            columns.insert(keys, pa.array(sizes))
            with_size = [*names[:keys], DISAGREEMENT, *names[keys:]]
            rows = pa.RecordBatch.from_arrays(columns, names=with_size).filter(pa.array(sizes > 0))
            new = [pa.Table.from_batches([rows])]
            worst = greatest(pa.concat_tables([worst, *new] if worst else new), keys, most)
        if worst is not None:
            yield from worst.to_batches()

    return run


def greatest(rows: pa.Table, keys: int, most: int) -> pa.Table:
    """Return the *most* rows with the largest disagreement; the keys decide between equal ones."""
    order = [(DISAGREEMENT, "descending"), *[(f"k{n}", "ascending") for n in range(keys)]]
    return rows.take(pc.sort_indices(rows, sort_keys=order)[:most])


def _disagreement(columns: Sequence[pa.Array], task: Task) -> Floats:
    """Return how far the versions lie apart; 0 if a version has no prediction."""
    if len(columns) == 1:
        return np.zeros(len(columns[0]))
    known = np.logical_and.reduce(
        [_has_prediction(column, regression=task == "regression") for column in columns]
    )
    sizes = np.zeros(len(known))
    if not known.any():
        return sizes
    rows = [column.filter(pa.array(known)) for column in columns]
    if task == "labels":
        values = np.column_stack([row.to_numpy(zero_copy_only=False) for row in rows])
        sizes[known] = [len(set(row)) - 1 for row in values.tolist()]
        return sizes
    if task == "regression":
        stacked = np.column_stack([floats(row) for row in rows])[:, None, :]
    else:
        scores = [floats(row.flatten()).reshape(int(known.sum()), -1) for row in rows]
        stacked = np.stack(scores, axis=2)
    with np.errstate(invalid="ignore"):  # both can be infinite
        sizes[known] = (stacked.max(axis=2) - stacked.min(axis=2)).max(axis=1)
    return sizes


def flipping(
    versions: Sequence[int],
    baseline: int,
    classes: tuple[str, ...],
    threshold: float | None,
) -> Function:
    """Return the function for `mapInArrow` that compares labels with the baseline's: `FLIPS`."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            label = batch.column("label")
            base = _decide(batch.column(f"v{baseline}"), classes, threshold)
            rows = []
            for n in versions:
                decided = _decide(batch.column(f"v{n}"), classes, threshold)
                differs = pc.not_equal(decided, base)
                mended = pc.and_(differs, pc.equal(decided, label))
                broken = pc.and_(differs, pc.equal(base, label))
                counts = [pc.sum(condition).as_py() or 0 for condition in (differs, mended, broken)]
                rows.append((n, len(differs) - differs.null_count, *counts))
            columns = [list(column) for column in zip(*rows, strict=True)]
            yield pa.RecordBatch.from_arrays(
                [pa.array(c, f.type) for c, f in zip(columns, FLIPS, strict=True)], schema=FLIPS
            )

    return run


def _decide(values: pa.Array, classes: tuple[str, ...], threshold: float | None) -> pa.Array:
    """Return the predicted classes as texts, by the first highest score or by *threshold*."""
    if not classes:
        return values
    known = values.is_valid().to_numpy(zero_copy_only=False)
    places = np.zeros(len(values), np.int64)
    if known.any():
        scores = floats(values.drop_null().flatten()).reshape(-1, len(classes))
        places[known] = scores.argmax(axis=1) if threshold is None else scores[:, 1] >= threshold
    return pa.array(list(classes), pa.string()).take(pa.array(places, mask=~known))
