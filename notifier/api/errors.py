"""How errors become responses: one status per leaf of the tree, mapped only here.

Must not know: the routes.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from notifier import json_text, problems
from notifier.api import openapi
from notifier.api.http import response
from notifier.errors import InvalidInput, NotifierError
from notifier.failures import unexpected


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(NotifierError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unexpected)


async def _answer_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, NotifierError)
    return response(problems.answer(exc))


async def _answer_validation(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    exc = InvalidInput(str(first["msg"]), field=".".join(str(part) for part in first["loc"][1:]))
    return response(problems.answer(exc))


async def _answer_http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    body = {"type": "about:blank", "title": exc.detail, "status": exc.status_code, "detail": exc.detail}
    headers = dict(exc.headers or {})
    if exc.status_code == 405:
        routed = {method.strip() for method in headers.get("Allow", "").split(",")}
        documented = set(_methods(request))
        # HEAD is served with GET, but is not in the document.
        headers["Allow"] = ", ".join(sorted(documented | (routed & {"HEAD"}) if documented else routed))
    return Response(
        json_text.to_json(body).encode(), exc.status_code, headers=headers, media_type="application/problem+json"
    )


def _methods(request: Request) -> list[str]:
    """All methods of this path. The router's own `Allow` has only those of one route."""
    paths = openapi.document(request.app)["paths"]
    matches = [path for path in paths if compile_path(path)[0].match(request.url.path)]
    # `/v1/inbox/read` is a path of its own, though `/v1/inbox/{message_id}` matches it too.
    return [method.upper() for method in paths[min(matches, key=lambda path: path.count("{"))]] if matches else []


async def _answer_unexpected(request: Request, _: Exception) -> Response:
    return response(unexpected(request.scope["headers"]))  # the server logs the traceback
