"""Presence when a process ends: two services of one worker each, on one Redis with three shards."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from notifier.auth import topic_grant
from tests.api.support import Listening, User, calling, data_of, unique
from tests.support import API_KEY, FULL, JWT_SECRET, RedisServer, Service, running, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SHARE = 1 if FULL else 5
"""Leases and their renewal are this part of those of the service, so that the tests are short."""
GRACE_S = 5 if FULL else 3
"""The service's, or one within which a loaded machine, too, opens a stream at another process."""
GONE_S = 45 if FULL else 20
"""The people of a killed process are gone within this time."""
LEASE_OVER_S = 45 / SHARE
"""A killed process' leases are over after this time."""
SHORTER = """
from notifier import presence
for name in ("LEASE_S", "RENEW_EVERY_S"):
    setattr(presence, name, getattr(presence, name) / {share})
presence.GRACE_S = {grace_s}
"""


@pytest.fixture(scope="module")
def start(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Service]:
    """Starts one more service on the same data. Python imports `sitecustomize` at its start."""
    folder = tmp_path_factory.mktemp("shorter")
    (folder / "sitecustomize.py").write_text(SHORTER.format(share=SHARE, grace_s=GRACE_S))
    env = {
        "NOTIFIER_PREFIX": f"{unique('ends')}:",
        "NOTIFIER_SHARDS": "3",
        "NOTIFIER_HEARTBEAT_S": "2",  # a stream that is read for 10 s without any byte is given up
        "PYTHONPATH": str(folder),
    }
    return lambda: Service(redis_url=redis_server.url, env=env)


@pytest.fixture(scope="module")
def first(start: Callable[[], Service]) -> Iterator[Service]:
    with running(start()) as service:
        yield service


@pytest.fixture
def second(start: Callable[[], Service]) -> Iterator[Service]:
    """The service that a test ends."""
    with running(start()) as service:
        yield service


def seen_on(user: User, topic: str) -> str:
    return topic_grant(JWT_SECRET, user.name, [topic], presence=True, name=user.name)


def at(service: Service, user: User, topic: str) -> Listening:
    return Listening(service, {"Authorization": f"Bearer {user.token}"}, [("grant", seen_on(user, topic))])


class Watching:
    """A stream's events `presence`, noted in a thread until the stream is closed."""

    def __init__(self, stream: Listening) -> None:
        self.changes: list[tuple[float, dict[str, Any]]] = []
        self._stream = stream
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                event = self._stream.next()
                if event.event == "presence":
                    self.changes.append((time.monotonic(), data_of(event)))
        except (httpx.HTTPError, httpx.StreamError, StopIteration):
            return

    def of(self, user: User, how: str) -> list[float]:
        """When an event named the user so: as `joined` or `left`."""
        return [when for when, change in self.changes if user.name in {each["id"] for each in change[how]}]


def people(service: Service, topic: str) -> set[str]:
    with calling(service, API_KEY) as publisher:
        answer = publisher.get(f"/v1/topics/{topic}/presence").raise_for_status().json()
    return {each["id"] for each in answer["users"]}


Together = tuple[Watching, User, User, str, Listening]


@pytest.fixture
def together(first: Service, second: Service) -> Iterator[Together]:
    """Ann at the first service, who watches; Bob at the second, whose stream is the last."""
    ann, bob, topic = User(first, unique("ann")), User(second, unique("bob")), unique("order")
    with at(first, ann, topic) as of_ann, at(second, bob, topic) as of_bob:
        watching = Watching(of_ann)
        of_bob.next("hello")
        wait_for(lambda: watching.of(bob, "joined"), what="bob")
        yield watching, ann, bob, topic, of_bob


def test_the_people_of_a_killed_process_leave(first: Service, second: Service, together: Together) -> None:
    watching, ann, bob, topic, _ = together
    killed_at = time.monotonic()
    second.process.signal(signal.SIGKILL)
    wait_for(lambda: watching.of(bob, "left"), timeout_s=GONE_S + 15, what="bob's end")
    assert watching.of(bob, "left")[0] - killed_at < GONE_S
    assert people(first, topic) == {ann.name}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_who_returns_at_another_process_neither_leaves_nor_joins(
    first: Service, second: Service, together: Together, how: signal.Signals
) -> None:
    watching, ann, bob, topic, of_bob = together
    seen = len(watching.changes)
    ended_at = time.monotonic()
    second.process.signal(how)
    with suppress(httpx.HTTPError):
        of_bob.rest()
    with at(first, bob, topic) as again:
        again.next("hello")
        second.process.child.wait()
        # The lease of the process that ended has run out, and the people were looked at again.
        wait_for(lambda: time.monotonic() > ended_at + LEASE_OVER_S, timeout_s=GONE_S + 45, what="the end of its lease")
        assert watching.changes[seen:] == []
        assert people(first, topic) == {ann.name, bob.name}
    wait_for(lambda: watching.of(bob, "left"), what="bob's end")
    assert people(first, topic) == {ann.name}
