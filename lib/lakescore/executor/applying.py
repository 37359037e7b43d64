"""Applying: versions to a batch of rows, or to the rest of it where a row cannot be scored."""

from __future__ import annotations

import gc
import os
import sys
import types
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from lakescore.executor.fitting import Misshapen, fitted, given_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MODELS_AT_ONCE = 16
"""How many models a worker process keeps; the one used longest ago goes first."""
_NO_ROWS_FAULT = (ImportError, MemoryError)
"""What no row causes: it would hit them all, so it is not looked for row by row."""
_LONGEST_MESSAGE = 500
WHY = pa.struct([("version", pa.string()), ("type", pa.string()), ("message", pa.string())])
"""Why a row could not be scored, and by which version."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One model version as a worker applies it."""

    uri: str
    key: str
    """Of what is loaded: equal keys, equal models."""
    folder: str
    """The artifacts: an absolute path, or the name of an archive that Spark ships."""
    mode: Literal["block", "frame", "pyfunc"]
    """What it eats: one block of numbers (scikit-learn), a pandas frame (scikit-learn), or a frame
    by way of MLflow's PyFuncModel, which checks it against the signature once more."""
    pickled: str | None
    """The scikit-learn model's file in *folder*, where it can be read without MLflow."""
    features: tuple[tuple[str | int, int], ...]
    """The signature's columns: name, and position in the batch."""
    outputs: pa.Schema
    """What it gives: one column, or several that become one struct."""
    method: str = "predict"
    """The method of a scikit-learn model that `block` and `frame` call."""
    params: Mapping[str, Any] | None = None
    """For MLflow's `predict`, in the mode `pyfunc` alone."""
    nulls: tuple[tuple[str | int, int, Literal["null", "quarantine"]], ...] = ()
    """Features, with their positions, whose nulls the model is not asked about: the prediction is
    null then, or the row fails."""


def attempt(versions: Sequence[Version], batch: pa.RecordBatch) -> tuple[list[pa.Array], pa.Array]:
    """Return what `apply` does, with null for the rows that a model cannot score, and why.

    A batch with such a row is halved until it is found: of n rows that hold k of them, some
    2 k log n calls fail.

    Returns:
        The predictions of each of *versions*, and a list of `WHY` by row, null where all could.

    Raises:
        ImportError, MemoryError: no row causes these.
    """
    inputs: dict[Any, Any] = {}
    predictions: list[pa.Array] = []
    reasons: dict[int, list[dict[str, str]]] = {}
    for version in versions:
        loaded(version)  # that a model cannot be loaded is no row's fault
        found, failures = _asked(version, batch, inputs)
        predictions.append(found)
        for row, (kind, message) in failures.items():
            why = {"version": version.uri, "type": kind, "message": message}
            reasons.setdefault(row, []).append(why)
    if not reasons:
        return predictions, pa.nulls(batch.num_rows, pa.list_(WHY))
    return predictions, pa.array(map(reasons.get, range(batch.num_rows)), pa.list_(WHY))


