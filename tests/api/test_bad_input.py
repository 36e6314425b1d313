"""Bad input to any call: the response is problem+json that names the field, and nothing changes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.bodies import BODIES, OMIT, body_for, nested
from tests.api.conftest import ONE_BROKER
from tests.api.support import User, problem_of

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


@ONE_BROKER
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("to", "field"), RECIPIENTS, ids=lambda value: ascii(value)[:30])
def test_recipients_that_break_a_rule(publisher: httpx.Client, user: User, path: str, to: Any, field: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post(path, content=body_for(path, user, {"to": to})), 422, field)


@ONE_BROKER
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


@ONE_BROKER
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_a_body_that_is_no_json_object(publisher: httpx.Client, user: User, path: str, body: bytes) -> None:
    with user.sees_no_change():
        problem_of(publisher.post(path, content=body.replace(b"user:42", user.channel.encode())), 400, "body")


@ONE_BROKER
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


@ONE_BROKER
def test_json_deeper_than_any_parser_allows(publisher: httpx.Client, user: User) -> None:
    with user.sees_no_change():
        for body in (b"[" * 30_000, b'{"data":' * 8_000, b"[" * 30_000 + b"]" * 30_000):
            problem_of(publisher.post("/v1/messages", content=body), 422, "body")


@ONE_BROKER
@pytest.mark.parametrize("path", [*BODIES, "/v1/inbox/read"])
def test_a_body_over_64_kib(publisher: httpx.Client, user: User, path: str) -> None:
    client = user.client if path == "/v1/inbox/read" else publisher

    def in_pieces() -> Any:
        yield from (b" " * 1024 for _ in range(65))

    with user.sees_no_change():
        problem_of(client.post(path, content=b" " * (64 * 1024 + 1)), 413, "body")
        problem_of(client.post(path, content=in_pieces()), 413, "body")


@ONE_BROKER
@pytest.mark.parametrize("path", [*BODIES, "/v1/batch", "/v1/inbox/read"])
@pytest.mark.parametrize("encoding", ["gzip", "BR", "identity, gzip"])
def test_an_encoded_body(publisher: httpx.Client, user: User, path: str, encoding: str) -> None:
    client = user.client if path == "/v1/inbox/read" else publisher
    with user.sees_no_change():
        answer = client.post(path, content=b"\x1f\x8b", headers={"Content-Encoding": encoding})
        assert "uncompressed" in problem_of(answer, 415, "Content-Encoding")["detail"]


@ONE_BROKER
@pytest.mark.parametrize("path", BODIES)
def test_a_byte_order_mark_before_json_is_read_over(publisher: httpx.Client, user: User, path: str) -> None:
    body = b"\xef\xbb\xbf" + body_for(path, user, {})
    assert publisher.post(path, content=body, headers={"Content-Encoding": "identity"}).status_code == 200


@ONE_BROKER
@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_a_byte_order_mark_before_a_batch_is_read_over(publisher: httpx.Client, user: User, kind: str) -> None:
    item = b'{"kind": "message", ' + body_for("/v1/messages", user, {})[1:]
    body = b"\xef\xbb\xbf" + (b"[%b]" % item if kind == "application/json" else item)
    answer = publisher.post("/v1/batch", content=body, headers={"Content-Type": kind})
    assert [result["status"] for result in answer.json()["results"]] == [200]


@ONE_BROKER
def test_a_body_of_64_kib_is_read(publisher: httpx.Client, user: User) -> None:
    body = body_for("/v1/messages", user, {})
    assert publisher.post("/v1/messages", content=body + b" " * (64 * 1024 - len(body))).status_code == 200


@ONE_BROKER
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


# Paths and methods


@ONE_BROKER
@pytest.mark.parametrize("path", ["/", "/v1", "/v1/message", "/v2/messages", "/v1/tasks/a/b/c", "/client/nothing.js"])
def test_an_unknown_path_is_a_problem_too(anyone: httpx.Client, path: str) -> None:
    problem_of(anyone.get(path), 404)


@ONE_BROKER
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/messages", {"POST"}),
        ("PUT", "/v1/tasks", {"GET", "POST"}),
        ("PUT", "/v1/tasks/t1", {"GET", "PATCH", "DELETE"}),
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
