"""Workers: processes of this machine that run tasks if Spark does not.

They are forked from one process that has imported the libraries and loaded no model, so a new
one costs milliseconds. If a worker dies, the other workers go on, and its task is tried again.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import pyarrow as pa

from lakescore import executor

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")
_TRIES = 4
"""The number of tries of a task whose worker dies, as in Spark's local[*,4]."""
_PROGRAM = b"from lakescore import executor, workers; executor.start(connection, workers.answer)"
_COUNTS = ("aligned",)
"""The counts of a worker that the driver adds to its own."""


_pools: list[Pool] = []
"""The pool of this process, as soon as it has one."""


class TaskFailed(Exception):
    """A task raised an error; the text is the trace, whose last line names the error."""


class WorkerLost(TaskFailed):
    """The worker of a task died on each try."""


class Pool:
    """The workers of this process.

    Args:
        starter: forks the workers.
        modules: the installed modules that all workers import.
    """

    def __init__(self, starter: executor.Starter, modules: tuple[str, ...] = ()) -> None:
        self._starter, self._modules = starter, modules
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._is_stopped = False
        self.done = self.total = 0
        """The number of finished tasks of the current run, and of all its tasks."""

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of *function* in a worker; the worker's counts are added here.

        Raises:
            ImportError, MemoryError, ModelFailed, Misshapen: the function raised this error.
                ModelFailed also stands for any other error of the function, and for a worker that
                died on each of four tries.
        """
        pickled = pickle.dumps(partial(function, *args, **kwargs))
        worker, (result, counts) = self._try_workers(
            self._take_worker(), partial(_Worker.call, pickled=pickled)
        )
        self._idle.insert(0, worker)  # the next call finds its loaded models
        for name, amount in counts.items():
            executor.count(name, amount)
        return cast("T", result)

    def warm(self, *modules: str) -> None:
        """Let the first worker import the installed *modules*; nothing waits for the imports."""
        worker = self._take_worker()
        self._idle.insert(0, worker)
        worker.process.tell(("import", modules))

    def run(  # noqa: C901 - all the ways in which a thread can end
        self, make_task: Callable[[], executor.Task], tasks: int, at_once: int
    ) -> list[pa.RecordBatch]:
        """Return the batches of all tasks, in no order.

        Args:
            make_task: makes the function that a worker calls with the number of a task, as Spark
                does in `mapInArrow`. It is pickled by reference.
            tasks: the number of tasks.
            at_once: the number of tasks that run at the same time.

        Raises:
            TaskFailed: a task raised an error; no further tasks start.
            WorkerLost: the worker of a task died on each of four tries.
        """
        plan = pickle.dumps(make_task)
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(tasks):
            waiting.put(number)
        self.done, self.total, self._is_stopped = 0, tasks, False
        results: list[pa.RecordBatch] = []
        failures: list[BaseException] = []
        busy: dict[int, _Worker] = {}

        def work(thread: int) -> None:
            try:
                busy[thread] = self._take_worker()
                while not failures:
                    number = waiting.get_nowait()
                    ask = partial(_Worker.run, plan=plan, number=number)
                    busy[thread], batches = self._try_workers(busy[thread], ask)
                    results.extend(batches)
                    self.done += 1
                self._idle.append(busy.pop(thread))
            except queue.Empty:
                self._idle.append(busy.pop(thread))
            except executor.ModelFailed as error:
                failures.append(WorkerLost(str(error)))
            except BaseException as error:  # noqa: BLE001 - raised below
                failures.append(error)

        with ThreadPoolExecutor(min(tasks, at_once)) as threads:
            try:
                for ended in [threads.submit(work, n) for n in range(min(tasks, at_once))]:
                    ended.result()
            except BaseException as error:  # such as Ctrl-C
                failures.append(error)
                self._is_stopped = True
                for worker in list(busy.values()):
                    worker.process.kill()
                raise
        if failures:
            raise failures[0]
        return results

    def close(self) -> None:
        """End the idle workers."""
        while self._idle:
            self._idle.pop().process.close()

    def _try_workers(self, worker: _Worker, ask: Callable[[_Worker], T]) -> tuple[_Worker, T]:
        """Return the answer to *ask*, and the worker that gave it: a new one if *worker* died."""
        for attempt in range(1, _TRIES + 1):
            try:
                return worker, ask(worker)
            except Exception as error:
                if not worker.process.is_closed:  # it answered
                    self._idle.append(worker)
                    raise
                if attempt == _TRIES or self._is_stopped:
                    reason = str(error).replace("the process of the model", "a worker")
                    raise executor.ModelFailed(f"{reason}, {_TRIES} times") from error
                worker = self._start_worker()
        raise AssertionError("a try ends, or its worker dies")

    def _take_worker(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop(0)
                if not worker.process.is_closed:
                    return worker
        return self._start_worker()

    def _start_worker(self) -> _Worker:
        return _Worker(executor.ModelProcess(self._starter, self._modules))


class _Worker:
    def __init__(self, process: executor.ModelProcess) -> None:
        self.process = process
        self._plan: bytes | None = None

    def call(self, pickled: bytes) -> tuple[Any, dict[str, float]]:
        self._plan = None  # a call makes the worker drop its plan
        reply: tuple[Any, dict[str, float]] = self.process.ask(("call", pickled, dict(os.environ)))
        return reply

    def run(self, plan: bytes, number: int) -> list[pa.RecordBatch]:
        if self._plan is not plan:
            self.process.ask(("plan", plan, dict(os.environ)))
            self._plan = plan
        batches, trace = self.process.ask(("run", number))
        if trace is not None:
            raise TaskFailed(trace)
        return _read_stream(batches)


def pool() -> Pool:
    """Return the workers of this process.

    They are forked from a fork of this process if it has no other threads and has used no model;
    otherwise a fork could hold locks forever, so they are forked from a new process. macOS always
    needs a new process, because its libraries do not support a fork.
    """
    if not _pools:
        alone = threading.active_count() == 1 and sys.platform == "linux"
        young = alone and not executor.is_used()
        if young:
            _pools.append(Pool(executor.Starter.split(answer)))
        else:
            _pools.append(Pool(executor.Starter.run(_PROGRAM), ("mlflow.pyfunc",)))
    return _pools[0]


def _read_stream(stream: bytes) -> list[pa.RecordBatch]:
    if not stream:
        return []
    with pa.ipc.open_stream(stream) as reader:
        return list(reader)


def answer(request: str, value: Any, environment: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - depends on the request
    """Answer a request of the driver in a worker.

    Args:
        request: `import` modules, `call` a function, take a `plan`, or `run` a task of the plan.
        value: the names of the modules, the pickled function or plan, or the number of the task.
        environment: the current environment of the driver; it may have changed since the fork of
            the worker.
    """
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    if request == "import":
        for name in value:
            with suppress(ImportError):
                importlib.import_module(name)
        return None
    if request == "call":
        executor.shelf().pop("plan", None)
        before = {name: executor.counted(name) for name in _COUNTS}
        started = executor.cpu_seconds()
        result = pickle.loads(value)()  # noqa: S301 - the driver made it
        counts = {name: executor.counted(name) - count for name, count in before.items()}
        return result, {**counts, "seconds": executor.cpu_seconds() - started}
    if request == "plan":
        executor.shelf()["plan"] = pickle.loads(value)  # noqa: S301 - the driver made it
        return None
    return _run_task(executor.shelf()["plan"](), value)


def _run_task(task: executor.Task, number: int) -> tuple[bytes, str | None]:
    """Return the batches of *task* for *number* as an Arrow stream, or the trace of its error."""
    try:
        numbers = pa.RecordBatch.from_pydict({"id": [number]}, pa.schema({"id": pa.int64()}))
        batches = list(task(iter([numbers])))
        if not batches:
            return b"", None
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, batches[0].schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
        return out.getvalue().to_pybytes(), None
    except BaseException:  # noqa: BLE001 - a stranger's code may raise anything, or exit
        return b"", traceback.format_exc()
