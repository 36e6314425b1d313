"""Shared by the routes: reading a bounded body, authenticating the caller, responses.

Must not know: what the routes do.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import pydantic
from fastapi import FastAPI
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from notifier import json_text, rules
from notifier.auth import Authenticator, Publisher, Subscriber
from notifier.broker.values import Idempotency
from notifier.call import JSON, Answer, Call, Headers, RequestHead, UserCall
from notifier.errors import (
    InvalidInput,
    MalformedBody,
    NotAllowed,
    NotifierError,
    Unauthenticated,
    UnknownField,
    UnsupportedEncoding,
    too_large,
)

COOKIE = "notifier_token"
WAIT_S: Final = 25
MAX_WAIT_S: Final = 55
"""Below the 60 s after which many proxies end a request without an answer."""
MAX_KEY_CHARS = 255

M = TypeVar("M", bound=pydantic.BaseModel)


def json_answer(value: object, headers: Headers = ()) -> Answer:
    """A compact JSON answer. It is never cached, since it depends on the user and the moment."""
    return Answer(200, (*headers, *JSON), json_text.to_json(value).encode())


def response(answer: Answer) -> Response:
    """An answer as Starlette's response."""
    response = Response(answer.body, answer.status)
    response.raw_headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    return response


def json_response(value: object, status: int = 200) -> Response:
    return response(json_answer(value)._replace(status=status))


async def run_call(
    request: Request, kind: str, call: Call, *, max_bytes: int = rules.MAX_BODY_BYTES, last_segment: str = ""
) -> Response:
    """Run a publisher's call for a route. Nothing of the body is read before the publisher is known. A request that is
    refused before its call is counted here, by `kind`; the call counts itself."""
    try:
        who = publisher(request)
        body = await _read(request, max_bytes)
    except NotifierError as exc:
        request.app.state.publishing.note(kind, exc)
        raise
    answer = request.app.state.tracing.call(kind, call)(who, head_of(request, last_segment), body)
    return response(answer if isinstance(answer, Answer) else await answer)


async def run_user_call(request: Request, call: UserCall) -> Response:
    """The same of a user's call."""
    who = subscriber(request)
    body = await _read(request, rules.MAX_BODY_BYTES)
    answer = call(who, head_of(request), body)
    return response(answer if isinstance(answer, Answer) else await answer)


def head_of(request: Request, last_segment: str = "") -> RequestHead:
    """What a call asks of the request."""
    return RequestHead(request.method, request.url.path, dict(reversed(request.headers.raw)), last_segment)


def connection_of(app: FastAPI, method: str, headers: Mapping[bytes, bytes], query: bytes = b"") -> HTTPConnection:
    """A request that has no ASGI scope, as what reads its caller needs it."""
    scope = {"type": "http", "method": method, "headers": list(headers.items()), "query_string": query, "app": app}
    return HTTPConnection(scope)


# The query


def whole_number(request: Request, name: str, *, default: int, low: int = 0, high: int) -> int:
    """A whole number of the query. Raises `InvalidInput`."""
    value = request.query_params.get(name, str(default))
    if not (value.isascii() and value.isdigit()) or len(value) > 16 or not low <= int(value) <= high:
        raise InvalidInput(f"must be a whole number from {low} to {high}, not {rules.shown(value)}", field=name)
    return int(value)


def wait_of(request: Request) -> int:
    """How many seconds a call waits for what it asks for. Raises `InvalidInput`."""
    return whole_number(request, "wait_s", default=WAIT_S, high=MAX_WAIT_S)


# Bodies


async def read_body(request: Request, max_bytes: int = rules.MAX_BODY_BYTES) -> bytes:
    """The whole body, without a byte order mark. Raises `UnsupportedEncoding`, and `PayloadTooLarge` as soon as it is
    larger than `max_bytes`."""
    return (await _read(request, max_bytes)).removeprefix(codecs.BOM_UTF8)


async def _read(request: Request, max_bytes: int) -> bytes:
    """As `read_body`, with the mark: the calls remove it by `checked_body`."""
    _check_encoding(request.headers.get("content-encoding"))
    announced = request.headers.get("content-length", "")
    if announced.isdigit():
        _check_size(int(announced), max_bytes)
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise too_large(max_bytes)
            parts.append(part)
    except ClientDisconnect:  # the answer has no reader
        raise MalformedBody("ended before its end", field="body") from None
    return b"".join(parts)


def checked_body(head: RequestHead, body: bytes, max_bytes: int = rules.MAX_BODY_BYTES) -> bytes:
    """As `read_body`, of a body that is complete."""
    if b"content-encoding" in head.headers:
        _check_encoding(head.header(b"content-encoding"))
    _check_size(len(body), max_bytes)
    return body.removeprefix(codecs.BOM_UTF8)


