"""What is alive is excluded from garbage collection, which is safe because calls and streams leave no cycles."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import weakref
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator

import pytest

from notifier import garbage
from notifier.api import poll
from notifier.broker.embedded.broker import EmbeddedBroker
from notifier.broker.embedded.log import NO_USERS, entry_of
from notifier.errors import BrokerUnavailable
from notifier.event import custom
from notifier.stream import Stream
from tests.serving import KEY, serving
from tests.support import bearer, subscriber_token


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(garbage, "LOOK_EVERY_S", 3600)  # what it freezes is not counted
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    garbage.end()


async def _open(port: int, user: str, header: str) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    token = bearer(subscriber_token(user))["Authorization"]
    writer.write(f"GET /v1/stream HTTP/1.1\r\nHost: test\r\n{header}\r\nAuthorization: {token}\r\n\r\n".encode())
    await reader.readuntil(b"event: hello")
    return writer


async def _open_and_close(port: int, count: int, header: str) -> None:
    writers = [await _open(port, f"g{number}", header) for number in range(count)]
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    while any(isinstance(kept, Stream) for kept in gc.get_objects()):
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def looking() -> AsyncIterator[None]:
    garbage.begin()
    task = asyncio.create_task(garbage.look_forever())
    yield
    task.cancel()
    await asyncio.wait([task])
    garbage.end()


@pytest.mark.parametrize("header", ["Accept: */*", "X-Forwarded-For: 192.0.2.1"], ids=["direct", "through the routes"])
async def test_a_stream_that_has_ended_leaves_no_cycle(header: str) -> None:
    async with serving() as port:
        await _open_and_close(port, 5, header)
        gc.collect()
        gc.disable()
        await _open_and_close(port, 50, header)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = Counter(type(kept).__name__ for kept in gc.garbage if type(kept).__module__.startswith("notifier"))
    assert not kinds


def _request(method: str, path: str, key: str = "", body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
    lines += [f"Authorization: Bearer {key}"] * bool(key)
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] * bool(body)
    return "\r\n".join([*lines, "", ""]).encode() + body


TOKEN = subscriber_token("u1")
EVENT = b'{"to":["user:u1"],"type":"x"}'
CHUNKED = _request("POST", "/v1/events", KEY, b"", "Transfer-Encoding: chunked") + b"1d\r\n" + EVENT + b"\r\n0\r\n\r\n"
BATCH = b'[{"kind":"event","to":1},{"kind":"patch","id":"x"},{"kind":"patch","id":"x","nonsense":1},{}]'
REQUESTS = {
    "event": (200, _request("POST", "/v1/events", KEY, EVENT)),
    "event through the routes": (200, CHUNKED),
    "message": (200, _request("POST", "/v1/messages", KEY, b'{"to":["user:u1"],"subject":"x"}')),
    "task": (200, _request("POST", "/v1/tasks", KEY, b'{"to":["user:u1"],"name":"x"}')),
    "batch": (200, _request("POST", "/v1/batch", KEY, BATCH)),
    "inbox": (200, _request("GET", "/v1/inbox", TOKEN)),
    "read": (200, _request("POST", "/v1/inbox/read", TOKEN, b'{"all":true}')),
    "poll": (200, _request("GET", "/v1/poll", TOKEN)),
    "poll that waits": (200, _request("GET", "/v1/poll?wait_s=1", TOKEN)),
    "retraction": (204, _request("DELETE", "/v1/messages/x", KEY, b'{"to":["user:u1"]}')),
    "output": (404, _request("POST", "/v1/tasks/x/output", KEY, b'{"text":"x"}')),
    "wrong question": (422, _request("POST", "/v1/tasks/x/question", KEY, b'{"text":"Go on?","actions":1}')),
    "preflight": (
        405,
        _request("OPTIONS", "/v1/inbox", "", b"", "Origin: https://a", "Access-Control-Request-Method: GET"),
    ),
    "cursor": (200, _request("GET", "/v1/cursor", TOKEN)),
    "numbers": (200, _request("GET", "/metrics")),
    "wrong fields": (422, _request("POST", "/v1/events", KEY, b'{"to":1}')),
    "no JSON": (400, _request("POST", "/v1/messages", KEY, b"{")),
    "wrong fields through the routes": (422, _request("POST", "/v1/inbox/read", TOKEN, b'{"ids":1}')),
    "wrong grant": (403, _request("POST", "/v1/stream/topics", TOKEN, b'{"connection":"x","add":["x"]}')),
    "forged token": (401, _request("GET", "/v1/poll", f"{TOKEN[:-8]}AAAAAAAA")),
    "cursor for a publisher": (200, _request("GET", "/v1/cursor?user=u1", KEY)),
    "no token": (401, _request("GET", "/v1/inbox")),
    "malformed token": (401, _request("GET", "/v1/inbox", "x.y.z")),
    "token for another service": (401, _request("GET", "/v1/poll", subscriber_token("u1", aud="another"))),
    "no path": (404, _request("GET", "/v1/nothing", TOKEN)),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_no_call_leaves_a_cycle(name: str) -> None:
    """What is alive when the collector freezes would otherwise stay until memory has grown much."""
    status, request = REQUESTS[name]
    assert not await left_by(request, status)


async def test_calls_to_a_broker_that_is_away_leave_no_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may wait for a broker for seconds, and all clients repeat them."""

    async def away(*_: object, **__: object) -> None:
        await asyncio.sleep(0.01)
        raise BrokerUnavailable("it is away")

    monkeypatch.setattr(EmbeddedBroker, "open", away)
    monkeypatch.setattr(EmbeddedBroker, "submit", away)
    monkeypatch.setattr(poll, "OPENING_S", 0.1)
    assert not await left_by(REQUESTS["poll that waits"][1], 200)
    for name in ("event", "event through the routes"):
        assert not await left_by(REQUESTS[name][1], 503), name
    assert not await left_by(_request("POST", "/v1/batch", KEY, b'[{"kind":"event","to":["all"],"type":"x"}]'), 503)


