"""Bounds on a request's head and body, in size, time and memory."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from notifier import http1
from notifier.rules import MAX_BATCH_BYTES
from tests.raw_http import Exchange, chunked, exchange, request
from tests.serving import KEY, serving
from tests.support import API_KEY, Service, running, subscriber_token, wait_for

KiB = 1024
MiB = KiB * KiB
LAST = request("GET", "/nowhere", "Connection: close")
GET = request("GET", "/healthz")
EVENT = b'{"to": ["all"], "type": "note"}'


@pytest.fixture(scope="module")
def bounded() -> Iterator[Service]:
    """A service whose memory is measured."""
    with running(Service()) as service:
        yield service


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


# A head


@pytest.mark.parametrize("packet", [100, 5_000, 10**9], ids=["small packets", "packets", "one packet"])
@pytest.mark.parametrize("before", [b"", GET, GET * 3], ids=["first", "second", "fourth"])
@pytest.mark.parametrize("part", ["a header", "many headers", "the address", "an offer to upgrade"])
def test_a_head_over_32_KiB_is_a_431(service: Service, part: str, before: bytes, packet: int) -> None:
    heads = {
        "a header": request("GET", "/healthz", "Cookie: " + "x" * 40 * KiB),
        "many headers": request("GET", "/healthz", *["a: b"] * 8 * KiB),
        "the address": request("GET", "/healthz?" + "x" * 40 * KiB),
        "an offer to upgrade": request("GET", "/healthz", "Connection: upgrade", "Upgrade: x", "A: " + "x" * 40 * KiB),
    }
    answers = exchange(service.port, split(before + heads[part] + LAST, packet))
    assert answers.statuses == [200] * before.count(GET) + [431]
    assert answers.ended
    assert answers[-1].headers["content-type"] == "application/problem+json"
    assert answers[-1].json()["status"] == 431


def test_a_head_that_begins_in_the_packet_of_another_request_is_bounded(service: Service) -> None:
    head = request("GET", "/healthz", "Cookie: " + "x" * 40 * KiB)
    answers = exchange(service.port, [GET + head[: 20 * KiB], head[20 * KiB :] + LAST])
    assert answers.statuses == [200, 431]


@pytest.mark.parametrize("packet", [1_000, 10**9], ids=["packets", "one packet"])
def test_a_head_of_nearly_32_KiB_is_read(service: Service, packet: int) -> None:
    head = request("GET", "/healthz", "Cookie: " + "x" * (32 * KiB - 100))
    body = b" " * 60 * KiB + EVENT
    post = request("POST", "/v1/events", f"Content-Length: {len(body)}", key=API_KEY, body=body)
    assert exchange(service.port, split(head * 2 + post * 2 + head + LAST, packet)).statuses == [200] * 5 + [404]


def test_a_cookie_of_8_MB_costs_neither_time_nor_memory(bounded: Service) -> None:
    cookie = b"GET /healthz HTTP/1.1\r\nHost: service\r\nCookie: " + b"x" * 8 * MiB
    before, cpu_before = bounded.used()
    for _ in range(5):
        assert exchange(bounded.port, [cookie], until=1).statuses in ([431], [])
    after, cpu_after = bounded.used()
    assert after - before < 4
    assert cpu_after - cpu_before < 0.3


# Time


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(http1, "HEAD_S", 0.3)
    monkeypatch.setattr(http1, "BODY_S", 0.6)
    async with serving() as number:
        yield number


def ended_after(port: int, begin: bytes, drip: bytes) -> tuple[float, bytes]:
    """Send `begin`, then `drip` every 50 ms until the service ends the connection. The time, and what came back."""
    began = time.monotonic()
    received = b""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(begin)
        link.settimeout(0.05)
        while time.monotonic() - began < 8:  # the limits of the service outside of these tests are longer
            try:
                link.sendall(drip)
                if not (data := link.recv(1000)):
                    return time.monotonic() - began, received
                received += data
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                return time.monotonic() - began, received
    raise AssertionError("the connection stays open")


@pytest.mark.parametrize(
    ("begin", "drip"),
    [(b"", b""), (b"GET /heal", b""), (b"GET /", b"x"), (b"GET / HTTP/1.1\r\nA: ", b"x"), (b"\r\n", b"\r\n")],
    ids=["nothing", "a beginning", "byte by byte", "a header byte by byte", "blank lines"],
)
async def test_a_head_that_takes_too_long_ends_the_connection(port: int, begin: bytes, drip: bytes) -> None:
    took_s, received = await asyncio.to_thread(ended_after, port, begin, drip)
    assert took_s > 0.25
    assert received == b""


async def test_the_second_head_of_a_connection_has_the_same_time(port: int) -> None:
    took_s, received = await asyncio.to_thread(ended_after, port, GET + b"GET /", b"x")
    assert took_s > 0.25
    assert received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_a_body_that_takes_too_long_ends_the_connection(port: int, framing: str) -> None:
    head = request("POST", "/v1/events", framing, key=KEY)
    took_s, received = await asyncio.to_thread(ended_after, port, head, b"1" if "Length" in framing else b"1\r\nx\r\n")
    assert took_s > 0.5
    assert received == b""


async def test_an_unread_rest_of_a_body_has_the_same_time(port: int) -> None:
    head = request("POST", "/v1/events", "Content-Length: 1000")
    took_s, received = await asyncio.to_thread(ended_after, port, head, b"1")
    assert took_s > 0.5
    assert received.startswith(b"HTTP/1.1 401")


async def test_a_stream_and_an_idle_connection_outlive_these_times(port: int) -> None:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}
    ) as client:
        stream = client.stream("GET", "/v1/stream", headers={"Authorization": f"Bearer {subscriber_token('ann')}"})
        assert (await client.post("/v1/events", content=EVENT)).status_code == 200
        async with stream as response:
            lines = response.aiter_lines()
            await asyncio.sleep(1)  # longer than both
            assert (await client.post("/v1/events", content=EVENT)).status_code == 200
            async for line in lines:
                if line == "event: note":
                    break
            else:
                raise AssertionError("the stream has ended")


# A body


def growth(service: Service, data: Iterator[bytes]) -> tuple[float, Exchange]:
    """How much memory (MiB) the service needs more while it gets this, and its answers."""
    stop = threading.Event()
    before = most = service.used()[0]

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.01):
            most = max(most, service.used()[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answers = exchange(service.port, data, until=1)
    finally:
        stop.set()
        watcher.join()
    return most - before, answers


def large(head: bytes, piece: bytes) -> Iterator[bytes]:
    """A head, and 60 MB of pieces."""
    yield head
    for _ in range(60 * MiB // len(piece)):
        yield piece


CHUNK = b"%x\r\n%s\r\n" % (64 * KiB, b" " * 64 * KiB)
SPACES = b" " * 64 * KiB


@pytest.mark.parametrize(
    ("framing", "piece", "status"),
    [
        (f"Content-Length: {60 * MiB}", SPACES, 413),
        ("Transfer-Encoding: chunked", CHUNK, 413),
        (f"Content-Length: {60 * MiB}\r\nConnection: upgrade\r\nUpgrade: h2c", SPACES, 413),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x", b"x" * 64 * KiB, 431),
        ("Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 64 * KiB, 431),
    ],
    ids=["length", "chunked", "an offer to upgrade", "a trailer", "a chunk's extension"],
)
@pytest.mark.parametrize("key", [API_KEY, ""], ids=["publisher", "stranger"])
def test_60_MB_are_refused_before_they_need_memory(
    bounded: Service, framing: str, piece: bytes, status: int, key: str
) -> None:
    head = request("POST", "/v1/batch", framing, key=key)
    if "\r\n\r\n" in framing:
        head = head.replace(f"{framing}\r\n".encode(), b"").replace(b"\r\n\r\n", f"\r\n{framing}".encode())
    more, answers = growth(bounded, large(head, piece))
    assert more < 8
    announced = status == 413 and "Length" in framing
    assert answers.statuses == [status if key or announced else 401]


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for piece in split(data, 64 * KiB):
        yield piece


@pytest.mark.parametrize("size", [MAX_BATCH_BYTES + 1, 5 * MiB])
async def test_a_client_that_sends_all_before_it_reads_gets_the_413(bounded: Service, size: int) -> None:
    content: Any
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {API_KEY}"}) as client:
        for content in (b" " * size, _pieces(b" " * size)):
            answer = await client.post(f"{bounded.url}/v1/batch", content=content)
            assert answer.status_code == 413
            assert answer.json()["field"] == "body"


def test_the_largest_batch_is_read(service: Service) -> None:
    item = b'{"kind": "event", "to": ["all"], "type": "note", "durable": false}'
    body = b"[" + item + b" " * (MAX_BATCH_BYTES - len(item) - 2) + b"]"
    head = request("POST", "/v1/batch", f"Content-Length: {len(body)}", "Content-Type: application/json", key=API_KEY)
    assert exchange(service.port, [head, body], until=1).statuses == [200]


# Refusals


def test_a_refusal_comes_after_the_responses_before_it(service: Service) -> None:
    post = request("POST", "/v1/events", "Transfer-Encoding: chunked", body=chunked(EVENT), key=API_KEY)
    wrong = post.replace(chunked(EVENT), b"x\r\n")
    for bad in (b"\0", wrong, request("GET", "/", "A: " + "x" * 40 * KiB)):
        for number in (0, 1, 3):
            answers = exchange(service.port, [post * number + bad + GET])
            assert answers.statuses in ([200] * number + [400], [200] * number + [431])
            assert answers.ended


def test_a_refusal_of_a_body_is_the_requests_only_response(service: Service) -> None:
    for key in (API_KEY, ""):
        head = request("POST", "/v1/events", "Transfer-Encoding: chunked", key=key)
        for packets in ([head + b"x\r\n" + GET], [head, b"x\r\n" + GET + b" " * 30]):
            answers = exchange(service.port, packets)
            assert answers.statuses in ([400], [401])
            assert answers.ended


def test_a_body_that_is_cut_off_is_no_error_of_the_service(bounded: Service) -> None:
    for path in ("/v1/events", "/v1/inbox/read"):
        key = API_KEY if path == "/v1/events" else subscriber_token("ann")
        with socket.create_connection(("127.0.0.1", bounded.port)) as link:
            link.sendall(request("POST", path, "Content-Length: 100", "Expect: 100-continue", key=key))
            assert link.recv(100).startswith(b"HTTP/1.1 100")
    wait_for(lambda: httpx.get(f"{bounded.url}/healthz").status_code == 200)
    assert "Traceback" not in bounded.process.output()


def test_requests_that_wait_for_responses_are_bounded(bounded: Service) -> None:
    before, _ = bounded.used()
    answers = exchange(bounded.port, [GET * 10_000])
    *served, refused = answers.statuses
    assert refused == 400
    assert set(served) <= {200}
    assert len(served) <= http1.MAX_PIPELINED + 1
    assert "16 requests" in answers[-1].json()["detail"]
    assert bounded.used()[0] - before < 8


def test_an_address_without_a_path_is_refused(service: Service) -> None:
    answers = exchange(service.port, [request("GET", "http://127.0.0.1")])
    assert answers.statuses == [400]
