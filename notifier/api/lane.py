"""The short way to the calls that come by the thousand: past the framework's layers, which cost as much as they do.

The same functions stand behind FastAPI's routes, which document them and answer every other method and path. Must not
know: what the calls do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifier.api.http import problem
from notifier.errors import NotifierError

UNEXPECTED = "the service failed; its log says more"

Call = Callable[[Request], Awaitable[Response]]


class Lane:
    """Around a FastAPI application: `apps` and `calls` by method and path; everything else goes on to it."""

    def __init__(
        self, app: FastAPI, apps: Mapping[tuple[str, str], ASGIApp], calls: Mapping[tuple[str, str], Call]
    ) -> None:
        self._app = app
        self._apps = apps
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = (scope.get("method", ""), scope.get("path", ""))
        call, short = self._calls.get(key), self._apps.get(key)
        if call is None and short is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app  # as Starlette's own entry does
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if call is not None:
                response = await call(Request(scope, receive))
            else:
                assert short is not None
                await short(scope, receive, noting)
                return
        except NotifierError as fault:
            response = problem(fault)
        except Exception:
            if not started:
                await problem(NotifierError(UNEXPECTED))(scope, receive, send)
            raise  # the server logs it
        await response(scope, receive, send)
