"""`lakescore serve`: as a process of its own, as a person starts it, or its application alone."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.testclient import TestClient

from lakescore.serving import Guard, Tables, application

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from httpx2 import Response

COMMAND = Path(sys.executable).with_name("lakescore")
TOKEN = "t0ken"  # noqa: S105 - of tests alone
PORT = 8000


def client(*names: str, tables: Path | None = None) -> TestClient:
    """Return a client that holds the token, of an application that shows these models."""
    return TestClient(
        Guard(application(names, Tables(tables)), token=TOKEN, port=PORT),
        base_url=f"http://127.0.0.1:{PORT}",
        headers={"authorization": f"Bearer {TOKEN}"},
        raise_server_exceptions=False,
    )


def refusal(answer: Response, status: int) -> str:
    """Return the message of a refusal, which must be one line of JSON with a kind."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"kind", "code", "message"}
    assert error["message"].isprintable()
    assert re.fullmatch("[a-z_]+", error["code"])
    assert "Traceback" not in answer.text
    return f"{error['kind']}: {error['message']}"


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
