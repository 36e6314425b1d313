"""The transport `redis`: its writes, and lost scripts, foreign values and restarts of Redis."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_bridge import Message, Task, publisher
from django_bridge.publisher import redis
from django_bridge.publisher.redis import RedisTransport
from notifier.asking import answered
from notifier.broker.redis.keys import Keys
from notifier.broker.values import Idempotency
from notifier.errors import NotAllowed
from notifier.message import message_of
from notifier.question import Question
from tests.django.conftest import redis_settings
from tests.support import RedisServer, running


def test_over_redis_a_message_is_stored_as_the_service_stores_it(over_redis: RedisServer, user: User) -> None:
    message_id = Message(to_users=user, subject="Test").send()
    keys = Keys()
    with over_redis.client() as client:
        ((_, entry),) = client.xrange(keys.log(0, f"user:{user.pk}"))
        assert entry[b"m"].decode() == message_id
        stored = message_of(entry[b"f"].decode())
        assert stored is not None
        assert (stored["id"], stored["subject"]) == (message_id, "Test")
        assert client.ttl(keys.log(0, f"user:{user.pk}")) > 6 * 24 * 3600


def test_over_redis_lost_scripts_are_sent_again(over_redis: RedisServer) -> None:
    Message(to_users=1, subject="one").send()
    with over_redis.client() as client:
        client.script_flush()
        Message(to_users=1, subject="two").send()
        assert client.xlen(Keys().log(0, "user:1")) == 2


def test_over_redis_a_key_that_holds_a_foreign_value_is_quarantined(
    over_redis: RedisServer, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys()
    task = Task(from_user=user, task_name="Import")
    log, tasks, record = keys.log(0, f"user:{user.pk}"), keys.tasks(0, f"user:{user.pk}"), keys.task(0, task.id)
    with over_redis.client() as client:
        for name in (log, tasks, record, keys.seq(0)):
            client.set(name, "something else")
        message_id = Message(to_users=user, subject="Test").send()
        task.begin(total=2)
        client.delete(record)
        client.sadd(record, "something else")
        task.advance()
        assert message_of(client.xrange(log)[0][1][b"f"].decode())["id"] == message_id  # type: ignore[index]  # it is one
        assert client.zrange(tasks, 0, -1) == [task.id.encode()]
        assert b'"done":1' in client.hget(record, "record")
        assert client.get(f"{log}:foreign") == b"something else"
    assert caplog.text.count("quarantined a key that holds a foreign value") == 5
    assert publisher.current().counts.failed == 0


def test_over_redis_a_user_s_answer_wins_over_the_default_within_the_attempt(
    over_redis: RedisServer, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user answers between the read that sees the timeout and the write of the default."""
    task = Task(from_user=user, task_name="Import")
    task.begin()
    transport = publisher.current().transport
    assert isinstance(transport, RedisTransport)
    now_ms = round(time.time() * 1000)
    question = Question("q", "Overwrite?", (), "no", asked_at_ms=now_ms - 2000, expires_at_ms=now_ms + 60_000)
    transport.ask(task.id, question, "key")(60.0)
    monkeypatch.setattr(redis, "_now_ms", lambda: now_ms + 61_000)
    write, deadlines = transport._stored, []

    def stored(change: Any, task_id: str, idempotency: Any, deadline: float) -> Any:
        deadlines.append((deadline, transport._deadline.at))
        by_ann = lambda kept: answered(kept, "q", "yes", by_id="ann", by_name="Ann", now_ms=now_ms)  # noqa: E731
        write(by_ann, task_id, Idempotency("user", "user"), deadline)
        return write(change, task_id, idempotency, deadline)

    def read(*args: Any) -> Any:
        deadlines.append((None, transport._deadline.at))
        return repaired(*args)

    repaired = transport._repaired
    monkeypatch.setattr(transport, "_stored", stored)
    monkeypatch.setattr(transport, "_repaired", read)
    answer = transport.answer(task.id, "q")(60.0)
    assert answer is not None
    assert (answer.value, answer.by_id) == ("yes", "ann")
    assert len(deadlines) > 1
    assert len({at for _, at in deadlines}) == 1, "the write has what the read left of the attempt"


@pytest.mark.programs
def test_over_redis_a_message_survives_a_short_restart(user: User) -> None:
    with running(RedisServer(append_only=True)) as server:
        with override_settings(NOTIFIER=redis_settings(server, TIMEOUT_S=20)):
            Message(to_users=user, subject="before").send()
            server.kill()
            starting = threading.Timer(0.3, server.start)
            starting.start()
            Message(to_users=user, subject="meanwhile").send()
            starting.join()
            assert publisher.current().counts.repeated > 0
            with server.client() as client:
                assert client.xlen(Keys().log(0, f"user:{user.pk}")) == 2
        publisher.current()


def test_over_redis_a_missing_right_is_no_outage(over_redis: RedisServer) -> None:
    with over_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read")
        url = over_redis.url.replace("redis://", "redis://reader:secret@")
        try:
            with override_settings(NOTIFIER=redis_settings(over_redis, REDIS_URL=url, RAISE=True)):
                for _ in range(4):
                    with pytest.raises(NotAllowed, match="REDIS_URL"):
                        Message(to_users=1, subject="Test").send()
                assert (publisher.current().breaker.open, publisher.current().counts.repeated) == (False, 0)
        finally:
            client.execute_command("ACL", "DELUSER", "reader")
