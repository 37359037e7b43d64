"""Wrapped: the loader of a model that applies a version, for MLflow's spark_udf.

It is shipped as source with the version's files, because the Python of its environment can differ.
"""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import numpy as np
import pyarrow as pa

from .applying import predicted
from .nesting import plain_value
from .version import Version


def _load_pyfunc(path: str) -> Wrapped:
    """Return the model in the folder *path*; MLflow calls this function of a loader module."""
    with open(os.path.join(path, "version.pkl"), "rb") as file:  # noqa: PTH118, PTH123
        fields = pickle.load(file)  # noqa: S301 - our own file of plain values
    folder = os.path.abspath(os.path.join(path, "model"))  # noqa: PTH100, PTH118
    return Wrapped(Version.of_fields({**fields, "folder": folder}))


KEY = "p"
"""The only key of the JSON object that holds a nested value."""


class Wrapped:
    """A version that returns one value and one flag for nulls for each column."""

    def __init__(self, version: Version) -> None:
        self._version = version

    def predict(self, frame: Any) -> Any:
        """Return the columns v0, n0, v1, n1, ...: values, and whether they are null."""
        import pandas as pd  # noqa: PLC0415 - MLflow requires it

        version = self._version
        for n, dtype in enumerate(frame.dtypes):
            if dtype.hasobject:
                frame.isetitem(n, pd.Series([_plain(v) for v in frame.iloc[:, n]], dtype=object))
        frame.columns = [name for name, _ in version.features]
        frame.index = pd.RangeIndex(len(frame))
        predictions = predicted(version, frame)
        columns = predictions.flatten() if len(version.outputs) > 1 else [predictions]
        answer = {}
        for n, column in enumerate(columns):
            answer[f"v{n}"] = _plain_values(column)
            answer[f"n{n}"] = column.is_null().to_numpy(zero_copy_only=False)
        return pd.DataFrame(answer)


def _plain_values(column: pa.Array) -> Any:
    """Return values that no cast changes: nulls are filled, and nested values become JSON."""
    kind = column.type
    if pa.types.is_nested(kind):
        texts = [json.dumps({KEY: plain_value(value, kind)}) for value in column.to_pylist()]
        return np.array(texts, dtype=object)
    empty: Any = "" if pa.types.is_string(kind) else pa.scalar(0).cast(kind).as_py()
    return column.fill_null(empty).to_numpy(zero_copy_only=False)


def _plain(value: Any, *, inner: bool = False) -> Any:
    """Return a nested value as `inputs.make_input` makes it: dicts and lists, or a flat array."""
    if hasattr(value, "asDict"):  # a Row
        value = value.asDict()
    if isinstance(value, dict):
        return {key: _plain(item, inner=True) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        if not value.dtype.hasobject:
            return value.tolist() if inner else value
        parts = [_plain(item, inner=True) for item in value.tolist()]
        is_nested = any(isinstance(part, (dict, list)) for part in parts)
        return parts if inner or is_nested else value
    return value
