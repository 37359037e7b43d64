"""Serve moto's S3, in which two commits to one table can be made to meet: `meeting.py PORT FILE`.

While FILE is there, whoever writes a commit of the table that it names waits until another one
does, as two drivers do that look at the same moment whether the next version is there.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import TYPE_CHECKING, Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_COMMIT = re.compile(r"(.*)/_delta_log/\d{20}\.json")
_PATIENCE = 300.0  # seconds


class Meeting:
    """The application of moto's server, with a place to meet once."""

    def __init__(self, order: Path) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.order = order
        self.barrier = Barrier(2)

    def __call__(self, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request; a commit's when another one is here too."""
        commit = request["REQUEST_METHOD"] == "PUT" and _COMMIT.fullmatch(request["PATH_INFO"])
        if commit and self.order.exists() and commit[1].endswith(self.order.read_text()):
            try:
                self.barrier.wait(_PATIENCE)
                self.order.unlink(missing_ok=True)  # who came second tries again, alone
            except BrokenBarrierError:  # nobody came
                self.barrier.reset()
        answer: Iterable[bytes] = self.moto(request, respond)
        return answer


if __name__ == "__main__":
    port, order = sys.argv[1:]
    run_simple("127.0.0.1", int(port), Meeting(Path(order)), threaded=True)
