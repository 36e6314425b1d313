"""Pages of other origins: what lets those of the allowed origins use the service (CORS), and a line in the log for any
other, since a browser gives its user no reason.

Must not know: what a page asks for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from notifier import rules
from notifier.call import Headers, is_same_origin

log = logging.getLogger("notifier.api")

MOST: Final = 100
"""Origins that one process logs, each once: they come from outside."""
PREFLIGHT_S: Final = 7200
"""How long a browser keeps the answer to a preflight: the most that Chromium does. A stream comes back after 5 to 10
minutes, and each preflight would be a round trip before it."""


class Origins:
    """ASGI application around another: answers preflights, adds the CORS headers, and logs the origins of calls whose
    answers browsers keep from their pages."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        cors = CORSMiddleware(
            app,
            allow_origins=allowed,
            allow_credentials=True,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "Idempotency-Key"],
            expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy"],
            max_age=PREFLIGHT_S,
        )
        self._app = cors if allowed else app
        self._allowed = frozenset(allowed)
        self._logged: set[str] = set()
        self.allowed: Final = frozenset(origin.encode() for origin in allowed if origin.isascii())
        """As headers have them. Browsers send origins in ASCII."""
        self._headers: dict[bytes | None, Headers] = {o: _added_headers(cors, o.decode()) for o in self.allowed}
        self._headers_of_others: Headers = ()
        if allowed:
            self._headers[None] = ((b"vary", b"Origin"),)
            self._headers_of_others = _added_headers(cors, "")

    def added_headers(self, origin: bytes | None) -> Headers:
        """What the middleware adds to an answer, for those that are sent without it. origin: of the request; None: it
        has none."""
        return self._headers.get(origin, self._headers_of_others)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            headers = dict(scope["headers"])
            if not is_same_origin(headers):
                self._check(headers[b"origin"].decode("latin-1"))
        await self._app(scope, receive, send)

    def _check(self, origin: str) -> None:
        if origin in self._allowed or origin in self._logged or len(self._logged) >= MOST:
            return
        self._logged.add(origin)
        allowed = ", ".join(sorted(self._allowed)) or "empty"
        log.warning("refused a page of the origin %s: NOTIFIER_CORS_ORIGINS is %s", rules.shown(origin), allowed)


def _added_headers(cors: CORSMiddleware, origin: str) -> Headers:
    """As in the middleware's `send`."""
    headers = MutableHeaders(cors.simple_headers)
    if origin in cors.allow_origins:
        cors.allow_explicit_origin(headers, origin)
    else:
        headers["Vary"] = "Origin"
    return tuple(headers.raw)
