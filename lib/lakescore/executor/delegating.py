"""Delegating: a version that brings its own code predicts in its own process.

A worker asks such a process by `ask_process`, and the process answers by `answer`.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from .bisecting import predict_rows
from .calling import predict_frame
from .isolating import ModelProcess, starter
from .keeping import count, counted, shelf
from .loading import MODELS_AT_ONCE, cores, describe_model, loaded, local_folder
from .version import Version

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    outcome: tuple[pa.Array, dict[int, tuple[str, str]]] = ask_process(sent, ("batch",), rows)
    return outcome


def ask_process(
    version: Version, request: tuple[Any, ...], batch: pa.RecordBatch | None = None
) -> Any:
    """Return the answer of the process of *version*, and add its counts to ours."""
    # Plain values: neither process can import the other's classes.
    fields = {**vars(version), "program": None, "folder": local_folder(version.folder)}
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
        while len(processes) > MODELS_AT_ONCE:
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
        result = predict_rows(version, rows, {})
    elif request == "frame":
        result = predict_frame(version, rows)
    else:
        result = vars(describe_model(version))
    count("told", time.process_time() - counted("told"))  # with the time to receive the request
    counts = {name: counted(name) - value for name, value in before.items()}
    counts["seconds"] = counts.pop("told")
    return result, counts


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the processes of versions that work for it."""
    return time.process_time() + counted("seconds")
