"""Results: what a model gave, as one Arrow column that fits its signature, or an error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .fitting import Misshapen, fitted
from .keeping import count, counted

if TYPE_CHECKING:
    from .applying import Version

_TOLERANCE = 1e-12
"""Relative; for models that add many numbers, in whatever order their libraries do."""


def as_column(result: Any, version: Version, rows: int) -> pa.Array:
    """Return what *version* gave for so many *rows* as one Arrow column, a struct of several.

    What comes with names is taken by the names of the signature, where it has any. What comes with
    the labels of the rows that the model got, in another order, is put in theirs.

    Raises:
        Misshapen: it is not one value a row, of the types and names that the signature says.
    """
    before = counted("aligned")
    try:
        parts = _parts(result, version, rows)
        columns = [
            _array(part, output, rows) for part, output in zip(parts, version.outputs, strict=True)
        ]
    except Misshapen:
        raise
    except (pa.ArrowException, LookupError, TypeError, ValueError, OverflowError) as error:
        raise Misshapen(f"{type(error).__name__}: {error}") from error
    if counted("aligned") > before:  # of several outputs, rows count once
        count("aligned", before + rows - counted("aligned"))
    if len(columns) == 1:
        return columns[0]
    return pa.StructArray.from_arrays(columns, fields=list(version.outputs))


def alike(one: pa.Array, other: pa.Array, *, exact: bool = False) -> bool:
    """Tell whether two columns of predictions are equal, but for the last digits of fractions."""
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
    """Return the values of *column*, the fields of structs one after the other."""
    if pa.types.is_struct(column.type):
        return [each for field in column.flatten() for each in field.to_pylist()]
    return list(column.to_pylist())


def _parts(result: Any, version: Version, rows: int) -> list[Any]:
    """Return what was given for each of the outputs, in the order of the signature."""
    wanted = len(version.outputs)
    result = _in_order(_tabular(result) if wanted > 1 else result, rows)
    if not (isinstance(result, dict) or hasattr(result, "columns")):
        return [result] if wanted == 1 else _split(result, wanted)
    names = list(result)
    if version.names is not None:
        asked: list[Any] = list(version.names)
    elif len(names) == wanted:
        asked = names
    elif wanted == 1 and pa.types.is_list(version.outputs.field(0).type):
        return [np.column_stack([_in_order(result[name], rows) for name in names])]
    else:
        raise Misshapen(f"the model gave the columns {names}; its signature has {wanted}, unnamed")
    lacking = [name for name in asked if name not in names]
    if lacking or len(set(names)) < len(names):
        raise Misshapen(f"the model gave the columns {names}; its signature has {asked}")
    return [_in_order(result[name], rows) for name in asked]


def _tabular(result: Any) -> Any:
    """Return a list of records as columns by name, a list of lists as an array."""
    if not isinstance(result, list) or not result:
        return result
    if hasattr(result[0], "model_dump"):  # pydantic, which MLflow takes as records too
        result = [record.model_dump() for record in result]
    if isinstance(result[0], dict):
        return {name: [record[name] for record in result] for name in result[0]}
    return np.asarray(result, dtype=object)


def _split(result: Any, wanted: int) -> list[Any]:
    values = np.asarray(result)
    if values.ndim != 2 or values.shape[1] != wanted:  # noqa: PLR2004 - rows and columns
        raise Misshapen(f"the model gave {values.shape}, not {wanted} columns")
    return [values[:, n] for n in range(wanted)]


def _in_order(result: Any, rows: int) -> Any:
    """Return a Series or DataFrame in the order of the rows that it names, 0, 1, 2 and so on.

    Labels of another kind name nothing, and leave it as it is.

    Raises:
        Misshapen: the labels are those of some rows only, or of some twice, or they have a name,
            so that they could be anything.
    """
    index = getattr(result, "index", None)
    if index is None or callable(index) or len(index) != rows or index.nlevels > 1:
        return result
    import pandas as pd  # noqa: PLC0415 - a requirement of few models

    places = pd.RangeIndex(rows).get_indexer(index)
    if (places == np.arange(rows)).all() or (places < 0).all():
        return result
    whole = len(np.unique(places)) == rows and (places >= 0).all()
    if index.name is not None:
        if not whole:
            return result
        raise Misshapen(
            f"the model's answer has an index {index.name!r} that numbers the rows in another "
            "order; reset it, or sort the rows by it, before they are returned"
        )
    if not whole:
        raise Misshapen(
            "the model's answer has an index that names some of the rows twice or not at all; "
            "return one row for each row, with the index of the input or a new one"
        )
    count("aligned", rows)
    return result.iloc[np.argsort(places)]


def _array(result: Any, output: pa.Field, rows: int) -> pa.Array:
    """Return one value a row; None, NaN, NA and NaT are null, as MLflow's spark_udf has NaN."""
    own, is_nested = getattr(result, "dtype", None), pa.types.is_nested(output.type)
    # NumPy would make texts of a list of 1 and "a", and floats of Int64 with NA.
    as_objects = isinstance(result, list) or (own is not None and not isinstance(own, np.dtype))
    values = np.asarray(result, dtype=object if as_objects else None)
    if rows == 1:
        values = np.atleast_1d(values)
    if not values.ndim or len(values) != rows:
        raise Misshapen(f"the model gave {values.size} predictions for {rows} rows")
    if pa.types.is_list(output.type) and values.ndim == 2:  # noqa: PLR2004 - rows and columns
        flat = fitted(values.reshape(-1), output.with_type(output.type.value_type))
        offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(values.shape[1])
        return pa.ListArray.from_arrays(offsets, flat)
    if values.ndim > 1 and not is_nested:
        if values.shape[1:] != (1,):
            raise Misshapen(f"the model gave {values.shape[1]} values a row; its signature has one")
        values = values.reshape(-1)
    return fitted(values, output)
