"""Bisecting: a version predicts a batch, and halves of it isolate the rows that it cannot score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .calling import predict_batch
from .fitting import Misshapen
from .loading import NO_ROWS_FAULT, error_message
from .version import output_type

if TYPE_CHECKING:
    from .version import Version


def predict_rows(
    version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    """Return the predictions, and the type and message of the error of each row that failed."""
    skipped: dict[int, tuple[str, str] | None] = {}
    for name, position, policy in version.nulls:
        column = batch.column(position)
        if column.null_count:
            failure = ("NullInput", f"{name} is null") if policy == "quarantine" else None
            for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
                skipped[row] = skipped.get(row) or failure
    failures = {row: failure for row, failure in skipped.items() if failure is not None}
    if not skipped:
        return _bisect(version, batch, inputs)
    rest = np.setdiff1d(np.arange(batch.num_rows), list(skipped))
    predictions, failed = _bisect(version, batch.take(pa.array(rest)), {})
    failures |= {int(rest[row]): failure for row, failure in failed.items()}
    places = np.full(batch.num_rows, -1)
    places[rest] = np.arange(len(rest))
    return predictions.take(pa.array(places, mask=places < 0)), failures


def _bisect(
    version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    pieces: list[pa.Array] = []
    failures = {}
    misshapen: Misshapen | None = None
    spans = [(0, batch.num_rows)] if batch.num_rows else []
    while spans:
        start, end = spans.pop()
        is_all = end - start == batch.num_rows
        piece = batch if is_all else batch.slice(start, end - start)
        try:
            pieces.append(predict_batch(version, piece, inputs if is_all else {}))
        except NO_ROWS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
            if end - start == 1:
                failures[start] = (type(error).__name__, error_message(error))
                pieces.append(pa.nulls(1, output_type(version.outputs)))
            else:
                if misshapen is None and isinstance(error, Misshapen):
                    misshapen = error
                middle = (start + end) // 2
                spans += [(middle, end), (start, middle)]
    if misshapen is not None and not failures:
        raise misshapen  # the model scores each row alone, but not several together
    if not pieces:
        return pa.nulls(0, output_type(version.outputs)), failures
    return (pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)), failures
