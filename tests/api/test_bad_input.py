"""Bad input: the response is problem+json that names the field, and nothing changes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from tests.api.support import User, calling, problem_of, unique
from tests.support import API_KEY, JWT_SECRET, Service, bearer, subscriber_token

OMIT = object()
"""Marks a field to leave out of the body."""
PAST = (datetime.now(UTC) - timedelta(days=1)).isoformat()

BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"subject": "Test", "text": "Text"},
    "/v1/events": {"type": "order.paid", "data": {}},
    "/v1/tasks": {"name": "Import", "total": 10},
}


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def body_for(path: str, user: User, changed: dict[str, Any]) -> bytes:
    """A valid body of a call with some fields changed or left out; surrogates and NUL are escaped as in JSON."""
    body = {"to": [user.channel], **BODIES[path], **changed}
    return json.dumps({name: value for name, value in body.items() if value is not OMIT}).encode()


# Any call that publishes

RECIPIENTS: list[tuple[Any, str]] = [
    (OMIT, "to"),
    (None, "to"),
    ([], "to"),
    ("user:42", "to"),
    ({"user": "42"}, "to"),
    ([42], "to[0]"),
    ([None], "to[0]"),
    ([["user:42"]], "to[0]"),
    (["42"], "to[0]"),
    (["room:1"], "to[0]"),
    (["everyone"], "to[0]"),
    (["ALL"], "to[0]"),
    (["user:"], "to[0]"),
    (["group:"], "to[0]"),
    (["user:" + "a" * 129], "to[0]"),
    (["all", "user:a\nb"], "to[1]"),
    (["user:a\r"], "to[0]"),
    (["user:a\tb"], "to[0]"),
    (["user:\x7f"], "to[0]"),
    (["user:\x85"], "to[0]"),
    (["group:a\x1bb"], "to[0]"),
    (["user:a\x00"], "to[0]"),
    (["user:\ud800"], "to[0]"),
]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("to", "field"), RECIPIENTS, ids=lambda value: ascii(value)[:30])
def test_recipients_that_break_a_rule(publisher: httpx.Client, user: User, path: str, to: Any, field: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post(path, content=body_for(path, user, {"to": to})), 422, field)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", ["extra", "To", "user", "__class__", "a\nb"])
def test_a_field_that_the_call_does_not_know(publisher: httpx.Client, user: User, path: str, name: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post(path, content=body_for(path, user, {name: 1})), 422, name)


NO_JSON = {
    "empty": b"",
    "blank": b" \n",
    "cut": b'{"to":["user:42"]',
    "text": b"to=user:42&subject=Test",
    "single quotes": b"{'to':['user:42']}",
    "comma at the end": b'{"to":["user:42"],}',
    "not UTF-8": b'{"to":["user:42"],"subject":"\xff"}',
    "UTF-16": '{"to":["user:42"]}'.encode("utf-16"),
    "half a character": b'{"to":["user:42"],"subject":"\xc3"}',
    "surrogate in UTF-8": b'{"to":["user:42"],"subject":"\xed\xa0\x80"}',
    "NaN": b'{"to":["user:42"],"subject":"Test","data":{"a":NaN}}',
    "Infinity": b'{"to":["user:42"],"subject":"Test","data":{"a":-Infinity}}',
    "two values": b'{"to":["user:42"]}{"to":["user:42"]}',
    "raw line end": b'{"to":["user:42"],"subject":"a\nb"}',
    "endless number": b'{"to":["user:42"],"subject":"Test","data":{"a":' + b"9" * 5000 + b"}}",
    "list": b"[]",
    "null": b"null",
    "word": b'"user:42"',
    "number": b"42",
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_a_body_that_is_no_json_object(publisher: httpx.Client, user: User, path: str, body: bytes) -> None:
    with user.sees_no_change():
        problem_of(publisher.post(path, content=body.replace(b"user:42", user.channel.encode())), 400, "body")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"to":["%b"],"to":["all"],"subject":"Test"}', "to"),
        (b'{"to":["%b"],"subject":"Test","data":{"a":1,"a":2}}', "a"),
        (b'{"to":["%b"],"subject":"Test","data":{"a":1e999}}', "data.a"),
        (b'{"to":["%b"],"subject":"Test","\\ud800":1}', "body"),
        (b'{"to":["%b"],"subject":"Test","\\u0000":1}', "body"),
    ],
    ids=["field twice", "inner key twice", "infinite number", "surrogate in a name", "NUL in a name"],
)
def test_json_that_parsers_read_differently(publisher: httpx.Client, user: User, body: bytes, field: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post("/v1/messages", content=body % user.channel.encode()), 422, field)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/events"])
def test_json_of_32_levels_passes_and_of_33_does_not(publisher: httpx.Client, user: User, path: str) -> None:
    fits, too_deep = {"a": nested(30)}, {"a": nested(31)}
    assert publisher.post(path, content=body_for(path, user, {"data": fits})).status_code == 200
    with user.sees_no_change():
        problem_of(publisher.post(path, content=body_for(path, user, {"data": too_deep})), 422, "data")


def test_json_deeper_than_any_parser_allows(publisher: httpx.Client, user: User) -> None:
    with user.sees_no_change():
        for body in (b"[" * 30_000, b'{"data":' * 8_000, b"[" * 30_000 + b"]" * 30_000):
            problem_of(publisher.post("/v1/messages", content=body), 422, "body")


@pytest.mark.parametrize("path", [*BODIES, "/v1/inbox/read"])
def test_a_body_over_64_kib(publisher: httpx.Client, user: User, path: str) -> None:
    client = user.client if path == "/v1/inbox/read" else publisher

    def in_pieces() -> Any:
        yield from (b" " * 1024 for _ in range(65))

    with user.sees_no_change():
        problem_of(client.post(path, content=b" " * (64 * 1024 + 1)), 413, "body")
        problem_of(client.post(path, content=in_pieces()), 413, "body")


def test_a_body_of_64_kib_is_read(publisher: httpx.Client, user: User) -> None:
    body = body_for("/v1/messages", user, {})
    assert publisher.post("/v1/messages", content=body + b" " * (64 * 1024 - len(body))).status_code == 200


@pytest.mark.parametrize(
    ("path", "changed", "field"),
    [
        ("/v1/messages", {"text": "x" * 16_400}, "text"),
        ("/v1/messages", {"text": "ä" * 8_200}, "text"),
        ("/v1/messages", {"data": {"a": "x" * 16_400}}, "data"),
        ("/v1/events", {"data": ["x" * 16_400]}, "data"),
    ],
    ids=["text", "two-byte text", "data", "event"],
)
def test_an_event_over_16_kib(
    publisher: httpx.Client, user: User, path: str, changed: dict[str, Any], field: str
) -> None:
    with user.sees_no_change():
        problem_of(publisher.post(path, content=body_for(path, user, changed)), 413, field)


# Messages


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"subject": OMIT}, "subject"),
        ({"subject": None}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "  "}, "subject"),
        ({"subject": 7}, "subject"),
        ({"subject": "s" * 256}, "subject"),
        ({"subject": "\x00"}, "subject"),
        ({"subject": "\ud800"}, "subject"),
        ({"text": None}, "text"),
        ({"text": 7}, "text"),
        ({"text": ["a"]}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"text": "\udc00\ud800"}, "text"),
        ({"from": "Ann"}, "from"),
        ({"from": {}}, "from"),
        ({"from": {"id": 7}}, "from.id"),
        ({"from": {"id": ""}}, "from.id"),
        ({"from": {"id": "a\n"}}, "from.id"),
        ({"from": {"id": "a" * 129}}, "from.id"),
        ({"from": {"name": "\ud800"}}, "from.name"),
        ({"from": {"id": "7", "mail": "x"}}, "from.mail"),
        ({"level": "fatal"}, "level"),
        ({"level": None}, "level"),
        ({"level": 3}, "level"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "\x01javascript:alert(1)"}, "url"),
        ({"url": "data:text/html,x"}, "url"),
        ({"url": ""}, "url"),
        ({"url": 7}, "url"),
        ({"data": []}, "data"),
        ({"data": "x"}, "data"),
        ({"data": {"a": {"b": ["\ud800"]}}}, "data.a.b[0]"),
        ({"data": {"a": "\x00"}}, "data.a"),
        ({"data": {"\ud800": 1}}, "data"),
        ({"sent_at": "yesterday"}, "sent_at"),
        ({"sent_at": "2026-01-31T12:00:00"}, "sent_at"),
        ({"sent_at": 1769860800}, "sent_at"),
        ({"sent_at": "0001-01-01T00:00:00+23:59"}, "sent_at"),
        ({"expires_at": PAST}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"id": ""}, "id"),
        ({"id": "a b"}, "id"),
        ({"id": "a" * 65}, "id"),
        ({"id": 7}, "id"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_message_that_breaks_a_rule(publisher: httpx.Client, user: User, changed: dict[str, Any], field: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post("/v1/messages", content=body_for("/v1/messages", user, changed)), 422, field)


# Events


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"type": OMIT}, "type"),
        ({"type": None}, "type"),
        ({"type": 7}, "type"),
        ({"type": ""}, "type"),
        ({"type": "Order"}, "type"),
        ({"type": "1a"}, "type"),
        ({"type": "a b"}, "type"),
        ({"type": "a\n"}, "type"),
        ({"type": "a\n\nevent: message\ndata: {}"}, "type"),
        ({"type": "a" * 65}, "type"),
        *(
            ({"type": name}, "type")
            for name in ("hello", "message", "task", "inbox", "reset", "degraded", "ping", "bye", "open", "error")
        ),
        ({"data": "\ud800"}, "data"),
        ({"data": ["\x00"]}, "data[0]"),
        ({"durable": "false"}, "durable"),
        ({"durable": 0}, "durable"),
        ({"durable": None}, "durable"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_event_that_breaks_a_rule(publisher: httpx.Client, user: User, changed: dict[str, Any], field: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post("/v1/events", content=body_for("/v1/events", user, changed)), 422, field)


# Tasks


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": OMIT}, "name"),
        ({"name": None}, "name"),
        ({"name": " "}, "name"),
        ({"name": "n" * 256}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"state": 7}, "state"),
        ({"state": "s" * 2001}, "state"),
        ({"state": "\x00"}, "state"),
        ({"total": -1}, "total"),
        ({"total": 1.5}, "total"),
        ({"total": "10"}, "total"),
        ({"total": True}, "total"),
        ({"total": 2**53}, "total"),
        ({"id": "a/b"}, "id"),
        ({"id": ""}, "id"),
        ({"done": 1}, "done"),
        ({"status": "running"}, "status"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_task_that_breaks_a_rule(publisher: httpx.Client, user: User, changed: dict[str, Any], field: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post("/v1/tasks", content=body_for("/v1/tasks", user, changed)), 422, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, "body"),
        ({"done": 11}, "done"),
        ({"done": -1}, "done"),
        ({"done": 2.0}, "done"),
        ({"done": "2"}, "done"),
        ({"done": True}, "done"),
        ({"advance": 8}, "advance"),
        ({"advance": -1}, "advance"),
        ({"advance": 2**53}, "advance"),
        ({"advance": 1, "done": 1}, "advance"),
        ({"total": 2}, "total"),
        ({"total": -1}, "total"),
        ({"status": "over"}, "status"),
        ({"status": "RUNNING"}, "status"),
        ({"status": 7}, "status"),
        ({"state": "s" * 2001}, "state"),
        ({"state": ["a"]}, "state"),
        ({"state": "\ud800"}, "state"),
        ({"error": "\x00"}, "error"),
        ({"error": "e" * 2001}, "error"),
        ({"name": "Other"}, "name"),
        ({"to": ["all"]}, "to"),
        ({"percent": 50}, "percent"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_change_of_a_task_that_breaks_a_rule(
    publisher: httpx.Client, user: User, change: dict[str, Any], field: str
) -> None:
    task = publisher.post("/v1/tasks", content=body_for("/v1/tasks", user, {})).json()
    path = f"/v1/tasks/{task['id']}"
    assert publisher.patch(path, json={"done": 3}).status_code == 200
    with user.sees_no_change():
        problem_of(publisher.patch(path, content=json.dumps(change)), 422, field)


@pytest.mark.parametrize("task_id", ["none", "a b", "a:b", "*", "%00", "x" * 500, "ä"])
def test_a_change_of_an_unknown_task(publisher: httpx.Client, user: User, task_id: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.patch(f"/v1/tasks/{task_id}", json={"done": 1}), 404, "id")


def test_a_change_of_an_ended_task(publisher: httpx.Client, user: User) -> None:
    task = publisher.post("/v1/tasks", content=body_for("/v1/tasks", user, {})).json()
    path = f"/v1/tasks/{task['id']}"
    publisher.patch(path, json={"status": "failed"})
    for status in ("running", "succeeded", "failed", "cancelling", "stalled", "pending"):
        with user.sees_no_change():
            problem_of(publisher.patch(path, json={"status": status}), 409, "status")


# Paths and methods


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/message", "/v2/messages", "/v1/tasks/a/b/c", "/client/nothing.js"])
def test_an_unknown_path_is_a_problem_too(anyone: httpx.Client, path: str) -> None:
    problem_of(anyone.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/messages", {"POST"}),
        ("PUT", "/v1/tasks", {"GET", "POST"}),
        ("GET", "/v1/tasks/t1", {"PATCH", "DELETE"}),
        ("DELETE", "/v1/inbox", {"GET"}),
        ("POST", "/v1/stream", {"GET", "HEAD"}),
        ("POST", "/healthz", {"GET"}),
    ],
)
def test_an_unknown_method_is_a_problem_that_names_the_allowed_ones(
    publisher: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    response = publisher.request(method, path)
    problem_of(response, 405)
    assert set(response.headers["Allow"].split(", ")) == allowed


# Tokens


def forged(header: dict[str, Any], claims: dict[str, Any], secret: str) -> str:
    """A token as an attacker makes it, with any header and any HMAC secret."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    mac = hmac.new(secret.encode(), b".".join(parts), hashlib.sha256).digest() if secret else b""
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def claims_of(user: User, **changed: Any) -> dict[str, Any]:
    claims = {"sub": user.name, "aud": "notifier:stream", "exp": int(time.time()) + 60, **changed}
    return {name: value for name, value in claims.items() if value is not None}


