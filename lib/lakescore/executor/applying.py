"""Applying: versions to a batch of rows, or to the rest of it where a row cannot be scored."""

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
"""A worker process keeps so many models, and more whose files have so many bytes in all; the one
used longest ago goes first."""
_ROWS_ALIKE = 50
"""On so many rows a worker sees whether a block will do."""
_NO_ROWS_FAULT = (ImportError, MemoryError)
"""What no row causes: it would hit them all, so it is not looked for row by row."""
_LONGEST_MESSAGE = 500
WHY = pa.struct([("version", pa.string()), ("type", pa.string()), ("message", pa.string())])
"""Why a row could not be scored, and by which version."""
_NO_VERSION = ("NoVersion", "the row's segment has no model")


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
    names: tuple[Any, ...] | None = None
    """How the signature names the outputs, if it does: what the model gives by name is taken so."""
    size: int = 0
    """Bytes of its files."""
    proven: bool = True
    """Whether the mode `block` was seen to give what `frame` does; else workers look themselves."""
    program: bytes | None = field(default=None, repr=False)
    """What a process of the version's own runs; without, it needs none."""


def attempt(
    versions: Sequence[Version | Family], batch: pa.RecordBatch
) -> tuple[list[pa.Array], pa.Array]:
    """Return the predictions of *versions*, with null for rows that one cannot score, and why.

    A batch with such a row is halved until it is found: of n rows that hold k of them, some
    2 k log n calls fail.

    Returns:
        The predictions of each of *versions*, and a list of `WHY` by row, null where all could.

    Raises:
        ImportError, MemoryError: no row causes these.
        Misshapen: what a version gives for several rows is not one prediction a row.
        ModelFailed: the process of a version ended, or cannot load it.
        SegmentUnknown: a row is of a segment that a family does not know.
    """
    inputs: dict[Any, Any] = {}
    predictions: list[pa.Array] = []
    reasons: dict[int, list[dict[str, str]]] = {}
    for version in versions:
        if isinstance(version, Family):
            found, failures = _by_segment(version, batch)
        else:
            found, failures = _by_one(version, batch, inputs)
        predictions.append(found)
        for row, why in failures.items():
            reasons.setdefault(row, []).append(dict(zip(WHY.names, why, strict=True)))
    if not reasons:
        return predictions, pa.nulls(batch.num_rows, pa.list_(WHY))
    return predictions, pa.array(map(reasons.get, range(batch.num_rows)), pa.list_(WHY))


_Predicted = tuple[pa.Array, dict[int, tuple[str, str, str]]]
"""Predictions, and the fields of `WHY` for each row that failed."""


def _by_one(version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]) -> _Predicted:
    if version.program is not None:
        found, failures = _elsewhere(version, batch)
    else:
        loaded(version)  # that a model cannot be loaded is no row's fault
        found, failures = _asked(version, batch, inputs)
    return found, {row: (version.uri, *why) for row, why in failures.items()}


def _by_segment(family: Family, batch: pa.RecordBatch) -> _Predicted:
    """Return what the version of each row's segment gives, the rows in their order."""
    pieces: list[pa.Array] = []
    places = np.empty(batch.num_rows, np.int64)
    failures: dict[int, tuple[str, str, str]] = {}
    done = 0
    for version, own, rows in family.parts(batch):
        places[own] = np.arange(done, done + len(own))
        done += len(own)
        if version is None:
            pieces.append(pa.nulls(len(own), _kind(family.members[0].outputs)))
            failures |= dict.fromkeys(own.tolist(), (str(family.uri), *_NO_VERSION))
            continue
        try:
            found, failed = _by_one(version, rows, {})
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}, for {version.uri}", name=error.name) from error
        pieces.append(found)
        for row, (uri, kind, message) in failed.items():
            speaker = (uri, kind, message)
            if family.uri is not None:
                speaker = (family.uri, kind, f"{uri}: {message}")
            failures[int(own[row])] = speaker
    if not pieces:
        return pa.nulls(0, _kind(family.members[0].outputs)), {}
    return pa.concat_arrays(pieces).take(pa.array(places)), failures


def predicted(version: Version, frame: Any) -> pa.Array:
    """Return the predictions for a pandas *frame*, whose columns are the features by name.

    Raises:
        Misshapen: they are not what the signature says.
        Exception: any that the model raises.
    """
    if version.program is not None:
        return _told(version, ("frame", frame))
    return as_column(_called(version, frame), version, len(frame))


