"""The service over an SQLite file: killed at any moment, with a full or read-only disk, a torn file, a second process.

What was answered is there, each client gets it once and in order, and no client is reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from notifier.broker.sqlite.broker import SqliteBroker
from notifier.broker.values import History
from tests.broker.support import Recorder
from tests.faults.clients import Listener, listening, until
from tests.faults.conftest import Scale
from tests.faults.publishers import Publisher
from tests.faults.test_nothing_lost import ROOMY
from tests.support import API_KEY, JWT_SECRET, REPOSITORY, Service, bearer, free_port, running

USERS = [f"u{number}" for number in range(6)]
AS_ROOT = os.geteuid() == 0


def on_file(path: Path, port: int | None = None) -> Service:
    return Service(port=port, env={**ROOMY, "NOTIFIER_BROKER_URL": f"sqlite://{path}"})


async def create(path: Path) -> None:
    """A file of a service that has ended."""
    broker = SqliteBroker(path, history=History(10, 10, 3600), max_replay=10)
    await broker.start(Recorder())
    await broker.close()


def refused(path: Path, *limited: str) -> str:
    """What `serve` prints when it does not start on this file. Its exit code is that of a failed start. limited: the
    command that limits its files."""
    done = subprocess.run(
        [*limited, sys.executable, "-m", "notifier", "serve", "--port", str(free_port())],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "NOTIFIER_JWT_SECRET": JWT_SECRET,
            "NOTIFIER_API_KEYS": API_KEY,
            "NOTIFIER_BROKER_URL": f"sqlite://{path}",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3, done
    assert "Traceback" not in done.stderr
    return done.stderr


class Counter:
    """One task that is advanced by one, again and again; each step is repeated under its key until it is answered."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.steps = 0
        self.stopping = False

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, headers=bearer(API_KEY), timeout=5) as client:
            await self._call(
                client, "POST", "/v1/tasks", {"id": "counter", "to": ["user:u0"], "name": "Count"}, "begin"
            )
            while not self.stopping:
                await self._call(client, "PATCH", "/v1/tasks/counter", {"advance": 1}, f"step-{self.steps}")
                self.steps += 1
                await asyncio.sleep(0.02)

    async def _call(self, client: httpx.AsyncClient, method: str, url: str, body: dict[str, Any], key: str) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.request(method, url, json=body, headers={"Idempotency-Key": key})
                if answer.status_code == 200:
                    return
                assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.05)


async def read_some(service: Service, user: str, seed: random.Random) -> list[str]:
    """Mark some messages as read. Returns their ids, if that was answered."""
    headers = dict(service.user(user, groups=["staff"]).headers)
    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=5) as client:
        try:
            page = (await client.get("/v1/inbox", params={"limit": 100})).json()["messages"]
            ids = [message["id"] for message in page if seed.random() < 0.3]
            answer = await client.post("/v1/inbox/read", json={"ids": ids})
        except httpx.HTTPError:
            return []
        return ids if answer.status_code == 200 else []


