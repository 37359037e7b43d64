"""Wrapping: a model as one that MLflow's `spark_udf` cannot get wrong, for kinds that it does.

`spark_udf` knows no columns whose names are numbers, fills lists of different lengths up with NaN
and writes a missing text as `None`. So the wrapped model gets its columns by their own names, and
gives each row as one text of JSON, which Spark reads as the type that the signature says.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakescore.executor.applying import fit

if TYPE_CHECKING:
    from collections.abc import Mapping

PREDICTED = "p"
"""The only key of each text."""


def wrapper(names: Mapping[str, str | int], results: pa.Schema) -> Any:
    """Return the PythonModel around the one that it has as its artifact `model`.

    Args:
        names: by the column's name in Spark, the model's own.
        results: what it gives.
    """
    from mlflow.pyfunc import load_model  # noqa: PLC0415 - seconds of import
    from mlflow.pyfunc.model import PythonModel  # noqa: PLC0415 - likewise

    class Wrapped(PythonModel):
        def load_context(self, context: Any) -> None:
            self.model = load_model(context.artifacts["model"], suppress_warnings=True)

        def predict(self, context: Any, model_input: Any, params: Any = None) -> list[str]:  # noqa: ARG002
            frame = model_input.rename(columns=dict(names))
            result = self.model.predict(frame, **({"params": params} if params else {}))
            return as_texts(fit(result, results, len(frame)))

    return Wrapped()


def as_texts(predicted: pa.Array) -> list[str]:
    """Return each prediction as JSON, which holds every value that a signature can say."""
    rows = predicted.to_pylist()
    return [json.dumps({PREDICTED: _plain(row, predicted.type)}) for row in rows]


def _plain(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        return {key: _plain(item, kind.item_type) for key, item in value}
    if pa.types.is_list(kind):
        return [_plain(part, kind.value_type) for part in value]
    return value
