"""`lakescore serve` as a process of its own, as a person starts it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMAND = Path(sys.executable).with_name("lakescore")


class Served:
    """A server that has printed its address.

    Args:
        process: whose output nobody has read yet.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.address = process.stdout.readline().strip()
        parts = urlsplit(self.address)
        assert parts.port is not None, process.communicate()
        self.port, self.token = parts.port, parts.fragment.removeprefix("token=")

    def ask(
        self, method: str, path: str, facts: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return status and JSON of an answer; *headers* replace the right ones."""
        right = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = None if facts is None else json.dumps(facts)
        connection.request(method, path, body, {**right, **(headers or {})})
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
        connection.close()
        return status, json.loads(text)

    def stop(self, with_signal: int = signal.SIGTERM) -> str:
        """Tell it to stop, and return what it has written to its streams since."""
        self.process.send_signal(with_signal)
        return "".join(self.process.communicate(timeout=30))


@contextmanager
def serving(*words: str, environment: Mapping[str, str]) -> Iterator[Served]:
    """Start a server and yield it when it has printed its address; end it in any case.

    Args:
        words: the command's arguments.
        environment: beyond that of this process.
    """
    process = subprocess.Popen(
        [COMMAND, "serve", *words],
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Served(process)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30)
