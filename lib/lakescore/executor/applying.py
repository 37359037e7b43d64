"""Applying: versions score a batch of rows, and set apart the rows that they cannot score."""

from __future__ import annotations

import gc
import os
import time
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from .choosing import Family
from .fitting import Misshapen
from .isolating import ModelFailed, ModelProcess, starter
from .keeping import count, counted, shelf
from .results import alike, as_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MODELS_AT_ONCE = 16
_BYTES_AT_ONCE = 256 * 2**20
"""A worker process keeps this number of models, and more as long as their files together have at
most this number of bytes. The least recently used model is dropped first."""
_ROWS_COMPARED = 50
"""The number of rows on which a worker compares the modes `block` and `frame`."""
_NO_ROWS_FAULT = (ImportError, MemoryError)
"""Errors that no row causes: they would hit all rows, so nothing searches for them row by row."""
_LONGEST_MESSAGE = 500
WHY = pa.struct([("version", pa.string()), ("type", pa.string()), ("message", pa.string())])
"""The reason why a version could not score a row, and the URI of the version."""
_NO_VERSION = ("NoVersion", "the row's segment has no model")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One model version as a worker applies it."""

    uri: str
    key: str
    """The key of the loaded model: equal keys mean equal models."""
    folder: str
    """The artifacts: an absolute path, or the name of an archive that Spark ships."""
    mode: Literal["block", "frame", "pyfunc"]
    """The input of the model: one block of numbers (scikit-learn), a pandas frame (scikit-learn),
    or a frame through MLflow's PyFuncModel, which checks it against the signature again."""
    pickled: str | None
    """The scikit-learn model's file in *folder*, if it can be read without MLflow."""
    features: tuple[tuple[str | int, int], ...]
    """The signature's columns: name, and position in the batch."""
    outputs: pa.Schema
    """The outputs of the model: one column, or several that become one struct."""
    method: str = "predict"
    """The method of a scikit-learn model that `block` and `frame` call."""
    params: Mapping[str, Any] | None = None
    """The parameters of MLflow's `predict`, for the mode `pyfunc` alone."""
    nulls: tuple[tuple[str | int, int, Literal["null", "quarantine"]], ...] = ()
    """Features, with their positions, whose nulls the model never gets. If one is null, the
    prediction is null, or the row fails."""
    names: tuple[Any, ...] | None = None
    """The signature's names of the outputs, if any; they select the model's outputs by name."""
    size: int = 0
    """Bytes of its files."""
    proven: bool = True
    """Whether a comparison showed that `block` gives the same values as `frame`. If not, the
    workers compare."""
    program: bytes | None = field(default=None, repr=False)
    """The program of the version's own process; None if the version needs no such process."""


def attempt(
    versions: Sequence[Version | Family], batch: pa.RecordBatch
) -> tuple[list[pa.Array], pa.Array]:
    """Return the predictions of *versions*, null for rows that fail, and the reasons of failures.

    A batch that fails is halved until the rows at fault are isolated. If k of n rows fail, about
    2 k log n calls fail.

    Returns:
        The predictions of each of *versions*, and for each row a list of `WHY`, or null if all
        versions scored the row.

    Raises:
        ImportError, MemoryError: no row causes these.
        Misshapen: a version does not give one prediction a row for several rows.
        ModelFailed: the process of a version ended, or cannot load the version.
        SegmentUnknown: a family does not know the segment of a row.
    """
    inputs: dict[Any, Any] = {}
    predictions: list[pa.Array] = []
    reasons: dict[int, list[dict[str, str]]] = {}
    for version in versions:
        if isinstance(version, Family):
            column, failures = _apply_family(version, batch)
        else:
            column, failures = _apply_version(version, batch, inputs)
        predictions.append(column)
        for row, reason in failures.items():
            reasons.setdefault(row, []).append(dict(zip(WHY.names, reason, strict=True)))
    if not reasons:
        return predictions, pa.nulls(batch.num_rows, pa.list_(WHY))
    return predictions, pa.array(map(reasons.get, range(batch.num_rows)), pa.list_(WHY))


_Applied = tuple[pa.Array, dict[int, tuple[str, str, str]]]
"""Predictions, and the fields of `WHY` for each row that failed."""


def _apply_version(version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]) -> _Applied:
    if version.program is not None:
        column, failures = _predict_in_process(version, batch)
    else:
        loaded(version)  # if the model cannot be loaded, that is no row's fault
        column, failures = _predict_rows(version, batch, inputs)
    return column, {row: (version.uri, *reason) for row, reason in failures.items()}


