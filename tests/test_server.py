"""The server's own protocol, in this process: what requests leave behind."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from notifier import app, server
from notifier.auth import Authenticator
from notifier.settings import ApiKey, Settings
from tests.support import JWT_SECRET

KEY = "only-for-this-test"
REQUESTS = 300


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A service on the embedded broker."""
    key = ApiKey(KEY, frozenset({"publish"}))
    settings = Settings(jwt_secret=JWT_SECRET, api_keys=(key,), publish_rate=0, drain_s=0)
    application = app.build(settings)
    how = server.config("a path is not needed", workers=1, drain_s=0, log_config=None)
    how.app, how.factory = application, False  # type: ignore[assignment]  # the built one, not a path to a factory
    sockets = server.listen("127.0.0.1", 0)
    running = server.Server(how)
    serving = asyncio.create_task(running.serve(sockets))
    while not running.started:
        await asyncio.sleep(0.01)
    yield int(sockets[0].getsockname()[1])
    running.should_exit = True
    await serving


def request(method: str, path: str, credential: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {credential}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def garbage() -> Iterator[None]:
    """The collector waits until it is asked."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_requests_leave_nothing_for_the_collector(port: int, garbage: None) -> None:
    """A cycle in each request is a pause for everybody at each few hundred of them."""
    body = json.dumps({"to": ["user:ann"], "type": "note", "data": "x"}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(REQUESTS + 1):
        if i == 1:
            gc.collect()  # what the first one sets up
        writer.write(request("POST", "/v1/events", KEY, body))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    assert gc.collect() < REQUESTS / 10
    writer.close()


@pytest.mark.parametrize(
    ("status", "method", "path"), [(500, "POST", "/v1/events"), (200, "POST", "/v1/events"), (500, "GET", "/v1/stream")]
)
async def test_a_fault_of_the_service_itself_is_a_problem(
    port: int, monkeypatch: pytest.MonkeyPatch, status: int, method: str, path: str
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    if status == 500:
        monkeypatch.setattr(Authenticator, "publisher" if method == "POST" else "subscriber", fails)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(method, path, KEY, b'{"to": ["user:ann"], "type": "note"}' if method == "POST" else b""))
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert (b"application/problem+json" in head) == (status == 500)
    assert ("detail" in json.loads(body)) == (status == 500)
    writer.close()
