"""A request has the same answer on both ways: straight from the protocol, and through ASGI and routes."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from itertools import product

import jwt
import pytest

from notifier import json_text, parsing
from notifier.auth import subscriber_token, topic_grant
from notifier.control import StreamCalls
from notifier.errors import NotifierError
from tests.api.request_corpus import CORS_ORIGINS, KEY, PAGES, SECRET, bodies, requests
from tests.api.sides import DATE, CountingProtocol, side
from tests.raw_http import Answer, Exchange, request
from tests.support import RedisServer

COUNT = 2000
PUBLISH_RATE = 10
VOLATILE = re.compile(
    rb'"(?:started_at|updated_at|ended_at)":"[^"]+"|"eta_s":[0-9.]+|(?<="cursor":")[0-9a-z]+|[0-9.]+ s\b'
)
"""Times, and the epoch, which each broker has for itself."""
RANDOM_ID = re.compile(rb"[0-9a-f]{32}")


def shown(exchange: Exchange, *, random_ids: bool = True) -> list[tuple[int, dict[str, str], bytes]]:
    """What must be equal: status, headers, body. random_ids: false where each id follows from the request."""
    bodies = [VOLATILE.sub(b"*", answer.body) for answer in exchange]
    if random_ids:
        bodies = [RANDOM_ID.sub(b"*", body) for body in bodies]
    return [(answer.status, _headers(answer), body) for answer, body in zip(exchange, bodies, strict=True)]


def _headers(answer: Answer) -> dict[str, str]:
    """All of them. Every answer has the server's date and tells its true length, which depends on what is volatile."""
    assert answer.headers["date"] == DATE.decode(), answer
    assert answer.headers["content-length"] == str(len(answer.body)), answer
    return {name: value for name, value in answer.headers.items() if name != "content-length"}


async def test_a_corpus_has_the_same_answers_on_both_ways() -> None:
    """The whole corpus, each request in one piece; `make test` and `make test-faults` run it."""
    await compare("", COUNT)


