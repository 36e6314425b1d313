"""The output of a task, read by the browser client on several devices: under kills of the service, lost connections and
reloads each device shows what was written, every character once and in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.clients import until
from tests.faults.conftest import Scale
from tests.faults.proxy import Proxy
from tests.faults.test_nothing_lost import roomy
from tests.support import API_KEY, REPOSITORY, Service, bearer, free_port, subscriber_token

pytestmark = pytest.mark.programs

CHARACTERS = ["a", " ", "\n", "é", "e\u0301", "n\u0303\u0323", "Ж", "日", "ש", "😀", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "ก็"]
"""As users see them. Some have several code points: a piece may end within one."""
START = b"GET /v1/stream"
USER = "ann"


class Writer:
    """Writes random text to one task; a piece is repeated under its key until it is answered."""

    def __init__(self, url: str, seed: random.Random) -> None:
        self.url = url
        self.seed = seed
        self.text = ""
        self.answered = 0
        """Characters of the pieces that were answered."""
        self.stopping = False

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, headers=bearer(API_KEY), timeout=5) as client:
            await self._call(client, "/v1/tasks", {"id": "talk", "to": [f"user:{USER}"], "name": "Talk"}, "begin")
            rest, number = "", 0
            while not self.stopping:
                rest += "".join(self.seed.choices(CHARACTERS, k=12))
                size = self.seed.randrange(1, len(rest))
                piece, rest = rest[:size], rest[size:]
                self.text += piece
                await self._call(client, "/v1/tasks/talk/output", {"text": piece}, f"piece-{number}")
                self.answered += len(piece)
                number += 1
                await asyncio.sleep(0.02)

    async def _call(self, client: httpx.AsyncClient, url: str, body: dict[str, Any], key: str) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.post(url, json=body, headers={"Idempotency-Key": key})
                if answer.status_code == 200:
                    return
                assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.02)


class Devices:
    """The readers, compared with the writer's text at each change."""

    def __init__(self, node: asyncio.subprocess.Process, writer: Writer, count: int) -> None:
        self._node = node
        self._writer = writer
        self.lengths = [0] * count
        self.opened = [0] * count
        """How often the stream of each device was opened."""
        self.wrong = 0

    async def follow(self) -> None:
        assert self._node.stdout is not None
        async for line in self._node.stdout:
            change = json.loads(line)
            device = change["device"]
            if "clear" in change:
                self.lengths[device] = 0
                continue
            if "opened" in change:
                self.opened[device] += 1
                continue
            assert not change["truncated"]
            text, start = change["text"], self.lengths[device]
            written = self._writer.text[start : start + len(text)]
            self.wrong += sum(shown != sent for shown, sent in zip(text, written, strict=False))
            self.wrong += len(text) - len(written)
            self.lengths[device] += len(text)
        raise AssertionError("the readers have ended")

    def tell(self, command: str) -> None:
        assert self._node.stdin is not None
        self._node.stdin.write(f"{command}\n".encode())

    async def have(self, chars: int, opened: list[int]) -> None:
        """Wait until each device has so many characters, and an open stream after these."""

        def are_there() -> bool:
            streams = all(now > before for now, before in zip(self.opened, opened, strict=True))
            return bool(self.wrong) or (streams and min(self.lengths) >= chars)

        await until(are_there, 60, f"{chars} characters in {self.lengths}, streams after {opened} in {self.opened}")


@contextlib.asynccontextmanager
async def devices_of(proxy: Proxy, writer: Writer, count: int) -> AsyncIterator[Devices]:
    script = REPOSITORY / "tests" / "faults" / "output_readers.js"
    arguments = [f"http://127.0.0.1:{proxy.port}/", subscriber_token(USER), "talk", str(count)]
    pipe = asyncio.subprocess.PIPE
    node = await asyncio.create_subprocess_exec("node", script, *arguments, stdin=pipe, stdout=pipe, limit=1 << 26)
    devices = Devices(node, writer, count)
    following = asyncio.create_task(devices.follow())
    try:
        yield devices
    finally:
        following.cancel()
        node.kill()
        await node.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await following


@pytest.fixture(params=["sqlite", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[int], Service]]:
    """Starts the service on a port, each time over the same data."""
    env = roomy(NOTIFIER_TASK_OUTPUT_BYTES=str(1 << 26))
    if request.param == "sqlite":
        env["NOTIFIER_BROKER_URL"] = f"sqlite://{tmp_path / 'notifier.db'}"
        yield lambda port: Service(port=port, env=env)
    else:
        redis = request.getfixturevalue("own_redis")
        yield lambda port: Service(port=port, redis_url=redis.url, env=env)


@pytest.mark.timeout(1200)
async def test_interrupted_readers_of_an_output_show_what_was_written(
    broker: Callable[[int], Service], seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    rounds, count, port = scale.whole(3, 100), scale.whole(3, 10), free_port()
    interruptions = ["kill", "lost connection", "reload"] * (rounds // 3 + 1)
    seed.shuffle(interruptions := interruptions[:rounds])
    service = await asyncio.to_thread(broker, port)
    writer = Writer(service.url, seed)
    writing = asyncio.create_task(writer.run())
    try:
        async with Proxy(port) as proxy, devices_of(proxy, writer, count) as devices:
            opened = [0] * count
            for interruption in interruptions:
                before = writer.answered
                await until(lambda before=before: writer.answered > before, what="an answer")
                await devices.have(before, opened)
                await asyncio.sleep(seed.uniform(0, 0.1))
                opened = [*devices.opened]
                if interruption == "kill":
                    service.process.child.kill()
                    await asyncio.to_thread(service.process.stop)
                    service = await asyncio.to_thread(broker, port)
                elif interruption == "lost connection":
                    assert proxy.cut(START)
                else:
                    for device in range(count):
                        devices.tell(f"reload {device}")
                devices.tell("retry")
            writer.stopping = True
            await writing
            await devices.have(len(writer.text), opened)
            assert devices.lengths == [len(writer.text)] * count
            assert devices.wrong == 0
            figure(
                interrupted_readers=rounds * count,
                kills=interruptions.count("kill"),
                lost_connections=interruptions.count("lost connection") * count,
                reloads=interruptions.count("reload") * count,
                characters=len(writer.text),
                wrong_characters=devices.wrong,
            )
    finally:
        writing.cancel()
        await asyncio.to_thread(service.stop)