async def left_by(request: bytes, status: int) -> Counter[str]:
    """The kinds of objects in the cycles that four such calls leave."""
    async with serving() as port, contextlib.AsyncExitStack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stack.callback(writer.close)

        async def call() -> None:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert int(head.split()[1]) == status, head
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))

        for _ in range(2):
            await call()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        for _ in range(4):
            await call()
        gc.collect()
        kinds = Counter(type(left).__name__ for left in gc.garbage)
        gc.set_debug(0)
        gc.garbage.clear()
    return kinds


class Cycle:
    """Garbage that only a collection frees."""

    def __init__(self) -> None:
        self.itself = self


async def test_what_is_alive_is_excluded_until_memory_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full collection of many streams is long, so time alone is no reason for it."""
    monkeypatch.setattr(garbage, "FREEZE_EVERY_S", 0.05)
    monkeypatch.setattr(garbage, "LOOK_EVERY_S", 0.01)
    blocks = 1000
    monkeypatch.setattr(sys, "getallocatedblocks", lambda: blocks)
    async with looking():
        old = Cycle()
        alive = weakref.ref(old)
        assert any(kept is old for kept in gc.get_objects())
        while any(kept is old for kept in gc.get_objects()):
            await asyncio.sleep(0.01)
        del old
        gc.collect()
        blocks = 1000 + 1000 + garbage.ROOM_BLOCKS - 1
        await _next_freeze()
        assert alive() is not None
        blocks += 1
        await _next_freeze()
        assert alive() is None
        again = Cycle()
        alive = weakref.ref(again)
        while any(kept is again for kept in gc.get_objects()):
            await asyncio.sleep(0.01)
        del again
        await _next_freeze()
        assert alive() is not None, "a second full collection although memory has not grown again"


async def _next_freeze() -> None:
    """Wait until everything that is alive now is frozen."""
    alive: list[object] = [[]]
    while any(kept is alive for kept in gc.get_objects()):
        await asyncio.sleep(0.01)


async def test_a_cycle_that_ends_before_the_second_look_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "FREEZE_EVERY_S", 0.5)
    monkeypatch.setattr(garbage, "MAX_YOUNG_S", 60)
    monkeypatch.setattr(garbage, "LOOK_EVERY_S", 0.01)
    async with looking():
        waiting = Cycle()
        alive = weakref.ref(waiting)
        while not any(kept is waiting for kept in gc.get_objects(generation=1)):
            await asyncio.sleep(0.01)
        del waiting
        while alive() is not None:
            await asyncio.sleep(0.01)


async def test_many_new_objects_are_excluded_without_a_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "FREEZE_EVERY_S", 3600)
    monkeypatch.setattr(garbage, "LOOK_EVERY_S", 0.01)
    async with looking():
        frozen = gc.get_freeze_count()
        crowd = [[number] for number in range(200_000)]
        while gc.get_freeze_count() < frozen + len(crowd):
            await asyncio.sleep(0.01)


async def test_python_collects_again_after_the_service() -> None:
    """A program may run the service for a while, as tests do."""
    async with serving():
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


async def test_young_objects_do_not_gather_where_as_many_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own collector would not begin: the number of new objects less freed ones stands still."""
    monkeypatch.setattr(garbage, "LOOK_EVERY_S", 0.01)
    history: deque[list[list[int]]] = deque(([[number]] for number in range(20_000)), maxlen=20_000)
    async with looking():
        for number in range(20_000):
            history.append([[number]])
            if number % 100 == 0:
                await asyncio.sleep(0.001)
        assert len(gc.get_objects(generation=0)) < 20_000


async def test_young_cycles_are_freed_where_as_many_objects_are_freed_as_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LOOK_EVERY_S", 0.01)
    async with looking():
        alive = weakref.ref(Cycle())
        while alive() is not None:
            await asyncio.sleep(0.01)


def test_entries_of_histories_are_not_looked_at() -> None:
    """There may be millions."""
    entry = entry_of(custom(to=["user:u1"], event_type="x"), 1, "", "")
    assert not gc.is_tracked(entry)
    assert entry.excluded is NO_USERS
