"""Requests of publishers by the thousand: valid, invalid and hostile, as bytes. The same in every run."""

from __future__ import annotations

import codecs
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import jwt

from notifier.settings import ApiKey
from tests.raw_http import chunked, request

SECRET = "a secret of this test, long enough"
KEY = "a publisher's key of the corpus, long enough"
NARROW_KEY = "a key that reaches one user and one group"
ADMIN_KEY = "a key that may not publish at all"
API_KEYS = (
    ApiKey(KEY, frozenset({"publish"})),
    ApiKey(NARROW_KEY, frozenset({"publish"}), "shop", ("user:7", "group:staff")),
    ApiKey(ADMIN_KEY, frozenset({"admin"})),
)
CORS_ORIGINS = ("https://page.example", "http://service")
"""The second is a page without TLS on the service's own host, which has TLS."""


def _token(**claims: Any) -> str:
    return jwt.encode({"aud": "notifier:publish", "exp": 4102444800, **claims}, SECRET, algorithm="HS256")


TOKENS = (
    _token(), _token(sub="shop"), _token(iss="crm"), _token(sub="shop", scope="publish admin"), _token(scope="admin"),
    _token(exp=1), _token(aud="notifier:stream", sub="7"), jwt.encode({}, SECRET + "!", algorithm="HS256"), "x.y.z",
)  # fmt: skip
"""Of publishers, and refused."""
CREDENTIALS = (*[KEY] * 50, NARROW_KEY, ADMIN_KEY, *TOKENS)
EXCLUSIONS: tuple[dict[str, Any], ...] = (
    {"except": ["user:7"]}, {"except": ["user:7", "user:8"], "except_connection": "f" * 32}, {"except": []},
    {"except_connection": "f" * 32}, {"except": None, "except_connection": None}, {"except": ["group:staff"]},
    {"except": [f"user:{number}" for number in range(51)]}, {"except": "user:7"}, {"except_connection": "NO ID"},
)  # fmt: skip
PATHS = ("/v1/messages", "/v1/events", "/v1/batch", "/v1/tasks", "/v1/tasks/import-7")

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**16, 2**64, 10**30, "", "x", "all", "user:7", "group:staff", "user:", "x" * 300,
    "é\u2028😀", "\x00", "\ud800", "\x7f\x1b", "</script>", "javascript:alert(1)", "https://example.com/a?b=c", "/r/7",
    "2026-01-31T15:00:00+03:00", "2026-01-31T15:00:00", "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "info", "bell",
    [], {}, [[]], {"a": 1}, {"id": "7", "name": "Ann"}, {"id": 7}, {"mail": "x"}, ["all"], ["user:1", "user:2", "all"],
    ["user:1", "user:1"], ["nowhere"], [7], "running", "succeeded", "unknown", {"a": {"b": [1, {"c": None}]}},
    "y" * 20_000,
)  # fmt: skip
PAGES: tuple[tuple[str, ...], ...] = (
    ("Origin: https://example.com",), ("Origin: https://page.example",), ("Origin: https://service",),
    ("Origin: null",), ("Origin: http://service",), ("Origin: http://service", "Sec-Fetch-Site: cross-site"),
    ("Origin: ",), ("Origin: https://service", "Sec-Fetch-Site: same-origin"),
    ("Origin: https://service", "Sec-Fetch-Site: same-site"), ("Origin: http://service", "Sec-Fetch-Site: "),
    ("Origin: https://other.name", "Sec-Fetch-Site: same-origin"),
    ("Origin: https://page.example", "Sec-Fetch-Site: cross-site"), ("Origin: https://page.example:8443",),
    ("Origin: https://page.example", "Origin: https://example.com"), ("Origin: https://page.example, http://service",),
    ("Origin: HTTPS://PAGE.EXAMPLE",),
)  # fmt: skip
"""The headers of browsers by which the service knows where a page comes from."""
TWO_PROXIES = ("X-Forwarded-For: 10.0.0.7", "X-Forwarded-For: 10.0.0.8")
PROXIES: tuple[tuple[str, ...], ...] = (
    ("X-Forwarded-For: 10.0.0.7",), ("X-Forwarded-For: 10.0.0.7, 192.0.2.1", "X-Forwarded-Proto: https"),
    ("X-Forwarded-Proto: http", "X-Forwarded-Host: other.example", "X-Forwarded-Port: 8443"),
    ("Forwarded: for=10.0.0.7;proto=https;host=other.example",), ("Via: 1.1 proxy.example", "X-Real-IP: 10.0.0.7"),
    TWO_PROXIES, ("X-Forwarded-For: ", "X-Forwarded-Proto: nonsense"),
    ("X-Forwarded-Prefix: /admin", "X-Original-URL: /v1/tasks", "X-Rewrite-URL: /v1/tasks"),
    ("X-Forwarded-Proto: http", "Origin: http://service"), ("Forwarded: proto=http", "Origin: https://page.example"),
)  # fmt: skip
"""The headers of proxies, also with those of a browser behind them."""
NAMES = (
    "to", "id", "from", "subject", "text", "sent_at", "level", "url", "icon", "data", "expires_at", "type", "durable",
    "name", "state", "total", "done", "status", "error", "advance", "kind", "unknown", "", "specversion", "source",
)  # fmt: skip
VALID: dict[str, dict[str, Any]] = {
    "/v1/messages": {"to": ["user:7"], "subject": "Report ready", "text": "Of May", "data": {"report": 7}},
    "/v1/events": {"to": ["group:staff"], "type": "order.paid", "data": {"order": 7, "rows": [1, 2.5, None]}},
    "/v1/tasks": {"to": ["user:7"], "name": "Import", "total": 10},
    "/v1/tasks/import-7": {"done": 3, "state": "Reading"},
    "/v1/tasks/import-7/output": {"text": "Row 7 read\n"},
}
CLOUD = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid", "to": "user:7,all", "data": {"a": 1}}
RAW = (
    b"", b"null", b"[]", b"{}", b"7", b'"text"', b"{", b'{"to"', b'{"to":["all"],"to":["all"],"type":"x"}', b"\xff",
    b'{"to":["all"],"type":"x","data":{"a":1,"a":2}}', b'{"to":["all"],"type":"x","data":{"a" :1,"a":2}}',
    b'{"to":["all"],"type":"x","data":{"a":1,"a"\r\n\t :2}}',
    b'{"to" :["all"],"type":"x","data":{"a\\" :":1,"b" :"\\"  :"}}',
    b'{"to":["all"],"type":"x","data":NaN}', b'{"to":["all"],"type":"x","data":1e999}', b'{"to":["all"],"type":"x",}',
    b'{"to":["all"],"type":"x","data":"\xed\xa0\x80"}', b'{"to":["all"],"type":"x","data":"\\u0000"}',
    b'{"to":["all"],"type":"x","data":"a\\":b"}', b'{"to":["all"],"type":"x","data":"\\ud83d\\ude00"}',
    b'{"to":["all"],"type":"x","data":"\\ud83d"}', b'{"to" : ["all"] , "type"\n:\t"x"}', b'{"to":["all"],"type":"x"} x',
    codecs.BOM_UTF8 + b'{"to":["all"],"type":"x"}', 2 * codecs.BOM_UTF8 + b'{"to":["all"],"type":"x"}', codecs.BOM_UTF8,
    2 * codecs.BOM_UTF8 + b'[{"kind":"event","to":["all"],"type":"x"}]',
    b'{"to":["all"],"type":"x","data":' + b"[" * 31 + b"]" * 31 + b"}",
    b'{"to":["all"],"type":"x","data":' + b"[" * 30 + b"]" * 30 + b"}", b"[" * 100_000,
    b'{"a":' * 40 + b"1" + b"}" * 40,
    b'{"to":["all"],"type":"x","data":12345678901234567890123}', b'{"to":["all"],"type":"x","data":1.0e5}',
)  # fmt: skip


