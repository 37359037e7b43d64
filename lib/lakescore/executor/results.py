"""Results: what a model gave, as one Arrow column that fits its signature, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .keeping import count, counted

if TYPE_CHECKING:
    from .applying import Version

_KINDS = {
    "boolean": "b",
    "integer": "iuf",
    "floating": "iuf",
    "string": "U",
}
"""By what a signature says, the kinds of numpy arrays that fit it; values are checked besides."""


class Misshapen(ValueError):
    """What a model gave is not one value a row of the type that its signature says."""


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


def _parts(result: Any, version: Version, rows: int) -> list[Any]:
    """Return what was given for each of the outputs, in the order of the signature."""
    wanted = len(version.outputs)
    if isinstance(result, list) and result and isinstance(result[0], dict) and wanted > 1:
        import pandas as pd  # noqa: PLC0415 - a requirement of few models

        result = pd.DataFrame(result)
    result = _in_order(result, rows)
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
    kind = output.type
    as_objects = isinstance(result, list) and pa.types.is_string(kind)  # [1, "a"] is no text
    own = getattr(result, "dtype", None)
    as_objects |= own is not None and not isinstance(own, np.dtype)  # Int64 with NA has no other
    values = np.asarray(result, dtype=object if as_objects else None)
    if rows == 1:
        values = np.atleast_1d(values)
    if not values.ndim or len(values) != rows:
        raise Misshapen(f"the model gave {values.size} predictions for {rows} rows")
    if pa.types.is_list(kind) and values.ndim == 2 and not pa.types.is_nested(kind.value_type):  # noqa: PLR2004 - rows and columns
        width = values.shape[1]
        flat = _checked(values.reshape(-1), kind.value_type)
        offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, flat)
    if pa.types.is_nested(kind):
        return pa.array([_plain(value) for value in values], kind, from_pandas=True)
    if values.ndim > 1:
        if values.shape[1:] != (1,):
            raise Misshapen(f"the model gave {values.shape[1]} values a row; its signature has one")
        values = values.reshape(-1)
    return _checked(values, kind)


def _checked(values: Any, kind: pa.DataType) -> pa.Array:
    """Return *values* as Arrow's *kind*, if that is what they are, and nothing of them is lost."""
    name = _named(kind)
    if values.dtype == object:
        own = pa.array(values, from_pandas=True).type
        fits = pa.types.is_null(own) or pa.types.is_boolean(own) == pa.types.is_boolean(kind)
    else:
        fits = values.dtype.kind in _KINDS.get(name, values.dtype.kind)
        own = values.dtype
    if not fits:
        raise Misshapen(f"the model gave {own}; its signature says {kind}")
    if name == "integer" and values.dtype.kind == "f":
        broken = values[np.isfinite(values) & (values != np.trunc(values))]
        if len(broken):
            raise Misshapen(f"the model gave {broken[0]}; its signature says {kind}")
    array = pa.array(values, kind, from_pandas=True)
    if pa.types.is_float32(kind) and values.dtype == np.float64:
        large = np.isfinite(values) & (np.abs(values) > np.finfo(np.float32).max)
        if large.any():
            raise Misshapen(f"the model gave {values[large][0]}, which is out of {kind}'s range")
    return array


def _named(kind: pa.DataType) -> str:
    types = pa.types
    tests = {
        "boolean": types.is_boolean,
        "integer": types.is_integer,
        "floating": types.is_floating,
        "string": types.is_string,
    }
    return next((name for name, test in tests.items() if test(kind)), "")


def _plain(value: Any) -> Any:
    """Return a value of lists and dictionaries, as Arrow reads them."""
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value] if value.ndim else value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
