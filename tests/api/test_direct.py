"""A publisher's request has the same answer on both ways: straight from the protocol, and through ASGI and routes."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from itertools import product

import jwt
import pytest

from notifier.auth import subscriber_token, topic_grant
from tests.api.request_corpus import KEY, requests
from tests.api.sides import SECRET, CountingProtocol, side
from tests.raw_http import Answer, Exchange, request
from tests.support import RedisServer

COUNT = 2000
VOLATILE = re.compile(
    rb'"(?:started_at|updated_at|ended_at)":"[^"]+"|"eta_s":[0-9.]+|[0-9a-f]{32}|(?<="cursor":")[0-9a-z]+|[0-9.]+ s\b'
)
"""Times, random ids, and the epoch, which each broker has for itself."""


def shown(exchange: Exchange) -> list[tuple[int, dict[str, str], bytes]]:
    """What must be equal: status, headers, body."""
    return [(answer.status, _headers(answer), VOLATILE.sub(b"*", answer.body)) for answer in exchange]


def _headers(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}


COUNTS = pytest.mark.parametrize("count", [COUNT // 4, pytest.param(COUNT, marks=pytest.mark.full)])


@COUNTS
async def test_a_corpus_has_the_same_answers_on_both_ways(count: int) -> None:
    await compare("", count)


@COUNTS
async def test_a_corpus_has_the_same_answers_on_both_ways_on_redis(redis_server: RedisServer, count: int) -> None:
    await compare(redis_server.url, count)


async def compare(url: str, count: int) -> None:
    statuses: dict[int, int] = {}
    async with side(direct=True, redis_url=url) as direct, side(direct=False, redis_url=url) as routed:
        CountingProtocol.through_asgi = 0
        for number, data in enumerate(requests(count)):
            exchange = await direct.ask([data])
            through_asgi = CountingProtocol.through_asgi
            assert shown(exchange) == shown(await routed.ask([data])), (number, data[:2000])
            CountingProtocol.through_asgi = through_asgi
            for answer in exchange:
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
    assert CountingProtocol.through_asgi < count / 2, "most requests of the corpus are plain"
    assert {200, 400, 401, 404, 405, 409, 413, 415, 422} <= statuses.keys()
    assert statuses[200] > count / 5, statuses


@pytest.mark.parametrize("count", [COUNT // 10, pytest.param(COUNT, marks=pytest.mark.full)])
async def test_requests_split_at_every_byte_have_the_same_answers(count: int) -> None:
    chooser = random.Random(7)
    async with side(direct=True) as direct, side(direct=False) as routed:
        for data in requests(count):
            if len(data) < 2000:
                pieces = [data[at : at + 1] for at in range(len(data))]
                assert shown(await direct.ask(pieces)) == shown(await routed.ask([data])), data
            cut = chooser.randrange(1, len(data))
            assert shown(await direct.ask([data[:cut], data[cut:]])) == shown(await routed.ask([data])), data


def stream_requests() -> Iterator[bytes]:
    token = jwt.encode(
        {"sub": "7", "aud": "notifier:stream", "exp": int(time.time()) + 3600}, SECRET, algorithm="HS256"
    )
    expired = jwt.encode({"sub": "7", "aud": "notifier:stream", "exp": 1}, SECRET, algorithm="HS256")
    credentials = (
        [],
        [f"Authorization: Bearer {token}"],
        [f"Authorization: bearer  {token} "],
        [f"Authorization: Bearer {expired}"],
        ["Authorization: Basic eDp5"],
        ["Authorization: Bearer x.y.z"],
        [f"Cookie: a=b; notifier_token={token}"],
        [f"Cookie: notifier_token={expired}"],
    )
    places = (
        [],
        ["Last-Event-ID: "],
        ["Last-Event-ID: nonsense"],
        ["Last-Event-ID: abcdef-7"],
        ["Last-Event-ID: a-1", "Last-Event-ID: b-2"],
        ["X-Forwarded-For: 10.0.0.7"],
        ["Origin: https://example.com"],
        ["Content-Length: 0"],
    )
    queries = (
        "",
        "?",
        f"?token={token}",
        f"?token={token}&last_event_id=x-7",
        "?token=%ff&lastEventId=a-1&lastEventId=",
    )
    for credential, place, query in product(credentials, places, queries):
        yield request("GET", f"/v1/stream{query}", *credential, *place)


async def test_streams_open_alike_on_both_ways() -> None:
    volatile = re.compile(
        rb"date: [^\r]+|retry: \d+|\"time\":\"[^\"]+|(?<=id: )[0-9a-f]{12}|\r\n[0-9a-f]{2,3}\r\n"
        rb"|(?<=\"connection\":\")[0-9a-f]+"
    )
    async with side(direct=True) as direct, side(direct=False) as routed:
        CountingProtocol.through_asgi = 0
        corpus = list(stream_requests())
        for data in corpus:
            opened = await direct.open(data)
            through_asgi = CountingProtocol.through_asgi
            assert volatile.sub(b"*", opened) == volatile.sub(b"*", await routed.open(data)), data
            CountingProtocol.through_asgi = through_asgi
        assert CountingProtocol.through_asgi < len(corpus) - 60


async def test_streams_over_a_limit_are_refused_alike_on_both_ways() -> None:
    """By an event of a stream, also in its framing: clients read it with the code that reads streams."""
    token = jwt.encode(
        {"sub": "7", "aud": "notifier:stream", "exp": int(time.time()) + 3600}, SECRET, algorithm="HS256"
    )
    data = request("GET", "/v1/stream", f"Authorization: Bearer {token}", "Last-Event-ID: abc-7")
    received: list[bytes] = []
    for is_direct in (True, False):
        async with side(direct=is_direct) as service:
            places = [await service.connect([data]) for _ in range(20)]
            for reader, _, _ in places:
                await reader.readuntil(b"event: ")
            refused = await service.open(data)
            for _, writer, _ in places:
                writer.close()
        received.append(re.sub(rb"date: [^\r]+|(retry: |\"retry_ms\":)\d+|\r\n[0-9a-f]{2,3}\r\n", b"*", refused))
    assert received[0] == received[1]
    assert b'id: abc-7\nevent: bye\ndata: {"reason":"evicted"' in received[0]
    assert b"transfer-encoding: chunked" in received[0]


def join_requests(connection: str) -> Iterator[bytes]:
    token = subscriber_token(SECRET, "7")
    granted = topic_grant(SECRET, "7", ["order:1"])
    bodies = [
        {"connection": connection, "add": [granted], "since": "abc-1"},
        {"connection": connection, "add": [granted], "state": {"order:1": "editing"}},
        {"connection": connection, "remove": ["order:1"]},
        {"connection": "f" * 32, "add": [granted]},
        {"connection": connection, "add": [topic_grant(SECRET, "8", ["order:1"])]},
        {"connection": connection, "add": [topic_grant(SECRET, "7", ["order:1"], ttl_s=-60)]},
        {"connection": connection, "add": ["x.y.z"]},
        {"connection": connection, "add": [granted] * 201},
        {"connection": connection, "state": {"order:1": "NOT A STATE"}},
        {"connection": connection, "more": 1},
        {},
        [],
    ]
    heads = [
        [f"Authorization: Bearer {token}"],
        [f"Authorization: Bearer {token}", "Origin: http://service"],
        [f"Authorization: Bearer {token}", "Origin: https://page", "Sec-Fetch-Site: same-origin"],
        [f"Authorization: Bearer {token}", "Origin: https://page"],
        [f"Authorization: Bearer {token}", "Content-Encoding: gzip"],
        [f"Cookie: notifier_token={token}", "Origin: http://service"],
        [f"Cookie: notifier_token={token}", "Origin: https://page", "Sec-Fetch-Site: same-origin"],
        [f"Cookie: notifier_token={token}"],
        ["Authorization: Bearer x.y.z"],
        [],
    ]
    for value, head in product([*(json.dumps(each).encode() for each in bodies), b"no JSON", b""], heads):
        yield request("POST", "/v1/stream/topics", f"Content-Length: {len(value)}", *head, body=value)


async def test_joins_have_the_same_answers_on_both_ways() -> None:
    """Also those of pages, whose browsers send an Origin."""
    exchanges: list[list[object]] = []
    for is_direct in (True, False):
        async with side(direct=is_direct) as service:
            opening = request("GET", "/v1/stream", f"Authorization: Bearer {subscriber_token(SECRET, '7')}")
            reader, writer, _ = await service.connect([opening])
            hello = await reader.readuntil(b"\n\n")
            CountingProtocol.through_asgi = 0
            connection = re.findall(r'"connection":"(\w+)"', hello.decode())[0]
            corpus = list(join_requests(connection))
            exchanges.append([shown(await service.ask([data])) for data in corpus])
            if is_direct:
                assert CountingProtocol.through_asgi == 5 * len(corpus) / 10, "without permission, or of another origin"
            writer.close()
    assert exchanges[0] == exchanges[1]


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Also where one of them goes through ASGI, and those after it must wait for its response."""
    kinds = [
        request("POST", "/v1/events", "Content-Length: 29", body=b'{"to":["all"],"type":"first"}', key=KEY),
        request("GET", "/healthz"),
        request("PUT", "/v1/events", key=KEY),
    ]
    for order in ([0, 0, 1, 0, 2, 0, 0], [1, 0, 0, 2], [2, 1, 0]):
        async with side(direct=True) as direct:
            answers = await direct.ask([b"".join(kinds[kind] for kind in order)], answers=len(order))
        assert [answer.status for answer in answers] == [(200, 200, 405)[kind] for kind in order]
        assert [b"cursor" in answer.body for answer in answers] == [kind == 0 for kind in order]
