"""Limit the wait for a client: a connection that sends or reads too slowly is closed.

uvicorn limits only the pause between two requests. Without this limit, a client that sends a byte
now and then, or none, could keep its connection, and so a file handle, for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio


class Bounded(H11Protocol):
    """uvicorn's protocol of a connection, with a time limit."""

    patience: ClassVar[float]
    """Seconds from the start of a connection, or from a request's first byte, to its last; also the
    seconds in which a client must read enough to make space for more of an answer."""
    _timer: asyncio.TimerHandle | None = None
    _is_buffer_full = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._update_timer()

    def data_received(self, data: bytes) -> None:
        """Continue to wait, unless the request is complete."""
        super().data_received(data)
        self._update_timer()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._is_buffer_full = True
        self._update_timer()

    def resume_writing(self) -> None:
        """Continue, since the client has read."""
        super().resume_writing()
        self._is_buffer_full = False
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the wait."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _update_timer(self) -> None:
        """Start the timer that closes the connection, if the client must act; or cancel it."""
        waits = self._is_buffer_full or self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if waits and self._timer is None:
            self._timer = self.loop.call_later(self.patience, self.transport.abort)
        elif not waits and self._timer is not None:
            self._timer.cancel()
            self._timer = None


def protocol(patience: float) -> type[Bounded]:
    """Return the protocol with *patience*, in seconds."""
    return type("Bounded", (Bounded,), {"patience": patience})
