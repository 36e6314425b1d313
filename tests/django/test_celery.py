"""Celery workers of each pool: tasks that report themselves, retries, failures, links and error links."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_bridge import Message, TaskCancelled
from django_bridge.celery import report_tasks
from django_bridge.models import TaskRecord
from django_bridge.queues.celery import _Project
from tests.django.celery_worker import Worker, working
from tests.django.listener import listening
from tests.django.sample import tasks
from tests.support import RedisServer, Service, wait_for


@pytest.fixture(scope="module", params=["prefork", "threads", "gevent"])
def worker(request: pytest.FixtureRequest, redis_server: RedisServer, bridge_service: Service) -> Iterator[Worker]:
    with working(redis_server, bridge_service, pool=request.param) as started:
        started.pool = request.param
        yield started


def ended(task_id: str) -> TaskRecord:
    rows = TaskRecord.objects.filter(pk=task_id).exclude(ended_at=None)
    row: TaskRecord = wait_for(rows.first, timeout_s=30, what="the end of the task")
    return row


def shown(service: Service, user: User, task_id: str) -> dict[str, Any]:
    with service.user(str(user.pk)) as client:
        (task,) = [task for task in client.get("/v1/tasks").json()["tasks"] if task["id"] == task_id]
    return dict(task)


def test_a_task_reports_itself_by_an_option(worker: Worker, over_http: Service, user: User) -> None:
    with listening(over_http, user.pk) as listener:
        result = tasks.crunch.delay(user.pk, 50)
        row = ended(result.id)
        wait_for(lambda: listener.data("task") and listener.data("task")[-1]["status"] == "succeeded")
        percents = [task["percent"] for task in listener.data("task")]
    assert (row.name, row.user, row.status, row.done, row.total) == ("Crunch 50", user, "succeeded", 50, 50)
    assert percents[-1] == 100
    assert result.get(timeout=10) == 50


def test_a_failure_is_reported_with_its_error(worker: Worker, over_http: Service, user: User) -> None:
    row = ended(tasks.crunch.delay(user.pk, 50, broken_at=25).id)
    assert (row.status, row.error, row.done) == ("failed", "Something went wrong.", 25)
    assert shown(over_http, user, row.pk)["error"] == "Something went wrong."


def test_a_retry_continues_the_task_which_is_pending_until_then(worker: Worker, over_http: Service, user: User) -> None:
    with listening(over_http, user.pk) as listener:
        result = tasks.stumble.delay(user.pk, 2, 0.5)
        row = ended(result.id)
        wait_for(lambda: listener.data("task") and listener.data("task")[-1]["status"] == "succeeded")
        received = list(dict.fromkeys((task["status"], task["state"]) for task in listener.data("task")))
    first, second = "Retry 1 of 3: Something went wrong.", "Retry 2 of 3: Something went wrong."
    states = [("running", ""), ("pending", ""), ("pending", first), ("running", first), ("pending", second)]
    states = [*states, ("running", second)]
    # Of states in quick succession, older ones may be skipped.
    assert [state for state in [*states, ("succeeded", "")] if state in received] == received
    assert {states[1], states[3]} <= set(received)
    assert row.state == ""
    assert (row.name, row.status, TaskRecord.objects.count()) == ("Stumble", "succeeded", 1)


def test_the_last_retry_that_fails_fails_the_task(worker: Worker, over_http: Service, user: User) -> None:
    row = ended(tasks.stumble.delay(user.pk, 9, 0.05).id)
    assert (row.status, row.error) == ("failed", "Something went wrong.")


def test_decorated_tasks_work_bound_and_unbound(worker: Worker, over_http: Service, user: User) -> None:
    tasks.decorated.delay(user.pk, 4).get(timeout=30)
    assert tasks.decorated_bound.delay(user_id=user.pk, items=6).get(timeout=30)
    rows = {row.name: (row.status, row.done) for row in TaskRecord.objects.all()}
    assert rows == {"Plain 4": ("succeeded", 4), "Bound 6": ("succeeded", 6)}


def test_links_and_error_links_are_messages(worker: Worker, over_http: Service, user: User) -> None:
    from celery import subtask

    good = Message(to_users=user, subject="It went well")
    bad = Message(to_users=user, subject="It went wrong", level="error")
    with listening(over_http, user.pk) as listener:
        for broken_at, subject in ((None, "It went well"), (3, "It went wrong")):
            tasks.crunch.apply_async((user.pk, 10, broken_at), link=subtask(good.send), link_error=subtask(bad.send))
            wait_for(lambda wanted=subject: wanted in [message["subject"] for message in listener.data("message")])
        assert [message["subject"] for message in listener.data("message")] == ["It went well", "It went wrong"]


def test_a_pending_task_can_be_revoked(worker: Worker, over_http: Service, user: User) -> None:
    result = tasks.stumble.delay(user.pk, 2, 2)
    wait_for(lambda: TaskRecord.objects.filter(pk=result.id, status="pending").exists(), timeout_s=30)
    result.revoke()
    assert ended(result.id).status == "cancelled"
    assert shown(over_http, user, result.id)["status"] == "cancelled"


@pytest.mark.parametrize("worker", ["prefork"], indirect=True)
def test_the_task_of_a_killed_worker_process_fails(worker: Worker, over_http: Service, user: User) -> None:
    row = ended(tasks.vanish.delay(user.pk).id)
    assert (row.status, row.error, "WorkerLostError" in str(row.traceback)) == ("failed", "Something went wrong.", True)
    assert signal.SIGKILL.name in str(row.traceback) or str(int(signal.SIGKILL)) in str(row.traceback)


@pytest.mark.parametrize("worker", ["prefork"], indirect=True)
def test_a_task_waits_in_its_queue_and_may_be_cancelled_there(worker: Worker, over_http: Service, user: User) -> None:
    stopped, left = (tasks.crunch.apply_async((user.pk, items), queue="later") for items in (50, 20))
    assert set(TaskRecord.objects.values_list("pk", "status")) == {(stopped.id, "pending"), (left.id, "pending")}
    with over_http.user(str(user.pk)) as client:
        client.post(f"/v1/tasks/{stopped.id}/cancel").raise_for_status()
    tasks.crunch.app.control.add_consumer("later", reply=True)
    assert (ended(left.id).status, ended(left.id).done, ended(left.id).user) == ("succeeded", 20, user)
    assert ended(stopped.id).status == "cancelled"
    with pytest.raises(TaskCancelled):
        stopped.get(timeout=30)


@pytest.mark.parametrize("worker", ["prefork"], indirect=True)
def test_a_returned_url_is_the_link(worker: Worker, over_http: Service, user: User) -> None:
    assert ended(tasks.export.delay(user.pk, "https://example.org/7/").id).url == "https://example.org/7/"


# In this process


@pytest.fixture
def eager() -> Iterator[None]:
    from tests.django.celery_app import app

    app.set_current()
    app.conf.update(task_always_eager=True)
    yield
    app.conf.update(task_always_eager=False)
    _Project.user, _Project.skip = None, frozenset()


def test_every_task_of_a_project_may_be_reported_without_code_in_it(eager: None, user: User) -> None:
    report_tasks(user="user_id", skip=["tests.django.sample.tasks.crunch"])
    tasks.unnamed.delay(user.pk)
    tasks.generate_report.delay(7)
    tasks.crunch.delay(user.pk, 3)
    tasks.decorated.delay(user.pk, 3)
    assert sorted(TaskRecord.objects.values_list("name", "status")) == [
        ("Plain 3", "succeeded"),
        ("Unnamed", "succeeded"),
    ]


def test_a_function_may_return_the_user(eager: None, user: User) -> None:
    report_tasks(user=lambda *args, **kwargs: args[0] if args else None)
    tasks.unnamed.delay(user.pk)
    tasks.unnamed.delay(user_id=user.pk)
    assert [row.user for row in TaskRecord.objects.all()] == [user]


def test_an_error_of_the_report_is_logged_and_the_task_runs(
    eager: None, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    report_tasks(user=lambda *args: 1 // 0)
    assert tasks.generate_report.delay(7).get() == "Report: 7 rows"
    assert "could not be reported" in caplog.text
