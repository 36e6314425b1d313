"""The short way to the calls that come by the thousand: past the framework's routing, which costs more than they do.

The same functions stand behind FastAPI's routes, which document them and answer every other method and path. Must not
know: what the calls do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from notifier.api.http import problem
from notifier.errors import NotifierError

Call = Callable[[Request], Awaitable[Response]]


class Lane:
    """ASGI middleware: `apps` and `calls` by method and path; everything else goes on to `app`."""

    def __init__(
        self, app: ASGIApp, apps: Mapping[tuple[str, str], ASGIApp], calls: Mapping[tuple[str, str], Call]
    ) -> None:
        self._app = app
        self._apps = apps
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = (scope.get("method", ""), scope.get("path", ""))
        call, short = self._calls.get(key), self._apps.get(key)
        try:
            if call is not None:
                response = await call(Request(scope, receive))
            elif short is not None:
                await short(scope, receive, send)
                return
            else:
                await self._app(scope, receive, send)
                return
        except NotifierError as fault:
            response = problem(fault)
        await response(scope, receive, send)
