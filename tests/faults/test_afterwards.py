"""200 histories of a user and a message: `trace` says what became of the message, right after each step."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from notifier.broker.redis.keys import Keys
from notifier.records import connection_of
from tests.faults.conftest import FULL, Scale
from tests.faults.histories import HISTORY_SIZE, History
from tests.faults.visits import Device, Visit
from tests.support import ADMIN_KEY, RedisServer, Service, bearer

AT_ONCE = 16
LIMITS = {
    "NOTIFIER_HISTORY_SIZE": str(HISTORY_SIZE),
    "NOTIFIER_EVENT_HISTORY_SIZE": "2000",
    "NOTIFIER_MAX_REPLAY": "5000",
    "NOTIFIER_MAX_BACKLOG_BYTES": "16384",
    "NOTIFIER_PUBLISH_RATE": "0",
    "NOTIFIER_MAX_STREAMS_PER_ADDRESS": "10000",
}
KINDS = ["memory", "sqlite", "redis-2-workers", "redis-3-shards"] if FULL else ["memory", "redis-2-workers"]


@dataclass
class Place:
    """A running service."""

    service: Service
    history_size: int = 256
    stored_records: Callable[[str], int] | None = None
    """See `History`."""
    revive: Callable[[], None] | None = None


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A service with a short history; at the quick size, one that other tests use as well."""
    if not FULL:
        yield Place(request.getfixturevalue("service" if request.param == "memory" else "redis_service"))
        return
    stored: Callable[[str], int] | None = None
    env = {**LIMITS, "NOTIFIER_PREFIX": f"n{random.randrange(1 << 30)}:"}
    url, workers = "", 1
    if request.param == "sqlite":
        env["NOTIFIER_BROKER_URL"] = f"sqlite://{tmp_path}/notifier.db"
    elif request.param != "memory":
        redis: RedisServer = request.getfixturevalue("redis_server")
        url, workers = redis.url, 2
        env["NOTIFIER_SHARDS"] = request.param.split("-")[1] if "shards" in request.param else "1"
        stored = partial(_stored_records, redis, Keys(env["NOTIFIER_PREFIX"], int(env["NOTIFIER_SHARDS"])))
    here = Place(Service(redis_url=url, workers=workers, env=env), HISTORY_SIZE, stored)
    if request.param == "sqlite":

        def revive() -> None:
            here.service.stop()
            here.service = Service(port=here.service.port, env=env)

        here.stored_records, here.revive = partial(_records_in_file, tmp_path / "notifier.db"), revive
    try:
        yield here
    finally:
        here.service.stop()


def _records_in_file(path: Path, user: str) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return _connections(text for (text,) in connection.execute("SELECT text FROM records WHERE user = ?", (user,)))


def _stored_records(redis: RedisServer, keys: Keys, user: str) -> int:
    with redis.client() as client:
        entries = client.xrange(keys.connections(keys.shard_of_name(user), user))
        return _connections({fields[b"i"]: fields[b"r"].decode() for _, fields in entries}.values())


def _connections(texts: Iterable[str]) -> int:
    """The number of streams and polls in stored records."""
    return sum(each.polls or 1 for text in texts if (each := connection_of(text)) is not None)


async def tell(history: History) -> None:
    """One history: devices, a message, and what happens afterwards."""
    seed = history.seed
    group = f"{history.user}-group"
    for number in range(seed.randint(1, 3)):
        groups = (group,) if seed.random() < 0.8 else ()
        device = Device(f"{history.user}-device-{number}", history.user, groups)
        history.devices.append(device)
        if seed.random() < 0.75:
            visit = await history.connect(device, form="turbo" if seed.random() < 0.1 else "")
            if seed.random() < 0.4:
                await visit.cut()
    slow = [visit for visit in history.visits if visit.is_open and not visit.form]
    if FULL and slow and seed.random() < 0.12:
        await history.slow_down(slow[0])
    if history.stored_records and slow and slow[0].is_open and seed.random() < 0.4:
        await history.kill(slow[0])
    if seed.random() < 0.15:
        await history.trim()
    await history.settled()
    await history.publish()
    await history.compare()
    for _ in range(seed.randint(1, 4)):
        step = seed.choice(_steps(history))
        await step()
        await history.fence()
        await history.compare()


def _steps(history: History) -> list[Callable[[], Awaitable[object]]]:
    """What can happen now."""
    seed, steps = history.seed, list[Callable[[], Awaitable[object]]]()
    for device in history.devices:
        steps += 2 * [partial(history.connect, device)]
        steps.append(partial(history.connect, device, start=""))
        steps.append(partial(history.connect, device, form="poll"))
        if seed.random() < 0.3:
            steps.append(partial(history.connect, device, start="unreadable"))
    for visit in history.visits:
        if visit.is_open:
            steps.append(partial(_leave, history, visit))
            if visit.is_slow:
                steps += 3 * [partial(_catch_up, history, visit)]
            elif history.stored_records:
                steps += 2 * [partial(history.kill, visit)]
    if not history.removed:
        steps.append(history.read)
        if not history.is_expired:
            steps.append(history.correct)
        if history.expires_ms and not history.is_expired:
            steps += 3 * [history.expire]
        steps.append(history.retract)
        if history.key:
            steps += 2 * [history.replace]
    if seed.random() < 0.3:
        steps.append(history.revoke)
    return steps


async def _leave(history: History, visit: Visit) -> None:
    history.steps.append(f"{visit.device.name} leaves")
    await visit.cut()


async def _catch_up(history: History, visit: Visit) -> None:
    history.steps.append(f"{visit.device.name} reads on")
    visit.is_slow = False
    visit.go_on_reading()
    await history.fence()


@pytest.mark.programs
@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_trace_says_what_became_of_a_message(
    place: Place, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    count = scale.whole(6, 200)
    number: int = seed.number  # type: ignore[attr-defined]
    peaceful = count * 9 // 10 if place.stored_records else count
    gate, failures, verdicts = asyncio.Semaphore(AT_ONCE), list[str](), Counter[str]()
    # A connection that is kept might be one to a process that is killed.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=place.service.url, headers=bearer(ADMIN_KEY), timeout=30, verify=False, trust_env=False, limits=limits
    ) as admin:

        async def run(index: int) -> None:
            user = f"u{number}-{index}"
            history = History(
                port=place.service.port, admin=admin, seed=random.Random(number + index), user=user,
                history_size=place.history_size,
            )  # fmt: skip
            if index >= peaceful:
                history.stored_records, history.revive = place.stored_records, place.revive
            async with gate:
                try:
                    await tell(history)
                except (AssertionError, OSError, httpx.HTTPError) as exc:
                    failures.append(f"NOTIFIER_SEED={number + index}\n{history.told()}\n{exc!r}: {exc}")
                finally:
                    for visit in history.visits:
                        await visit.cut()
                verdicts.update(step.split()[1] for step in history.steps if step.startswith("  verdict "))

        await asyncio.gather(*(run(index) for index in range(peaceful)))
        for index in range(peaceful, count):  # one after the other: each ends the streams of others
            await run(index)
    assert not failures, f"{len(failures)} of {count} histories\n\n" + "\n\n".join(failures[:12])
    figure(histories=count, verdicts=sum(verdicts.values()), wrong=0, **dict(sorted(verdicts.items())))