def _asked(
    version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    """Return the predictions, and the type and message of the error for each row that failed."""
    unasked: dict[int, tuple[str, str] | None] = {}
    for name, position, policy in version.nulls:
        column = batch.column(position)
        if column.null_count:
            failure = ("NullInput", f"{name} is null") if policy == "quarantine" else None
            for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
                unasked[row] = unasked.get(row) or failure
    failures = {row: failure for row, failure in unasked.items() if failure is not None}
    if not unasked:
        return _bisected(version, batch, inputs)
    rest = np.setdiff1d(np.arange(batch.num_rows), list(unasked))
    found, failed = _bisected(version, batch.take(pa.array(rest)), {})
    failures |= {int(rest[row]): failure for row, failure in failed.items()}
    places = np.full(batch.num_rows, -1)
    places[rest] = np.arange(len(rest))
    return found.take(pa.array(places, mask=places < 0)), failures


def _bisected(
    version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    pieces: list[pa.Array] = []
    failures = {}
    misshapen: Misshapen | None = None
    spans = [(0, batch.num_rows)] if batch.num_rows else []
    while spans:
        start, end = spans.pop()
        whole = end - start == batch.num_rows
        piece = batch if whole else batch.slice(start, end - start)
        try:
            pieces.append(_predicted(version, piece, inputs if whole else {}))
        except _NO_ROWS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
            if end - start == 1:
                failures[start] = (type(error).__name__, _message(error))
                pieces.append(pa.nulls(1, _kind(version.outputs)))
            else:
                if misshapen is None and isinstance(error, Misshapen):
                    misshapen = error
                middle = (start + end) // 2
                spans += [(middle, end), (start, middle)]
    if misshapen is not None and not failures:
        raise misshapen  # each row alone gives something, and together they do not
    if not pieces:
        return pa.nulls(0, _kind(version.outputs)), failures
    return (pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)), failures


def _message(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a stranger's error may fail to say what it is
        text = "an error that cannot say what it is"
    return text[:_LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode()


def apply(versions: Sequence[Version], batch: pa.RecordBatch) -> list[pa.Array]:
    """Return the predictions of each of *versions* for the rows of *batch*.

    Raises:
        Misshapen: a model gave another number of rows than it got, or what its signature does not
            say.
        ValueError: an integer column, which pandas cannot hold with nulls, has some.
    """
    inputs: dict[Any, Any] = {}
    return [_predicted(version, batch, inputs) for version in versions]


def _predicted(version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]) -> pa.Array:
    """Return one version's predictions; versions that eat the same share the *inputs* made."""
    model = loaded(version)
    kind = (version.mode, version.features)
    if kind not in inputs or version.mode == "pyfunc":  # a stranger's code may change its frame
        make = _block if version.mode == "block" else _frame
        inputs[kind] = make(batch, version.features)
    params = {} if version.params is None else {"params": version.params}
    method = "predict" if version.mode == "pyfunc" else version.method
    result = getattr(model, method)(inputs[kind], **params)
    return fit(result, version.outputs, batch.num_rows)


def fit(result: Any, outputs: pa.Schema, rows: int) -> pa.Array:
    """Return what a model gave for so many *rows* as one column: `outputs`, or a struct of them.

    Raises:
        Misshapen: it is not one value a row of the type that *outputs* say.
    """
    try:
        return _column(result, outputs, rows)
    except Misshapen:
        raise
    except (pa.ArrowException, LookupError, TypeError, ValueError) as error:
        raise Misshapen(f"{type(error).__name__}: {error}") from error


def _block(batch: pa.RecordBatch, features: Sequence[tuple[str | int, int]]) -> Any:
    """Return one read-only block, columns side by side, as scikit-learn reads them; null is NaN."""
    columns = [batch.column(position) for _, position in features]
    block = np.empty((batch.num_rows, len(columns)), columns[0].type.to_pandas_dtype(), order="F")
    for n, column in enumerate(columns):
        block[:, n] = column.to_numpy(zero_copy_only=False)
    block.flags.writeable = False
    return block


def _frame(batch: pa.RecordBatch, features: Sequence[tuple[str | int, int]]) -> Any:
    columns = [batch.column(position) for _, position in features]
    names = [name for name, _ in features]
    for n, (name, column) in enumerate(zip(names, columns, strict=True)):
        if pa.types.is_integer(column.type) and column.null_count:
            raise ValueError(f"the integer column {name!r} holds nulls")
        if pa.types.is_timestamp(column.type):
            columns[n] = _moments(name, column)
    places = [str(n) for n in range(len(names))]
    frame = pa.RecordBatch.from_arrays(columns, names=places).to_pandas()
    frame.columns = names  # as the signature has them, which may be numbers
    return frame


def _moments(name: str | int, column: pa.Array) -> pa.Array:
    """Return times without their zone, which is UTC, in the nanoseconds of MLflow's datetime."""
    try:
        return column.cast(pa.timestamp(column.type.unit)).cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:
        reason = f"the column {name!r} holds a time that pandas cannot hold (1677 to 2262)"
        raise ValueError(reason) from None


def _column(result: Any, outputs: pa.Schema, rows: int) -> pa.Array:
    """Return what a model gave as one Arrow column of the type that its signature says."""
    if len(outputs) > 1:
        result = _tabular(result)
        named = hasattr(result, "columns") or isinstance(result, dict)
        if not named and (np.ndim(result) != 2 or np.shape(result)[1] != len(outputs)):  # noqa: PLR2004
            raise Misshapen(f"the model gave {np.shape(result)}, not {len(outputs)} columns")
        columns = [
            _array(result[given_name(each)] if named else result[:, n], each, rows)
            for n, each in enumerate(outputs)
        ]
        return pa.StructArray.from_arrays(columns, fields=list(outputs))
    return _array(result, outputs.field(0), rows)


def _tabular(result: Any) -> Any:
    """Return a list of records as columns by name, a list of lists as an array."""
    if not isinstance(result, list) or not result:
        return result
    if hasattr(result[0], "model_dump"):  # pydantic, which MLflow takes as records too
        result = [record.model_dump() for record in result]
    if isinstance(result[0], dict):
        return {name: [record[name] for record in result] for name in result[0]}
    return np.asarray(result, dtype=object)


def _kind(outputs: pa.Schema) -> pa.DataType:
    return pa.struct(list(outputs)) if len(outputs) > 1 else outputs.field(0).type


def _array(result: Any, output: pa.Field, rows: int) -> pa.Array:
    is_nested = pa.types.is_nested(output.type)
    if (
        is_nested
        and np.shape(getattr(result, "columns", ())) == (1,)
        and result.dtypes.eq("O").all()
    ):
        result = result.iloc[:, 0]  # of lists, objects or maps
    # NumPy would make texts of a list of 1 and "a".
    values = np.asarray(result, dtype=object if isinstance(result, list) else None)
    values = np.atleast_1d(values) if rows == 1 else values
    if not values.ndim or len(values) != rows:
        raise Misshapen(f"the model gave {values.size} predictions for {rows} rows")
    if pa.types.is_list(output.type) and values.ndim == 2:  # noqa: PLR2004 - rows and columns
        flat = fitted(values.reshape(-1), output.with_type(output.type.value_type))
        width = values.shape[1]
        offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
        return pa.ListArray.from_arrays(offsets, flat)
    if values.ndim > 1 and not is_nested:
        if values.shape[1:] != (1,):
            raise Misshapen(f"the model gave {values.shape[1]} values a row; its signature has one")
        values = values.reshape(-1)
    return fitted(values, output)


def loaded(version: Version) -> Any:
    """Return the model of *version*, loaded once a worker process, whatever its number of tasks.

    This module is unpickled anew for each task, so what is loaded is kept outside of it.
    """
    shelf = _shelf()
    models: OrderedDict[Any, Any] = vars(shelf).setdefault("models", OrderedDict())
    key = (version.key, version.mode == "pyfunc")
    if key not in models:
        models[key] = _load(version)
        vars(shelf)["loads"] = loads() + 1
        while len(models) > _MODELS_AT_ONCE:
            models.popitem(last=False)
        _settle()
    models.move_to_end(key)
    return models[key]


def _settle() -> None:
    """Let a worker's collector pass over what is loaded: PySpark starts it after each task.

    With scikit-learn that is 150,000 objects and 0.07 seconds, with MLflow 230,000 and 0.11.
    """
    from pyspark import TaskContext  # noqa: PLC0415 - at hand in every worker

    if TaskContext.get() is not None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def _shelf() -> types.ModuleType:
    return sys.modules.setdefault("_lakescore_models", types.ModuleType("_lakescore_models"))


def loads() -> int:
    """Return how many models this process has loaded so far."""
    return int(vars(_shelf()).get("loads", 0))


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