@pytest.mark.timeout(1200)
async def test_the_service_killed_at_random_moments_loses_nothing_and_resets_no_client(
    tmp_path: Path, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    kills, port, path = scale.whole(2, 200), free_port(), tmp_path / "notifier.db"
    service = await asyncio.to_thread(on_file, path, port)
    listeners = [Listener(port, user, ("staff",)) for user in USERS]
    publisher = Publisher(service, [*(f"user:{user}" for user in USERS), "group:staff", "all"], seed)
    counter, read = Counter(service.url), set()
    try:
        async with listening(*listeners):
            publishing = asyncio.create_task(publisher.publish_for(1e6, scale(100, 400)))
            counting = asyncio.create_task(counter.run())
            for kill in range(10 * kills):
                if kill >= kills and read:  # on a loaded machine, few messages are marked before a kill
                    break
                before = publisher.last_cursor
                await until(lambda before=before: publisher.last_cursor != before, what="an answer")
                marking = asyncio.create_task(read_some(service, "u0", seed))
                await asyncio.sleep(seed.uniform(0, 0.5))
                service.process.child.kill()
                read.update(await marking)
                await asyncio.to_thread(service.process.stop)
                service = await asyncio.to_thread(on_file, path, port)
            publisher.stopping = counter.stopping = True
            await asyncio.gather(publishing, counting)
            await publisher.delivered(listeners)
        publisher.assert_complete(listeners)
        assert not any(listener.resets for listener in listeners)
        assert all(listener.connects > kills for listener in listeners)
        assert (
            len({cursor.rpartition("-")[0] for cursor in [publisher.last_cursor, *(i.cursor for i in listeners)]}) == 1
        )
        assert publisher.refused
        with service.client() as client, service.user("u0", groups=["staff"]) as user:
            assert client.get("/v1/tasks/counter").json()["done"] == counter.steps > 0
            page = user.get("/v1/inbox", params={"limit": 100}).json()["messages"]
            assert [item["id"] for item in page] == publisher.due(listeners[0])[::-1][:100]
            assert not [item["id"] for item in page if item["id"] in read and not item["read"]]
        assert read
    finally:
        service.process.stop()
    figure(
        kills=kills, published=len(publisher.acknowledged), repeated=publisher.refused, lost=0, twice=0, resets=0,
        task_steps=counter.steps, marked=len(read),
    )  # fmt: skip


# No room


class Disk:
    """A folder whose disk can be filled: a small tmpfs as root, a limit of the service's files otherwise."""

    def __init__(self, folder: Path, *, mounted: bool) -> None:
        self.folder = folder
        self._mounted = mounted
        self._ballast = folder / "ballast"

    def fill(self, service: Service) -> None:
        if self._mounted:
            self._fill_up()
        else:
            # None at all: after a checkpoint, the log is written from its beginning again.
            resource.prlimit(service.process.child.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def _fill_up(self) -> None:
        with contextlib.suppress(OSError), self._ballast.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    def refused(self, path: Path) -> str:
        """What `serve` prints when the disk of its file is full at the start."""
        if not self._mounted:
            return refused(path, "prlimit", "--fsize=0", "--")
        self._fill_up()
        return refused(path)

    def free(self, service: Service) -> None:
        if self._mounted:
            self._ballast.unlink()
        else:
            free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(service.process.child.pid, resource.RLIMIT_FSIZE, free)


@contextlib.contextmanager
def tmpfs(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(params=[pytest.param("limit", marks=pytest.mark.full), "tmpfs"] if AS_ROOT else ["limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "limit":
        yield Disk(tmp_path, mounted=False)
        return
    with tmpfs(tmp_path / "disk") as folder:
        yield Disk(folder, mounted=True)


async def test_a_full_disk_is_a_503_while_it_lasts_and_loses_nothing(
    disk: Disk, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    path, port = disk.folder / "notifier.db", free_port()
    service = await asyncio.to_thread(on_file, path, port)
    listeners = [Listener(port, user) for user in USERS]
    publisher = Publisher(service, [*(f"user:{user}" for user in USERS), "all"], seed)
    try:
        async with listening(*listeners), httpx.AsyncClient(base_url=service.url) as client:
            portion = scale.whole(50, 2000)
            publishing = asyncio.create_task(publisher.publish_for(1e6, scale(100, 400)))
            await until(lambda: len(publisher.acknowledged) > portion, 120, what="messages before the disk is full")
            disk.fill(service)
            await until(lambda: all(listener.of("degraded") for listener in listeners), what="degraded")
            ready = await client.get("/readyz")
            assert (ready.status_code, (await client.get("/healthz")).status_code) == (503, 200)
            answer = await client.post("/v1/messages", json={"to": ["all"], "subject": "x"}, headers=bearer(API_KEY))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert "cannot be written" in answer.json()["detail"]
            newcomer = Listener(port, "u0")
            coming = asyncio.create_task(newcomer.run())
            await until(lambda: newcomer.events, what="the newcomer's degraded")
            assert newcomer.events[0].data == {"degraded": True}
            full_since = len(publisher.acknowledged)
            disk.free(service)
            freed_at = time.monotonic()
            await until(lambda: len(publisher.acknowledged) > full_since + portion, 120, what="publishing again")
            assert (await client.get("/readyz")).status_code == 200
            again_s = max(listener.of("degraded")[-1].at for listener in listeners) - freed_at
            await until(lambda: newcomer.live, what="the newcomer's hello")
            coming.cancel()
            service.process.child.kill()
            await asyncio.to_thread(service.process.stop)
            service = await asyncio.to_thread(on_file, path, port)
            publisher.stopping = True
            await publishing
            await publisher.delivered(listeners)
        publisher.assert_complete(listeners)
        assert not any(listener.resets for listener in listeners)
        assert [item.data["degraded"] for item in listeners[0].of("degraded")] == [True, False]
    finally:
        service.process.stop()
    assert again_s < scale(10, 2)
    figure(
        published=len(publisher.acknowledged),
        refused=publisher.refused,
        lost=0,
        twice=0,
        again_after_s=round(again_s, 2),
    )


# Files that cannot be used


def test_a_full_disk_is_refused_at_the_start(disk: Disk) -> None:
    path = disk.folder / "notifier.db"
    asyncio.run(create(path))
    reason = disk.refused(path)
    assert "NOTIFIER_BROKER_URL" in reason
    assert "the disk is full" in reason or "the disk failed or is full" in reason


def test_a_read_only_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tmpfs(tmp_path / "disk")) if AS_ROOT else tmp_path
        path = folder / "notifier.db"
        asyncio.run(create(path))
        if AS_ROOT:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        else:
            path.chmod(0o400)
            path.with_name("notifier.db-lock").chmod(0o400)
        assert "cannot be written" in refused(path) or "must exist and be writable" in refused(path)


def test_a_torn_file_and_a_second_process_are_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "notifier.db"
    with running(on_file(path)) as service, service.client() as client:
        reason = refused(path)
        assert f"in use by the process {service.process.child.pid}" in reason
        assert client.post("/v1/messages", json={"to": ["all"], "subject": "x"}).status_code == 200
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    assert "is damaged" in refused(path)
