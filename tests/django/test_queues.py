"""The recipes of docs/django.md for RQ, Dramatiq (with a real worker each) and Django's own tasks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_bridge import Task
from django_bridge.models import TaskRecord
from tests.django.conftest import FOLDER
from tests.support import REPOSITORY, Process, RedisServer, Service, running, wait_for


@pytest.fixture(scope="module")
def url(redis_server: RedisServer) -> str:
    redis_server.client().flushall()
    return redis_server.url.removesuffix("/0") + "/1"


def environment(url: str, service: Service) -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": "tests.django.settings",
        "NOTIFIER_TEST_FOLDER": FOLDER,
        "NOTIFIER_TEST_SERVICE_URL": service.url,
        "NOTIFIER_TEST_CELERY_URL": url,
    }


def ends(user: User) -> dict[str, tuple[str, int, str]]:
    rows = TaskRecord.objects.filter(user=user).exclude(ended_at=None)
    return {row.name: (row.status, row.done, row.error) for row in rows}


def shown(service: Service, user: User) -> dict[str, tuple[str, int]]:
    with service.user(str(user.pk)) as client:
        tasks = client.get("/v1/tasks").json()["tasks"]
    return {task["name"]: (task["status"], task["done"]) for task in tasks}


# RQ


@pytest.fixture(scope="module")
def rq_queue(url: str, bridge_service: Service) -> Iterator[Any]:
    import redis
    from rq import Queue

    command = [sys.executable, "-m", "rq.cli", "worker", "--url", url, "default"]
    env = {**environment(url, bridge_service), "PYTHONPATH": str(REPOSITORY)}
    connection = redis.Redis.from_url(url)
    with running(Process(command, cwd=REPOSITORY, env=env)) as process:
        process.wait_until(lambda: "Listening on" in process.output(), "the RQ worker", 30)
        yield Queue(connection=connection)
    connection.close()


def test_rq_runs_a_decorated_function(rq_queue: Any, over_http: Service, user: User) -> None:
    rq_queue.enqueue("tests.django.queues.import_rows", user.pk, 10)
    rq_queue.enqueue("tests.django.queues.import_rows", user.pk, 20, broken_at=8)
    wait_for(lambda: len(ends(user)) == 2, timeout_s=30, what="two ends")
    assert ends(user) == {
        "Import of 10 rows": ("succeeded", 10, ""),
        "Import of 20 rows": ("failed", 8, "Something went wrong."),
    }
    assert shown(over_http, user) == {"Import of 10 rows": ("succeeded", 10), "Import of 20 rows": ("failed", 8)}


def test_several_rq_jobs_advance_one_task(rq_queue: Any, over_http: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=30)
    jobs = [rq_queue.enqueue("tests.django.queues.import_share", task.id, f"chunk {n}", 10) for n in (1, 2, 3, 3)]
    wait_for(lambda: all(job.is_finished for job in jobs), timeout_s=30, what="the jobs")
    assert shown(over_http, user)["Import"][1] == 30


# Dramatiq


@pytest.fixture(scope="module")
def dramatiq_worker(url: str, bridge_service: Service) -> Iterator[Any]:
    from dramatiq.brokers.redis import RedisBroker

    command = [sys.executable, "-m", "dramatiq", "tests.django.queues", "--processes", "1", "--threads", "2"]
    with running(Process(command, cwd=REPOSITORY, env=environment(url, bridge_service))) as process:
        process.wait_until(lambda: "is ready for action" in process.output(), "the Dramatiq worker", 30)
        from tests.django import queues

        broker = RedisBroker(url=url)
        for actor in (queues.import_actor, queues.import_share_actor):
            actor.broker = broker
            broker.declare_actor(actor)
        yield queues
        broker.close()


def test_dramatiq_runs_a_decorated_function(dramatiq_worker: Any, over_http: Service, user: User) -> None:
    dramatiq_worker.import_actor.send(user.pk, 10)
    dramatiq_worker.import_actor.send(user.pk, 20, broken_at=8)
    wait_for(lambda: len(ends(user)) == 2, timeout_s=30, what="two ends")
    assert ends(user) == {
        "Import of 10 rows": ("succeeded", 10, ""),
        "Import of 20 rows": ("failed", 8, "Something went wrong."),
    }


def test_a_retried_actor_is_not_counted_twice(dramatiq_worker: Any, over_http: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=20)
    dramatiq_worker.import_share_actor.send(task.id, 10)
    dramatiq_worker.import_share_actor.send(task.id, 10)
    wait_for(lambda: shown(over_http, user)["Import"][1] >= 20, timeout_s=30, what="all of them")
    task.end()
    assert shown(over_http, user)["Import"] == ("succeeded", 20)


# Django's own tasks, from Django 6.0 on

if django.VERSION >= (6, 0):

    @pytest.mark.parametrize("fails", [False, True])
    def test_djangos_own_tasks_run_a_decorated_function(user: User, fails: bool) -> None:
        from tests.django.queues import import_in_background

        backend = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
        with override_settings(TASKS=backend):
            result = import_in_background.enqueue(user.pk, 10, broken_at=4 if fails else None)
        assert result.status == ("FAILED" if fails else "SUCCESSFUL")
        expected = ("failed", 4, "Something went wrong.") if fails else ("succeeded", 10, "")
        assert ends(user) == {"Import of 10 rows": expected}
