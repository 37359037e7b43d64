"""Run the server: a socket on loopback, an address with a token, and an orderly end."""

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
from lakescore.serving.tables import Tables
from lakescore.serving.waiting import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_HOST = "127.0.0.1"
_SECONDS_TO_FINISH = 5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(  # noqa: PLR0913 - the options of the command
    names: Sequence[str],
    *,
    port: int,
    announce: Callable[[str], None],
    browse: bool,
    tables: Path | None = None,
    patience: float = 10,
) -> None:
    """Show registered models until the process is told to stop (Ctrl-C, SIGTERM).

    Args:
        names: the models that can be viewed and changed; empty for all.
        port: the port on loopback; 0 takes a free port.
        announce: a function that gets the address, with the token, once the server listens.
        browse: whether to open the address in a browser.
        tables: the folder of the tables that a version can be applied to; None for
            `LAKESCORE_HOME`.
        patience: the seconds in which a request must arrive; slower clients are disconnected.

    Raises:
        ModelNotFound: a model of *names* does not exist.
        ConfigError: the port is in use, or *tables* is no folder.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    if tables is not None and not tables.is_dir():
        raise ConfigError(f"there is no folder {tables}; name another one: --tables")
    token = secrets.token_urlsafe(32)
    with _listen(port) as listener:
        _check_models(names)
        port = listener.getsockname()[1]
        page = f"models/{quote(names[0], safe='')}" if len(names) == 1 else ""
        address = f"http://{_HOST}:{port}/{page}#token={token}"
        app = Guard(application(names, Tables(tables)), token=token, port=port)
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
        with _stop_on_signals(server):
            announce(address)
            with _open_browser(address, browse=browse):
                server.run(sockets=[listener])


def _check_models(names: Sequence[str]) -> None:
    """Raise the error of a missing model or registry now, not later in the page."""
    for name in names:
        registry.versions(name, limit=1)
    if not names:
        registry.models()


@contextmanager
def _listen(port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((_HOST, port))
    except OSError as error:
        raise ConfigError(
            f"cannot listen on port {port} of {_HOST}: {error.strerror or error}; name another "
            "--port, or leave it out to take a free port"
        ) from error
    with listener:
        yield listener


@contextmanager
def _open_browser(address: str, *, browse: bool) -> Iterator[None]:
    """Open a browser at a private file that redirects: all users see a process's arguments."""
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
    """Return the browser if it has a window: other browsers would take the terminal."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return None
    return None if type(browser) is webbrowser.GenericBrowser else browser


@contextmanager
def _stop_on_signals(server: uvicorn.Server) -> Iterator[None]:
    """Make signals end only the server: uvicorn raises them again after its end."""

    def stop(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
