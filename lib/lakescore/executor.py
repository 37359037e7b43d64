"""What runs in Spark's Python workers: Arrow batches in, predictions out.

It imports nothing of lakescore and is pickled by value, so executors need the model's own
requirements, and MLflow where the model is not a plain scikit-learn one, and never our package.
"""

from __future__ import annotations

import os
import sys
import types
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MODELS_AT_ONCE = 16
"""How many models a worker process keeps; the one used longest ago goes first."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One model version as a worker applies it."""

    digest: str
    folder: str
    """The artifacts: an absolute path, or the name of an archive that Spark ships."""
    mode: Literal["block", "frame", "pyfunc"]
    """What it eats: one block of numbers (scikit-learn), a pandas frame (scikit-learn), or a frame
    by way of MLflow's PyFuncModel, which checks it against the signature once more."""
    pickled: str | None
    """The scikit-learn model's file in *folder*, where it can be read without MLflow."""
    features: tuple[tuple[str, int], ...]
    """The signature's columns: name, and position in the batch."""
    outputs: pa.Schema
    """What it gives: one column, or several that become one struct."""


def predictor(
    versions: Sequence[Version], *, kept: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow`: the first *kept* columns, then one for each version."""

    def predict(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            predicted = apply(versions, batch)
            names = [*batch.schema.names[:kept], *[f"p{n}" for n in range(len(versions))]]
            yield pa.RecordBatch.from_arrays([*batch.columns[:kept], *predicted], names=names)

    return predict


def apply(versions: Sequence[Version], batch: pa.RecordBatch) -> list[pa.Array]:
    """Return the predictions of each of *versions* for the rows of *batch*.

    Raises:
        ValueError: a model gave another number of rows than it got, or what its signature does not
            say; or an integer column, which pandas cannot hold with nulls, has some.
    """
    inputs: dict[Any, Any] = {}  # versions that eat the same share one conversion
    predictions = []
    for version in versions:
        model = loaded(version)
        kind = (version.mode, version.features)
        if kind not in inputs or version.mode == "pyfunc":  # a stranger's code may change its frame
            make = _block if version.mode == "block" else _frame
            inputs[kind] = make(batch, version.features)
        predictions.append(_column(model.predict(inputs[kind]), version.outputs, batch.num_rows))
    return predictions


def _block(batch: pa.RecordBatch, features: Sequence[tuple[str, int]]) -> Any:
    """Return one read-only block, columns side by side, as scikit-learn reads them; null is NaN."""
    columns = [batch.column(position) for _, position in features]
    block = np.empty((batch.num_rows, len(columns)), columns[0].type.to_pandas_dtype(), order="F")
    for n, column in enumerate(columns):
        block[:, n] = column.to_numpy(zero_copy_only=False)
    block.flags.writeable = False
    return block


def _frame(batch: pa.RecordBatch, features: Sequence[tuple[str, int]]) -> Any:
    columns = [batch.column(position) for _, position in features]
    names = [name for name, _ in features]
    for name, column in zip(names, columns, strict=True):
        if pa.types.is_integer(column.type) and column.null_count:
            raise ValueError(f"the integer column {name!r} holds nulls")
    return pa.RecordBatch.from_arrays(columns, names=names).to_pandas()


def _column(result: Any, outputs: pa.Schema, rows: int) -> pa.Array:
    """Return what a model gave as one Arrow column of the type that its signature says."""
    if len(outputs) > 1:
        columns = [
            _array(result[field.name] if hasattr(result, "columns") else result[:, n], field, rows)
            for n, field in enumerate(outputs)
        ]
        return pa.StructArray.from_arrays(columns, fields=list(outputs))
    return _array(result, outputs.field(0), rows)


def _array(result: Any, field: pa.Field, rows: int) -> pa.Array:
    values = np.asarray(result)
    if len(values) != rows:
        raise ValueError(f"the model gave {len(values)} predictions for {rows} rows")
    if pa.types.is_list(field.type):
        flat = pa.array(values.reshape(-1), field.type.value_type, from_pandas=True)
        width = values.shape[1]
        offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, flat)
    if values.ndim > 1:
        if values.shape[1:] != (1,):
            raise ValueError(
                f"the model gave {values.shape[1]} values a row; its signature has one"
            )
        values = values.reshape(-1)
    # NaN becomes null, as where MLflow's spark_udf hands pandas to Spark.
    return pa.array(values, field.type, from_pandas=True)


def loaded(version: Version) -> Any:
    """Return the model of *version*, loaded once a worker process, whatever its number of tasks.

    This module is unpickled anew for each task, so what is loaded is kept outside of it.
    """
    shelf = sys.modules.setdefault("_lakescore_models", types.ModuleType("_lakescore_models"))
    models: OrderedDict[Any, Any] = vars(shelf).setdefault("models", OrderedDict())
    key = (version.digest, version.mode == "pyfunc")
    if key not in models:
        models[key] = _load(version)
        while len(models) > _MODELS_AT_ONCE:
            models.popitem(last=False)
    models.move_to_end(key)
    return models[key]


def _load(version: Version) -> Any:
    folder = _folder(version.folder)
    if version.mode == "pyfunc":
        import mlflow  # noqa: PLC0415 - seconds of import that scikit-learn's models do not need

        model = mlflow.pyfunc.load_model(folder, suppress_warnings=True)
        _bound_jobs(getattr(model, "_model_impl", None))
        return model
    # A block of numbers has no names; that they are in the model's order was seen to.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    if version.pickled is None:
        import mlflow.sklearn  # noqa: PLC0415 - see above

        estimator = mlflow.sklearn.load_model(folder)
    else:
        import cloudpickle  # noqa: PLC0415 - a requirement of the model, not of Spark

        with open(os.path.join(folder, version.pickled), "rb") as file:  # noqa: PTH118, PTH123
            estimator = cloudpickle.load(file)
    _bound_jobs(estimator)
    return estimator


def _folder(folder: str) -> str:
    if os.path.isabs(folder):  # noqa: PTH117 - pathlib would be one more import in each worker
        return folder
    from pyspark import SparkFiles  # noqa: PLC0415

    return SparkFiles.get(folder)


def _bound_jobs(model: Any) -> None:
    """Give a scikit-learn model as many jobs as the task has cores: Spark cannot see joblib's."""
    estimator = getattr(model, "sklearn_model", model)
    if not hasattr(estimator, "get_params"):
        return
    from pyspark import TaskContext  # noqa: PLC0415

    task = TaskContext.get()
    cores = task.cpus() if task else 1
    jobs = {name: cores for name in estimator.get_params() if name.split("__")[-1] == "n_jobs"}
    estimator.set_params(**jobs)
