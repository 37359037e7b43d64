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
from .version import Version


def _load_pyfunc(path: str) -> Wrapped:
    """Return the model in the folder *path*; MLflow calls this function of a loader module."""
    with open(os.path.join(path, "version.pkl"), "rb") as file:  # noqa: PTH118, PTH123
        fields = pickle.load(file)  # noqa: S301 - our own file of plain values
    fields["outputs"] = pa.ipc.read_schema(pa.py_buffer(fields["outputs"]))
    return Wrapped(Version(folder=os.path.abspath(os.path.join(path, "model")), **fields))  # noqa: PTH100, PTH118


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
        texts = [json.dumps({KEY: _encode(value, kind)}) for value in column.to_pylist()]
        return np.array(texts, dtype=object)
    empty: Any = "" if pa.types.is_string(kind) else pa.scalar(0).cast(kind).as_py()
    return column.fill_null(empty).to_numpy(zero_copy_only=False)


def _encode(value: Any, kind: pa.DataType) -> Any:
    """Return a value of Arrow's *kind* for JSON: maps become objects."""
    if value is None or not pa.types.is_nested(kind):
        return value
    if pa.types.is_map(kind):
        return {key: _encode(item, kind.item_type) for key, item in value}
    if pa.types.is_struct(kind):
        return {field.name: _encode(value[field.name], field.type) for field in kind}
    return [_encode(item, kind.value_type) for item in value]
