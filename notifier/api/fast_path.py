"""The stream's opening, dispatched before FastAPI, whose routing and middleware cost as much as it does.

Must not know: what the stream does.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifier import problems
from notifier.api.http import response
from notifier.errors import NotifierError
from notifier.failures import unexpected


class FastPath:
    """ASGI application around a FastAPI one: serves `GET` of one path, and forwards the rest."""

    def __init__(self, app: FastAPI, path: str, endpoint: ASGIApp) -> None:
        self._app = app
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") != self._path or scope.get("method") != "GET":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app  # as Starlette's own __call__ does
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._endpoint(scope, receive, noting)
        except NotifierError as exc:
            await response(problems.answer(exc))(scope, receive, send)
        except Exception:
            if not started:
                await response(unexpected(scope["headers"]))(scope, receive, send)
            raise  # the server logs it
