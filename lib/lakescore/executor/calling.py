"""Calling: a model gets the rows of a batch in the form that it takes, and predicts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .keeping import shelf
from .loading import NO_ROWS_FAULT, loaded
from .results import alike, as_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .version import Version

_ROWS_COMPARED = 50
"""The number of rows on which a worker compares the modes `block` and `frame`."""


def predict_batch(version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]) -> pa.Array:
    """Return one version's predictions; versions with the same input share it through *inputs*."""
    mode = version.mode if version.proven else _proven_mode(version, batch)
    kind = (mode, version.features)
    if kind not in inputs or mode == "pyfunc":  # a stranger's code may change its frame
        make = _make_block if mode == "block" else _make_frame
        inputs[kind] = make(batch, version.features)
    return as_column(call(version, inputs[kind]), version, batch.num_rows)


def _proven_mode(version: Version, batch: pa.RecordBatch) -> str:
    """Return `block` if it gives the same values as `frame` for the first rows, else `frame`."""
    modes: dict[Any, str] = shelf().setdefault("modes", {})
    if version.mode != "block":
        return version.mode
    key = (version.key, version.method)
    if key not in modes:
        rows = batch.slice(0, _ROWS_COMPARED)
        try:
            one, other = (
                as_column(call(version, make(rows, version.features)), version, rows.num_rows)
                for make in (_make_block, _make_frame)
            )
        except NO_ROWS_FAULT:
            raise
        except Exception:  # noqa: BLE001 - a stranger's code may raise anything
            return "frame"
        modes[key] = "block" if alike(one, other) else "frame"
    return modes[key]


def call(version: Version, rows: Any) -> Any:
    """Return the result of the model of *version* for *rows*, a block or a frame."""
    model = loaded(version)
    params = {} if version.params is None else {"params": version.params}
    method = "predict" if version.mode == "pyfunc" else version.method
    return getattr(model, method)(rows, **params)


def _make_block(batch: pa.RecordBatch, features: Sequence[tuple[str | int, int]]) -> Any:
    """Return one read-only block with the columns side by side, as scikit-learn reads them.

    Nulls become NaN.
    """
    columns = [batch.column(position) for _, position in features]
    block = np.empty((batch.num_rows, len(columns)), columns[0].type.to_pandas_dtype(), order="F")
    for n, column in enumerate(columns):
        block[:, n] = column.to_numpy(zero_copy_only=False)
    block.flags.writeable = False
    return block


def _make_frame(batch: pa.RecordBatch, features: Sequence[tuple[str | int, int]]) -> Any:
    columns = [batch.column(position) for _, position in features]
    names = [name for name, _ in features]
    for n, (name, column) in enumerate(zip(names, columns, strict=True)):
        if pa.types.is_integer(column.type) and column.null_count:
            raise ValueError(f"the integer column {name!r} holds nulls")
        if pa.types.is_timestamp(column.type):
            columns[n] = _cast_times(name, column)
    places = [str(n) for n in range(len(names))]
    frame = pa.RecordBatch.from_arrays(columns, names=places).to_pandas()
    frame.columns = names  # the signature's names, which may be numbers
    return frame


def _cast_times(name: str | int, column: pa.Array) -> pa.Array:
    """Return times in UTC without a zone, in the nanoseconds of MLflow's datetime."""
    try:
        return column.cast(pa.timestamp(column.type.unit)).cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:
        reason = f"the column {name!r} holds a time that pandas cannot hold (1677 to 2262)"
        raise ValueError(reason) from None
