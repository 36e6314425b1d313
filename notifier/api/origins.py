"""Pages of other origins: what lets those of the allowed origins use the service (CORS), and a line in the log for any
other, since a browser gives its user no reason.

Must not know: what a page asks for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
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
        self.cors_headers: Final[Mapping[bytes, Headers]] = {
            origin.encode(): _cors_headers(cors, origin) for origin in allowed if origin.isascii()
        }
        """What the middleware adds to the answers of a page, by its origin. Browsers send origins in ASCII."""

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


def _cors_headers(cors: CORSMiddleware, origin: str) -> Headers:
    headers = MutableHeaders(cors.simple_headers)
    cors.allow_explicit_origin(headers, origin)
    return tuple(headers.raw)