BAD_TOKENS: dict[str, Callable[[User, str], str]] = {
    "no token at all": lambda user, pem: "nonsense",
    "cut": lambda user, pem: user.token[:-3],
    "expired": lambda user, pem: subscriber_token(user.name, expires_in_s=-60),
    "for publishing": lambda user, pem: subscriber_token(user.name, aud="notifier:publish"),
    "for another service": lambda user, pem: subscriber_token(user.name, aud="shop"),
    "without audience": lambda user, pem: forged({"alg": "HS256"}, claims_of(user, aud=None), JWT_SECRET),
    "without a user": lambda user, pem: forged({"alg": "HS256"}, claims_of(user, sub=None), JWT_SECRET),
    "without an end": lambda user, pem: forged({"alg": "HS256"}, claims_of(user, exp=None), JWT_SECRET),
    "a number as user": lambda user, pem: forged({"alg": "HS256"}, claims_of(user, sub=42), JWT_SECRET),
    "a control character in the user": lambda user, pem: subscriber_token(f"{user.name}\n"),
    "too long a user": lambda user, pem: subscriber_token("a" * 129),
    "a lone surrogate in the user": lambda user, pem: subscriber_token("\ud800"),
    "groups that are no list": lambda user, pem: subscriber_token(user.name, groups="staff"),
    "another secret": lambda user, pem: forged({"alg": "HS256"}, claims_of(user), JWT_SECRET + "2"),
    "alg none": lambda user, pem: forged({"alg": "none"}, claims_of(user), ""),
    "alg None": lambda user, pem: forged({"alg": "None"}, claims_of(user), ""),
    "alg none, signed": lambda user, pem: forged({"alg": "none"}, claims_of(user), JWT_SECRET),
    "HS512": lambda user, pem: jwt.encode(claims_of(user), JWT_SECRET * 2, algorithm="HS512"),
    "the public key as HMAC secret": lambda user, pem: forged({"alg": "HS256"}, claims_of(user), pem),
    "the stripped public key as HMAC secret": lambda user, pem: forged({"alg": "HS256"}, claims_of(user), pem.strip()),
    "another private key": lambda user, pem: jwt.encode(claims_of(user), _foreign_key(), algorithm="RS256"),
    "an API key": lambda user, pem: API_KEY,
}


