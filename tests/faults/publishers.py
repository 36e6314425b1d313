"""A publisher that records which messages were acknowledged, and which of them each listener must have."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
import uuid
from collections.abc import AsyncIterator

import httpx

from tests.faults.clients import Listener, until
from tests.support import API_KEY, Service, bearer


class Publisher:
    """Publishes to channels at a rate. Repeats each message under its idempotency key until it is acknowledged."""

    def __init__(self, service: Service, to: list[str], seed: random.Random) -> None:
        self.url = service.url
        self.to = to
        self.seed = seed
        self._acknowledged: list[tuple[int, int, str, str]] = []
        self._epochs: dict[str, int] = {}
        self._newest = (-1, 0)
        self.last_cursor = ""
        self.refused = 0
        self.slowest_refusal_s = 0.0
        self.stopping = False
        """Ends `publish_for` after the messages that are being published."""
        self._number = 0
        self._name = uuid.uuid4().hex
        """Part of the idempotency keys: two publishers of one test must not share them."""

    @property
    def acknowledged(self) -> list[tuple[str, str]]:
        """(channel, message id) in the broker's order."""
        return [(to, message_id) for _, _, to, message_id in sorted(self._acknowledged)]

    async def publish_for(self, seconds: float, per_second: float, *, text: str = "") -> None:
        """Publish at a rate, over as many connections as the rate needs."""
        workers = max(1, math.ceil(per_second / 100))
        async with httpx.AsyncClient(base_url=self.url, headers=bearer(API_KEY), timeout=15) as client:
            await asyncio.gather(
                *(self._publish_at(client, seconds, workers / per_second, text) for _ in range(workers))
            )

    @contextlib.asynccontextmanager
    async def publishing(self, per_second: float, *, at_least: int = 0, at_least_s: float = 0) -> AsyncIterator[None]:
        """Publish at a rate during the block, and longer where fewer messages or seconds have passed at its end."""
        started, before = time.monotonic(), len(self._acknowledged)
        task = asyncio.create_task(self.publish_for(math.inf, per_second))
        try:
            yield
            await until(
                lambda: (
                    task.done()  # with an error, which `await` raises
                    or (len(self._acknowledged) >= before + at_least and time.monotonic() >= started + at_least_s)
                ),
                at_least_s + 60,
                f"{at_least} messages",
            )
            self.stopping = True
            await task
            self.stopping = False
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _publish_at(self, client: httpx.AsyncClient, seconds: float, every_s: float, text: str) -> None:
        started = time.monotonic()
        turn = 0
        while time.monotonic() < started + seconds and not self.stopping:
            await self._publish(client, text)
            turn += 1
            # By the clock and not by fixed pauses, so that slow answers do not lower the rate.
            await asyncio.sleep(max(0, started + turn * every_s - time.monotonic()))

    async def _publish(self, client: httpx.AsyncClient, text: str) -> None:
        to = self.seed.choice(self.to)
        self._number += 1
        key = {"Idempotency-Key": f"{self._name}-{self._number}"}
        body = {"to": [to], "subject": f"{self._number}", "text": text}
        for _ in range(1000):
            sent_at = time.monotonic()
            try:
                answer = await client.post("/v1/messages", json=body, headers=key)
            except httpx.HTTPError:
                self.refused += 1
                await asyncio.sleep(0.1)
                continue
            if answer.status_code == 200:
                self._acknowledge(to, answer.json())
                return
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
            self.refused += 1
            self.slowest_refusal_s = max(self.slowest_refusal_s, time.monotonic() - sent_at)
            await asyncio.sleep(0.1)

    def _acknowledge(self, to: str, answer: dict[str, str]) -> None:
        epoch, _, seq = answer["cursor"].rpartition("-")
        order = self._epochs.setdefault(epoch, len(self._epochs))
        self._acknowledged.append((order, int(seq), to, answer["id"]))
        if (order, int(seq)) > self._newest:
            self._newest = (order, int(seq))
            self.last_cursor = answer["cursor"]

    def ids_for(self, *channels: str) -> list[str]:
        return [message_id for to, message_id in self.acknowledged if to in channels]

    def due(self, listener: Listener) -> list[str]:
        """The ids that this listener must have, in order."""
        return self.ids_for(f"user:{listener.user}", *(f"group:{group}" for group in listener.groups), "all")

    async def delivered(self, listeners: list[Listener], timeout_s: float = 30) -> None:
        """Wait until every listener has as many messages as are due to it now."""
        due = {listener: len(self.due(listener)) for listener in listeners}
        await until(
            lambda: all(len(listener.messages) >= count for listener, count in due.items()),
            timeout_s,
            "every message at every client",
        )

    def assert_complete(self, listeners: list[Listener]) -> None:
        """Each listener has exactly the acknowledged messages that are due to it, in order, each once."""
        for listener in listeners:
            assert_same(listener, self.due(listener))


def assert_same(listener: Listener, sent: list[str]) -> None:
    """The listener has exactly these ids in this order, with increasing seqs."""
    ids = [message.data["id"] for message in listener.messages]
    assert len(ids) == len(set(ids)), f"{listener.user} received a message twice"
    missing = set(sent) - set(ids)
    assert ids == sent, f"{listener.user}: {len(sent)} sent, {len(ids)} received, {len(missing)} missing"
    seqs = [message.seq for message in listener.messages]
    assert seqs == sorted(seqs)
