"""The outbox during outages of the real service, with deliverers in separate processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import override_settings

from django_bridge import Message, outbox, publisher
from django_bridge.models import OutboxMessage
from tests.django.conftest import FOLDER, http_settings, redis_settings
from tests.support import REPOSITORY, Process, RedisServer, Service, free_port, running, wait_for

pytestmark = [pytest.mark.programs, pytest.mark.timeout(300)]


class Site:
    """The service on a Redis that persists its data, and the settings of a project that uses it."""

    def __init__(self, transport: str) -> None:
        self.redis = RedisServer(append_only=True)
        self.port = free_port()
        self.service = self._started()
        url = f"http://127.0.0.1:{self.port}"
        base = http_settings(url) if transport == "http" else redis_settings(self.redis)
        self.settings: dict[str, Any] = {**base, "OUTBOX": True, "DELIVERY": "inline", "TIMEOUT_S": 0.6}
        address = (
            {"NOTIFIER_TEST_SERVICE_URL": url} if transport == "http" else {"NOTIFIER_TEST_REDIS_URL": self.redis.url}
        )
        self.env = {
            "DJANGO_SETTINGS_MODULE": "tests.django.settings",
            "NOTIFIER_TEST_FOLDER": FOLDER,
            "NOTIFIER_TEST_OUTBOX": "1",
            **address,
        }

    def _started(self) -> Service:
        return Service(redis_url=self.redis.url, port=self.port)

    def kill(self) -> None:
        """Kill the service and its Redis by SIGKILL."""
        self.service.process.child.kill()
        self.service.stop()
        self.redis.kill()

    def start(self) -> None:
        self.redis.start()
        self.service = self._started()

    def inbox(self, user: User) -> list[str]:
        """The ids of all delivered messages, oldest first."""
        with self.service.user(str(user.pk)) as client:
            page = client.get("/v1/inbox?limit=100").raise_for_status().json()
        return [message["id"] for message in reversed(page["messages"])]

    def stop(self) -> None:
        self.service.stop()
        self.redis.stop()


def usual(transport: str, database: str) -> pytest.MarkDecorator:
    """`make test` runs a test with this pair, `make test-faults` with each transport on each database."""
    others = {"http", "redis"} - {transport} if connection.vendor == database else {"http", "redis"}
    marks = {name: [pytest.mark.full] if name in others else [] for name in ("http", "redis")}
    return pytest.mark.parametrize(
        "site", [pytest.param(name, marks=marks[name]) for name in ("http", "redis")], indirect=True
    )


@pytest.fixture
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(outbox, "_process", outbox._OutboxProcess())
    with running(Site(request.param)) as started, override_settings(NOTIFIER=started.settings):
        yield started


def sent(user: User, count: int) -> list[str]:
    """Send `count` messages that are committed and as many that are rolled back. Returns the ids of the committed."""
    ids = []
    for n in range(count):
        with transaction.atomic():
            ids.append(Message(to_users=user, subject=f"committed {n}").send())
        with transaction.atomic():
            Message(to_users=user, subject=f"rolled back {n}").send()
            transaction.set_rollback(True)
    return ids


def deliver_rest() -> None:
    """On a loaded machine, not all fits into TIMEOUT_S."""
    wait_for(lambda: outbox._this_process().deliver_waiting() or not OutboxMessage.objects.exists(), what="the rest")


def has_printed(process: Process, text: str) -> bool:
    return text in process.output()


def run(site: Site, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "django", "notifier_outbox", *args]
    return subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **site.env}, capture_output=True, text=True, check=False
    )


@usual("http", "sqlite")
def test_every_message_that_was_committed_during_an_outage_arrives_once_and_in_order(site: Site, user: User) -> None:
    ids = sent(user, 3)
    deliver_rest()
    site.kill()
    ids += sent(user, 20)
    assert OutboxMessage.objects.count() == 20
    failed = run(site)
    assert (failed.returncode, "20 messages wait" in failed.stderr) == (1, True)
    site.start()
    delivered = run(site)
    assert (delivered.returncode, delivered.stdout) == (0, "20 delivered, 0 expired, 0 failed\n")
    assert site.inbox(user) == ids
    assert not OutboxMessage.objects.exists()


@usual("redis", "postgresql")
def test_after_an_outage_the_next_message_of_a_process_delivers_its_backlog(site: Site, user: User) -> None:
    site.kill()
    ids = sent(user, 5)
    site.start()
    wait_for(lambda: not publisher.current().breaker.open, what="a closed circuit")
    ids += sent(user, 1)
    inbox = site.inbox(user)
    assert inbox
    assert inbox == ids[: len(inbox)]
    deliver_rest()
    assert site.inbox(user) == ids


@usual("http", "postgresql")
def test_deliverers_with_follow_deliver_all_after_an_outage_and_end_cleanly(site: Site, user: User) -> None:
    command = [sys.executable, "-m", "django", "notifier_outbox", "--follow"]
    followers = [Process(command, cwd=REPOSITORY, env=site.env) for _ in range(2)]
    try:
        for follower in followers:
            follower.wait_until(partial(has_printed, follower, "delivering the outbox"), "the deliverer")
        site.kill()
        ids = sent(user, 20)
        wait_for(lambda: any(has_printed(follower, "trying again") for follower in followers), what="a failed try")
        site.start()
        wait_for(lambda: not OutboxMessage.objects.exists(), timeout_s=80, what="an empty outbox")
        assert site.inbox(user) == ids
        for follower, number in zip(followers, (signal.SIGTERM, signal.SIGINT), strict=True):
            follower.signal(number)
            assert follower.child.wait(30) == 0
            assert follower.output().endswith("stopped\n")
    finally:
        for follower in followers:
            follower.stop()


@usual("redis", "sqlite")
def test_a_deliverer_killed_during_delivery_neither_loses_nor_repeats_messages(site: Site, user: User) -> None:
    site.kill()
    ids = sent(user, 50)
    site.start()
    command = [sys.executable, "-m", "django", "notifier_outbox"]
    killed = Process(command, cwd=REPOSITORY, env=site.env)
    try:
        wait_for(lambda: OutboxMessage.objects.count() < 45, what="the first messages")
        killed.child.kill()
        killed.child.wait(5)
    finally:
        killed.stop()
    # The lease of the row that it had claimed ends.
    OutboxMessage.objects.filter(state="sending").update(due_at="2026-01-01T00:00:00Z")
    assert run(site).returncode == 0
    assert site.inbox(user) == ids
