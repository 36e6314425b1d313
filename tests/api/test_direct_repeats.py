"""An idempotency key is one key on both ways: a retry may come chunked, or by a proxy, of what ran directly before."""

from __future__ import annotations

import json

import pytest

from notifier.auth import subscriber_token
from tests.api.request_corpus import KEY, SECRET, TWO_PROXIES
from tests.api.sides import CountingProtocol, Side, side
from tests.raw_http import chunked, request

KEY_HEADER = "Idempotency-Key: once"
HOT_CALLS = {
    "message": ("POST", "/v1/messages", {"to": ["user:7"], "subject": "Report ready", "text": "Of May"}),
    "event": ("POST", "/v1/events", {"to": ["user:7"], "type": "order.paid", "data": {"order": 7}}),
    "task": ("POST", "/v1/tasks", {"to": ["user:7"], "name": "Import", "total": 10}),
    "patch": ("PATCH", "/v1/tasks/counted", {"advance": 1}),
    "batch": (
        "POST",
        "/v1/batch",
        [
            {"kind": "message", "to": ["user:7"], "subject": "Report ready", "text": "Of May"},
            {"kind": "event", "to": ["user:7"], "type": "order.paid"},
            {"kind": "task", "to": ["user:7"], "name": "Import"},
            {"kind": "patch", "id": "counted", "advance": 1},
            {"kind": "output", "id": "counted", "text": "Row 7 read"},
        ],
    ),
}


def written_in_other_ways(method: str, path: str, body: bytes) -> dict[str, bytes]:
    """One request, as it runs directly, and as the routes get it."""
    length = f"Content-Length: {len(body)}"
    rest = (KEY_HEADER, "Content-Type: application/json")
    return {
        "plain": request(method, path, length, *rest, body=body, key=KEY),
        "chunked": request(method, path, "Transfer-Encoding: chunked", *rest, body=chunked(body), key=KEY),
        "HTTP/1.0": request(method, path, length, *rest, body=body, key=KEY, version="1.0"),
        "with a query": request(method, f"{path}?a=b", length, *rest, body=body, key=KEY),
        "with an absolute address": request(method, f"http://other{path}", length, *rest, body=body, key=KEY),
        "behind two proxies": request(method, path, length, *rest, *TWO_PROXIES, body=body, key=KEY),
    }


@pytest.mark.parametrize("kind", HOT_CALLS)
@pytest.mark.parametrize("first_way", ["plain", "chunked"])
async def test_a_repeat_under_one_key_is_a_repeat_also_on_the_other_way(kind: str, first_way: str) -> None:
    """It has the first answer, with its ids, and nothing is stored or announced again."""
    method, path, value = HOT_CALLS[kind]
    ways = written_in_other_ways(method, path, json.dumps(value).encode())
    counted = json.dumps({"to": ["user:7"], "name": "Counted", "id": "counted"}).encode()
    async with side(direct=True) as service:
        await service.ask([request("POST", "/v1/tasks", f"Content-Length: {len(counted)}", body=counted, key=KEY)])
        start = json.loads((await kept(service, ""))[0])["cursor"]
        before = await kept(service, start)
        (first,) = await service.ask([ways[first_way]])
        assert first.status == 200
        assert b'"status":4' not in first.body, first
        after = await kept(service, start)
        assert before != after
        CountingProtocol.through_asgi = 0
        for way, data in ways.items():
            (repeat,) = await service.ask([data])
            assert (repeat.status, repeat.body) == (200, first.body), way
        assert CountingProtocol.through_asgi == len(ways) - 1, "all ways but the plain"
        assert await kept(service, start) == after


async def kept(service: Side, after: str) -> list[bytes]:
    """The user's events after a cursor, with the newest cursor, the tasks and the unread count; a task's output."""
    token = f"Authorization: Bearer {subscriber_token(SECRET, '7')}"
    paths = (f"/v1/poll?wait_s=0&after={after}", "/v1/tasks/counted/output")
    return [(await service.ask([request("GET", path, token)]))[0].body for path in paths]