def _apply_family(family: Family, batch: pa.RecordBatch) -> _Applied:
    """Return the predictions of the version of each row's segment, in the order of the rows."""
    pieces: list[pa.Array] = []
    places = np.empty(batch.num_rows, np.int64)
    failures: dict[int, tuple[str, str, str]] = {}
    total = 0
    for version, positions, rows in family.parts(batch):
        places[positions] = np.arange(total, total + len(positions))
        total += len(positions)
        if version is None:
            pieces.append(pa.nulls(len(positions), _output_type(family.members[0].outputs)))
            failures |= dict.fromkeys(positions.tolist(), (str(family.uri), *_NO_VERSION))
            continue
        try:
            piece, failed = _apply_version(version, rows, {})
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}, for {version.uri}", name=error.name) from error
        pieces.append(piece)
        for row, (uri, kind, message) in failed.items():
            failure = (uri, kind, message)
            if family.uri is not None:
                failure = (family.uri, kind, f"{uri}: {message}")
            failures[int(positions[row])] = failure
    if not pieces:
        return pa.nulls(0, _output_type(family.members[0].outputs)), {}
    return pa.concat_arrays(pieces).take(pa.array(places)), failures


def predicted(version: Version, frame: Any) -> pa.Array:
    """Return the predictions for a pandas *frame*, whose columns are the features by name.

    Raises:
        Misshapen: the predictions do not fit the signature.
        Exception: any error that the model raises.
    """
    if version.program is not None:
        return _ask_process(version, ("frame", frame))
    return as_column(_call(version, frame), version, len(frame))


