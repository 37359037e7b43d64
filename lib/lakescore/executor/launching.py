"""Launching: a new process of Python, with the packages of this process or of an environment."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

_START = """
import site, sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
path, packages = connection.recv()
if path is not None:
    sys.path[:] = path
for folder in packages:
    site.addsitedir(folder)
exec(connection.recv_bytes(), {"connection": connection})
"""


class ModelFailed(RuntimeError):
    """A model cannot be loaded, or its process ended, or it raised an error in its process."""

    process_ended = False
    """Whether the model's process ended, so that another process can succeed."""


def launch(
    program: bytes,
    environment: str = "",
    *,
    inherited: tuple[int, ...] = (),
    output: int = 2,
) -> tuple[Connection, subprocess.Popen[bytes]]:
    """Start a new process of Python, and return the connection to it.

    Args:
        program: its program: source code in which `connection` is the connection.
        environment: the folder of the environment whose Python and packages it uses; empty for
            those of this process.
        inherited: open files that it inherits.
        output: the open file to which it prints. A model must not print to a worker's standard
            output.

    Raises:
        ModelFailed: the Python of the environment cannot be started.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603 - the running interpreter, or a version's own
                [*_python(environment), "-c", _START, str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *inherited],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the driver; this process ends with it
                stdout=output,
                stderr=output,
            )
        except OSError as error:
            ours.close()
            raise ModelFailed(f"the Python of its environment cannot be started: {error}") from None
    connection = Connection(ours.detach())
    with suppress(ConnectionError):  # whoever asks the process for anything gets the error
        connection.send((None, [_packages(environment)]) if environment else (_clean_path(), []))
        connection.send_bytes(program)
    return connection, process


def _python(environment: str) -> list[str]:
    """Return the command of the Python of *environment*, which sees no other packages."""
    if not environment:
        return [sys.executable]
    shipped = os.path.join(environment, "python", "bin", "python3")  # noqa: PTH118
    if not os.path.exists(shipped):  # noqa: PTH110
        with open(os.path.join(environment, "environment.json")) as file:  # noqa: PTH118, PTH123
            shipped = json.load(file)["python"]
    return [shipped, "-I", "-S"]


def _packages(environment: str) -> str:
    return os.path.join(environment, "packages")  # noqa: PTH118


def _clean_path() -> list[str]:
    """Return this process's `sys.path` without the folders of models that it loaded."""
    return [
        folder
        for folder in sys.path
        if not os.path.isfile(os.path.join(os.path.dirname(folder), "MLmodel"))  # noqa: PTH113, PTH118, PTH120
    ]
