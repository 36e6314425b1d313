"""A killed producer is detected, in the service and in the row; a slow one is not taken for killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from django_bridge import Task
from django_bridge.celery import check_tasks
from django_bridge.models import TaskRecord
from django_bridge.task import heartbeat, reconcile
from tests.django.conftest import FOLDER, http_settings, redis_settings
from tests.django.listener import listening
from tests.support import REPOSITORY, Process, RedisServer, Service, free_port, running, wait_for

STALLED_S, FAILED_S, BEAT_S = 5.0, 8.0, 0.5
"""A busy machine may run nothing for a second or two: that is no killed producer."""
ENV = {"NOTIFIER_TASK_STALLED_S": str(STALLED_S), "NOTIFIER_TASK_FAILED_S": str(FAILED_S)}
PRODUCER = """
import sys, time
import django
django.setup()
from django_bridge import Progress, Task
from django_bridge.task import heartbeat
heartbeat.EVERY_S = heartbeat.FIRST_S = {beat_s}
task = Task(from_user={user}, task_name="Import")
for i in Progress(range(10), task=task):
    if i == 5:
        print(task.id, flush=True)
        time.sleep({slow_s})
task.end("all in")
"""


@pytest.fixture(
    params=["memory", pytest.param("redis", marks=pytest.mark.full), "redis, two processes, past the service"]
)
def watching(request: pytest.FixtureRequest) -> Iterator[tuple[Service, dict[str, Any], dict[str, str]]]:
    """A service with short times, the settings to publish to it, and the environment of a producer's process."""
    if request.param == "memory":
        with running(Service(env=ENV)) as service:
            yield service, http_settings(service.url), {"NOTIFIER_TEST_SERVICE_URL": service.url}
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    server.client().flushall()
    past = "past" in request.param
    with running(Service(redis_url=server.url, env=ENV, workers=2 if past else 1)) as service:
        if past:
            yield service, redis_settings(server), {"NOTIFIER_TEST_REDIS_URL": server.url}
        else:
            yield service, http_settings(service.url), {"NOTIFIER_TEST_SERVICE_URL": service.url}


def producer(user: User, env: dict[str, str], slow_s: float) -> Process:
    program = PRODUCER.format(beat_s=BEAT_S, user=user.pk, slow_s=slow_s)
    env = {"DJANGO_SETTINGS_MODULE": "tests.django.settings", "NOTIFIER_TEST_FOLDER": FOLDER, **env}
    process = Process([sys.executable, "-c", program], cwd=REPOSITORY, env=env)
    try:
        process.wait_until(lambda: "\n" in process.output(), "a producer in its slow item")
    except BaseException:
        process.stop()
        raise
    return process


def statuses(listener: Any) -> list[str]:
    """The statuses that the listener received, without repetitions."""
    received = [task["status"] for task in listener.data("task")]
    return [status for n, status in enumerate(received) if n == 0 or status != received[n - 1]]


@pytest.mark.slow
def test_the_task_of_a_killed_producer_is_stalled_then_failed_and_a_slow_one_continues(
    watching: tuple[Service, dict[str, Any], dict[str, str]], user: User, other_user: User
) -> None:
    service, settings, env = watching
    with (
        override_settings(NOTIFIER=settings),
        listening(service, user.pk) as listener,
        listening(service, other_user.pk) as other,
        running(producer(other_user, env, slow_s=FAILED_S + 3)) as slow,
        running(producer(user, env, slow_s=60)) as killed,
    ):
        wait_for(lambda: len(listener.data("task")) > 8, what="heartbeats")
        assert statuses(listener) == ["running"]
        os.kill(killed.child.pid, signal.SIGKILL)

        wait_for(lambda: statuses(listener)[-1] == "stalled", what="a stalled task")
        check = reconcile.check_tasks(quiet_s=0)
        row = TaskRecord.objects.get(user=user)
        assert (row.status, row.done, row.ended_at, check.error) == ("stalled", 5, None, "")

        wait_for(lambda: statuses(listener)[-1] == "failed", what="a failed task")
        assert "Its producer sent no heartbeat" in listener.data("task")[-1]["error"]
        reconcile.check_tasks(quiet_s=0)
        row = TaskRecord.objects.get(user=user)
        assert (row.status, row.ended_at is not None) == ("failed", True)
        assert "sent no heartbeat" in row.error

        wait_for(lambda: statuses(other)[-1] == "succeeded", what="the end of the slow producer")
        assert statuses(other) == ["running", "succeeded"]
        assert slow.child.wait(10) == 0
        assert TaskRecord.objects.get(user=other_user).status == "succeeded"