def requests(count: int) -> Iterator[bytes]:
    """So many requests, each for a connection of its own."""
    chooser = random.Random(20261128)
    for number in range(count):
        path = chooser.choice(PATHS)
        body, content_type = _body(chooser, path)
        yield _request(chooser, path, body, content_type, number)


def bodies(count: int) -> Iterator[bytes]:
    """All of `RAW`, and so many generated bodies with their lines."""
    yield from RAW
    chooser = random.Random(20261201)
    for _ in range(count):
        body, content_type = _body(chooser, chooser.choice(PATHS))
        yield body
        if "ndjson" in content_type:
            yield from body.split(b"\n")


def _body(chooser: random.Random, path: str) -> tuple[bytes, str]:
    if chooser.random() < 0.2:
        return chooser.choice(RAW), "application/json"
    if path == "/v1/batch":
        return _batch(chooser)
    if path == "/v1/events" and chooser.random() < 0.2:
        return _encoded(chooser, _changed(chooser, CLOUD)), chooser.choice(
            ("application/cloudevents+json; charset=utf-8", "Application/CloudEvents+JSON")
        )
    fields = VALID[path]
    if path in ("/v1/messages", "/v1/events") and chooser.random() < 0.2:
        fields = {**fields, **chooser.choice(EXCLUSIONS)}
    if path == "/v1/tasks" and chooser.random() < 0.3:
        fields = {**fields, "id": f"import-{chooser.randrange(6, 9)}"}
    return _encoded(chooser, _changed(chooser, fields)), chooser.choice(("application/json", "text/plain", ""))


