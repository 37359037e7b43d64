"""Isolating: a version that brings its own code is applied in its own process.

Modules, `sys.path`, the environment, the working folder, random state and library settings belong
to a process. So no version can see those of another version. A worker (or the driver) starts one
clean process that loads no model, and forks it once for each version. So the libraries are imported
only once. Requests and answers go through sockets. A process ends as soon as the other end of its
socket closes. If Spark does not run, the workers of this machine are such processes too.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from .fitting import Misshapen, Truncated
from .keeping import forget, shelf
from .launching import ModelFailed, launch
from .memory import without_collector

if TYPE_CHECKING:
    from collections.abc import Callable

_RAISED_AGAIN: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (ImportError, MemoryError, Misshapen, ModelFailed, Truncated)
}
"""Errors that keep their type, because the caller decides by it."""


class Forks(Protocol):
    """A process that forks itself on request."""

    pid: int | None
    """Its id, as soon as it is known."""

    def fork(self, modules: tuple[str, ...] = ()) -> tuple[Connection, int]:
        """Return the connection to a new process, and its id.

        Args:
            modules: installed modules to import once for this process and all later ones.
        """

    def ending(self, pid: int) -> str:
        """Return how the process *pid* ended."""


class ModelProcess:
    """A process that applies one version and does nothing else, or a worker of this machine.

    Requests and answers are plain values and bytes, since the other Python can be another version.

    Args:
        starter: forks the process.
        modules: the installed modules that it imports, if they are there.
    """

    def __init__(self, starter: Forks, modules: tuple[str, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._starter = starter
        self._connection, self.pid = starter.fork(modules)
        self._unread = 0

    def ask(self, request: tuple[Any, ...], batch: pa.RecordBatch | None = None) -> Any:
        """Return the process's answer to *request*, which can come with a *batch* of rows.

        Raises:
            ImportError, MemoryError, Misshapen, ModelFailed: the answer is an error, or the
                process ended.
        """
        with self._lock:
            try:
                schema = None if batch is None else batch.schema.serialize().to_pybytes()
                self._connection.send((*request, schema))
                if batch is not None:
                    self._connection.send_bytes(batch.serialize())
                while self._unread:
                    self._connection.recv()
                    self._unread -= 1
                kind, answer = self._connection.recv()
            except (EOFError, ConnectionError) as error:
                self.close()
                failure = ModelFailed(f"the process of the model {self._starter.ending(self.pid)}")
                failure.process_ended = True
                raise failure from error
            except BaseException:
                self.close()  # the next request would take the unread answer for its own
                raise
        if kind == "error":
            kind, text, module = answer
            if module is not None:
                raise ModuleNotFoundError(text, name=module)
            raise _RAISED_AGAIN.get(kind, lambda text: ModelFailed(f"{kind}: {text}"))(text)
        return answer

    def tell(self, request: tuple[Any, ...]) -> None:
        """Send a *request* and ignore its answer; the next request waits for that answer."""
        with self._lock, suppress(OSError):  # the next `ask` reports that the process ended
            self._connection.send((*request, None))
            self._unread += 1

    def kill(self) -> None:
        """End the process at once; a caller that waits for its answer gets an error."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    @property
    def pids(self) -> set[int]:
        """The ids of this process and of the process that it was forked from."""
        return {self.pid} if self._starter.pid is None else {self.pid, self._starter.pid}

    @property
    def is_closed(self) -> bool:
        """Whether the process takes no more requests."""
        return self._connection.closed

    def close(self) -> None:
        """End the process."""
        self._connection.close()


class Starter:
    """The process that is forked for each version, or for each worker of this machine.

    Args:
        connection: the connection to that process.
        pid: the id of that process.
        wait: waits for the end of the process, and returns its exit code.
    """

    def __init__(self, connection: Connection, pid: int, wait: Callable[[], int]) -> None:
        self.pid: int | None = pid
        self._lock = threading.Lock()
        self._connection, self._wait = connection, cache(wait)

    @classmethod
    def run(cls, program: bytes, environment: str = "") -> Starter:
        """Start a new process of Python as `launch` does, and return its starter."""
        connection, process = launch(program, environment)
        return cls(connection, process.pid, process.wait)

    @classmethod
    def split(cls, answer: Callable[..., Any]) -> Starter:
        """Fork this process with all its imported modules, and return the fork's starter.

        Only for a process that has not loaded a model: the fork would hold the locks of its
        libraries' threads, such as those of OpenMP, forever.
        """
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # a collector would touch the imported objects and so copy them all
        if not (pid := os.fork()):
            try:
                ours.close()
                _detach()
                _serve(Connection(theirs.detach()), answer)
            finally:
                os._exit(1)
        gc.unfreeze()
        theirs.close()
        return cls(
            Connection(ours.detach()),
            pid,
            lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]),
        )

    def fork(self, modules: tuple[str, ...] = ()) -> tuple[Connection, int]:
        """Return the connection to a new process, and its id."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                self._connection.send(("fork", modules, dict(os.environ), os.getcwd()))  # noqa: PTH109
                send_handle(self._connection, theirs.fileno(), 0)
                pid: int = self._connection.recv()
            except (EOFError, ConnectionError) as error:
                ours.close()
                raise ModelFailed(
                    f"no process could be started: exit code {self._wait()}"
                ) from error
        return Connection(ours.detach()), pid

    def ending(self, pid: int) -> str:
        """Return how the process *pid* ended."""
        with self._lock:
            try:
                self._connection.send(("ending", pid))
                code: int = self._connection.recv()
            except (EOFError, ConnectionError):
                return "ended with its starter"
        return describe_ending(code)


def describe_ending(code: int) -> str:
    """Return how a process ended whose exit code, or negative signal, is *code*."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def starter(program: bytes, environment: str) -> Starter:
    """Return the starter of this process for an *environment*; a fork of it gets another one."""
    owner, starters = shelf().get("starters", (None, {}))
    if owner != os.getpid():
        shelf()["starters"] = os.getpid(), (starters := {})
    if environment not in starters:
        starters[environment] = Starter.run(program, environment)
    known: Starter = starters[environment]
    return known


