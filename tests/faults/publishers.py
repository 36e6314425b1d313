"""A publisher that keeps what was acknowledged, and what every listener should then have."""

from __future__ import annotations

import asyncio
import random
import time

import httpx

from tests.faults.clients import Listener, until
from tests.support import API_KEY, Service, bearer


class Publisher:
    """Publishes to channels at a rate; repeats under its idempotency key until it is answered."""

    def __init__(self, service: Service, to: list[str], seed: random.Random) -> None:
        self.url = service.url
        self.to = to
        self.seed = seed
        self.acknowledged: list[tuple[str, str]] = []
        """(channel, message id) in the order of their acknowledgement."""
        self.last_cursor = ""
        self.refused = 0
        self.slowest_refusal_s = 0.0
        self._number = 0

    async def publish_for(self, seconds: float, per_second: float, *, text: str = "") -> None:
        async with httpx.AsyncClient(base_url=self.url, headers=bearer(API_KEY), timeout=15) as client:
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                await self._publish(client, text)
                await asyncio.sleep(1 / per_second)

    async def _publish(self, client: httpx.AsyncClient, text: str) -> None:
        to = self.seed.choice(self.to)
        self._number += 1
        key = {"Idempotency-Key": f"p-{self._number}"}
        body = {"to": [to], "subject": f"{self._number}", "text": text}
        for _ in range(1000):
            asked = time.monotonic()
            try:
                answer = await client.post("/v1/messages", json=body, headers=key)
            except httpx.HTTPError:
                self.refused += 1
                await asyncio.sleep(0.1)
                continue
            if answer.status_code == 200:
                self.acknowledged.append((to, answer.json()["id"]))
                self.last_cursor = answer.json()["cursor"]
                return
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
            self.refused += 1
            self.slowest_refusal_s = max(self.slowest_refusal_s, time.monotonic() - asked)
            await asyncio.sleep(0.1)

    def ids_for(self, *channels: str) -> list[str]:
        return [identity for to, identity in self.acknowledged if to in channels]

    def due(self, listener: Listener) -> list[str]:
        """Ids that this listener should have, in order."""
        return self.ids_for(f"user:{listener.user}", *(f"group:{one}" for one in listener.groups), "all")

    async def delivered(self, listeners: list[Listener], timeout_s: float = 30) -> None:
        """Waits until every listener has as many messages as it should."""
        await until(
            lambda: all(len(one.messages) >= len(self.due(one)) for one in listeners),
            timeout_s,
            "every message at every client",
        )

    def assert_complete(self, listeners: list[Listener]) -> None:
        """Everything that was acknowledged, in order, once."""
        for one in listeners:
            assert_same(one, self.due(one))


def assert_same(listener: Listener, sent: list[str]) -> None:
    """Exactly these ids, in this order, and places in the order that only grow."""
    got = [one.data["id"] for one in listener.messages]
    assert len(got) == len(set(got)), f"{listener.user} got something twice"
    missing = set(sent) - set(got)
    assert got == sent, f"{listener.user}: {len(sent)} sent, {len(got)} got, {len(missing)} missing"
    seqs = [one.seq for one in listener.messages]
    assert seqs == sorted(seqs)
