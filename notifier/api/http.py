"""Shared by the routes: reading a bounded body, authenticating the caller, responses.

Must not know: what the routes do.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from notifier import problems, rules
from notifier.auth import Authenticator, Publisher, Subscriber
from notifier.broker import Idempotency
from notifier.errors import (
    InvalidInput,
    MalformedBody,
    NotAllowed,
    NotifierError,
    PayloadTooLarge,
    Unauthenticated,
    UnsupportedEncoding,
)

COOKIE = "notifier_token"
MAX_KEY_CHARS = 255

M = TypeVar("M", bound=pydantic.BaseModel)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A compact JSON response. It is never cached, since it depends on the user and the moment."""
    return Response(
        rules.to_json(value).encode(),
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def problem(exc: NotifierError, headers: Mapping[str, str] | None = None, **members: object) -> Response:
    """The response to an error; `members` are further members of its body."""
    answer = problems.answer(exc, **members)
    return Response(
        answer.body, exc.status, headers={**(headers or {}), **answer.headers}, media_type=problems.MEDIA_TYPE
    )


# Bodies


async def read_body(request: Request, max_bytes: int = rules.MAX_BODY_BYTES) -> bytes:
    """The whole body, without a byte order mark. Raises `UnsupportedEncoding`, and `PayloadTooLarge` as soon as it is
    larger than `max_bytes`."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding(f"is {rules.shown(encoding)}; send the body uncompressed", field="Content-Encoding")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise PayloadTooLarge(f"has {announced} bytes; at most {max_bytes} are accepted", field="body")
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise PayloadTooLarge(f"has more than {max_bytes} bytes", field="body")
            parts.append(part)
    except ClientDisconnect:  # the answer has no reader
        raise MalformedBody("ended before its end", field="body") from None
    return b"".join(parts).removeprefix(codecs.BOM_UTF8)


def parse(model: type[M], body: bytes) -> M:
    """A JSON object, checked by the rules for values and by the model. Raises `MalformedBody`, `InvalidInput`."""
    return validate(model, object_of(rules.parse_json(body)))


def object_of(value: Any) -> Mapping[str, Any]:
    """A JSON object. Raises `MalformedBody` for any other value."""
    if not isinstance(value, Mapping):
        raise MalformedBody(f"must be a JSON object, not {rules.shown(value)}", field="body")
    return value


def validate(model: type[M], value: Mapping[str, Any]) -> M:
    """A value, checked by a model. Raises `InvalidInput` for the first offending field."""
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as exc:
        raise _invalid(exc) from None


_EXPECTED = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "int_type": "a whole number",
    "bool_type": "true or false",
}
"""By pydantic's error type, where its own text names a type of Python."""


def _invalid(exc: pydantic.ValidationError) -> InvalidInput:
    first = exc.errors(include_url=False)[0]
    field = ""
    for part in first["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f"{'.' if field else ''}{part}"
    if first["type"] == "extra_forbidden":
        return InvalidInput("is not a field of this request", field=field)
    if first["type"] == "missing":
        return InvalidInput("is required", field=field)
    if first["type"] == "too_long":
        limit, count = first["ctx"]["max_length"], first["ctx"]["actual_length"]
        return InvalidInput(f"must have at most {limit} items, not {count}", field=field)
    expected = _EXPECTED.get(first["type"]) or first["msg"].removeprefix("Input should be ")
    return InvalidInput(f"must be {expected}, not {rules.shown(first['input'])}", field=field or "body")


# The caller


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
    """The publisher: by an API key or a token in the Authorization header, never by a cookie."""
    credential = bearer(request)
    if credential is None:
        raise Unauthenticated("an API key is required: 'Authorization: Bearer <key>'")
    who: Publisher = request.app.state.auth.publisher(credential)
    who.require(scope)
    return who


def publisher_or_subscriber(request: Request) -> Publisher | Subscriber:
    """The publisher if the Authorization header has a publisher's credentials, else the subscriber."""
    credential = bearer(request)
    if credential is not None:
        auth: Authenticator = request.app.state.auth
        try:
            return auth.publisher(credential)
        except Unauthenticated:
            if credential.count(".") != 2:  # no JWT, so no subscriber's token either
                raise
    return subscriber(request)


def subscriber(connection: HTTPConnection, *, query: bool = False) -> Subscriber:
    """The subscriber: by header, else cookie, else (for streams) query. A change by cookie needs an allowed Origin."""
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
    raise Unauthenticated("a token is required: 'Authorization: Bearer <jwt>' or the cookie notifier_token")


def _check_origin(connection: HTTPConnection) -> None:
    origin = connection.headers.get("origin")
    if origin is None:
        raise NotAllowed("a change by cookie needs an Origin header", field="Origin")
    host = connection.headers.get("host")
    own = (f"https://{host}", f"http://{host}") if host else ()
    if origin not in (*own, *connection.app.state.settings.cors_origins):
        raise NotAllowed(f"the origin {rules.shown(origin)} is not allowed", field="Origin")


def idempotency(request: Request, who: Publisher, value: object) -> Idempotency | None:
    """The request's Idempotency-Key, scoped to the publisher, with a fingerprint of method, path and parsed body."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise InvalidInput(f"must be 1 to {MAX_KEY_CHARS} printable characters", field="Idempotency-Key")
    return Idempotency(own_key(who, "header", key), fingerprint(value, f"{request.method} {request.url.path}"))


def fingerprint(value: object, call: str = "") -> str:
    """A digest of a call and a JSON value. The order of keys and the spaces between them do not matter."""
    # In a batch, a line that is not JSON is an exception here.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(f"{call}\n{text}".encode()).hexdigest()[:32]


def own_key(who: Publisher, *words: str) -> str:
    """An idempotency key from the publisher and `words`: no other publisher or words give the same one. Its length is
    fixed, so that a suffix cannot be confused with a part of it."""
    return hashlib.sha256(ascii([who.name, *words]).encode()).hexdigest()
