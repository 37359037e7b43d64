"""Results: the answer of a model as one Arrow column that fits its signature, or an error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .fitting import WIDTH, Misshapen, fitted
from .keeping import count, counted

if TYPE_CHECKING:
    from .version import Version

_TOLERANCE = 1e-12
"""Relative; for models that add many numbers, whose order depends on their libraries."""


def as_column(result: Any, version: Version, rows: int) -> pa.Array:
    """Return the *result* of *version* for *rows* rows as one Arrow column, a struct if several.

    If the signature has names, they select the named columns of the result. If the result has the
    labels of the input rows in another order, its rows are put in the order of the input.

    Raises:
        Misshapen: the result is not one value a row with the types and names of the signature.
    """
    before = counted("aligned")
    try:
        parts = _split_outputs(result, version, rows)
        columns = [
            _make_array(part, output, rows)
            for part, output in zip(parts, version.outputs, strict=True)
        ]
    except Misshapen:
        raise
    except (pa.ArrowException, LookupError, TypeError, ValueError, OverflowError) as error:
        raise Misshapen(f"{type(error).__name__}: {error}") from error
    if counted("aligned") > before:  # rows with several outputs count once
        count("aligned", before + rows - counted("aligned"))
    if len(columns) == 1:
        return columns[0]
    return pa.StructArray.from_arrays(columns, fields=list(version.outputs))


def alike(one: pa.Array, other: pa.Array, *, exact: bool = False) -> bool:
    """Return whether two columns of predictions are equal, except the last digits of fractions."""
    if exact:
        return bool(one.equals(other))
    return all(
        a == b
        or (
            isinstance(a, float)
            and isinstance(b, float)
            and (math.isclose(a, b, rel_tol=_TOLERANCE) or (math.isnan(a) and math.isnan(b)))
        )
        for a, b in zip(_values(one), _values(other), strict=True)
    )


def _values(column: pa.Array) -> list[Any]:
    """Return the values of *column*; of structs, the values of each field one after the other."""
    if pa.types.is_struct(column.type):
        return [value for field in column.flatten() for value in field.to_pylist()]
    return list(column.to_pylist())


def _split_outputs(result: Any, version: Version, rows: int) -> list[Any]:
    """Return the part of *result* for each of the outputs, in the order of the signature."""
    wanted = len(version.outputs)
    result = _sort_rows(_tabulate(result) if wanted > 1 else result, rows)
    if not (isinstance(result, dict) or hasattr(result, "columns")):
        return [result] if wanted == 1 else _split_columns(result, wanted)
    names = list(result)
    if version.names is not None:
        requested: list[Any] = list(version.names)
    elif len(names) == wanted:
        requested = names
    elif wanted == 1 and pa.types.is_list(version.outputs.field(0).type):
        return [np.column_stack([_sort_rows(result[name], rows) for name in names])]
    else:
        raise Misshapen(f"the model gave the columns {names}; its signature has {wanted}, unnamed")
    lacking = [name for name in requested if name not in names]
    if lacking or len(set(names)) < len(names):
        raise Misshapen(f"the model gave the columns {names}; its signature has {requested}")
    return [_sort_rows(result[name], rows) for name in requested]


def _tabulate(result: Any) -> Any:
    """Return a list of records as columns by name, and a list of lists as an array."""
    if not isinstance(result, list) or not result:
        return result
    if hasattr(result[0], "model_dump"):  # pydantic: MLflow takes its models as records too
        result = [record.model_dump() for record in result]
    if isinstance(result[0], dict):
        return {name: [record[name] for record in result] for name in result[0]}
    return np.asarray(result, dtype=object)


def _split_columns(result: Any, wanted: int) -> list[Any]:
    values = np.asarray(result)
    if values.ndim != 2 or values.shape[1] != wanted:  # noqa: PLR2004 - rows and columns
        raise Misshapen(f"the model gave {values.shape}, not {wanted} columns")
    return [values[:, n] for n in range(wanted)]


def _sort_rows(result: Any, rows: int) -> Any:
    """Return a Series or DataFrame sorted by its labels, if they are the row numbers 0, 1, 2 ...

    Labels of another kind name no rows, so the result stays unchanged.

    Raises:
        Misshapen: the labels name only some of the rows, or some rows twice; or they have a name,
            so that they may not be row numbers.
    """
    index = getattr(result, "index", None)
    if index is None or callable(index) or len(index) != rows or index.nlevels > 1:
        return result
    import pandas as pd  # noqa: PLC0415 - a requirement of few models

    places = pd.RangeIndex(rows).get_indexer(index)
    if (places == np.arange(rows)).all() or (places < 0).all():
        return result
    is_complete = len(np.unique(places)) == rows and (places >= 0).all()
    if index.name is not None:
        if not is_complete:
            return result
        raise Misshapen(
            f"the model's answer has an index {index.name!r} that numbers the rows in another "
            "order; reset it, or sort the rows by it, before they are returned"
        )
    if not is_complete:
        raise Misshapen(
            "the model's answer has an index that names some of the rows twice or not at all; "
            "return one row for each row, with the index of the input or a new one"
        )
    count("aligned", rows)
    return result.iloc[np.argsort(places)]


def _make_array(result: Any, output: pa.Field, rows: int) -> pa.Array:
    """Return one value a row; None, NaN, NA and NaT are null, like NaN in MLflow's spark_udf."""
    dtype, is_nested = getattr(result, "dtype", None), pa.types.is_nested(output.type)
    # NumPy alone would make texts of a list of 1 and "a", and floats of Int64 with NA.
    as_objects = isinstance(result, list) or (dtype is not None and not isinstance(dtype, np.dtype))
    values = np.asarray(result, dtype=object if as_objects else None)
    if rows == 1:
        values = np.atleast_1d(values)
    if not values.ndim or len(values) != rows:
        raise Misshapen(
            f"the model gave a result of length {values.size} for a batch of length {rows}"
        )
    if pa.types.is_list(output.type):
        return _make_lists(values, output, rows)
    if values.ndim > 1 and not is_nested:
        if values.shape[1:] != (1,):
            raise Misshapen(
                f"the model gave {values.shape[1]} values per row; its signature has one"
            )
        values = values.reshape(-1)
    return fitted(values, output)


def _make_lists(values: Any, output: pa.Field, rows: int) -> pa.Array:
    """Return one array a row, of the width that the signature says, if it says one."""
    if values.ndim == 2:  # noqa: PLR2004 - rows and columns
        flat = fitted(values.reshape(-1), output.with_type(output.type.value_type))
        offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(values.shape[1])
        lists = pa.ListArray.from_arrays(offsets, flat)
    else:
        lists = fitted(values, output)
    if width := (output.metadata or {}).get(WIDTH):
        others = set(pc.unique(pc.list_value_length(lists)).to_pylist()) - {int(width), None}
        if others:
            raise Misshapen(
                f"the model gave {min(others)} values in an array; its signature has {int(width)}"
            )
    return lists
