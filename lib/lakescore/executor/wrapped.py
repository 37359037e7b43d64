"""Wrapped: the loader of a model that applies a version, for MLflow's spark_udf.

It is shipped as source beside the version's files, for whichever Python its environment has.
"""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import numpy as np
import pyarrow as pa

from .applying import Version, predicted


def _load_pyfunc(path: str) -> Wrapped:
    """Return the model in the folder *path*, as MLflow asks of a loader module."""
    with open(os.path.join(path, "version.pkl"), "rb") as file:  # noqa: PTH118, PTH123
        facts = pickle.load(file)  # noqa: S301 - of plain values, and ours
    facts["outputs"] = pa.ipc.read_schema(pa.py_buffer(facts["outputs"]))
    return Wrapped(Version(folder=os.path.abspath(os.path.join(path, "model")), **facts))  # noqa: PTH100, PTH118


KEY = "p"
"""The only key of the JSON of a value that is no number, boolean or text."""


class Wrapped:
    """A version whose answers are one value and one flag for nulls a column."""

    def __init__(self, version: Version) -> None:
        self._version = version

    def predict(self, frame: Any) -> Any:
        """Return the columns v0, n0, v1, n1, ...: values, and whether they are null."""
        import pandas as pd  # noqa: PLC0415 - at hand where MLflow is

        version = self._version
        frame.columns = [name for name, _ in version.features]
        frame.index = pd.RangeIndex(len(frame))
        found = predicted(version, frame)
        columns = found.flatten() if len(version.outputs) > 1 else [found]
        given = {}
        for n, column in enumerate(columns):
            given[f"v{n}"] = _values(column)
            given[f"n{n}"] = column.is_null().to_numpy(zero_copy_only=False)
        return pd.DataFrame(given)


def _values(column: pa.Array) -> Any:
    """Return values that no cast changes: nulls filled, and what is nested as JSON."""
    kind = column.type
    if pa.types.is_nested(kind):
        texts = [json.dumps({KEY: _encoded(value, kind)}) for value in column.to_pylist()]
        return np.array(texts, dtype=object)
    empty: Any = "" if pa.types.is_string(kind) else pa.scalar(0).cast(kind).as_py()
    return column.fill_null(empty).to_numpy(zero_copy_only=False)


def _encoded(value: Any, kind: pa.DataType) -> Any:
    """Return a value of Arrow's *kind* as JSON has it: maps are objects there."""
    if value is None or not pa.types.is_nested(kind):
        return value
    if pa.types.is_map(kind):
        return {key: _encoded(item, kind.item_type) for key, item in value}
    if pa.types.is_struct(kind):
        return {field.name: _encoded(value[field.name], field.type) for field in kind}
    return [_encoded(item, kind.value_type) for item in value]
