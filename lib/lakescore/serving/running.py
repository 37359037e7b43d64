"""The server's life: a socket of loopback, an address with a token, and an end in order."""

from __future__ import annotations

import secrets
import signal
import socket
import tempfile
import webbrowser
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import uvicorn

from lakescore import registry
from lakescore.errors import ConfigError
from lakescore.serving.api import application
from lakescore.serving.guarding import Guard
from lakescore.serving.waiting import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_HOST = "127.0.0.1"
_SECONDS_TO_FINISH = 5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(
    names: Sequence[str],
    *,
    port: int,
    announce: Callable[[str], None],
    browse: bool,
    patience: float = 10,
) -> None:
    """Show registered models until the process is told to stop (Ctrl-C, SIGTERM).

    Args:
        names: those that may be seen and changed; all where it is empty.
        port: of loopback; 0 takes one that is free.
        announce: is given the address, with the token in it, once requests are answered.
        browse: whether a browser shall open it.
        patience: the seconds that a request may take to arrive; slower clients are cut off.

    Raises:
        ModelNotFound: there is none of a name.
        ConfigError: the port is taken.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    token = secrets.token_urlsafe(32)
    with _listening(port) as listener:
        _look_at(names)
        port = listener.getsockname()[1]
        page = f"models/{quote(names[0], safe='')}" if len(names) == 1 else ""
        address = f"http://{_HOST}:{port}/{page}#token={token}"
        app = Guard(application(names), token=token, port=port)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=protocol(patience),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_SECONDS_TO_FINISH,
            )
        )
        with _stopped_by_signals(server):
            announce(address)
            with _opened(address, browse=browse):
                server.run(sockets=[listener])


def _look_at(names: Sequence[str]) -> None:
    """Find out now, rather than in the page, that a model or the registry is not there."""
    for name in names:
        registry.versions(name, limit=1)
    if not names:
        registry.models()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((_HOST, port))
    except OSError as error:
        raise ConfigError(
            f"cannot listen on port {port} of {_HOST}: {error.strerror or error}; name another "
            "--port, or none to take one that is free"
        ) from error
    with listener:
        yield listener


@contextmanager
def _opened(address: str, *, browse: bool) -> Iterator[None]:
    """Open a browser at a file of ours that leads on: arguments of a process are seen by all."""
    browser = _browser() if browse else None
    if browser is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lakescore-") as folder:
        file = Path(folder) / "open.html"
        file.write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">', "utf-8"
        )
        browser.open(file.as_uri())
        yield


def _browser() -> webbrowser.BaseBrowser | None:
    """Return the browser, if there is one with a window: others would take the terminal."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return None
    return None if type(browser) is webbrowser.GenericBrowser else browser


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let signals end the server and nothing else: uvicorn raises them again when it is done."""

    def stop(*_: object) -> None:
        server.should_exit = True

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
