"""Check every request before it reaches the application, and add headers to every answer.

A browser sends requests to loopback for any page, and any process of any user of the machine can
send them too. So each request needs the token. The token is in a header: a foreign page cannot set
it, and another port does not see it, as it would see a cookie. Host and Origin are compared with
the server's own address. So a name that someone points at it (DNS rebinding) gets no answer.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from lakescore.wording import snake_case

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 100_000
"""Bytes; the longest description and the tags of a version are a tenth of this."""
_OPEN_PATHS = re.compile(r"/|/models/[^/]+")
"""The paths that need no token: their pages have no data, and fetch it with the token."""
_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_STRICTEST_POLICY = "default-src 'none'; frame-ancestors 'none'"


class Guard:
    """An application behind a token, open only to its own pages.

    Args:
        app: the application to guard.
        token: the token that each request must have: `Authorization: Bearer <token>`.
        port: the port that the server listens on.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._key = f"Bearer {token}".encode()
        self._hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]
        self._origins = [f"http://{host}" for host in self._hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":  # the application has no web sockets
            return
        app = self._refusal(scope) or self._app

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("content-security-policy", _STRICTEST_POLICY)
            await send(message)

        await app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return refuse(403, "ForeignHost", f"this server answers only at {self._hosts[0]}")
        if any(origin not in self._origins for origin in headers.getlist("origin")):
            return refuse(403, "ForeignOrigin", "pages of other origins cannot use this server")
        is_open = scope["method"] == "GET" and _OPEN_PATHS.fullmatch(scope["path"])
        key = headers.get("authorization", "").encode()
        if not is_open and not hmac.compare_digest(key, self._key):
            return refuse(
                401, "TokenMissing", "open the address that lakescore serve printed when it started"
            )
        if "transfer-encoding" in headers:
            return refuse(
                411, "LengthMissing", "the request has no length; add the header Content-Length"
            )
        if int(headers.get("content-length", "0")) > LARGEST_BODY:
            return refuse(413, "TooLarge", f"a request can have at most {LARGEST_BODY:,} bytes")
        return None


def refuse(status: int, kind: str, message: str, *, code: str | None = None) -> JSONResponse:
    """Return the answer to a refused request.

    Args:
        status: the status code of HTTP.
        kind: the class of the error, for programs.
        message: one line for people.
        code: the stable code of the error, for programs; default: *kind* in snake case.
    """
    error = {"kind": kind, "code": code or snake_case(kind), "message": message}
    return JSONResponse({"error": error}, status)
