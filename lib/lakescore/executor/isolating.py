"""Isolating: a version that brings code of its own is applied in a process of its own.

Modules, `sys.path`, the environment, the working folder, random state and library settings belong
to a process, so no version can see those of another. A worker (or the driver) starts one clean
process that loads no model, and forks it once for each version: the libraries are imported once.
Requests and answers go through sockets; a process ends as soon as the other end of its socket does.
Where no Spark runs, the workers of this machine are such processes too.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .fitting import Misshapen, Truncated
from .keeping import forget, shelf

if TYPE_CHECKING:
    from collections.abc import Callable

_START = (
    "import pickle, sys; from multiprocessing.connection import Connection; "
    "socket = Connection(int(sys.argv[1])); pickle.loads(socket.recv_bytes())(socket)"
)


class ModelFailed(RuntimeError):
    """A model cannot be loaded, or its process ended, or it raised an error there."""


_RAISED_AGAIN: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (ImportError, MemoryError, Misshapen, ModelFailed, Truncated)
}
"""Errors whose type tells the caller what to do."""


class ModelProcess:
    """A process in which one version is applied, and nothing else; or a worker of this machine.

    Args:
        starter: what forks it.
    """

    def __init__(self, starter: Starter) -> None:
        self._lock = threading.Lock()
        self._starter = starter
        self._connection, self._pid = starter.fork()
        self._untold = 0

    def ask(self, request: tuple[Any, ...], batch: pa.RecordBatch | None = None) -> Any:
        """Return the process's answer to *request*, which may come with a *batch* of rows.

        Raises:
            ImportError, MemoryError, Misshapen, ModelFailed: the answer is an error, or the
                process ended.
        """
        with self._lock:
            try:
                self._connection.send((*request, batch if batch is None else batch.schema))
                if batch is not None:
                    self._connection.send_bytes(batch.serialize())
                while self._untold:
                    self._connection.recv()
                    self._untold -= 1
                kind, answer = self._connection.recv()
            except (EOFError, ConnectionError) as error:
                self.close()
                ending = self._starter.ending(self._pid)
                raise ModelFailed(f"the process of the model {ending}") from error
            except BaseException:
                self.close()  # an answer that nobody read would be taken for that of the next
                raise
        if kind == "error":
            kind, text, module = answer
            if module is not None:
                raise ModuleNotFoundError(text, name=module)
            raise _RAISED_AGAIN.get(kind, lambda text: ModelFailed(f"{kind}: {text}"))(text)
        return answer

    def tell(self, request: tuple[Any, ...]) -> None:
        """Send a *request* whose answer is of no interest; the next one waits for it."""
        with self._lock, suppress(OSError):  # whoever asks next learns that the process ended
            self._connection.send((*request, None))
            self._untold += 1

    def kill(self) -> None:
        """End the process, whatever it is doing, and whoever waits for it."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    @property
    def is_closed(self) -> bool:
        """Whether the process can be asked no more."""
        return self._connection.closed

    def close(self) -> None:
        """End the process."""
        self._connection.close()


def program(answer: Callable[..., Any]) -> bytes:
    """Return what starts processes that call *answer* for each request, as bytes to be sent.

    It holds the code itself, so that a worker needs no package of ours.
    """
    import cloudpickle  # noqa: PLC0415 - the driver alone makes a program

    package = sys.modules[__package__]
    cloudpickle.register_pickle_by_value(package)
    try:
        return bytes(cloudpickle.dumps(lambda connection: start(connection, answer)))
    finally:
        cloudpickle.unregister_pickle_by_value(package)


