"""Says in the log which pages may not use the service: a browser gives its user no reason.

Must not know: what a page asks for.
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from notifier import rules
from notifier.call import is_same_origin

log = logging.getLogger("notifier.api")

MOST: Final = 100
"""Origins that one process logs, each once: they come from outside."""


class RefusedOrigins:
    """ASGI application around another: logs the origins of calls whose answers browsers keep from their pages."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)
        self._logged: set[str] = set()

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