@pytest.mark.slow
def test_a_task_that_waits_for_a_worker_is_not_stalled(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "FIRST_S", 0.05)
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.05)
    with (
        running(Service(env={"NOTIFIER_TASK_STALLED_S": "0.5"})) as service,
        override_settings(NOTIFIER=http_settings(service.url)),
        listening(service, user.pk) as listener,
    ):
        waiting, dropped = Task(from_user=user, task_name="Waits"), Task(from_user=user, task_name="Dropped")
        waiting.begin("Waiting for a worker")
        dropped.begin()
        wait_for(lambda: len(listener.data("task")) > 6, what="heartbeats")
        assert waiting.__json__() == waiting.id  # as an argument of a Celery task
        del dropped

        def latest() -> dict[str, str]:
            return {task["name"]: task["status"] for task in listener.data("task")}

        wait_for(lambda: latest() == {"Waits": "pending", "Dropped": "stalled"}, what="a stalled task")
        count = len(listener.data("task"))
        Task.resume(waiting.id).set_state("On it")
        # Without a heartbeat, it is stalled soon after.
        wait_for(lambda: "running" in [task["status"] for task in listener.data("task")[count:]], what="its work")


def test_the_first_heartbeat_comes_soon_and_a_task_that_waits_has_none(
    user: User, over_http: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "FIRST_S", 0.05)
    task = Task(from_user=user, task_name="Import")
    with listening(over_http, user.pk) as listener:
        task.begin()
        task.works_here()
        wait_for(lambda: len(listener.data("task")) == 2, what="a heartbeat, long before the next is due")
        task.wait("Retry 2")
        wait_for(lambda: listener.data("task")[-1]["status"] == "pending", what="a task that waits")
        task.begin()
        wait_for(lambda: listener.data("task")[-1]["status"] == "running", what="a task that runs again")
        count = len(listener.data("task"))
        wait_for(lambda: len(listener.data("task")) > count, what="another heartbeat")


def test_a_row_is_not_changed_before_quiet_s_nor_without_newer_state_in_the_service(user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin()
    assert reconcile.check_tasks() == reconcile.Checked()
    assert reconcile.check_tasks(quiet_s=0) == reconcile.Checked(quiet=1)
    assert check_tasks() == {"quiet": 0, "changed": 0, "lost": 0, "error": ""}


def test_a_row_unknown_to_the_service_fails_after_a_week(user: User) -> None:
    for days, name in ((6, "younger"), (8, "older")):
        moment = timezone.now() - timedelta(days=days)
        TaskRecord.objects.create(
            id=name, name=name, user=user, to=["user:1"], status="running", started_at=moment, updated_at=moment
        )
    output = StringIO()
    call_command("notifier_tasks", stdout=output)
    assert output.getvalue() == "2 quiet, 0 changed, 1 lost\n"
    assert dict(TaskRecord.objects.values_list("name", "status")) == {"younger": "running", "older": "failed"}


def test_rows_are_not_changed_while_the_service_is_unreachable(user: User) -> None:
    moment = timezone.now() - timedelta(days=8)
    TaskRecord.objects.create(
        id="t", name="t", user=user, to=["user:1"], status="running", started_at=moment, updated_at=moment
    )
    unreachable = http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1)
    with override_settings(NOTIFIER=unreachable), pytest.raises(CommandError, match="not all tasks could be checked"):
        call_command("notifier_tasks", stdout=StringIO())
    assert TaskRecord.objects.get().status == "running"
