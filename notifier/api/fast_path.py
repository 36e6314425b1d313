"""The fast path: frequent calls dispatched before FastAPI, whose routing and middleware cost as much as the calls do.

The same functions are FastAPI's routes too; those document them and answer every other method and path. Must not know:
what the calls do.
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


class FastPath:
    """ASGI application around a FastAPI one: serves `apps` and `calls`, keyed by method and path; forwards the rest."""

    def __init__(
        self, app: FastAPI, apps: Mapping[tuple[str, str], ASGIApp], calls: Mapping[tuple[str, str], Call]
    ) -> None:
        self._app = app
        self._apps = apps
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = (scope.get("method", ""), scope.get("path", ""))
        call, app = self._calls.get(key), self._apps.get(key)
        if call is None and app is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app  # as Starlette's own __call__ does
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if call is not None:
                response = await call(Request(scope, receive))
            else:
                assert app is not None
                await app(scope, receive, noting)
                return
        except NotifierError as exc:
            response = problem(exc)
        except Exception:
            if not started:
                await problem(NotifierError(UNEXPECTED))(scope, receive, send)
            raise  # the server logs it
        await response(scope, receive, send)
