"""How long a connection is waited for: one that sends or reads too slowly is cut off.

uvicorn bounds only the pause between two requests. A client that sends a byte now and then, or
none, would else hold its connection, and so a file handle, for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio


class Bounded(H11Protocol):
    """uvicorn's protocol of a connection, with bounds."""

    patience: ClassVar[float]
    """Seconds from a connection's beginning, or a request's first byte, to its last, and for a
    client to make room for more of an answer."""
    _cut: asyncio.TimerHandle | None = None
    _is_full = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless the request is whole."""
        super().data_received(data)
        self._look()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._is_full = True
        self._look()

    def resume_writing(self) -> None:
        """Go on, since it has read."""
        super().resume_writing()
        self._is_full = False
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Cut the connection off in a while where the client is waited for, or take that back."""
        waits = self._is_full or self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if waits and self._cut is None:
            self._cut = self.loop.call_later(self.patience, self.transport.abort)
        elif not waits and self._cut is not None:
            self._cut.cancel()
            self._cut = None


def protocol(patience: float) -> type[Bounded]:
    """Return the protocol with so many seconds of patience."""
    return type("Bounded", (Bounded,), {"patience": patience})
