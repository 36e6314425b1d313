"""Many clients that read full histories slowly: none is cut, nothing is lost, and the process holds a bounded part."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable

import httpx

from tests.faults.clients import Listener, until
from tests.faults.conftest import Scale
from tests.support import API_KEY, RedisServer, Service, bearer, running, subscriber_token

GROUPS = tuple(f"g{number}" for number in range(5))
CHANNELS = ("user:ann", *(f"group:{name}" for name in GROUPS), "all")
BYTES_PER_S = 100_000
BACKLOG_MIB = 0.25
"""The default of NOTIFIER_MAX_BACKLOG_BYTES."""
ALLOCATOR_MIB = 12
"""What the process may take besides, whatever the number of streams."""


async def test_slow_readers_of_full_histories_are_not_cut_and_take_bounded_memory(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    streams, events, slow_s = scale.whole(6, 20), scale.whole(40, 256), scale(2, 60)
    env = {"NOTIFIER_HISTORY_SIZE": str(events + 100), "NOTIFIER_PUBLISH_RATE": "0"}
    env["NOTIFIER_MAX_STREAMS_PER_USER"] = str(streams + 1)
    with running(Service(redis_url=own_redis.url, env=env)) as service:
        async with httpx.AsyncClient(base_url=service.url, headers=bearer(API_KEY), timeout=30) as publisher:
            due = [await _publish(publisher, "user:ann") for _ in range(3)]
            start = due.pop()
            due = [await _publish(publisher, to, "x" * 15_500) for _ in range(events) for to in CHANNELS]
            before_mib, _ = service.used()
            listeners = [
                Listener(service.port, "ann", GROUPS, cursor=start, bytes_per_s=BYTES_PER_S) for _ in range(streams)
            ]
            frozen = await _frozen(service, start)
            tasks = [asyncio.create_task(listener.run()) for listener in listeners]
            most_mib = before_mib
            try:
                for _ in range(round(slow_s * 2)):
                    await asyncio.sleep(0.5)
                    most_mib = max(most_mib, service.used()[0])
                    if len(due) < len(CHANNELS) * events + 100:
                        due.append(await _publish(publisher, "group:g0"))
                assert [listener.connects for listener in listeners] == [1] * streams
                least = slow_s * BYTES_PER_S * 0.6
                await until(lambda: min(map(_read_bytes, listeners)) > least, what="progress of every slow reader")
                ended_slow = _ended_slow(service)
                # Some leave in the middle of their replay and return with their last id; all read on at full speed.
                for listener in listeners:
                    listener.bytes_per_s = 0
                    if listener in listeners[::3]:
                        listener.cut()
                due.append(await _publish(publisher, "all"))
                await until(
                    lambda: all(listener.messages[-1].id == due[-1] for listener in listeners), 120, "the last message"
                )
                most_mib = max(most_mib, service.used()[0])
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                frozen.close()
        for listener in listeners:
            assert [message.id for message in listener.messages] == due
            assert not listener.resets
        grown_mib = most_mib - before_mib
        figure(
            streams=streams,
            replay_MiB=round(len(CHANNELS) * events * 15_500 / 2**20, 1),
            grown_MiB=round(grown_mib, 1),
            cut=ended_slow - scale.full,
            lost=0,
        )
        # The client that reads nothing is the only one that is cut, after `slow.STALLED_AFTER_S`.
        assert ended_slow == scale.full
        assert grown_mib < streams * BACKLOG_MIB + ALLOCATOR_MIB


async def _publish(client: httpx.AsyncClient, to: str, text: str = "") -> str:
    answer = await client.post("/v1/messages", json={"to": [to], "subject": "s", "text": text})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["cursor"])


async def _frozen(service: Service, cursor: str) -> asyncio.StreamWriter:
    """A client that asks for the same replay and reads nothing."""
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport
    token = subscriber_token("ann", groups=list(GROUPS))
    head = f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nLast-Event-ID: {cursor}\r\n\r\n"
    writer.write(head.encode())
    return writer


def _read_bytes(listener: Listener) -> int:
    return sum(len(event.data["text"]) for event in listener.messages)


def _ended_slow(service: Service) -> int:
    text = httpx.get(f"{service.url}/metrics", timeout=5).text
    return sum(int(number) for number in re.findall(r'ended_total{[^}]*reason="slow"[^}]*} (\d+)', text))