@pytest.mark.parametrize("count", [COUNT // 4, pytest.param(COUNT, marks=pytest.mark.full)])
async def test_a_corpus_has_the_same_answers_on_both_ways_on_redis(redis_server: RedisServer, count: int) -> None:
    """A quarter of the corpus in `make test`; all of it in `make test-faults`."""
    await compare(redis_server.url, count)


async def compare(url: str, count: int) -> None:
    statuses: dict[int, int] = {}
    async with (
        side(direct=True, redis_url=url, publish_rate=PUBLISH_RATE) as direct,
        side(direct=False, redis_url=url, publish_rate=PUBLISH_RATE) as routed,
    ):
        CountingProtocol.through_asgi = 0
        for number, data in enumerate(requests(count)):
            exchange = await direct.ask([data])
            through_asgi = CountingProtocol.through_asgi
            random_ids = b"\r\nIdempotency-Key: " not in data
            expected = shown(await routed.ask([data]), random_ids=random_ids)
            assert shown(exchange, random_ids=random_ids) == expected, (number, data[:2000])
            CountingProtocol.through_asgi = through_asgi
            for answer in exchange:
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
        assert await direct.publish_counts() == await routed.publish_counts()
    assert CountingProtocol.through_asgi < count / 2, "most requests of the corpus are plain"
    assert {200, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429} <= statuses.keys()
    assert statuses[200] > count / 5, statuses


@pytest.mark.parametrize("count", [COUNT // 2, pytest.param(COUNT, marks=pytest.mark.full)])
async def test_requests_split_at_every_byte_have_the_same_answers(count: int) -> None:
    """Half of the corpus in `make test`; all of it in `make test-faults`. A request of 2,000 bytes or more, one in
    thirty, is split at one place only."""
    chooser = random.Random(7)
    async with side(direct=True) as direct, side(direct=False) as routed:
        for data in requests(count):
            if len(data) < 2000:
                pieces = [data[at : at + 1] for at in range(len(data))]
                assert shown(await direct.ask(pieces)) == shown(await routed.ask([data])), data
            cut = chooser.randrange(1, len(data))
            assert shown(await direct.ask([data[:cut], data[cut:]])) == shown(await routed.ask([data])), data


def test_the_parser_of_bodies_follows_the_rule_for_json() -> None:
    """In values, their types, and errors; what it writes is what it has read."""
    refused = 0
    for body in bodies(COUNT):
        outcome = outcome_of(parsing.parse_json, body)
        assert outcome == outcome_of(json_text.parse_json, body), body[:2000]
        if isinstance(outcome, tuple):
            refused += 1
        else:
            value = parsing.parse_json(body)
            assert repr(json.loads(parsing.to_json(value))) == outcome, body[:2000]
    assert COUNT / 20 < refused < COUNT / 2


def outcome_of(parse: Callable[[bytes], object], body: bytes) -> str | tuple[type, str, str]:
    try:
        return repr(parse(body))
    except NotifierError as exc:
        return type(exc), str(exc), exc.field or ""


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
        ["Content-Length: 0"],
    )
    queries = (
        "",
        "?",
        f"?token={token}",
        f"?token={token}&last_event_id=x-7",
        "?token=%ff&lastEventId=a-1&lastEventId=",
        f"?format=text&grant={topic_grant(SECRET, '7', ['order:1'])}",
        f"?grant={topic_grant(SECRET, '8', ['order:1'])}",
        "?grant=x.y.z",
    )
    for credential, place, query in (*product(credentials, places, queries), *product(credentials, PAGES, queries[:1])):
        yield request("GET", f"/v1/stream{query}", *credential, *place)


async def test_streams_open_alike_on_both_ways() -> None:
    volatile = re.compile(
        rb"date: [^\r]+|retry: \d+|\"time\":\"[^\"]+|(?<=id: )[0-9a-f]{12}|\r\n[0-9a-f]{2,3}\r\n"
        rb"|(?<=\"connection\":\")[0-9a-f]+"
    )

    def comparable(opened: bytes) -> bytes:
        head, end, events = opened.partition(b"\r\n\r\n")
        return volatile.sub(b"*", b"\r\n".join(sorted(head.split(b"\r\n"))) + end + events)

    async with side(direct=True) as direct, side(direct=False) as routed:
        CountingProtocol.through_asgi = 0
        corpus = list(stream_requests())
        for data in corpus:
            opened = await direct.open(data)
            through_asgi = CountingProtocol.through_asgi
            assert comparable(opened) == comparable(await routed.open(data)), data
            CountingProtocol.through_asgi = through_asgi
        assert CountingProtocol.through_asgi < len(corpus) / 2, CountingProtocol.through_asgi


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
    bearer, cookie = f"Authorization: Bearer {token}", f"Cookie: notifier_token={token}"
    heads = [
        [bearer],
        [bearer, "Origin: https://service"],
        [bearer, "Origin: https://page.example"],
        [bearer, "Content-Encoding: gzip"],
        [cookie, "Origin: https://page.example"],
        [cookie],
        ["Authorization: Bearer x.y.z", "Origin: https://page.example"],
        [],
    ]
    texts = [*(json.dumps(each).encode() for each in bodies), b"no JSON", b""]
    of_pages = [[credential, *page] for credential in (bearer, cookie) for page in PAGES]
    for value, head in (*product(texts, heads), *product(texts[:4], of_pages)):
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
                assert CountingProtocol.through_asgi < len(corpus) / 2, CountingProtocol.through_asgi
            writer.close()
    assert exchanges[0] == exchanges[1]


@pytest.mark.parametrize("origin", CORS_ORIGINS)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", None])
async def test_calls_of_an_allowed_page_run_directly(origin: str, site: str | None) -> None:
    """Also those that are answered with a problem."""
    page = [f"Origin: {origin}", *([f"Sec-Fetch-Site: {site}"] if site else [])]
    token = subscriber_token(SECRET, "7")
    body = json.dumps({"connection": "f" * 32}).encode()
    async with side(direct=True) as service:
        CountingProtocol.through_asgi = 0
        received = [
            await service.open(request("GET", "/v1/stream", *credential, *page))
            for credential in ([f"Authorization: Bearer {token}"], [f"Cookie: notifier_token={token}"], [])
        ]
        for credential in (f"Authorization: Bearer {token}", f"Cookie: notifier_token={token}"):
            head = [credential, *page, f"Content-Length: {len(body)}"]
            received.append(await service.open(request("POST", "/v1/stream/topics", *head, body=body)))
        assert CountingProtocol.through_asgi == 0
    assert [each.split()[1] for each in received] == [b"200", b"200", b"401", b"404", b"404"]
    for each in received:
        head = each.partition(b"\r\n\r\n")[0] + b"\r\n"
        assert b"\r\naccess-control-allow-origin: %b\r\n" % origin.encode() in head
        assert b"\r\nvary: Origin\r\n" in head


def cors_headers(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith(("access-control-", "vary"))}


@pytest.mark.parametrize("page", [(), *PAGES])
async def test_the_refusal_of_an_unreadable_request_has_the_headers_of_an_answer(page: tuple[str, ...]) -> None:
    """Those of the refusal of a token: a page reads either, or neither."""
    over = f"X-Long: {'x' * 40_000}"
    async with side(direct=True) as service:
        (answer,) = await service.ask([request("POST", "/v1/inbox/read", *page, "Content-Length: 0")])
        expected = cors_headers(answer)
        refusals = [
            await service.ask([data])
            for data in (
                request("GET", "/v1/stream", *page, over),
                request("GET", "/v1/stream", *page, "Host: other"),
                request("POST", "/v1/inbox/read", *page, "Content-Length: 99999999"),
                request("POST", "/v1/inbox/read", *page, "Transfer-Encoding: chunked", body=b"no chunk"),
            )
        ]
    assert (answer.status, expected["vary"]) == (401, "Origin")
    assert [answer.status for (answer,) in refusals] == [431, 400, 413, 400]
    for (refusal,) in refusals:
        assert cors_headers(refusal) == expected


async def test_without_allowed_origins_no_answer_depends_on_an_origin() -> None:
    token = f"Authorization: Bearer {subscriber_token(SECRET, '7')}"
    for is_direct in (True, False):
        async with side(direct=is_direct, cors_origins=()) as service:
            for page in ([], ["Origin: https://service"], ["Origin: https://page.example"]):
                received = await service.open(request("GET", "/v1/stream", token, *page))
                received += await service.open(request("POST", "/v1/stream/topics", token, *page, "Content-Length: 0"))
                assert b"\r\nvary" not in received
                assert b"\r\naccess-control" not in received


async def test_a_call_that_fails_tells_its_page_so_on_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser keeps an answer without CORS headers from the page, whatever its status."""

    async def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(StreamCalls, "change_topics", fails)
    body = json.dumps({"connection": "f" * 32}).encode()
    head = (f"Authorization: Bearer {subscriber_token(SECRET, '7')}", "Origin: https://page.example")
    data = request("POST", "/v1/stream/topics", f"Content-Length: {len(body)}", *head, body=body)
    answers = []
    for is_direct in (True, False):
        async with side(direct=is_direct) as service:
            answers.append(shown(await service.ask([data])))
    ((status, headers, _),) = answers[0]
    assert (status, headers["access-control-allow-origin"]) == (500, "https://page.example")
    assert answers[0] == answers[1]


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
