"""Calling: a model gets the rows of a batch in the form that it takes, and predicts them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from .inputs import frame_as_batch, make_input
from .keeping import shelf
from .loading import NO_ROWS_FAULT, loaded
from .results import alike, as_column

if TYPE_CHECKING:
    import pyarrow as pa

    from .version import Version

_ROWS_COMPARED = 50
"""The number of rows on which a worker compares the modes `block` and `frame`."""


def predict_batch(version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]) -> pa.Array:
    """Return one version's predictions; versions with the same input share it through *inputs*."""
    mode = version.mode if version.proven else _proven_mode(version, batch)
    version = replace(version, mode=mode)
    kind = (mode, version.features, version.shapes)
    if kind not in inputs or mode == "pyfunc":  # a stranger's code may change its frame
        inputs[kind] = make_input(version, batch)
    return as_column(call(version, inputs[kind]), version, batch.num_rows)


def predict_frame(version: Version, frame: Any) -> pa.Array:
    """Return one version's predictions for a pandas *frame*, whose columns are its features."""
    taken = frame
    if version.takes != "frame":
        taken = make_input(version, frame_as_batch(frame))
    return as_column(call(version, taken), version, len(frame))


def _proven_mode(version: Version, batch: pa.RecordBatch) -> Literal["block", "frame", "pyfunc"]:
    """Return `block` if it gives the same values as `frame` for the first rows, else `frame`."""
    modes: dict[Any, Literal["block", "frame"]] = shelf().setdefault("modes", {})
    if version.mode != "block" or version.takes == "array":  # the model itself takes such a block
        return version.mode
    key = (version.key, version.method)
    if key not in modes:
        rows = batch.slice(0, _ROWS_COMPARED)
        try:
            one, other = (
                as_column(call(like, make_input(like, rows)), like, rows.num_rows)
                for like in (version, replace(version, mode="frame"))
            )
        except NO_ROWS_FAULT:
            raise
        except Exception:  # noqa: BLE001 - a stranger's code may raise anything
            return "frame"
        modes[key] = "block" if alike(one, other) else "frame"
    return modes[key]


def call(version: Version, rows: Any) -> Any:
    """Return the result of the model of *version* for *rows*, which `make_input` made."""
    model = loaded(version)
    params = {} if version.params is None else {"params": version.params}
    method = "predict" if version.mode == "pyfunc" else version.method
    return getattr(model, method)(rows, **params)