def _batch(chooser: random.Random) -> tuple[bytes, str]:
    kinds = {
        "message": "/v1/messages", "event": "/v1/events", "task": "/v1/tasks", "patch": "/v1/tasks/import-7",
        "output": "/v1/tasks/import-7/output",
    }  # fmt: skip
    items = []
    for _ in range(chooser.randrange(1, 6)):
        kind = chooser.choice(list(kinds))
        item = {"kind": kind, **VALID[kinds[kind]], **({"id": "import-7"} if kind in ("patch", "output") else {})}
        items.append(_changed(chooser, item))
    if chooser.random() < 0.5:
        return b"[%s]" % b",".join(_encoded(chooser, item) for item in items), "application/json"
    return b"\n".join(json.dumps(item).encode() for item in items), "application/x-ndjson"


def _changed(chooser: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    changed = dict(fields)
    for _ in range(chooser.choice((0, 0, 1, 1, 2))):
        if changed and chooser.random() < 0.2:
            del changed[chooser.choice(list(changed))]
        else:
            changed[chooser.choice(NAMES)] = chooser.choice(VALUES)
    return changed


def _encoded(chooser: random.Random, value: object) -> bytes:
    form: dict[str, Any] = chooser.choice(
        ({}, {"separators": (",", ":")}, {"indent": 1}, {"separators": (" ,", " : ")}, {"ensure_ascii": False})
    )
    return json.dumps(value, **form).encode("utf-8", "surrogatepass")


def _request(chooser: random.Random, path: str, body: bytes, content_type: str, number: int) -> bytes:
    """Plain in most cases; otherwise with one thing about it that is not."""
    key = chooser.choice(CREDENTIALS)
    headers = [f"Content-Type: {content_type}"] if content_type else []
    length = f"Content-Length: {len(body)}"
    odd: Callable[[], bytes] = chooser.choice(
        (
            lambda: request("POST", path, *headers, length, "X-Two: 1", "X-Two: 2", body=body, key=KEY),
            lambda: request("POST", path, *headers, length, "Connection: close", body=body, key=KEY),
            lambda: request("POST", path, *headers, "Transfer-Encoding: chunked", body=chunked(body), key=KEY),
            lambda: request("POST", path, *headers, length, body=body, key=KEY, version="1.0"),
            lambda: request("POST", path, *headers, length, *chooser.choice(PAGES), body=body, key=KEY),
            lambda: request("POST", path, *headers, length, *chooser.choice(PAGES), body=body, key=KEY),
            lambda: request("POST", path, *headers, length, *chooser.choice(PROXIES), body=body, key=KEY),
            lambda: request("POST", path, *headers, length, *chooser.choice(PROXIES), body=body, key=KEY),
            lambda: request("POST", path, *headers, *chooser.choice(PAGES), key="wrong"),
            lambda: request("POST", path, *headers, key=key),
            lambda: request("POST", path, *headers, length, "Expect: 100-continue", body=body, key=KEY),
            lambda: request("POST", path, *headers, length, "Content-Encoding: gzip", body=body, key=KEY),
            lambda: request("POST", path, *headers, length, "Content-Encoding: identity", body=body, key=KEY),
            lambda: request("POST", path, *headers, length, "Upgrade: websocket", body=body, key=KEY),
            lambda: request("POST", path, *headers, length, body=body),
            lambda: request("POST", path, *headers, length, body=body, key="wrong"),
            lambda: request("POST", path, *headers, length, f"authorization: bearer  {KEY} ", body=body),
            lambda: request("POST", path, *headers, length, "Authorization: Basic eDp5", body=body),
            lambda: request("POST", path, *headers, length, f"Idempotency-Key: {'k' * 256}", body=body, key=KEY),
            lambda: request("POST", path, *headers, length, "Idempotency-Key: a\tb", body=body, key=KEY),
            lambda: request("PUT", path, *headers, length, body=body, key=KEY),
            lambda: request("GET", path, key=KEY),
            lambda: request("POST", path + "?a=b", *headers, length, body=body, key=KEY),
            lambda: request("POST", path + "/", *headers, length, body=body, key=KEY),
            lambda: request("POST", "http://service" + path, *headers, length, body=body, key=KEY),
            lambda: request("PATCH", "/v1/tasks/im%70ort-7", *headers, length, body=body, key=KEY),
            lambda: request("PATCH", "/v1/tasks/../tasks/import-7", *headers, length, body=body, key=KEY),
            lambda: request("PATCH", "/v1/tasks/", *headers, length, body=body, key=KEY),
            lambda: request("PATCH", "/v1/tasks/nowhere", *headers, length, body=body, key=KEY),
            lambda: request("POST", path, *headers, "Content-Length: 70000", body=body.ljust(70_000), key=KEY),
            lambda: request("POST", path, *headers, "Content-Length: 9999999", body=body, key=KEY),
        )
    )
    if chooser.random() < 0.25:
        return odd()
    if chooser.random() < 0.3:
        headers.append(f"Idempotency-Key: key-{chooser.randrange(30) if chooser.random() < 0.3 else number}")
    method = "PATCH" if path.startswith("/v1/tasks/") else "POST"
    return request(method, path, *headers, length, body=body, key=key)