def _detach() -> None:
    """Detach this process from its parent process, except for the standard error."""
    os.setsid()  # Ctrl-C is for the driver; this process ends with it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    with open(os.devnull, "rb") as empty:  # noqa: PTH123
        os.dup2(empty.fileno(), 0)
    os.dup2(2, 1)  # a model must not print to a worker's standard output
    forget()


def start(connection: Connection, answer: Callable[..., Any]) -> None:
    """Run a starter in a new process of Python until the other end of *connection* is closed."""
    _serve(connection, answer)


def _serve(connection: Connection, answer: Callable[..., Any]) -> None:
    """Fork this process for each request, until the other end of *connection* is closed."""
    endings: dict[int, int] = {}
    with suppress(EOFError, ConnectionError):
        while True:
            request = connection.recv()
            if request[0] == "fork":
                handle = recv_handle(connection)
                _import(request[1])
                if not (pid := os.fork()):
                    try:
                        connection.close()
                        run_process(handle, answer, *request[2:])
                    except BaseException:  # noqa: BLE001 - the process ends
                        traceback.print_exc()
                    finally:
                        os._exit(1)
                os.close(handle)
                connection.send(pid)
            else:
                while request[1] not in endings:
                    pid, status = os.waitpid(-1, 0)
                    endings[pid] = os.waitstatus_to_exitcode(status)
                connection.send(endings.pop(request[1]))
            reap(endings)


def _import(modules: tuple[str, ...]) -> None:
    """Import *modules* for all forks that follow."""
    if all(name in sys.modules for name in modules):
        return
    with without_collector():
        for name in modules:
            with suppress(Exception):  # a fork that needs it raises the error
                importlib.import_module(name)
    gc.collect()
    gc.freeze()  # all forks share the imported objects, as long as no collector touches them


def reap(endings: dict[int, int]) -> None:
    """Add the forks of this process that have ended to *endings*, by id, with their exit codes."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            endings[ended[0]] = os.waitstatus_to_exitcode(ended[1])


def run_process(
    handle: int, answer: Callable[..., Any], environment: dict[str, str], folder: str
) -> None:
    """Run the process of one version until the other end of the socket *handle* is closed."""
    import numpy as np  # noqa: PLC0415 - see below

    os.environ.clear()
    os.environ.update(environment)
    if sys.flags.isolated:  # in an environment of its own, which its child processes share
        for name in [name for name in os.environ if name.startswith("PYTHON")]:
            del os.environ[name]
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    os.chdir(folder)
    np.random.seed()  # noqa: NPY002 - otherwise all forks would draw the same numbers
    connection = Connection(handle)
    requests: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def receive() -> None:
        """Queue requests; end the process with its connection, even while the model works."""
        try:
            while True:
                *request, schema = connection.recv()
                if schema is not None:
                    message = pa.py_buffer(connection.recv_bytes())
                    columns = pa.ipc.read_schema(pa.py_buffer(schema))
                    request.append(pa.ipc.read_record_batch(message, columns))
                requests.put(tuple(request))
        finally:
            os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    while True:
        request = requests.get()
        try:
            reply: tuple[str, Any] = ("answer", answer(*request))
        except BaseException as error:  # noqa: BLE001 - a stranger's code may even exit
            reply = ("error", _describe_error(error))
        try:
            message = pickle.dumps(reply)
        except Exception as error:  # noqa: BLE001 - the answer of a stranger's code may not pickle
            message = pickle.dumps(("error", _describe_error(error)))
        with suppress(Exception):
            sys.stdout.flush()
        connection.send_bytes(message)


def _describe_error(error: BaseException) -> tuple[str, str, str | None]:
    """Return the type and message of *error*, and the missing module, if it names one."""
    module = error.name if isinstance(error, ModuleNotFoundError) else None
    return type(error).__name__, _error_text(error), module


def _error_text(error: BaseException) -> str:
    try:
        return str(error).encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - a stranger's error may have no text
        return "an error whose message cannot be read"
