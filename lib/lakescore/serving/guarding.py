"""What every request must pass before anything looks at it, and what every answer carries.

A browser sends requests to loopback for any page that asks it to, and any process of any user of
the machine can. So the token decides who may ask; it travels in a header, which no foreign page can
set and no other port sees, as it would a cookie. Host and Origin are held against our own address,
so that a name that was made to point here (DNS rebinding) reaches nothing.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 100_000
"""Bytes; the longest description and the tags of a version are a tenth of it."""
_OPEN = re.compile(r"/|/models/[^/]+")
"""What is given without the token: pages that hold no data, and ask for the token."""
_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"


class Guard:
    """An application behind a token, open to its own pages alone.

    Args:
        app: what is guarded.
        token: what each request must bring: `Authorization: Bearer <token>`.
        port: that the server listens on.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._key = f"Bearer {token}".encode()
        self._hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]
        self._origins = [f"http://{host}" for host in self._hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":  # there are no web sockets here
            return
        app = self._refusal(scope) or self._app

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("content-security-policy", _NOTHING)
            await send(message)

        await app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return refused(403, "ForeignHost", f"this server is {self._hosts[0]} and nothing else")
        if any(origin not in self._origins for origin in headers.getlist("origin")):
            return refused(403, "ForeignOrigin", "other pages may not ask this server")
        is_open = scope["method"] == "GET" and _OPEN.fullmatch(scope["path"])
        given = headers.get("authorization", "").encode()
        if not is_open and not hmac.compare_digest(given, self._key):
            return refused(
                401, "TokenMissing", "open the address that lakescore serve printed when it started"
            )
        if "transfer-encoding" in headers:
            return refused(411, "LengthMissing", "say how long the request is: Content-Length")
        if int(headers.get("content-length", "0")) > LARGEST_BODY:
            return refused(413, "TooLarge", f"a request has at most {LARGEST_BODY:,} bytes")
        return None


def refused(status: int, kind: str, message: str) -> JSONResponse:
    """Return the answer to a request that was not carried out.

    Args:
        status: of HTTP.
        kind: for programs: the class of the error.
        message: one line for people.
    """
    return JSONResponse({"error": {"kind": kind, "message": message}}, status)