def _foreign_key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_an_invalid_token(tight: Service, user_of: Callable[..., User], public_pem: str, kind: str) -> None:
    user = user_of(tight)
    with calling(tight, API_KEY) as publisher, calling(tight) as anyone:
        sent = publisher.post("/v1/messages", json={"to": [user.channel], "subject": "Test"}).json()
        token = BAD_TOKENS[kind](user, public_pem)
        with user.sees_no_change():
            for headers in (bearer(token), {"Cookie": f"notifier_token={token}", "Origin": tight.url}):
                answers = [
                    anyone.get("/v1/stream", headers=headers),
                    anyone.get("/v1/inbox", headers=headers),
                    anyone.get("/v1/inbox/unread", headers=headers),
                    anyone.post("/v1/inbox/read", json={"all": True}, headers=headers),
                    anyone.delete(f"/v1/inbox/{sent['id']}", headers=headers),
                    anyone.get("/v1/tasks", headers=headers),
                ]
                for answer in answers:
                    problem_of(answer, 401)
                    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
            problem_of(anyone.get("/v1/stream", params={"token": token}), 401)


def test_a_token_of_the_private_key_is_accepted(
    tight: Service, user_of: Callable[..., User], signing_key: RSAPrivateKey
) -> None:
    user = user_of(tight)
    token = jwt.encode(claims_of(user), signing_key, algorithm="RS256")
    with calling(tight, token) as client:
        assert client.get("/v1/inbox").status_code == 200


