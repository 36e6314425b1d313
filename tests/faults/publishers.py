"""A publisher that keeps what was acknowledged, and what every listener should then have."""

from __future__ import annotations

import asyncio
import math
import random
import time
import uuid

import httpx

from tests.faults.clients import Listener, until
from tests.support import API_KEY, Service, bearer


class Publisher:
    """Publishes to channels at a rate; repeats under its idempotency key until it is answered."""

    def __init__(self, service: Service, to: list[str], seed: random.Random) -> None:
        self.url = service.url
        self.to = to
        self.seed = seed
        self._acknowledged: list[tuple[int, int, str, str]] = []
        self._epochs: dict[str, int] = {}
        self.last_cursor = ""
        self.refused = 0
        self.slowest_refusal_s = 0.0
        self._number = 0
        self._name = uuid.uuid4().hex
        """Two publishers of one test must not answer for each other."""

    @property
    def acknowledged(self) -> list[tuple[str, str]]:
        """(channel, message id) in the order that the broker gave them."""
        return [(to, identity) for _, _, to, identity in sorted(self._acknowledged)]

    async def publish_for(self, seconds: float, per_second: float, *, text: str = "") -> None:
        """Publishes at a rate, over as many connections as it takes."""
        lanes = max(1, math.ceil(per_second / 100))
        async with httpx.AsyncClient(base_url=self.url, headers=bearer(API_KEY), timeout=15) as client:
            await asyncio.gather(*(self._lane(client, seconds, lanes / per_second, text) for _ in range(lanes)))

    async def _lane(self, client: httpx.AsyncClient, seconds: float, every_s: float, text: str) -> None:
        started = time.monotonic()
        turn = 0
        while time.monotonic() < started + seconds:
            await self._publish(client, text)
            turn += 1
            # By the clock and not by pauses, so that slow answers do not lower the rate.
            await asyncio.sleep(max(0, started + turn * every_s - time.monotonic()))

    async def _publish(self, client: httpx.AsyncClient, text: str) -> None:
        to = self.seed.choice(self.to)
        self._number += 1
        key = {"Idempotency-Key": f"{self._name}-{self._number}"}
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
                self._note(to, answer.json())
                return
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
            self.refused += 1
            self.slowest_refusal_s = max(self.slowest_refusal_s, time.monotonic() - asked)
            await asyncio.sleep(0.1)

    def _note(self, to: str, answer: dict[str, str]) -> None:
        epoch, _, seq = answer["cursor"].rpartition("-")
        order = self._epochs.setdefault(epoch, len(self._epochs))
        self._acknowledged.append((order, int(seq), to, answer["id"]))
        newest = max(self._acknowledged)
        if newest[3] == answer["id"]:
            self.last_cursor = answer["cursor"]

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
