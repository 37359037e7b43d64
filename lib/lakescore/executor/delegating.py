"""Delegating: a version that is large or brings its own code predicts in another process.

A worker asks such a process by `ask_process`, and the process answers by `answer`.
"""

from __future__ import annotations

import os
import platform
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from .bisecting import predict_rows
from .calling import predict_frame
from .holding import Holder, hold
from .isolating import ModelProcess, start, starter
from .keeping import count, counted, shelf
from .launching import ModelFailed
from .loading import MODELS_AT_ONCE, cores, describe_model, loaded, local_folder
from .memory import proportional_bytes
from .version import Version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from .isolating import Forks

_MODULES = ("mlflow.pyfunc",)
"""The modules that MLflow's PyFuncModel needs, imported once for all versions."""


def predict_in_process(
    version: Version, batch: pa.RecordBatch
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    """Do what `predict_rows` does in the process of *version*, which gets only its features."""
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
    column, failures = ask_process(sent, ("batch",), rows)
    return _read_column(column), failures


def predict_frame_in_process(version: Version, frame: Any) -> pa.Array:
    """Do what `predict_frame` does in the process of *version*, whose Python is like ours."""
    return _read_column(ask_process(version, ("frame", frame)))


def ask_process(
    version: Version, request: tuple[Any, ...], batch: pa.RecordBatch | None = None
) -> Any:
    """Return the answer of the process of *version*, and add its counts to ours.

    If the process ends, another one is asked once more: the system may have killed it by chance.
    """
    fields = version.fields() | {"program": None, "folder": local_folder(version.folder)}
    facts = (fields, cores())
    try:
        reply, counts = _process(version, facts).ask((*facts, *request), batch)
    except ModelFailed as error:
        if not error.process_ended:
            raise
        reply, counts = _process(version, facts).ask((*facts, *request), batch)
    for name, amount in counts.items():
        count(name, amount)
    return reply


def _process(version: Version, facts: tuple[Any, ...]) -> ModelProcess:
    """Return the process of *version*, which a new holder loads by these *facts*."""
    processes: OrderedDict[str, ModelProcess] = shelf().setdefault("processes", OrderedDict())
    owner = shelf().setdefault("owner", os.getpid())
    if owner != os.getpid():  # a fork must not share the sockets of its parent process
        processes = shelf()["processes"] = OrderedDict()
        shelf()["owner"] = os.getpid()
    key = _process_key(version)
    if key in processes and processes[key].is_closed:
        del processes[key]
    if key not in processes:
        assert version.program is not None  # noqa: S101 - narrows for mypy
        environment = version.environment and local_folder(version.environment)
        if version.meeting:
            meeting = f"{version.meeting} {key}"
            forks: Forks = Holder(meeting, version.program, facts, environment)
        else:
            forks = starter(version.program, environment)
        processes[key] = ModelProcess(forks, _MODULES if version.mode == "pyfunc" else ())
        while len(processes) > MODELS_AT_ONCE:
            processes.popitem(last=False)[1].close()
    processes.move_to_end(key)
    return processes[key]


def _process_key(version: Version) -> str:
    if not version.meeting:
        return version.key
    return f"{version.key} by {'MLflow' if version.mode == 'pyfunc' else 'its library'}"


def end_process(version: Version) -> None:
    """End the process of *version*, if this process has started one."""
    process = shelf().get("processes", {}).pop(_process_key(version), None)
    if process is not None:
        process.close()


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
    version = Version.of_fields(fields)
    _load(fields, task_cores)
    result: Any
    if request == "batch":
        column, failures = predict_rows(version, rows, {})
        result = _write_column(column), failures
    elif request == "frame":
        result = _write_column(predict_frame(version, rows))
    else:
        result = vars(describe_model(version))
    return result, _untold()


def _load(fields: Mapping[str, Any], task_cores: int) -> None:
    shelf()["cores"] = task_cores
    loaded(Version.of_fields(fields))


def _write_column(column: pa.Array) -> bytes:
    """Return *column* in Arrow's stream format, which all versions of pyarrow read."""
    batch = pa.RecordBatch.from_arrays([column], names=["p"])
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(out.getvalue().to_pybytes())


def _read_column(stream: bytes) -> pa.Array:
    return pa.ipc.open_stream(pa.py_buffer(stream)).read_next_batch().column(0)


def _untold() -> dict[str, float]:
    """Return the counts of this process that no answer has told so far."""
    counts = {name: counted(name) for name in ("loads", "aligned")}
    counts["seconds"] = time.process_time()  # with the time to receive requests
    told: dict[str, float] = shelf().get("told", {})
    shelf()["told"] = counts
    return {name: count - told.get(name, 0) for name, count in counts.items()}


def run_starter(connection: Connection) -> None:
    """Run the starter of the processes of versions that bring their own code."""
    start(connection, answer)


def run_holder(connection: Connection) -> None:
    """Run the holder of a large version."""
    hold(connection, _load, answer)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the processes of versions that work for it."""
    return time.process_time() + counted("seconds")


def used_memory() -> dict[str, int]:
    """Return the bytes of memory of this process and of the processes that predict for it.

    Pages that several processes share are divided among them. The keys are the machine's name and
    the ids of processes. The result is empty on a system that does not tell.
    """
    pids = {os.getpid()}
    if shelf().get("owner") == os.getpid():
        for process in shelf()["processes"].values():
            pids |= process.pids
    sizes = {f"{platform.node()}:{pid}": proportional_bytes(pid) for pid in pids}
    return {name: size for name, size in sizes.items() if size is not None}
