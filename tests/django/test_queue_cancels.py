"""Cancels, by a user or by means of the queue: the job ends, it is not tried again, and its task is cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
import redis
import rq
from django.contrib.auth.models import User
from django.utils import timezone
from dramatiq.brokers.stub import StubBroker
from huey import MemoryHuey
from huey.exceptions import TaskException

from django_bridge import Progress, TaskCancelled, current_task
from django_bridge.models import TaskRecord
from django_bridge.queues.dramatiq import ReportedMessages
from django_bridge.queues.huey import report_tasks
from django_bridge.queues.job import Job
from django_bridge.queues.rq import ReportedJob
from django_bridge.testing import outbox
from tests.support import RedisServer

ran: list[str] = []


def stopped(user_id: int) -> None:
    """A user cancels while it runs."""
    ran.append("stopped")
    outbox.request_cancel(current_task().id)
    current_task().set_state("in the middle")
    list(Progress(range(4), parts=4))


def idle(user_id: int) -> None:
    ran.append("idle")


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def status() -> str:
    return TaskRecord.objects.get().status


# RQ


@pytest.fixture
def queue(redis_server: RedisServer) -> Iterator[rq.Queue]:
    redis_server.client().flushall()
    with redis.Redis.from_url(redis_server.url) as connection:
        yield rq.Queue(connection=connection, job_class=ReportedJob)


def work(queue: rq.Queue) -> int:
    """Run what is in the queue. Returns how many attempts failed."""
    worker = rq.SimpleWorker([queue], connection=queue.connection, job_class=ReportedJob)
    worker.work(burst=True, logging_level="CRITICAL")
    worker.refresh()
    return int(worker.failed_job_count)


def test_rq_does_not_try_a_cancelled_job_again(queue: rq.Queue, user: User) -> None:
    job = queue.enqueue(stopped, user.pk, retry=rq.Retry(max=3))
    assert work(queue) == 1
    assert (status(), ran, job.get_status()) == ("cancelled", ["stopped"], "failed")


def test_a_job_that_rq_cancels(queue: rq.Queue, user: User) -> None:
    job = queue.enqueue(idle, user.pk)
    assert status() == "pending"
    job.cancel()
    work(queue)
    assert (status(), ran) == ("cancelled", [])


# Dramatiq


@pytest.fixture
def broker() -> Iterator[StubBroker]:
    broker = StubBroker()
    broker.emit_after("process_boot")
    broker.add_middleware(ReportedMessages())
    yield broker
    broker.close()


def run(broker: StubBroker, function: Any, *args: Any) -> Any:
    actor = dramatiq.actor(broker=broker, max_retries=3, min_backoff=1)(function)
    message = actor.send(*args)
    worker = dramatiq.Worker(broker, worker_timeout=100)
    worker.start()
    try:
        broker.join(actor.queue_name, fail_fast=False)
        worker.join()
    finally:
        worker.stop()
    return message


def test_dramatiq_does_not_try_a_cancelled_message_again(broker: StubBroker, user: User) -> None:
    attempts: list[str] = []

    class Counting(dramatiq.Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            attempts.append(message.message_id)

    broker.add_middleware(Counting(), before=ReportedMessages)
    run(broker, stopped, user.pk)
    assert (status(), ran, len(broker.dead_letters), len(attempts)) == ("cancelled", ["stopped"], 1, 1)


def test_a_message_that_dramatiq_skips(broker: StubBroker, user: User) -> None:
    class Skipping(dramatiq.Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise dramatiq.middleware.SkipMessage

    broker.add_middleware(Skipping())
    run(broker, idle, user.pk)
    assert (status(), ran) == ("cancelled", [])


# Huey


@pytest.fixture
def huey() -> MemoryHuey:
    huey = MemoryHuey(immediate=True)
    report_tasks(huey)
    return huey


def test_huey_does_not_try_a_cancelled_task_again(huey: MemoryHuey, user: User) -> None:
    retries: list[str] = []
    huey.signal("retrying")(lambda signal, task: retries.append(task.id))
    result = huey.task(retries=3)(stopped)(user.pk)
    with pytest.raises(TaskException):
        result.get()
    assert (status(), ran, retries) == ("cancelled", ["stopped"], [])


def test_a_task_that_huey_revokes(huey: MemoryHuey, user: User) -> None:
    huey.immediate = False
    idle_task = huey.task()(idle)
    idle_task(user.pk).revoke()
    assert status() == "pending"
    huey.execute(huey.dequeue())
    assert (status(), ran) == ("cancelled", [])


def interrupted(user_id: int) -> None:
    raise KeyboardInterrupt


def test_a_task_whose_consumer_is_stopped_has_failed(huey: MemoryHuey, user: User) -> None:
    huey.task(retries=3)(interrupted)(user.pk)
    assert (TaskRecord.objects.get().error, current_task()) == ("The worker was stopped.", None)


def test_a_task_that_huey_lets_expire(huey: MemoryHuey, user: User) -> None:
    huey.immediate = False
    idle_task = huey.task(expires=timezone.now().replace(tzinfo=None) - timedelta(days=2))(idle)
    idle_task(user.pk)
    huey.execute(huey.dequeue())
    assert (status(), ran) == ("cancelled", [])


# What all share


def test_a_job_that_another_worker_starts_again_has_one_task(user: User) -> None:
    job = Job("job-1", idle, (user.pk,))
    job.queued()
    for _ in range(2):
        task = job.started()
        assert task is not None
    job.queued()
    assert (TaskRecord.objects.get().pk, status()) == ("job-1", "running")


def test_a_job_that_runs_again_after_its_end_has_a_task_for_each_run(user: User) -> None:
    job = Job("job-1", idle, (user.pk,))
    for _ in range(2):
        task = job.started()
        assert task is not None
        task.end()
    assert list(TaskRecord.objects.values_list("status", flat=True)) == ["succeeded", "succeeded"]


def test_an_id_that_is_none_of_a_task_is_replaced_by_its_digest(user: User) -> None:
    job = Job("nightly:7", idle, (user.pk,))
    job.queued()
    task = job.started()
    assert task is not None
    assert (len(task.id), TaskRecord.objects.get().pk) == (32, task.id)


def test_a_task_that_was_cancelled_elsewhere_stops_the_process_that_resumes_it(user: User) -> None:
    job = Job("job-1", idle, (user.pk,))
    first = job.started()
    assert first is not None
    first.cancelled()
    with pytest.raises(TaskCancelled):
        job.started()
    resumed = type(first).resume("job-1")
    with pytest.raises(TaskCancelled):
        list(Progress(range(4), parts=4, task=resumed))
