"""What the routes share: reading a body within bounds, who is calling, problem+json (RFC 9457).

Must not know: what the routes do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from notifier import rules
from notifier.auth import Authenticator, Publisher, Subscriber
from notifier.broker import Idempotency
from notifier.errors import (
    BrokerUnavailable,
    InvalidInput,
    MalformedBody,
    NotAllowed,
    NotifierError,
    PayloadTooLarge,
    RateLimited,
    Unauthenticated,
)

COOKIE = "notifier_token"
MAX_KEY_CHARS = 255

M = TypeVar("M", bound=pydantic.BaseModel)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON as compact as on the stream. Nothing here may be cached: it is all of one user or one moment."""
    return Response(
        rules.to_json(value).encode(),
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def problem_body(fault: NotifierError) -> dict[str, Any]:
    """An error as RFC 9457 shows it, with the offending field."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": fault.title,
        "status": fault.status,
        "detail": str(fault),
    }
    if fault.field is not None:
        body["field"] = fault.field
        body["errors"] = [{"field": fault.field, "detail": fault.detail}]
    return body


def problem(fault: NotifierError) -> Response:
    """The answer to an error."""
    headers: dict[str, str] = {"Cache-Control": "no-store"}
    if isinstance(fault, Unauthenticated):
        code = f', error="{fault.code}"' if fault.code else ""
        headers["WWW-Authenticate"] = f'Bearer realm="notifier"{code}'
    elif isinstance(fault, NotAllowed):
        headers["WWW-Authenticate"] = 'Bearer realm="notifier", error="insufficient_scope"'
    elif isinstance(fault, RateLimited):
        headers |= {"Retry-After": str(max(1, math.ceil(fault.retry_after_s))), **fault.headers}
    elif isinstance(fault, BrokerUnavailable):
        headers["Retry-After"] = "2"
    body = rules.to_json(problem_body(fault)).encode("utf-8", "replace")
    return Response(body, fault.status, headers=headers, media_type="application/problem+json")


# Bodies


async def read_body(request: Request, max_bytes: int = rules.MAX_BODY_BYTES) -> bytes:
    """The whole body. Raises `PayloadTooLarge` as soon as it is over its bound."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise PayloadTooLarge(f"has {announced} bytes; at most {max_bytes} are taken", field="body")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise PayloadTooLarge(f"has more than {max_bytes} bytes", field="body")
        parts.append(part)
    return b"".join(parts)


def parse(model: type[M], body: bytes) -> M:
    """A JSON object under the rules for values and the model's fields. Raises `MalformedBody`, `InvalidInput`."""
    value = rules.parse_json(body)
    if not isinstance(value, dict):
        raise MalformedBody(f"must be a JSON object, not {rules.shown(value)}", field="body")
    return validate(model, value)


def validate(model: type[M], value: Mapping[str, Any]) -> M:
    """A value under a model's fields. Raises `InvalidInput` naming the first field at fault."""
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as fault:
        raise _invalid(fault) from None


def _invalid(fault: pydantic.ValidationError) -> InvalidInput:
    first = fault.errors(include_url=False, include_context=False)[0]
    field = ""
    for part in first["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f"{'.' if field else ''}{part}"
    if first["type"] == "extra_forbidden":
        return InvalidInput("is not a field of this request", field=field)
    if first["type"] == "missing":
        return InvalidInput("is required", field=field)
    said = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return InvalidInput(f"must be {said}, not {rules.shown(first['input'])}", field=field or "body")


# Who is calling


def bearer(connection: HTTPConnection) -> str | None:
    """The credential of an `Authorization: Bearer` header (RFC 6750)."""
    header = connection.headers.get("authorization")
    if header is None:
        return None
    kind, _, credential = header.partition(" ")
    if kind.lower() != "bearer" or not credential.strip():
        raise Unauthenticated("the Authorization header must be 'Bearer <token>'", code="invalid_request")
    return credential.strip()


def publisher(request: Request, scope: str = "publish") -> Publisher:
    """Who publishes: an API key or a token in the Authorization header, never a cookie."""
    credential = bearer(request)
    if credential is None:
        raise Unauthenticated("an API key is needed: 'Authorization: Bearer <key>'")
    found: Publisher = request.app.state.auth.publisher(credential)
    found.require(scope)
    return found


def subscriber(connection: HTTPConnection, *, query: bool = False) -> Subscriber:
    """Who listens: header, then cookie, then (for streams) the query. A change by cookie needs an allowed Origin."""
    auth: Authenticator = connection.app.state.auth
    credential = bearer(connection)
    if credential is not None:
        return auth.subscriber(credential)
    cookie = connection.cookies.get(COOKIE)
    if cookie:
        if connection.scope["method"] not in ("GET", "HEAD"):
            _check_origin(connection)
        return auth.subscriber(cookie)
    token = connection.query_params.get("token") if query else None
    if token:
        return auth.subscriber(token)
    raise Unauthenticated("a token is needed: 'Authorization: Bearer <jwt>' or the cookie notifier_token")


def _check_origin(connection: HTTPConnection) -> None:
    origin = connection.headers.get("origin")
    if origin is None:
        raise NotAllowed("a change by cookie needs an Origin header", field="Origin")
    host = connection.headers.get("host")
    own = (f"https://{host}", f"http://{host}") if host else ()
    if origin not in (*own, *connection.app.state.settings.cors_origins):
        raise NotAllowed(f"the origin {rules.shown(origin)} is not allowed", field="Origin")


def idempotency(request: Request, who: Publisher, body: bytes) -> Idempotency | None:
    """The call's Idempotency-Key, made the publisher's own, and what it is used for."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise InvalidInput(f"must be 1 to {MAX_KEY_CHARS} printable characters", field="Idempotency-Key")
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body).hexdigest()
    return Idempotency(own_key(who, "header", key), digest[:32])


def own_key(who: Publisher, *words: str) -> str:
    """An idempotency key that no other publisher, and no other words, can come to; of one length, so that what is put
    behind it cannot be taken for a part of it."""
    return hashlib.sha256(ascii([who.name, *words]).encode()).hexdigest()
