"""Processes that need not import for seconds: forked from one that has imported the libraries.

Each runs a script as `python SCRIPT` does, and is as much a process of its own: it has its own
arguments, environment, folder and streams, and whoever kills it kills nothing else. This file is
also the program that forks them.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SET_CHILD_SUBREAPER = 36  # of Linux' prctl


class Process:
    """A process that was forked.

    Args:
        connection: to its guardian, which says its id, how it ended, and when all ended.
        errors: the file of its standard error.
    """

    def __init__(self, connection: socket.socket, errors: Path) -> None:
        self._connection, self._errors = connection, errors
        self._lines = connection.makefile()
        self._code: int | None = None
        self.pid = int(self._lines.readline())

    def ended(self, patience: float) -> int:
        """Wait for its end, and for that of all that it started; return its exit code."""
        if self._code is None:
            self._connection.settimeout(patience)
            code = int(self._lines.readline())
            try:
                self._lines.read()
            except TimeoutError as error:
                raise TimeoutError(f"processes outlive one that wrote {self.errors}") from error
            self._code = code
        return self._code

    @property
    def errors(self) -> str:
        """What it wrote to its standard error."""
        return self._errors.read_text()

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Tell it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that is forked.

    Args:
        address: of its socket.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def start(
        self, *command: object, environment: Mapping[str, str], errors: Path, folder: Path
    ) -> Process:
        """Start a script in a *folder*; its standard error goes to the file *errors*.

        It waits until the libraries are imported.
        """
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.address)
        words = [str(word) for word in command]
        with Path(os.devnull).open("r+b") as nothing, errors.open("wb") as stream:
            streams = [nothing.fileno(), nothing.fileno(), stream.fileno()]
            _ask(connection, words, dict(environment), str(folder), streams)
        return Process(connection, errors)

    def write_command(self, script: Path, folder: Path) -> None:
        """Write into *folder* a command of the name of *script*, which is run by a fork."""
        path = folder / script.name
        here = str(Path(__file__).parent)
        values = {"python": sys.executable, "folder": here, "address": self.address}
        path.write_text(_COMMAND.format(**values, script=str(script)))
        path.chmod(0o755)


_COMMAND = """#!{python} -IS
import sys
sys.path.insert(0, {folder!r})
import nursery
sys.exit(nursery.command({address!r}, {script!r}, *sys.argv[1:]))
"""


def command(address: str, *words: str) -> int:
    """Have a script run with this process's environment, folder and streams; return its code."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    _ask(connection, words, dict(os.environ), os.getcwd(), (0, 1, 2))  # noqa: PTH109 - no import more
    with connection.makefile() as lines:
        lines.readline()  # its id
        return int(lines.readline())


@contextmanager
def nursery(folder: Path, *modules: str) -> Iterator[Nursery]:
    """Start a process that imports *modules*, to be forked; yield it, and let it end.

    Args:
        folder: for its socket; its path is short.
        modules: their names.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "nursery"))
        listener.listen()  # who connects before it has imported all waits
        number = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(number), *modules],
            stdin=subprocess.PIPE,
            pass_fds=[number],
            env=kept,
            start_new_session=True,
        )
    try:
        yield Nursery(str(folder / "nursery"))
    finally:
        process.communicate()  # closes its standard input


def _ask(
    connection: socket.socket,
    words: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    streams: Sequence[int],
) -> None:
    socket.send_fds(connection, [b"\0"], streams)
    told = json.dumps([words, environment, folder]).encode()
    connection.sendall(b"%d\n%s" % (len(told), told))


def _told(connection: socket.socket) -> tuple[list[str], dict[str, str], str, list[int]]:
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as lines:
        words, environment, folder = json.loads(lines.read(int(lines.readline())))
    return words, environment, folder, streams


def _until_forked(listener: socket.socket) -> list[str]:
    """Fork this process for each request; return in a fork the command that it is to run."""
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:  # whoever started this process has ended, or wants no more
            sys.exit()
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            return _guarded(connection)
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _guarded(connection: socket.socket) -> list[str]:
    """Fork this process; return in the fork, and guard it in this one until all has ended."""
    words, environment, folder, streams = _told(connection)
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of its own are ours
    if not (pid := os.fork()):
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        return words
    for stream in streams:
        os.close(stream)
    try:
        connection.sendall(b"%d\n" % pid)
        while True:
            ended, status = os.wait()
            if ended == pid:
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    finally:
        os._exit(0)  # none is left, or nobody asks any more


def _main(number: str, *modules: str) -> None:
    gc.disable()  # imports make hardly any garbage
    for module in modules:
        importlib.import_module(module)
    gc.enable()
    gc.collect()
    gc.freeze()  # what is imported is shared by all forks, as long as no collector touches it
    command = _until_forked(socket.socket(fileno=int(number)))
    gc.unfreeze()
    sys.argv[:] = command
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [str(Path(command[0]).parent), *filter(None, paths)]
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    _main(*sys.argv[1:])
