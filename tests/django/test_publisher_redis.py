"""The transport `redis`: its writes, and lost scripts, foreign values and restarts of Redis."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_bridge import Message, Task, publisher
from notifier.broker.redis.keys import Keys
from notifier.message import message_of
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


@pytest.mark.programs
def test_over_redis_a_message_survives_a_short_restart(user: User) -> None:
    with running(RedisServer(append_only=True)) as server:
        with override_settings(NOTIFIER=redis_settings(server, TIMEOUT_S=5)):
            Message(to_users=user, subject="before").send()
            server.kill()
            threading.Timer(0.3, server.start).start()
            Message(to_users=user, subject="meanwhile").send()
            assert publisher.current().counts.repeated > 0
            with server.client() as client:
                assert client.xlen(Keys().log(0, f"user:{user.pk}")) == 2
        publisher.current()