def _check_encoding(encoding: str | None) -> None:
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding(f"is {rules.shown(encoding)}; send the body uncompressed", field="Content-Encoding")


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise too_large(max_bytes, size)


def parse(model: type[M], body: bytes) -> M:
    """A JSON object, checked by the rules for values and by the model. Raises `MalformedBody`, `InvalidInput`."""
    return validate(model, object_of(json_text.parse_json(body)))


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


_RULES: Final[Mapping[str, Callable[[object, str], object]]] = {
    "string_type": rules.text,
    "int_type": rules.whole,
    "bool_type": rules.flag,
}
"""By pydantic's error type, the rule that words it."""
_EXPECTED: Final = {"list_type": "a list", "dict_type": "an object", "model_type": "an object"}
"""The same where no rule is about the type alone, and pydantic's text names a type of Python."""


def _invalid(exc: pydantic.ValidationError) -> InvalidInput:
    first = exc.errors(include_url=False)[0]
    field = ""
    for part in first["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f"{'.' if field else ''}{part}"
    if first["type"] == "extra_forbidden":
        return UnknownField(field)
    if first["type"] == "missing":
        return InvalidInput("is required", field=field)
    if first["type"] == "too_long":
        limit, count = first["ctx"]["max_length"], first["ctx"]["actual_length"]
        return InvalidInput(f"must have at most {limit} items, not {count}", field=field)
    if (rule := _RULES.get(first["type"])) is not None:
        try:
            rule(first["input"], field or "body")
        except InvalidInput as refusal:
            return refusal
    expected = _EXPECTED.get(first["type"]) or first["msg"].removeprefix("Input should be ")
    return InvalidInput(f"must be {expected}, not {rules.shown(first['input'])}", field=field or "body")


# The caller


def bearer(connection: HTTPConnection) -> str | None:
    """The credential of an `Authorization: Bearer` header (RFC 6750)."""
    return credential(connection.headers.get("authorization"))


def credential(header: str | None) -> str | None:
    """As `bearer`, from the header's value."""
    if header is None:
        return None
    kind, _, value = header.partition(" ")
    value = value.strip()
    if kind.lower() != "bearer" or not value:
        raise Unauthenticated("the Authorization header must be 'Bearer <token>'", code="invalid_request")
    return value


def publisher(request: Request, scope: str = "publish") -> Publisher:
    """The publisher: by an API key or a token in the Authorization header, never by a cookie."""
    return publisher_of(request.app.state.auth, request.headers.get("authorization"), scope)


def publisher_of(auth: Authenticator, header: str | None, scope: str = "publish") -> Publisher:
    """As `publisher`, from the header's value."""
    who = auth.remembered(header)
    if who is None:
        value = credential(header)
        if header is None or value is None:
            raise Unauthenticated("an API key is required: 'Authorization: Bearer <key>'")
        who = auth.publisher(value)
        auth.remember(header, who)
    who.require(scope)
    return who


def publisher_or_subscriber(request: Request) -> Publisher | Subscriber:
    """The publisher if the Authorization header has a publisher's credentials, else the subscriber."""
    value = bearer(request)
    if value is not None:
        auth: Authenticator = request.app.state.auth
        try:
            return auth.publisher(value)
        except Unauthenticated:
            if value.count(".") != 2:  # no JWT, so no subscriber's token either
                raise
    return subscriber(request)


def subscriber(connection: HTTPConnection, *, query: bool = False) -> Subscriber:
    """The subscriber: by header, else cookie, else (for streams) query. A change by cookie needs an allowed Origin."""
    auth: Authenticator = connection.app.state.auth
    value = bearer(connection)
    if value is not None:
        return auth.subscriber(value)
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


def idempotency(head: RequestHead, who: Publisher, value: object) -> Idempotency | None:
    """The request's Idempotency-Key, scoped to the publisher, with a fingerprint of method, path and parsed body."""
    key = head.header(b"idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise InvalidInput(f"must be 1 to {MAX_KEY_CHARS} printable characters", field="Idempotency-Key")
    return Idempotency(own_key(who, "header", key), fingerprint(value, f"{head.method} {head.path}"))


def fingerprint(value: object, call: str = "") -> str:
    """A digest of a call and a JSON value. The order of keys and the spaces between them do not matter."""
    # In a batch, a line that is not JSON is an exception here.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(f"{call}\n{text}".encode()).hexdigest()[:32]


def own_key(who: Publisher, *words: str) -> str:
    """An idempotency key from the publisher and `words`: no other publisher or words give the same one. Its length is
    fixed, so that a suffix cannot be confused with a part of it."""
    return hashlib.sha256(ascii([who.name, *words]).encode()).hexdigest()
