"""The code samples of the original description, verbatim (in Python 3 spelling), with a real database, Redis and Celery
worker.
"""

# ruff: noqa: A001, B007  # verbatim
# fmt: off

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils import timezone

from django_bridge import Message, Progress, Task, progress
from django_bridge.celery import delivering_task
from django_bridge.models import OutboxMessage, TaskRecord
from django_bridge.testing import outbox
from notifier.broker.redis.keys import Keys
from notifier.json_text import to_json
from notifier.message import message_of
from tests.django.conftest import FOLDER, redis_settings
from tests.django.sample.models import SimpleModel
from tests.support import REPOSITORY, Process, RedisServer, running, wait_for


class Worker:
    """`celery -A tests.django.celery_app worker`, with the transport `redis`."""

    def __init__(self, server: RedisServer) -> None:
        celery_url = server.url.removesuffix("/0") + "/1"
        command = [sys.executable, "-m", "celery", "-A", "tests.django.celery_app", "worker"]
        self.process = Process(
            [*command, "--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO"],
            cwd=REPOSITORY,
            env={
                "NOTIFIER_TEST_FOLDER": FOLDER,
                "NOTIFIER_TEST_REDIS_URL": server.url,
                "NOTIFIER_TEST_CELERY_URL": celery_url,
            },
        )
        self.process.wait_until(lambda: " ready." in self.process.output(), "the Celery worker", 60)
        self.celery_url = celery_url

    def stop(self) -> None:
        self.process.stop()


@pytest.fixture(scope="module")
def worker(redis_server: RedisServer) -> Iterator[Worker]:
    redis_server.client().flushall()
    with running(Worker(redis_server)) as started:
        yield started


@pytest.fixture(scope="module")
def celery_app(worker: Worker) -> Iterator[None]:
    """The project's Celery app, on the worker's broker."""
    from tests.django.celery_app import app

    app.conf.update(broker_url=worker.celery_url, result_backend=worker.celery_url)
    yield
    app.backend.result_consumer.stop()
    app.backend.client.close()
    app.close()


@pytest.fixture
def celery(celery_app: None, redis_server: RedisServer) -> Iterator[None]:
    """The transport `redis`, in this process and in the worker."""
    with override_settings(NOTIFIER=redis_settings(redis_server)):
        yield


def inbox(server: RedisServer, user: User) -> list[dict[str, Any]]:
    """The messages stored for a user, as streams receive them."""
    with server.client() as client:
        entries = client.xrange(Keys().log(0, f"user:{user.pk}"))
    return [message_of(entry[b"f"].decode()) or {} for _, entry in entries]


def test_a_message_is_sent(user: User) -> None:
    request = types.SimpleNamespace(user=user)

    user = request.user
    message = Message(from_user=user, send_datetime=datetime.now(), subject='Test', text='Loong text', to_users=user)
    message.send()

    (sent,) = outbox.messages
    assert (sent["subject"], sent["text"], sent["to"]) == ("Test", "Loong text", [f"user:{user.pk}"])
    assert sent["from"] == {"id": str(user.pk), "name": "Ann Lee"}
    assert abs(datetime.fromisoformat(str(sent["sent_at"])) - timezone.now()) < timedelta(minutes=1)


def test_a_message_is_the_link_of_a_celery_task(celery: None, user: User, redis_server: RedisServer) -> None:
    from tests.django.sample.tasks import generate_report

    args, kwargs = (7,), {"title": "Sales"}

    from celery import subtask
    message = Message(from_user=user, send_datetime=datetime.now(), subject='Test', text='Loong text', to_users=user)
    generate_report.apply_async(args, kwargs, link=subtask(message.send))

    (sent,) = wait_for(lambda: inbox(redis_server, user), timeout_s=30, what="the message of the link")
    assert (sent["subject"], sent["text"], sent["from"]["name"]) == ("Test", "Loong text", "Ann Lee")


def test_a_message_is_the_link_of_a_celery_task_as_the_original_spells_the_call(
    celery: None, user: User, redis_server: RedisServer
) -> None:
    from tests.django.sample.tasks import generate_report

    args: Any = ((7,), {"title": "Sales"})
    kwargs: dict[str, Any] = {"countdown": 0}

    from celery import subtask
    message = Message(from_user=user, send_datetime=datetime.now(), subject='Test', text='Loong text', to_users=user)
    result = generate_report.apply_async(*args, **kwargs, link=subtask(message.send))

    assert result.get(timeout=30) == "Sales: 7 rows"
    wait_for(lambda: inbox(redis_server, user), timeout_s=30, what="the message of the link")


def test_with_celery_a_call_of_send_sends_at_once(
    celery: None, user: User, redis_server: RedisServer
) -> None:
    message = Message(from_user=user, subject='Test', text='Loong text', to_users=user)
    message_id = message.send()
    assert [sent["id"] for sent in inbox(redis_server, user)] == [message_id]


def test_a_link_that_runs_twice_sends_once(celery: None, user: User, redis_server: RedisServer) -> None:
    signature: Any = Message(to_users=user, subject="Test").send
    first, second = signature.apply_async(), signature.apply_async()
    assert first.get(timeout=30) == second.get(timeout=30)
    assert len(inbox(redis_server, user)) == 1


def test_a_worker_delivers_the_outbox(celery: None, user: User, redis_server: RedisServer) -> None:
    payload = Message(to_users=user, subject="waited").payload()
    OutboxMessage.objects.create(message_id=payload["id"], payload=to_json(payload), origin="another process")
    delivering_task().delay()
    (sent,) = wait_for(lambda: inbox(redis_server, user), timeout_s=30, what="the message that waited")
    assert sent["id"] == payload["id"]
    wait_for(lambda: not OutboxMessage.objects.exists(), what="an empty outbox")


def test_the_callback_is_called_after_every_tenth_of_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def _callback() -> None:
        calls.append(capsys.readouterr().out.split())

    for i in Progress(range(100), parts=10, callback=_callback):
        print(i)

    assert calls == [[str(n) for n in range(start, start + 10)] for start in range(0, 100, 10)]


def test_a_decorated_function_is_a_task(user: User, rows: int) -> None:
    @progress('Walk through a model')
    def test_model(request, model, task=None):
        import time

        all = model.objects.all()
        for i in Progress(all, parts=5, task=task):
            time.sleep(0.03)

    test_model(types.SimpleNamespace(user=user), SimpleModel)

    updates = [(update["status"], update["percent"]) for update in outbox.task_updates]
    assert updates == [("running", None), *(("running", n) for n in (20, 40, 60, 80, 100)), ("succeeded", 100)]
    assert {update["name"] for update in outbox.task_updates} == {"Walk through a model"}
    row = TaskRecord.objects.get()
    assert (row.user, row.status, row.percent) == (user, "succeeded", 100)


def test_a_task_without_the_decorator(user: User, rows: int) -> None:
    request = types.SimpleNamespace(user=user)

    task = Task(from_user=request.user, task_name='A long task')
    task.begin(state='The task begins')
    for i in Progress(SimpleModel.objects.all(), parts=5, task=task):
        time.sleep(0.03)
    task.end(state='The task is over')

    updates = [(update["state"], update["percent"]) for update in outbox.task_updates]
    assert updates == [
        ("The task begins", None),
        *(("The task begins", percent) for percent in (20, 40, 60, 80, 100)),
        ("The task is over", 100),
    ]
    assert TaskRecord.objects.get().state == "The task is over"
