"""Tasks and a service that is slow, silent or away: a loop does not wait for it, and the last state arrives."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_bridge import Progress, Task, TaskCancelled, progress
from django_bridge.models import TaskRecord
from django_bridge.task import scheduler
from tests.django.answering import SilentServer, answering
from tests.django.conftest import http_settings
from tests.django.test_background import env
from tests.support import REPOSITORY, Service, free_port, running, wait_for

pytestmark = pytest.mark.slow

BACKGROUND = {"OUTBOX": True}


@pytest.fixture(autouse=True)
def _new_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_scheduler", scheduler.Scheduler())


def slow(body: Any) -> Any:
    time.sleep(0.5)
    answer = {"done": body.get("done", 0), "total": body.get("total"), "cancel_requested": False}
    return 200, {}, json.dumps(answer).encode()


def walk(user: User) -> float:
    """A task with a loop of 20 parts. Returns how long it took."""
    began = time.monotonic()
    with Task(from_user=user, task_name="Walk") as task:
        for _ in Progress(range(20), parts=20, task=task):
            pass
    return time.monotonic() - began


@pytest.mark.parametrize(("settings", "at_most_s"), [({}, 6.0), (BACKGROUND, 4.5)], ids=["inline", "background"])
def test_a_loop_of_20_parts_does_not_wait_for_each_answer_of_a_slow_service(
    user: User, settings: dict[str, Any], at_most_s: float
) -> None:
    with answering(slow, **settings) as server:
        assert walk(user) < at_most_s
        wait_for(lambda: [body for *_, body in server.requests if body.get("status") == "succeeded"], what="the end")
        assert len(server.requests) < 15
        (row,) = TaskRecord.objects.all()
        assert (row.status, row.done) == ("succeeded", 20)


def test_in_the_background_a_task_does_not_wait_for_a_silent_service(user: User) -> None:
    with running(SilentServer()) as silent:
        settings = http_settings(f"http://127.0.0.1:{silent.port}", **BACKGROUND)
        with override_settings(NOTIFIER=settings):
            assert walk(user) < 4.5  # half of TIMEOUT_S is 5 s


def kept(service: Service, user: User) -> list[dict[str, Any]]:
    with service.user(str(user.pk)) as client:
        tasks: list[dict[str, Any]] = client.get("/v1/tasks").raise_for_status().json()["tasks"]
        return tasks


def ended(service: Service, user: User, status: str = "succeeded") -> list[dict[str, Any]]:
    return [task for task in kept(service, user) if task["status"] == status]


def test_in_the_background_the_service_gets_the_last_state(over_http: Service, user: User) -> None:
    with override_settings(NOTIFIER=http_settings(over_http.url, **BACKGROUND)):
        task = Task(from_user=user, task_name="Walk")
        task.begin("begins", total=100)
        for _ in range(100):
            task.advance()
        task.end("over")
        (row,) = wait_for(lambda: ended(over_http, user), what="the end")
        assert (row["state"], row["done"], row["total"]) == ("over", 100, 100)


def test_in_the_background_a_task_that_ended_during_an_outage_is_reported_after_it(user: User) -> None:
    port = free_port()
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{port}", TIMEOUT_S=0.1, **BACKGROUND)):
        walk(user)
        gc.collect()
        with running(Service(port=port)) as service:
            (row,) = wait_for(lambda: ended(service, user), timeout_s=20, what="the end")
            assert (row["done"], row["total"]) == (20, 20)


def test_in_the_background_a_cancel_ends_the_loop(over_http: Service, user: User) -> None:
    def run(task: Task) -> None:
        for n in Progress(range(10**6), parts=10**6, task=task):
            if n == 3:
                wait_for(lambda: kept(over_http, user), what="the task")
                with over_http.user(str(user.pk)) as client:
                    client.post(f"/v1/tasks/{task.id}/cancel").raise_for_status()

    with override_settings(NOTIFIER=http_settings(over_http.url, **BACKGROUND)):
        task = Task(from_user=user, task_name="Walk")
        with pytest.raises(TaskCancelled):
            run(task)
        assert wait_for(lambda: ended(over_http, user, "cancelled"), what="the end")


ENDING = """
import django
django.setup()
from django_bridge import Progress, Task
task = Task(from_user={user}, task_name="Walk")
for _ in Progress(range(20), task=task):
    pass
task.end("over")
"""


def test_the_end_of_a_process_waits_until_its_tasks_are_reported(over_http: Service, user: User) -> None:
    code = ENDING.format(user=user.pk)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=env(over_http.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["state"] for row in ended(over_http, user)] == ["over"]


def test_with_raise_the_caller_gets_the_error_also_in_the_background(user: User) -> None:
    from notifier.errors import BrokerUnavailable

    settings = http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1, RAISE=True, **BACKGROUND)
    with override_settings(NOTIFIER=settings), pytest.raises(BrokerUnavailable):
        Task(from_user=user, task_name="Walk").begin()


def test_in_the_background_a_decorated_function_reports_its_failure(over_http: Service, user: User) -> None:
    @progress("Walk", user="user")
    def run(user: User, task: Task | None = None) -> None:
        raise LookupError("row 5")

    with override_settings(NOTIFIER=http_settings(over_http.url, **BACKGROUND)):
        with pytest.raises(LookupError):
            run(user)
        assert wait_for(lambda: ended(over_http, user, "failed"), what="the end")
