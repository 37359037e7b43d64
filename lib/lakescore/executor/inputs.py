"""Inputs: the rows of a batch in the form that a model takes: a frame, a block or arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .nesting import innermost, plain_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .version import Version


def make_input(version: Version, batch: pa.RecordBatch) -> Any:
    """Return the features of *version* in *batch* in the form that its model takes.

    Raises:
        ValueError: a model cannot take a value; it is missing, or out of range, or an array of
            another width.
    """
    if version.mode == "block":
        block = _make_block(version, batch)
        block.flags.writeable = False  # versions share it
        return block
    if version.mode == "frame" or version.takes == "frame":
        return _make_frame(batch, version.features)
    if version.takes == "array":
        block = _own_copy(_make_block(version, batch))
        return block if version.shapes[0] else block[:, 0]
    return {
        name: _own_copy(_make_array(name, batch.column(position), shape))
        for (name, position), shape in zip(version.features, version.shapes, strict=True)
    }


def frame_as_batch(frame: Any) -> pa.RecordBatch:
    """Return the columns of a pandas *frame*, in their order."""
    names = [str(n) for n in range(len(frame.columns))]
    return pa.RecordBatch.from_pandas(frame.set_axis(names, axis=1), preserve_index=False)


def _own_copy(values: Any) -> Any:
    """Return *values* in memory that a stranger's code can change."""
    return np.require(values, requirements=["W"])


def _make_block(version: Version, batch: pa.RecordBatch) -> Any:
    """Return one block with the columns side by side, as scikit-learn reads them; nulls are NaN.

    A single column of arrays is such a block already.
    """
    columns = [batch.column(position) for _, position in version.features]
    if len(columns) == 1 and version.shapes and version.shapes[0] and _is_list(columns[0].type):
        return _make_array(version.features[0][0], columns[0], version.shapes[0])
    block = np.empty((batch.num_rows, len(columns)), columns[0].type.to_pandas_dtype(), order="F")
    for n, ((name, _), column) in enumerate(zip(version.features, columns, strict=True)):
        block[:, n] = _make_array(name, column, ())
    return block


def _make_array(name: str | int, column: pa.Array, shape: tuple[int, ...]) -> Any:
    """Return the values of *column*, of which every row must have the *shape*; nulls are NaN."""
    if not _is_list(column.type) and shape in {(), (1,)}:
        _check_whole(name, column)
        return column.to_numpy(zero_copy_only=False).reshape(-1, *shape)
    if column.null_count:
        raise ValueError(f"an array in {name!r} is missing")
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if lengths not in ([], list(shape)):
        other = next(length for length in lengths if length != shape[0])
        raise ValueError(f"an array in {name!r} has {other} values, but the model takes {shape[0]}")
    values = column.flatten()
    _check_whole(name, values)
    return values.to_numpy(zero_copy_only=False).reshape(-1, *shape)


def _make_frame(batch: pa.RecordBatch, features: Sequence[tuple[str | int, int]]) -> Any:
    names = [name for name, _ in features]
    columns = [_pandas_column(name, batch.column(position)) for name, position in features]
    places = [str(n) for n in range(len(names))]
    frame = pa.RecordBatch.from_arrays(columns, names=places).to_pandas()
    for place, column in zip(places, columns, strict=True):
        if pa.types.is_nested(column.type) and not _is_flat_list(column.type):
            values = np.empty(len(column), dtype=object)
            values[:] = [plain_value(value, column.type) for value in column.to_pylist()]
            frame[place] = values
    frame.columns = names  # the signature's names, which may be numbers
    return frame


def _pandas_column(name: str | int, column: pa.Array) -> pa.Array:
    """Return *column* with times that pandas can hold; check that no whole number is missing.

    A list of numbers becomes a NumPy array, and all other nested values become Python's lists and
    dicts, since MLflow cannot make arrays of lists of several lengths.
    """
    kind = column.type
    if not pa.types.is_nested(kind):
        _check_whole(name, column)
        return _naive_times(name, column)
    if _is_flat_list(kind):
        values = column.flatten()
        _check_whole(name, values)
        if pa.types.is_boolean(values.type) and values.null_count:
            raise ValueError(f"an array in {name!r} holds nulls beside booleans")
    return innermost(column, lambda values: _naive_times(name, values))


def _is_flat_list(kind: pa.DataType) -> bool:
    return _is_list(kind) and not pa.types.is_nested(kind.value_type)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind))


def _check_whole(name: str | int, values: pa.Array) -> None:
    """Check that no integer is null: NumPy would make fractions of all integers of the batch."""
    if pa.types.is_integer(values.type) and values.null_count:
        raise ValueError(f"the integer column {name!r} holds nulls")


def _naive_times(name: str | int, values: pa.Array) -> pa.Array:
    """Return times in UTC without a zone, in the nanoseconds of MLflow's datetime."""
    if not pa.types.is_timestamp(values.type):
        return values
    try:
        return values.cast(pa.timestamp(values.type.unit)).cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:
        reason = f"the column {name!r} holds a time that pandas cannot hold (1677 to 2262)"
        raise ValueError(reason) from None
