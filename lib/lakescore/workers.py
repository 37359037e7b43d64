"""Workers: processes of this machine that run tasks where no Spark does.

They are forked from one process that has imported the libraries and loaded no model, so a new one
costs milliseconds. A worker that dies takes no other one with it: its task is tried again.
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
"""How often a task is tried whose worker dies, as in Spark's local[*,4]."""
_COUNTS = ("aligned",)
"""What a worker counts that the driver counts too."""


_pools: list[Pool] = []
"""That of this process, once there is one."""


class TaskFailed(Exception):
    """A task raised an error; its text is the trace, whose last line names the error."""


class WorkerLost(TaskFailed):
    """Workers died, each time that the task was tried."""


class Pool:
    """The workers of this process.

    Args:
        starter: what forks them.
    """

    def __init__(self, starter: executor.Starter) -> None:
        self._starter = starter
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._is_stopped = False
        self.done = self.total = 0
        """Tasks of the running ones that are done, and all of them."""

    def call(self, function: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Return what *function* returns in a worker; what that counts is counted here.

        Raises:
            ImportError, MemoryError, ModelFailed, Misshapen: it raised this, or another error; or
                the worker died on each of four tries (ModelFailed).
        """
        asked = pickle.dumps(partial(function, *given, **named))
        worker, (answered, counts) = self._tried(self._taken(), partial(_Worker.call, asked=asked))
        self._idle.insert(0, worker)  # what it has loaded is at hand for the next
        for name, more in counts.items():
            executor.count(name, more)
        return cast("T", answered)

    def warm(self, *modules: str) -> None:
        """Let the first worker import *modules*, those that there are; nobody waits for it."""
        worker = self._taken()
        self._idle.insert(0, worker)
        worker.process.tell(("import", modules))

    def run(  # noqa: C901 - each way in which a thread may end
        self, made: Callable[[], executor.Task], tasks: int, at_once: int
    ) -> list[pa.RecordBatch]:
        """Return what tasks give, in no order.

        Args:
            made: makes the function that a worker calls with the number of a task, as Spark does by
                `mapInArrow`; what it is made of is pickled by reference.
            tasks: how many there are.
            at_once: how many run side by side.

        Raises:
            TaskFailed: one raised an error; the others are given up.
            WorkerLost: the worker of one died, on each of four tries.
        """
        plan = pickle.dumps(made)
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(tasks):
            waiting.put(number)
        self.done, self.total, self._is_stopped = 0, tasks, False
        given: list[pa.RecordBatch] = []
        failures: list[BaseException] = []
        busy: dict[int, _Worker] = {}

        def work(thread: int) -> None:
            try:
                busy[thread] = self._taken()
                while not failures:
                    number = waiting.get_nowait()
                    ask = partial(_Worker.run, plan=plan, number=number)
                    busy[thread], batches = self._tried(busy[thread], ask)
                    given.extend(batches)
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
            except BaseException as error:  # a person's Ctrl-C
                failures.append(error)
                self._is_stopped = True
                for worker in list(busy.values()):
                    worker.process.kill()
                raise
        if failures:
            raise failures[0]
        return given

    def close(self) -> None:
        """End the idle workers."""
        while self._idle:
            self._idle.pop().process.close()

    def _tried(self, worker: _Worker, ask: Callable[[_Worker], T]) -> tuple[_Worker, T]:
        """Return what a worker answers, another one where it died, and which one it was."""
        for tried in range(1, _TRIES + 1):
            try:
                return worker, ask(worker)
            except Exception as error:
                if not worker.process.is_closed:  # it answered
                    self._idle.append(worker)
                    raise
                if tried == _TRIES or self._is_stopped:
                    reason = str(error).replace("the process of the model", "a worker")
                    raise executor.ModelFailed(f"{reason}, {_TRIES} times") from error
                worker = self._new()
        raise AssertionError("what is tried ends, or its worker dies")

    def _taken(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop(0)
                if not worker.process.is_closed:
                    return worker
        return self._new()

    def _new(self) -> _Worker:
        return _Worker(executor.ModelProcess(self._starter))


class _Worker:
    def __init__(self, process: executor.ModelProcess) -> None:
        self.process = process
        self._plan: bytes | None = None

    def call(self, asked: bytes) -> tuple[Any, dict[str, float]]:
        self._plan = None  # it is forgotten meanwhile
        answered: tuple[Any, dict[str, float]] = self.process.ask(("call", asked, dict(os.environ)))
        return answered

    def run(self, plan: bytes, number: int) -> list[pa.RecordBatch]:
        if self._plan is not plan:
            self.process.ask(("plan", plan, dict(os.environ)))
            self._plan = plan
        batches, trace = self.process.ask(("run", number))
        if trace is not None:
            raise TaskFailed(trace)
        return _opened(batches)


def pool() -> Pool:
    """Return the workers of this process.

    They are forked from a fork of it as long as it is young, and from a new process else: of one
    that has threads, or has used a model, locks would be held forever in a fork. Libraries of macOS
    do not bear a fork at all.
    """
    if not _pools:
        alone = threading.active_count() == 1 and sys.platform == "linux"
        young = alone and not executor.is_used()
        program = partial(executor.start, answer=answer)
        starter = (
            executor.Starter.split(answer) if young else executor.Starter.run(pickle.dumps(program))
        )
        _pools.append(Pool(starter))
    return _pools[0]


def _opened(stream: bytes) -> list[pa.RecordBatch]:
    if not stream:
        return []
    with pa.ipc.open_stream(stream) as reader:
        return list(reader)


def answer(what: str, given: Any, environment: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - whatever was asked for
    """Do in a worker what its driver asks for.

    Args:
        what: `import` modules, `call` a function, take a `plan`, or `run` a task of it.
        given: for it.
        environment: the driver's, as it is now: it may be another than when the worker was forked.
    """
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    if what == "import":
        for name in given:
            with suppress(ImportError):
                importlib.import_module(name)
        return None
    if what == "call":
        executor.shelf().pop("plan", None)
        before = {name: executor.counted(name) for name in _COUNTS}
        started = executor.cpu_seconds()
        found = pickle.loads(given)()  # noqa: S301 - the driver's own
        counts = {name: executor.counted(name) - value for name, value in before.items()}
        return found, {**counts, "seconds": executor.cpu_seconds() - started}
    if what == "plan":
        executor.shelf()["plan"] = pickle.loads(given)  # noqa: S301 - likewise
        return None
    return _ran(executor.shelf()["plan"](), given)


def _ran(task: executor.Task, number: int) -> tuple[bytes, str | None]:
    """Return what *task* gives for its *number*, as an Arrow stream, or the trace of its error."""
    try:
        numbers = pa.RecordBatch.from_pydict({"id": [number]}, pa.schema({"id": pa.int64()}))
        given = list(task(iter([numbers])))
        if not given:
            return b"", None
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, given[0].schema) as stream:
            for batch in given:
                stream.write_batch(batch)
        return out.getvalue().to_pybytes(), None
    except BaseException:  # noqa: BLE001 - a stranger's code may raise anything, or exit
        return b"", traceback.format_exc()
