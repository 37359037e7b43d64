"""Holding: one process of a machine loads a large model, and its forks predict for the workers.

A fork shares the model's memory with the process that it comes from, as long as nobody writes
there. So a machine holds a large model once, and not once a worker. The workers of one run meet in
a folder: the first one starts the holder, and the others connect to its socket. The holder ends
when it has had no forks for a while.

Mapping the file into memory would share less: the trees of a forest copy their arrays when they are
loaded, and other formats cannot be mapped at all.
"""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import select
import socket
import subprocess
import tempfile
import time
import traceback
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import TYPE_CHECKING, Any

from .isolating import describe_ending, reap, run_process
from .keeping import count, counted
from .launching import ModelFailed, launch
from .memory import give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS_IDLE = 5.0
"""The time without forks after which a holder ends: a worker that is replaced comes back sooner."""
_SECONDS_BETWEEN_LOOKS = 1.0
_MOST_WAITING = 1024
"""Workers that can wait for a holder while it loads the model."""


class Holder:
    """The process of this machine that holds one model, as its workers see it.

    Args:
        meeting: the text that all workers have in common that can share the model, and no others.
        program: the program of a holder, which calls `hold`.
        to_load: the arguments with which a new holder calls its `load`.
        environment: the folder of the environment that it runs in; see `launch`.
    """

    def __init__(
        self, meeting: str, program: bytes, to_load: tuple[Any, ...], environment: str = ""
    ) -> None:
        self._name = hashlib.sha256(meeting.encode()).hexdigest()[:32]
        self._program, self._to_load = program, to_load
        self._environment = environment
        self.pid: int | None = None

    def fork(self, modules: tuple[str, ...] = ()) -> tuple[Connection, int]:  # noqa: ARG002 - the model imports them
        """Return the connection to a new fork of the holder, and its id.

        Raises:
            ModelFailed: the holder ended, or there is no folder in which workers can meet.
        """
        try:
            connection = self._connect_or_start()
            connection.send(("fork", dict(os.environ), os.getcwd()))  # noqa: PTH109
            send_handle(connection, 2, 0)  # the fork prints where its worker prints
            pid: int
            pid, self.pid = connection.recv()
        except (EOFError, ConnectionError) as error:
            raise ModelFailed("the process that holds the model ended") from error
        except OSError as error:
            raise ModelFailed(f"workers cannot share the model: {error}") from error
        return connection, pid

    def ending(self, pid: int) -> str:
        """Return how the fork *pid* ended."""
        try:
            with _meeting() as folder, self._connect(folder) as connection:
                connection.send(("ending", pid))
                code: int | None = connection.recv()
        except (EOFError, OSError):
            return "ended with the process that holds the model"
        return "ended" if code is None else describe_ending(code)

    def _connect_or_start(self) -> Connection:
        with _meeting() as folder:
            try:
                return self._connect(folder)
            except (FileNotFoundError, ConnectionRefusedError):  # none runs
                self._start(folder)
                return self._connect(folder)

    def _connect(self, folder: str) -> Connection:
        ours = socket.socket(socket.AF_UNIX)
        try:
            ours.connect(f"{folder}/{self._name}")
        except BaseException:
            ours.close()
            raise
        return Connection(ours.detach())

    def _start(self, folder: str) -> None:
        """Start a holder. Its socket takes connections from now on, while it loads the model."""
        with suppress(FileNotFoundError):
            os.unlink(f"{folder}/{self._name}")  # noqa: PTH108 - of a holder that was killed
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/{self._name}")
            listener.listen(_MOST_WAITING)
            # It outlives its first worker, so it must not keep that worker's output open.
            files, nowhere = (listener.fileno(),), subprocess.DEVNULL
            connection, _ = launch(
                self._program, self._environment, inherited=files, output=nowhere
            )
            with connection:
                connection.send((listener.fileno(), self._name, self._to_load))


@contextmanager
def _meeting() -> Iterator[str]:
    """Lock the folder of the holders' sockets; yield a short path of it.

    The folder belongs to this user alone, because whoever connects can run code in a holder.

    Raises:
        OSError: the folder cannot be made, or belongs to somebody else.
    """
    path = f"{tempfile.gettempdir()}/lakescore-{os.getuid()}"
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)  # noqa: PTH102 - pathlib would be one more import in each worker
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        facts = os.fstat(folder)
        if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise PermissionError(f"{path} is open to other users")
        # The path of a socket has at most 107 bytes.
        short = f"/proc/self/fd/{folder}"
        lock = os.open(f"{short}/lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield short
        finally:
            os.close(lock)
    finally:
        os.close(folder)


def hold(connection: Connection, load: Callable[..., None], answer: Callable[..., Any]) -> None:
    """Run a holder in a new process of Python.

    Args:
        connection: gives the number of the listening socket, the name of the meeting, and the
            arguments of *load*.
        load: loads the model.
        answer: answers the requests of workers, in forks.
    """
    with connection:
        number, name, to_load = connection.recv()
    with suppress(Exception):  # a fork tries again, and tells its worker the error
        load(*to_load)
    give_back()
    gc.freeze()  # a collector would write to the pages of objects, and so copy them
    with socket.socket(fileno=number) as listener:
        _serve(listener, name, answer)


def _serve(listener: socket.socket, name: str, answer: Callable[..., Any]) -> None:
    """Fork this process for each worker that connects, until none has been there for a while."""
    endings: dict[int, int] = {}
    forks, idle_since = 0, time.monotonic()
    while True:
        if _is_awaited(listener, _SECONDS_BETWEEN_LOOKS):
            forks += _serve_one(listener, answer, endings)
        reap(endings)
        if forks > len(endings):
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > _SECONDS_IDLE:
            with _meeting() as folder:  # so that no worker connects meanwhile
                if not _is_awaited(listener, 0):
                    os.unlink(f"{folder}/{name}")  # noqa: PTH108
                    return


def _is_awaited(listener: socket.socket, seconds: float) -> bool:
    """Return whether a worker has connected, or connects in this number of *seconds*."""
    return bool(select.select([listener], [], [], seconds)[0])


def _serve_one(listener: socket.socket, answer: Callable[..., Any], endings: dict[int, int]) -> int:
    """Serve one worker that has connected; return the number of new forks."""
    accepted, _ = listener.accept()
    with Connection(accepted.detach()) as connection, suppress(EOFError, OSError):
        request, *given = connection.recv()
        if request == "ending":
            connection.send(_wait_for(given[0], endings))
            return 0
        errors = recv_handle(connection)
        if not (pid := os.fork()):
            try:
                listener.close()
                for output in (1, 2):
                    os.dup2(errors, output)
                os.close(errors)
                run_process(connection.fileno(), answer, *given)
            except BaseException:  # noqa: BLE001 - the process ends
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(errors)
        count("loads", -counted("loads"))  # the first fork tells its worker
        connection.send((pid, os.getpid()))
        return 1
    return 0


def _wait_for(pid: int, endings: dict[int, int]) -> int | None:
    """Return the exit code of the fork *pid*, whose connection is closed; None if unknown."""
    with suppress(ChildProcessError):
        while pid not in endings:
            endings[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return endings.get(pid)
