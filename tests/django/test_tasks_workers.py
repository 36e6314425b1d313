"""`ReportedBackend` around the backends that have workers: the table of django-tasks-db, and RQ."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.db import transaction

from django_bridge.models import TaskRecord
from tests.django import background_tasks as tasks
from tests.django.conftest import FOLDER
from tests.django.fresh_process import last_json
from tests.django.listener import listening
from tests.support import REPOSITORY, Process, RedisServer, Service, running, wait_for


def environment(service: Service) -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": "tests.django.settings",
        "NOTIFIER_TEST_FOLDER": FOLDER,
        "NOTIFIER_TEST_SERVICE_URL": service.url,
    }


def ended(task_id: str) -> TaskRecord:
    rows = TaskRecord.objects.filter(pk=task_id).exclude(ended_at=None)
    row: TaskRecord = wait_for(rows.first, timeout_s=30, what="the end of the task")
    return row


def status(listener: Any) -> str | None:
    tasks = listener.data("task")
    return tasks[-1]["status"] if tasks else None


def shown(service: Service, user: User) -> list[dict[str, Any]]:
    with service.user(str(user.pk)) as client:
        records: list[dict[str, Any]] = client.get("/v1/tasks").json()["tasks"]
    return records


def cancel(service: Service, user: User, task_id: str) -> None:
    with service.user(str(user.pk)) as client:
        client.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()


class TableWorker(Process):
    def __init__(self, service: Service) -> None:
        options = ["--backend", "table", "--interval", "0.05", "--no-startup-delay", "-v", "2"]
        super().__init__(
            [sys.executable, "-m", "django", "db_worker", *options], cwd=REPOSITORY, env=environment(service)
        )
        self.wait_until(lambda: "Starting worker" in self.output(), "the worker of the table", 60)


if django.VERSION >= (5, 2):

    @pytest.fixture(scope="module")
    def table(bridge_service: Service) -> Iterator[TableWorker]:
        with running(TableWorker(bridge_service)) as worker:
            yield worker

    def on_table(task: Any) -> Any:
        return task.using(backend="table")

    @pytest.mark.slow
    def test_a_task_in_the_table_is_shown_from_its_queue_to_its_end(
        table: TableWorker, over_http: Service, user: User
    ) -> None:
        with listening(over_http, user.pk) as listener:
            with transaction.atomic():  # no worker has it before the commit
                result = on_table(tasks.import_rows).enqueue(user.pk, 10)
                wait_for(lambda: status(listener) == "pending", what="the pending task")
            row = ended(result.id)
            wait_for(lambda: status(listener) == "succeeded", what="the end")
        assert (row.name, row.status, row.done, row.user) == ("Import rows", "succeeded", 10, user)
        assert [task["done"] for task in shown(over_http, user)] == [10]

    @pytest.mark.slow
    def test_a_failure_a_link_and_a_cancel_in_the_queue(table: TableWorker, over_http: Service, user: User) -> None:
        broken = on_table(tasks.import_rows).enqueue(user.pk, 10, broken_at=4)
        export = on_table(tasks.export_rows).enqueue(user.pk, "/admin/")
        with transaction.atomic():
            queued = on_table(tasks.import_rows).enqueue(user.pk, 1000)
            cancel(over_http, user, queued.id)
        assert (ended(broken.id).status, ended(broken.id).error) == ("failed", "Something went wrong.")
        assert ended(export.id).url == "/admin/"
        assert (ended(queued.id).status, ended(queued.id).done) == ("cancelled", 0)

        def is_finished() -> bool:
            queued.refresh()
            return bool(queued.is_finished)

        wait_for(is_finished, what="the cancelled task's result")
        assert queued.status == "FAILED"

    @pytest.mark.slow
    def test_a_rollback_takes_the_task_with_it(over_http: Service, user: User) -> None:
        with transaction.atomic():
            on_table(tasks.import_rows).enqueue(user.pk, 10)
            transaction.set_rollback(True)
        assert not TaskRecord.objects.exists()


@pytest.mark.slow
def test_rq_below_django_tasks(redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.client().flushall()
    result = last_json(tmp_path, "-c", "from tests.django import rq_tasks; rq_tasks.main()", redis_server.url)
    assert result == {
        "queued": [["Export rows", "pending"], ["Import rows", "pending"], ["Vanish", "pending"]],
        # RQ sends nothing for a job whose process was killed: the service notices that its heartbeats are missing.
        "ended": [
            ["Export rows", "succeeded", "https://example.org/7/"],
            ["Import rows", "failed", ""],
            ["Vanish", "running", ""],
        ],
        "results": ["SUCCESSFUL", "FAILED", "FAILED"],
    }
