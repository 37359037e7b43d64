"""Fitting: the values of a model as one Arrow column of its signature's type, or an error.

pyarrow cuts `1.25` to 1 if a list must become integers, and ignores keys of a mapping that the type
does not name. So values are first read with their own type, and cast only if no value is lost.
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
"""The names of types in MLflow's signatures."""
_UNREADABLE = (pa.ArrowException, OverflowError, TypeError, ValueError)
_LONGEST_VALUE = 80
SAYS = b"says"
"""The key of a field's metadata that holds the signature's word for its type."""
WIDTH = b"width"
"""The key of a field's metadata that holds the number of values of its arrays."""


class Misshapen(ValueError):
    """A model gave something other than one value a row of its signature's type."""


class Truncated(Misshapen):
    """A model gave numbers with a fraction, but its signature says integers: no row's fault."""


def fitted(values: Any, output: pa.Field) -> pa.Array:
    """Return one-dimensional *values* as a column of the type of *output*; NaN becomes null.

    Raises:
        Misshapen: a value has another type, or the cast would change it.
        Truncated: the cast would cut the fraction of a number.
    """
    try:
        return _cast_values(values, output.type)
    except _UNREADABLE as error:
        raise _misfit_error(values, output, error) from error


def _cast_values(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_nested(kind):
        return _cast_nested(list(values), kind)
    array = pa.array(values, from_pandas=True)
    if array.null_count == len(array):
        return pa.nulls(len(array), kind)
    if not _is_like(array.type, kind):
        raise TypeError(f"{array.type} is not {kind}")
    cast = array if array.type == kind else array.cast(kind)
    if pa.types.is_float32(kind) and pc.any(pc.and_(pc.is_inf(cast), pc.is_finite(array))).as_py():
        raise OverflowError(f"a number is out of the range of {kind}")
    return cast


def _is_like(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether values of the type *kind* can stand for values of the type *wanted*."""
    types = pa.types
    if types.is_boolean(wanted) or types.is_boolean(kind):
        return bool(kind == wanted)
    if types.is_string(wanted):
        return bool(types.is_string(kind) or types.is_large_string(kind) or _is_bytes(kind))
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    """Return whether *kind* is NumPy's text of bytes, whose cast checks that it is UTF-8."""
    return bool(pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _cast_nested(rows: list[Any], kind: pa.DataType) -> pa.Array:
    """Return *rows* of lists, objects or maps; the type of each innermost value is checked."""
    absent = [_is_absent(row) for row in rows]
    mask = pa.array(absent, pa.bool_())
    if pa.types.is_struct(kind):
        records = [
            {} if is_null else _require_record(row)
            for row, is_null in zip(rows, absent, strict=True)
        ]
        _check_keys(records, kind)
        columns = [
            _cast_values(_make_objects([row.get(f.name) for row in records]), f.type) for f in kind
        ]
        return pa.StructArray.from_arrays(columns, fields=list(kind), mask=mask)
    is_map = pa.types.is_map(kind)
    pairs = zip(rows, absent, strict=True)
    parts = [[] if is_null else _list_parts(row, of_map=is_map) for row, is_null in pairs]
    ends = np.cumsum([0, *map(len, parts)])
    offsets = pa.array(ends, pa.int32(), mask=np.array([*absent, False]))
    flat = [part for row in parts for part in row]
    if is_map:
        keys = _cast_values(_make_objects([key for key, _ in flat]), kind.key_type)
        items = _cast_values(_make_objects([value for _, value in flat]), kind.item_type)
        return pa.MapArray.from_arrays(offsets, keys, items, type=kind)
    elements = _cast_values(_make_objects(flat), kind.value_type)
    return pa.ListArray.from_arrays(offsets, elements, type=kind)


def _is_absent(row: Any) -> bool:
    return row is None or (isinstance(row, float) and np.isnan(row))


def _require_record(row: Any) -> dict[str, Any]:
    if hasattr(row, "model_dump"):  # pydantic: MLflow takes its models as objects too
        row = row.model_dump()
    if not isinstance(row, dict):
        raise TypeError(f"{type(row).__name__} is not an object")
    return row


def _check_keys(records: Sequence[dict[str, Any]], kind: pa.StructType) -> None:
    names = {field.name for field in kind}
    unknown = {str(key) for record in records for key in record if key not in names}
    if unknown:
        raise ValueError(f"the object has {', '.join(sorted(unknown))}, which the signature lacks")


def _list_parts(row: Any, *, of_map: bool) -> list[Any]:
    if of_map:
        return list(_require_record(row).items())
    if isinstance(row, (str, bytes, dict)) or not hasattr(row, "__len__"):
        raise TypeError(f"{type(row).__name__} is not an array")
    return list(row)


def _make_objects(values: list[Any]) -> Any:
    """Return *values* as an array of objects: NumPy alone would make texts of `[1, "a"]`."""
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects


def _misfit_error(values: Any, output: pa.Field, error: Exception) -> Misshapen:
    """Return the error that names the first of *values* that does not have the type."""
    name = (output.metadata or {}).get(SAYS, b"").decode() or _type_name(output.type)
    for value in values:
        try:
            _cast_values(_make_objects([value]), output.type)
        except _UNREADABLE as first:
            plain = value.item() if isinstance(value, (np.number, np.bool_, np.str_)) else value
            shown = repr(plain)[:_LONGEST_VALUE]
            sentence = f"the signature says {name} and the model gives {shown}"
            if pa.types.is_nested(output.type):
                sentence = f"{sentence} ({first})"
            has_fraction = pa.types.is_integer(output.type) and isinstance(plain, float)
            return (Truncated if has_fraction else Misshapen)(sentence)
    return Misshapen(f"the signature says {name}, and the model gives several types: {error}")


def _type_name(kind: pa.DataType) -> str:
    return _WORDS.get(kind, str(kind))
