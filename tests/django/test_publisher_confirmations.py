"""`REDIS_WAIT_REPLICAS`: with the transport `redis`, a write counts as sent when a replica has it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_bridge.conf import Settings
from django_bridge.payload import Payload
from django_bridge.publisher.redis import RedisTransport
from django_bridge.publisher.transport import Attempt, Unreachable
from notifier import task
from notifier.errors import NotAllowed
from tests.support import running
from tests.topologies import KINDS, Pair

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with running(Pair(request.param)) as pair:
        yield pair


@pytest.fixture
def prefix() -> str:
    return f"notifier:b{uuid.uuid4().hex[:8]}:"


PAYLOAD: Payload = {
    "id": "first",
    "to": ["user:ann"],
    "subject": "By the bridge",
    "text": "",
    "from": None,
    "level": "info",
    "url": None,
    "data": {},
    "sent_at": None,
    "expires_at": None,
}


def begun(task_id: str) -> task.Task:
    return task.begin(
        to=("user:ann",), name="Import", state="", total=2, task_id=task_id, now_ms=int(time.time() * 1000)
    )


TASK = begun("made")


def prepare(sender: RedisTransport) -> None:
    for attempt in sender.message({**PAYLOAD, "id": "stored"}):
        attempt(9.0)
    sender.create_task(begun("kept"), "kept")(9.0)


def writes(sender: RedisTransport) -> dict[str, Attempt[Any]]:
    """Every kind of write on what `prepare` stored, as the outbox repeats it."""
    (message,) = sender.message(PAYLOAD)
    (correct,) = sender.correct("stored", ["user:ann"], {"text": "better"})
    (retract,) = sender.retract("gone", ["user:ann"])
    return {
        "message": message,
        "correct": correct,
        "retract": retract,
        "create": sender.create_task(TASK, "create"),
        "change": sender.change_task("kept", {"advance": 1}, "change"),
        "output": sender.append_output("kept", "text", "output"),
    }


def refused(attempts: dict[str, Attempt[Any]], within_s: float) -> set[str]:
    refused = set[str]()
    for name, attempt in attempts.items():
        try:
            attempt(within_s)
        except Unreachable:
            refused.add(name)
    return refused


@pytest.fixture
def opened(pair: Pair, prefix: str) -> Iterator[Callable[[], RedisTransport]]:
    """Opens transports, each as a process does."""
    transports: list[RedisTransport] = []

    def opened() -> RedisTransport:
        settings = Settings(redis_url=pair.primary.url, prefix=prefix, redis_wait_replicas=1, timeout_s=9)
        transports.append(RedisTransport(settings))
        return transports[-1]

    yield opened
    for each in transports:
        each.close()


def test_no_write_counts_as_sent_while_the_replica_does_not_confirm_it_and_a_repeat_stores_it_once(
    pair: Pair, opened: Callable[[], RedisTransport], prefix: str
) -> None:
    sender, other = opened(), opened()
    prepare(sender)
    pair.primary.call("SCRIPT", "FLUSH")
    with pair.without_replica():
        for each in (sender, other):
            attempts = writes(each)
            assert refused(attempts, 0.3) == attempts.keys()
        with pytest.raises(Unreachable, match="0 of 1 replicas confirmed the write within 1000 ms"):
            attempts["message"](9.0)
    for each in (sender, other):
        assert refused(writes(each), 9.0) == set()
    assert pair.primary.call("XLEN", f"{prefix}{{0}}:log:user:ann") == 2
    assert pair.replica.call("HGET", f"{prefix}{{0}}:task:kept", "n") == "1"
    assert other.change_task("kept", {"advance": 1}, "change")(9.0).done == 1


def test_a_publisher_who_may_not_wait_is_told_so(pair: Pair, opened: Callable[[], RedisTransport]) -> None:
    pair.primary.call("ACL", "SETUSER", "default", "-wait")
    try:
        (message,) = opened().message(PAYLOAD)
        with pytest.raises(NotAllowed, match="wait"):
            message(9.0)
    finally:
        pair.primary.call("ACL", "SETUSER", "default", "+wait")