class Starter:
    """The process that is forked for each version, or for each worker of this machine.

    Args:
        connection: to that process.
        wait: waits for its end, and returns its exit code.
    """

    def __init__(self, connection: Connection, wait: Callable[[], int]) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._connection, self._wait = connection, cache(wait)

    @classmethod
    def run(cls, program: bytes) -> Starter:
        """Return a new process of Python that runs *program*."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, "-c", _START, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the driver, whose end ends this one too
                stdout=2,  # a worker's standard output is not for a model to print to
            )
        connection = Connection(ours.detach())
        connection.send_bytes(program)
        connection.send(_own_path())
        return cls(connection, process.wait)

    @classmethod
    def split(cls, answer: Callable[..., Any]) -> Starter:
        """Return a fork of this process, with all that it has imported.

        Only for a process that has loaded no model yet: locks of its libraries' threads, such as
        those of OpenMP, would be held forever in the fork.
        """
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # a collector that touched what is imported would make a copy of all of it
        if not (pid := os.fork()):
            try:
                ours.close()
                _leave()
                _serve(Connection(theirs.detach()), answer)
            finally:
                os._exit(1)
        gc.unfreeze()
        theirs.close()
        return cls(
            Connection(ours.detach()), lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        )

    def fork(self) -> tuple[Connection, int]:
        """Return the connection to a new process, and its id."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                self._connection.send(("fork", dict(os.environ), os.getcwd()))  # noqa: PTH109
                send_handle(self._connection, theirs.fileno(), 0)
                pid: int = self._connection.recv()
            except (EOFError, ConnectionError) as error:
                ours.close()
                raise ModelFailed(
                    f"no process could be started: exit code {self._wait()}"
                ) from error
        return Connection(ours.detach()), pid

    def ending(self, pid: int) -> str:
        """Return how the process *pid*, which has ended, did so."""
        with self._lock:
            try:
                self._connection.send(("ending", pid))
                code: int = self._connection.recv()
            except (EOFError, ConnectionError):
                return "ended with its starter"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def starter(program: bytes) -> Starter:
    """Return the starter of this process, which a fork of it does not inherit."""
    known: Starter | None = shelf().get("starter")
    if known is None or known.owner != os.getpid():
        known = shelf()["starter"] = Starter.run(program)
    return known


def _leave() -> None:
    """Be no part of the process that this one was forked from, but for its standard error."""
    os.setsid()  # Ctrl-C is for the driver, whose end ends this one too
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # a worker's standard output is not for a model to print to
    forget()


def _own_path() -> list[str]:
    """Return this process's `sys.path` without folders of models that were loaded in it."""
    return [
        folder
        for folder in sys.path
        if not os.path.isfile(os.path.join(os.path.dirname(folder), "MLmodel"))  # noqa: PTH113, PTH118, PTH120
    ]


def start(connection: Connection, answer: Callable[..., Any]) -> None:
    """Be a starter, in a new process of Python, until the other end of *connection* is closed."""
    sys.path[:] = connection.recv()
    with suppress(ImportError):  # plain scikit-learn models need no MLflow
        import mlflow.pyfunc  # noqa: F401, PLC0415 - imported once for all versions
    gc.collect()
    gc.freeze()  # what is imported is shared by all forks, as long as no collector touches it
    _serve(connection, answer)


def _serve(connection: Connection, answer: Callable[..., Any]) -> None:
    """Fork this process for each request, until the other end of *connection* is closed."""
    endings: dict[int, int] = {}
    with suppress(EOFError, ConnectionError):
        while True:
            request = connection.recv()
            if request[0] == "fork":
                handle = recv_handle(connection)
                if not (pid := os.fork()):
                    try:
                        connection.close()
                        _become(handle, answer, *request[1:])
                    finally:
                        os._exit(1)
                os.close(handle)
                connection.send(pid)
            else:
                while request[1] not in endings:
                    pid, status = os.waitpid(-1, 0)
                    endings[pid] = os.waitstatus_to_exitcode(status)
                connection.send(endings.pop(request[1]))
            _reap(endings)


def _reap(endings: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            endings[ended[0]] = os.waitstatus_to_exitcode(ended[1])


def _become(
    handle: int, answer: Callable[..., Any], environment: dict[str, str], folder: str
) -> None:
    """Be the process of one version until the other end of the socket *handle* is closed."""
    import numpy as np  # noqa: PLC0415 - see below

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    np.random.seed()  # noqa: NPY002 - every fork would draw the same numbers
    connection = Connection(handle)
    requests: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def receive() -> None:
        """Hand requests on, and end the process with its reader, whatever the model is doing."""
        try:
            while True:
                *request, schema = connection.recv()
                if schema is not None:
                    message = pa.py_buffer(connection.recv_bytes())
                    request.append(pa.ipc.read_record_batch(message, schema))
                requests.put(tuple(request))
        finally:
            os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    while True:
        request = requests.get()
        try:
            reply: tuple[str, Any] = ("answer", answer(*request))
        except BaseException as error:  # noqa: BLE001 - a stranger's code may even exit
            reply = ("error", _told(error))
        try:
            message = pickle.dumps(reply)
        except Exception as error:  # noqa: BLE001 - likewise, what it gives cannot be sent
            message = pickle.dumps(("error", _told(error)))
        with suppress(Exception):
            sys.stdout.flush()
        connection.send_bytes(message)


def _told(error: BaseException) -> tuple[str, str, str | None]:
    """Return the type and message of *error*, and which module is missing if one is."""
    module = error.name if isinstance(error, ModuleNotFoundError) else None
    return type(error).__name__, _text(error), module


def _text(error: BaseException) -> str:
    try:
        return str(error).encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - a stranger's error may fail to say what it is
        return "an error that cannot say what it is"