def _elsewhere(
    version: Version, batch: pa.RecordBatch
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    """Return what `_asked` does in the process of *version*, which gets its features alone."""
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
    found: tuple[pa.Array, dict[int, tuple[str, str]]] = _told(sent, ("batch",), rows)
    return found


def _told(version: Version, request: tuple[Any, ...], batch: pa.RecordBatch | None = None) -> Any:
    """Return what the process of *version* answers, and count what it counted."""
    # Plain values: neither process can import the other's classes.
    facts = {**vars(version), "program": None, "folder": _folder(version.folder)}
    answered, counts = _process(version).ask((facts, cores(), *request), batch)
    for name, more in counts.items():
        count(name, more)
    return answered


def _process(version: Version) -> ModelProcess:
    processes: OrderedDict[str, ModelProcess] = shelf().setdefault("processes", OrderedDict())
    owner = shelf().setdefault("owner", os.getpid())
    if owner != os.getpid():  # a fork must not share the sockets of the process that it came from
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
    facts: Mapping[str, Any],
    task_cores: int,
    what: Literal["batch", "frame", "model"],
    given: Any = None,
) -> tuple[Any, dict[str, float]]:
    """Do in a version's own process what its worker asks for; return it, and what it counted.

    Args:
        facts: the fields of a `Version`.
        task_cores: how many cores the model may use.
        what: predict a batch, predict a frame, or describe the model.
        given: the batch, or the frame.
    """
    version = Version(**facts)
    shelf()["cores"] = task_cores
    before = {name: counted(name) for name in ("loads", "aligned", "told")}
    loaded(version)
    done: Any
    if what == "batch":
        done = _asked(version, given, {})
    elif what == "frame":
        done = as_column(_called(version, given), version, len(given))
    else:
        done = vars(_described(version))
    count("told", time.process_time() - counted("told"))  # what it took to receive, too
    counts = {name: counted(name) - value for name, value in before.items()}
    counts["seconds"] = counts.pop("told")
    return done, counts


def cpu_seconds() -> float:
    """Return the CPU seconds that this process has taken, and those of versions for its sake."""
    return time.process_time() + counted("seconds")


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


def _predicted(version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]) -> pa.Array:
    """Return one version's predictions; versions that eat the same share the *inputs* made."""
    mode = version.mode if version.proven else _seen(version, batch)
    kind = (mode, version.features)
    if kind not in inputs or mode == "pyfunc":  # a stranger's code may change its frame
        make = _block if mode == "block" else _frame
        inputs[kind] = make(batch, version.features)
    return as_column(_called(version, inputs[kind]), version, batch.num_rows)


def _seen(version: Version, batch: pa.RecordBatch) -> str:
    """Return `block` where that gives what `frame` does of the first rows, and else `frame`."""
    modes: dict[str, str] = shelf().setdefault("modes", {})
    if version.mode != "block":
        return version.mode
    if version.key not in modes:
        rows = batch.slice(0, _ROWS_ALIKE)
        try:
            one, other = (
                as_column(_called(version, make(rows, version.features)), version, rows.num_rows)
                for make in (_block, _frame)
            )
        except _NO_ROWS_FAULT:
            raise
        except Exception:  # noqa: BLE001 - a stranger's code may raise anything
            return "frame"
        modes[version.key] = "block" if alike(one, other) else "frame"
    return modes[version.key]


def _called(version: Version, given: Any) -> Any:
    model = loaded(version)
    params = {} if version.params is None else {"params": version.params}
    method = "predict" if version.mode == "pyfunc" else version.method
    return getattr(model, method)(given, **params)


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


def _kind(outputs: pa.Schema) -> pa.DataType:
    return pa.struct(list(outputs)) if len(outputs) > 1 else outputs.field(0).type


def loaded(version: Version) -> Any:
    """Return the model of *version*, loaded once a worker process, whatever its number of tasks.

    Raises:
        ImportError, MemoryError, ModelFailed: it cannot be loaded.
    """
    models: OrderedDict[Any, Any] = shelf().setdefault("models", OrderedDict())
    key = (version.key, version.mode == "pyfunc")
    if key not in models:
        try:
            models[key] = _load(version), version.size
        except _NO_ROWS_FAULT:
            raise
        except Exception as error:
            reason = f"it cannot be loaded: {type(error).__name__}: {_message(error)}"
            raise ModelFailed(reason) from error
        count("loads", 1)
        while len(models) > _MODELS_AT_ONCE and _bytes_of(models) > _BYTES_AT_ONCE:
            models.popitem(last=False)
        if (loads := int(counted("loads"))) & (loads - 1) == 0:  # not of each of a thousand
            _freeze()
    models.move_to_end(key)
    return models[key][0]


def _bytes_of(models: Mapping[Any, tuple[Any, int]]) -> int:
    return sum(size for _, size in models.values())


def _freeze() -> None:
    """Let a worker's collector pass over what is loaded: PySpark starts it after each task.

    With scikit-learn that is 150,000 objects and 0.07 seconds, with MLflow 230,000 and 0.11.
    """
    from pyspark import TaskContext  # noqa: PLC0415 - at hand in every worker

    if TaskContext.get() is not None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of a scikit-learn model once it is loaded."""

    kind: str
    """The name of its class."""
    module: str
    """Where the class of its last step is defined."""
    features: tuple[str, ...] | None
    """The columns that it was fitted on, if it knows."""
    classes: Any
    """A classifier's `classes_`; none of others."""
    methods: frozenset[str]
    """Those of predict_proba that it has."""


def describe(version: Version) -> Description:
    """Return what is known of the scikit-learn model of *version*."""
    if version.program is None:
        return _described(version)
    return Description(**_told(version, ("model",)))


def _described(version: Version) -> Description:
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
    names = [name for name in estimator.get_params() if name.split("__")[-1] == "n_jobs"]
    estimator.set_params(**dict.fromkeys(names, cores()))


def cores() -> int:
    """Return how many cores a model may use: those of the task for which it predicts."""
    if "cores" in shelf():  # a process of a version's own is told
        return int(shelf()["cores"])
    from pyspark import TaskContext  # noqa: PLC0415 - at hand in every worker

    task = TaskContext.get()
    return task.cpus() if task else 1