def _predict_in_process(
    version: Version, batch: pa.RecordBatch
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    """Do what `_predict_rows` does in the process of *version*, which gets only its features."""
    positions = [position for _, position in version.features]
    used = list(dict.fromkeys([*positions, *[position for _, position, _ in version.nulls]]))
    places = {position: n for n, position in enumerate(used)}
    sent = replace(
        version,
        features=tuple((name, places[position]) for name, position in version.features),
        nulls=tuple((name, places[position], rule) for name, position, rule in version.nulls),
    )
    columns = [batch.column(position) for position in used]
    rows = pa.RecordBatch.from_arrays(columns, names=[f"c{n}" for n in range(len(used))])
    outcome: tuple[pa.Array, dict[int, tuple[str, str]]] = _ask_process(sent, ("batch",), rows)
    return outcome


def _ask_process(
    version: Version, request: tuple[Any, ...], batch: pa.RecordBatch | None = None
) -> Any:
    """Return the answer of the process of *version*, and add its counts to ours."""
    # Plain values: neither process can import the other's classes.
    fields = {**vars(version), "program": None, "folder": _folder(version.folder)}
    reply, counts = _process(version).ask((fields, cores(), *request), batch)
    for name, amount in counts.items():
        count(name, amount)
    return reply


def _process(version: Version) -> ModelProcess:
    processes: OrderedDict[str, ModelProcess] = shelf().setdefault("processes", OrderedDict())
    owner = shelf().setdefault("owner", os.getpid())
    if owner != os.getpid():  # a fork must not share the sockets of its parent process
        processes = shelf()["processes"] = OrderedDict()
        shelf()["owner"] = os.getpid()
    if version.key in processes and processes[version.key].is_closed:
        del processes[version.key]
    if version.key not in processes:
        assert version.program is not None  # noqa: S101 - narrows for mypy
        processes[version.key] = ModelProcess(starter(version.program))
        while len(processes) > _MODELS_AT_ONCE:
            processes.popitem(last=False)[1].close()
    processes.move_to_end(version.key)
    return processes[version.key]


def answer(
    fields: Mapping[str, Any],
    task_cores: int,
    request: Literal["batch", "frame", "model"],
    rows: Any = None,
) -> tuple[Any, dict[str, float]]:
    """Answer the request of a worker in a version's own process; return the result and the counts.

    Args:
        fields: the fields of a `Version`.
        task_cores: the number of cores that the model can use.
        request: predict a batch, predict a frame, or describe the model.
        rows: the batch, or the frame.
    """
    version = Version(**fields)
    shelf()["cores"] = task_cores
    before = {name: counted(name) for name in ("loads", "aligned", "told")}
    loaded(version)
    result: Any
    if request == "batch":
        result = _predict_rows(version, rows, {})
    elif request == "frame":
        result = as_column(_call(version, rows), version, len(rows))
    else:
        result = vars(_describe_model(version))
    count("told", time.process_time() - counted("told"))  # with the time to receive the request
    counts = {name: counted(name) - value for name, value in before.items()}
    counts["seconds"] = counts.pop("told")
    return result, counts


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the processes of versions that work for it."""
    return time.process_time() + counted("seconds")


def _predict_rows(
    version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    """Return the predictions, and the type and message of the error of each row that failed."""
    skipped: dict[int, tuple[str, str] | None] = {}
    for name, position, policy in version.nulls:
        column = batch.column(position)
        if column.null_count:
            failure = ("NullInput", f"{name} is null") if policy == "quarantine" else None
            for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
                skipped[row] = skipped.get(row) or failure
    failures = {row: failure for row, failure in skipped.items() if failure is not None}
    if not skipped:
        return _bisect(version, batch, inputs)
    rest = np.setdiff1d(np.arange(batch.num_rows), list(skipped))
    predictions, failed = _bisect(version, batch.take(pa.array(rest)), {})
    failures |= {int(rest[row]): failure for row, failure in failed.items()}
    places = np.full(batch.num_rows, -1)
    places[rest] = np.arange(len(rest))
    return predictions.take(pa.array(places, mask=places < 0)), failures


def _bisect(
    version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    pieces: list[pa.Array] = []
    failures = {}
    misshapen: Misshapen | None = None
    spans = [(0, batch.num_rows)] if batch.num_rows else []
    while spans:
        start, end = spans.pop()
        is_all = end - start == batch.num_rows
        piece = batch if is_all else batch.slice(start, end - start)
        try:
            pieces.append(_predict_batch(version, piece, inputs if is_all else {}))
        except _NO_ROWS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
            if end - start == 1:
                failures[start] = (type(error).__name__, _error_message(error))
                pieces.append(pa.nulls(1, _output_type(version.outputs)))
            else:
                if misshapen is None and isinstance(error, Misshapen):
                    misshapen = error
                middle = (start + end) // 2
                spans += [(middle, end), (start, middle)]
    if misshapen is not None and not failures:
        raise misshapen  # the model scores each row alone, but not several together
    if not pieces:
        return pa.nulls(0, _output_type(version.outputs)), failures
    return (pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)), failures


def _error_message(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a stranger's error may have no text
        text = "an error whose message cannot be read"
    return text[:_LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode()


def _predict_batch(version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]) -> pa.Array:
    """Return one version's predictions; versions with the same input share it through *inputs*."""
    mode = version.mode if version.proven else _proven_mode(version, batch)
    kind = (mode, version.features)
    if kind not in inputs or mode == "pyfunc":  # a stranger's code may change its frame
        make = _make_block if mode == "block" else _make_frame
        inputs[kind] = make(batch, version.features)
    return as_column(_call(version, inputs[kind]), version, batch.num_rows)


def _proven_mode(version: Version, batch: pa.RecordBatch) -> str:
    """Return `block` if it gives the same values as `frame` for the first rows, else `frame`."""
    modes: dict[str, str] = shelf().setdefault("modes", {})
    if version.mode != "block":
        return version.mode
    if version.key not in modes:
        rows = batch.slice(0, _ROWS_COMPARED)
        try:
            one, other = (
                as_column(_call(version, make(rows, version.features)), version, rows.num_rows)
                for make in (_make_block, _make_frame)
            )
        except _NO_ROWS_FAULT:
            raise
        except Exception:  # noqa: BLE001 - a stranger's code may raise anything
            return "frame"
        modes[version.key] = "block" if alike(one, other) else "frame"
    return modes[version.key]


def _call(version: Version, rows: Any) -> Any:
    model = loaded(version)
    params = {} if version.params is None else {"params": version.params}
    method = "predict" if version.mode == "pyfunc" else version.method
    return getattr(model, method)(rows, **params)


def _make_block(batch: pa.RecordBatch, features: Sequence[tuple[str | int, int]]) -> Any:
    """Return one read-only block with the columns side by side, as scikit-learn reads them.

    Nulls become NaN.
    """
    columns = [batch.column(position) for _, position in features]
    block = np.empty((batch.num_rows, len(columns)), columns[0].type.to_pandas_dtype(), order="F")
    for n, column in enumerate(columns):
        block[:, n] = column.to_numpy(zero_copy_only=False)
    block.flags.writeable = False
    return block


def _make_frame(batch: pa.RecordBatch, features: Sequence[tuple[str | int, int]]) -> Any:
    columns = [batch.column(position) for _, position in features]
    names = [name for name, _ in features]
    for n, (name, column) in enumerate(zip(names, columns, strict=True)):
        if pa.types.is_integer(column.type) and column.null_count:
            raise ValueError(f"the integer column {name!r} holds nulls")
        if pa.types.is_timestamp(column.type):
            columns[n] = _cast_times(name, column)
    places = [str(n) for n in range(len(names))]
    frame = pa.RecordBatch.from_arrays(columns, names=places).to_pandas()
    frame.columns = names  # the signature's names, which may be numbers
    return frame


def _cast_times(name: str | int, column: pa.Array) -> pa.Array:
    """Return times in UTC without a zone, in the nanoseconds of MLflow's datetime."""
    try:
        return column.cast(pa.timestamp(column.type.unit)).cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:
        reason = f"the column {name!r} holds a time that pandas cannot hold (1677 to 2262)"
        raise ValueError(reason) from None


def _output_type(outputs: pa.Schema) -> pa.DataType:
    return pa.struct(list(outputs)) if len(outputs) > 1 else outputs.field(0).type


def loaded(version: Version) -> Any:
    """Return the model of *version*; a worker process loads it once for all its tasks.

    Raises:
        ImportError, MemoryError, ModelFailed: the model cannot be loaded.
    """
    models: OrderedDict[Any, Any] = shelf().setdefault("models", OrderedDict())
    key = (version.key, version.mode == "pyfunc")
    if key not in models:
        try:
            models[key] = _load(version), version.size
        except _NO_ROWS_FAULT:
            raise
        except Exception as error:
            reason = f"it cannot be loaded: {type(error).__name__}: {_error_message(error)}"
            raise ModelFailed(reason) from error
        count("loads", 1)
        while len(models) > _MODELS_AT_ONCE and _total_size(models) > _BYTES_AT_ONCE:
            models.popitem(last=False)
        if (loads := int(counted("loads"))) & (loads - 1) == 0:  # not for each of a thousand
            _freeze()
    models.move_to_end(key)
    return models[key][0]


def _total_size(models: Mapping[Any, tuple[Any, int]]) -> int:
    return sum(size for _, size in models.values())


def _freeze() -> None:
    """Make a worker's garbage collector skip loaded objects: PySpark starts it after each task.

    With scikit-learn it skips 150,000 objects and saves 0.07 seconds; with MLflow 230,000 and 0.11.
    """
    from pyspark import TaskContext  # noqa: PLC0415 - every worker has it

    if TaskContext.get() is not None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


@dataclass(frozen=True, kw_only=True)
class Description:
    """The facts of a loaded scikit-learn model."""

    kind: str
    """The name of its class."""
    module: str
    """The module that defines the class of its last step."""
    features: tuple[str, ...] | None
    """The columns that it was fitted on, if it names them."""
    classes: Any
    """A classifier's `classes_`; None for other models."""
    methods: frozenset[str]
    """`predict_proba`, if it has this method."""


def describe(version: Version) -> Description:
    """Return the description of the scikit-learn model of *version*."""
    if version.program is None:
        return _describe_model(version)
    return Description(**_ask_process(version, ("model",)))


def _describe_model(version: Version) -> Description:
    estimator = loaded(version)
    final = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    names = getattr(estimator, "feature_names_in_", None)
    return Description(
        kind=type(estimator).__name__,
        module=type(final).__module__,
        features=None if names is None else tuple(names),
        classes=getattr(estimator, "classes_", None),
        methods=frozenset(name for name in ("predict_proba",) if hasattr(estimator, name)),
    )


def _load(version: Version) -> Any:
    folder = _folder(version.folder)
    if version.mode == "pyfunc":
        import mlflow  # noqa: PLC0415 - seconds of import that scikit-learn's models do not need

        model = mlflow.pyfunc.load_model(folder, suppress_warnings=True)
        _set_jobs(getattr(model, "_model_impl", None))
        return model
    # A block of numbers has no names; its columns are already in the model's order.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    if version.pickled is None:
        import mlflow.sklearn  # noqa: PLC0415 - see above

        estimator = mlflow.sklearn.load_model(folder)
    else:
        import cloudpickle  # noqa: PLC0415 - a requirement of the model, not of Spark

        with open(os.path.join(folder, version.pickled), "rb") as file:  # noqa: PTH118, PTH123
            estimator = cloudpickle.load(file)
    _set_jobs(estimator)
    return estimator


def _folder(folder: str) -> str:
    if os.path.isabs(folder):  # noqa: PTH117 - pathlib would be one more import in each worker
        return folder
    from pyspark import SparkFiles  # noqa: PLC0415

    return SparkFiles.get(folder)


def _set_jobs(model: Any) -> None:
    """Give a scikit-learn model as many jobs as the task has cores: Spark cannot see joblib's."""
    estimator = getattr(model, "sklearn_model", model)
    if not hasattr(estimator, "get_params"):
        return
    names = [name for name in estimator.get_params() if name.split("__")[-1] == "n_jobs"]
    estimator.set_params(**dict.fromkeys(names, cores()))


def cores() -> int:
    """Return the number of cores that a model can use: those of the task for which it predicts."""
    if "cores" in shelf():  # the worker sends it to a version's own process
        return int(shelf()["cores"])
    from pyspark import TaskContext  # noqa: PLC0415 - every worker has it

    task = TaskContext.get()
    return task.cpus() if task else 1