def test_an_invalid_publishers_token(tight: Service, user_of: Callable[..., User], public_pem: str) -> None:
    user = user_of(tight)
    claims = claims_of(user, aud="notifier:publish")
    bad = [
        forged({"alg": "none"}, claims, ""),
        forged({"alg": "HS256"}, claims, public_pem),
        forged({"alg": "HS256"}, {**claims, "exp": int(time.time()) - 60}, JWT_SECRET),
        forged({"alg": "HS256"}, {**claims, "aud": "notifier:stream"}, JWT_SECRET),
        forged({"alg": "HS256"}, {**claims, "aud": []}, JWT_SECRET),
        user.token,
    ]
    with user.sees_no_change():
        for token in bad:
            with calling(tight, token) as client:
                body = {"to": [user.channel], "subject": "Test"}
                problem_of(client.post("/v1/messages", json=body), 401)
    good = forged({"alg": "HS256"}, claims, JWT_SECRET)
    with calling(tight, good) as client:
        assert client.post("/v1/messages", json={"to": [user.channel], "subject": "Test"}).status_code == 200


def test_a_problem_never_contains_a_credential(anyone: httpx.Client, user: User) -> None:
    for credential in (unique("secret-key-0123456789"), user.token + "x"):
        for path in ("/v1/inbox", "/v1/stream"):
            assert credential not in anyone.get(path, headers=bearer(credential)).text
        assert credential not in anyone.post("/v1/messages", headers=bearer(credential)).text
