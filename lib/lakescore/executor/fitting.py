"""Fitting: what a model gave, as one Arrow column of the type that its signature says, or an error.

pyarrow cuts `1.25` to 1 where a list shall become integers, and passes over keys of a mapping that
the type does not name. So values are read as what they are first, and changed only where none of
them is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS = {
    pa.bool_(): "boolean",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
}
"""What MLflow's signatures call a type."""
_UNREADABLE = (pa.ArrowException, OverflowError, TypeError, ValueError)
_LONGEST_VALUE = 80
SAYS = b"says"
"""The key of a field's metadata under which the signature's word for its type stands."""


class Misshapen(ValueError):
    """What a model gave is not one value a row of the type that its signature says."""


class Truncated(Misshapen):
    """A model gave numbers with a fraction where its signature says integers: no row's fault."""


def fitted(values: Any, output: pa.Field) -> pa.Array:
    """Return one-dimensional *values* as a column of the type of *output*; NaN becomes null.

    Raises:
        Misshapen: a value is of another type, or would not stay the same.
        Truncated: likewise, of numbers with a fraction.
    """
    try:
        return _as(values, output.type)
    except _UNREADABLE as error:
        raise _misfit(values, output, error) from error


def _as(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_nested(kind):
        return _nested(list(values), kind)
    array = pa.array(values, from_pandas=True)
    if array.null_count == len(array):
        return pa.nulls(len(array), kind)
    if not _is_like(array.type, kind):
        raise TypeError(f"{array.type} is no {kind}")
    cast = array if array.type == kind else array.cast(kind)
    if pa.types.is_float32(kind) and pc.any(pc.and_(pc.is_inf(cast), pc.is_finite(array))).as_py():
        raise OverflowError(f"a number is out of the range of {kind}")
    return cast


def _is_like(given: pa.DataType, asked: pa.DataType) -> bool:
    """Tell whether values of the type *given* can be meant where *asked* is."""
    types = pa.types
    if types.is_boolean(asked) or types.is_boolean(given):
        return bool(given == asked)
    if types.is_string(asked):
        return bool(types.is_string(given) or types.is_large_string(given) or _is_bytes(given))
    return bool(types.is_integer(given) or types.is_floating(given))


def _is_bytes(given: pa.DataType) -> bool:
    """Tell whether *given* is NumPy's text of bytes, whose cast checks that it is UTF-8."""
    return bool(pa.types.is_binary(given) or pa.types.is_fixed_size_binary(given))


def _nested(rows: list[Any], kind: pa.DataType) -> pa.Array:
    """Return *rows* of lists, objects or maps, whose leaves are held to their types one by one."""
    absent = [_is_absent(row) for row in rows]
    mask = pa.array(absent, pa.bool_())
    if pa.types.is_struct(kind):
        records = [{} if none else _record(row) for row, none in zip(rows, absent, strict=True)]
        _check_keys(records, kind)
        columns = [_as(_objects([row.get(f.name) for row in records]), f.type) for f in kind]
        return pa.StructArray.from_arrays(columns, fields=list(kind), mask=mask)
    is_map = pa.types.is_map(kind)
    held = zip(rows, absent, strict=True)
    parts = [[] if none else _parts(row, of_map=is_map) for row, none in held]
    ends = np.cumsum([0, *map(len, parts)])
    offsets = pa.array(ends, pa.int32(), mask=np.array([*absent, False]))
    flat = [part for row in parts for part in row]
    if is_map:
        keys = _as(_objects([key for key, _ in flat]), kind.key_type)
        items = _as(_objects([value for _, value in flat]), kind.item_type)
        return pa.MapArray.from_arrays(offsets, keys, items, type=kind)
    elements = _as(_objects(flat), kind.value_type)
    return pa.ListArray.from_arrays(offsets, elements, type=kind)


def _is_absent(row: Any) -> bool:
    return row is None or (isinstance(row, float) and np.isnan(row))


def _record(row: Any) -> dict[str, Any]:
    if hasattr(row, "model_dump"):  # pydantic, which MLflow takes as an object too
        row = row.model_dump()
    if not isinstance(row, dict):
        raise TypeError(f"{type(row).__name__} is no object")
    return row


def _check_keys(records: Sequence[dict[str, Any]], kind: pa.StructType) -> None:
    names = {field.name for field in kind}
    odd = {str(key) for record in records for key in record if key not in names}
    if odd:
        raise ValueError(f"the object has {', '.join(sorted(odd))}, which the signature lacks")


def _parts(row: Any, *, of_map: bool) -> list[Any]:
    if of_map:
        return list(_record(row).items())
    if isinstance(row, (str, bytes, dict)) or not hasattr(row, "__len__"):
        raise TypeError(f"{type(row).__name__} is no array")
    return list(row)


def _objects(values: list[Any]) -> Any:
    """Return *values* one by one, whatever they are: NumPy would make texts of `[1, "a"]`."""
    held = np.empty(len(values), dtype=object)
    held[:] = values
    return held


def _misfit(values: Any, output: pa.Field, error: Exception) -> Misshapen:
    """Return the error that names the first of *values* that is not of the type."""
    said = (output.metadata or {}).get(SAYS, b"").decode() or _word(output.type)
    for value in values:
        try:
            _as(_objects([value]), output.type)
        except _UNREADABLE as first:
            plain = value.item() if isinstance(value, (np.number, np.bool_, np.str_)) else value
            shown = repr(plain)[:_LONGEST_VALUE]
            sentence = f"the signature says {said} and the model gives {shown}"
            if pa.types.is_nested(output.type):
                sentence = f"{sentence} ({first})"
            has_fraction = pa.types.is_integer(output.type) and isinstance(plain, float)
            return (Truncated if has_fraction else Misshapen)(sentence)
    return Misshapen(f"the signature says {said}, and the model gives several types: {error}")


def _word(kind: pa.DataType) -> str:
    return _WORDS.get(kind, str(kind))
