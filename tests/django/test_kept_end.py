"""The end of a task with an outbox: it reaches the service once, also where the service was away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings

from django_bridge import Task, background, delivery, outbox, publisher
from django_bridge.models import OutboxMessage, TaskRecord
from django_bridge.task.reporter import TaskReporter
from notifier.errors import Conflict
from tests.django.conftest import http_settings
from tests.django.outbox_rows import MEMORY
from tests.support import Service, free_port, wait_for


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test is a new process for the outbox and its thread."""
    monkeypatch.setattr(outbox, "_process", outbox._OutboxProcess())
    monkeypatch.setattr(background, "_worker", background.Worker("test", background.MAX_QUEUED))
    yield
    with override_settings(NOTIFIER=MEMORY):
        assert background.current().wait(50)
    OutboxMessage.objects.all().delete()


def served(service: Service, **more: Any) -> Any:
    """The project with an outbox and this service."""
    return override_settings(NOTIFIER=http_settings(service.url, OUTBOX=True, **{"DELIVERY": "inline", **more}))


def away(**more: Any) -> Any:
    """The project with an outbox and no service."""
    url = f"http://127.0.0.1:{free_port()}"
    return override_settings(
        NOTIFIER=http_settings(url, OUTBOX=True, **{"DELIVERY": "inline", "TIMEOUT_S": 0.1, **more})
    )


def in_service(service: Service, task: Task) -> dict[str, Any]:
    with service.user("1") as client:
        answer: dict[str, Any] = client.get(f"/v1/tasks/{task.id}").raise_for_status().json()
    return answer


def states() -> list[str]:
    return list(OutboxMessage.objects.values_list("state", flat=True))


def delivered() -> int:
    publisher.current().breaker.succeeded()
    return delivery.deliver_all().delivered


@pytest.mark.parametrize("mode", ["inline", "background"])
def test_the_end_is_a_row_of_the_callers_transaction_until_the_service_has_it(
    bridge_service: Service, mode: str
) -> None:
    with served(bridge_service, DELIVERY=mode):
        task = Task(task_name="Import", to_users=1)
        with transaction.atomic():
            task.begin()
            task.end("Ready", url="/report")
            payload = json.loads(OutboxMessage.objects.get().payload)
            assert (payload["kind"], payload["task"]["id"], payload["change"]["url"]) == (
                "task.end", task.id, "/report",
            )  # fmt: skip
        wait_for(lambda: not OutboxMessage.objects.exists(), what="an empty outbox")
        assert in_service(bridge_service, task)["status"] == "succeeded"


def test_a_rolled_back_end_leaves_no_row(bridge_service: Service) -> None:
    with served(bridge_service):
        task = Task(task_name="Import", to_users=1)
        task.begin()
        with transaction.atomic():
            task.end("Ready")
            assert OutboxMessage.objects.exists()
            transaction.set_rollback(True)
        assert not OutboxMessage.objects.exists()


@pytest.mark.parametrize("mode", ["inline", "background"])
def test_an_end_without_a_service_is_delivered_later_with_all_that_it_did_not_get(
    bridge_service: Service, mode: str
) -> None:
    with served(bridge_service):
        task = Task(task_name="Import", to_users=1)
        task.begin("It begins", total=10)
    with away(DELIVERY=mode):
        task.set_state("Almost", done=9)
        task.fail("No more rows")
        wait_for(lambda: states() == ["waiting"], what="a row for the deliverers")
        task_id = task.id
        with served(bridge_service):
            call_command("notifier_outbox")
            assert not OutboxMessage.objects.exists()
            shown = in_service(bridge_service, task)
    assert shown["id"] == task_id
    assert [shown[name] for name in ("status", "state", "done", "error")] == ["failed", "Almost", 9, "No more rows"]


def test_a_task_of_which_the_service_never_heard_is_created_by_its_end(bridge_service: Service) -> None:
    with away():
        task = Task(task_name="Import", to_users=1)
        task.begin()
        task.end("Ready", url="/report", url_text="Open it")
        assert states() == ["waiting"]
    with served(bridge_service):
        assert delivered() == 1
        shown = in_service(bridge_service, task)
        assert [shown[name] for name in ("status", "state", "url")] == ["succeeded", "Ready", "/report"]
        assert not OutboxMessage.objects.exists()


def test_an_end_that_the_service_has_already_counts_as_delivered(bridge_service: Service) -> None:
    with served(bridge_service):
        task = Task(task_name="Import", to_users=1)
        task.begin()
        same = Task.resume(task.id)
        with away():
            task.end("Ready")
            assert states() == ["waiting"]
        TaskRecord.objects.update(ended_at=None, status="running")
        same.fail("Something else")
        assert delivered() == 1
        assert in_service(bridge_service, task)["status"] == "failed"
        assert not OutboxMessage.objects.exists()


def test_a_task_that_waits_for_its_next_worker_is_no_end(bridge_service: Service) -> None:
    with away():
        task = Task(task_name="Import", to_users=1)
        task.begin()
        task.wait("For the next worker")
        assert states() == []
    with served(bridge_service):
        Task.resume(task.id).end("Ready")
        assert in_service(bridge_service, task)["status"] == "succeeded"
        assert states() == []


def test_of_two_ends_at_once_the_second_leaves_no_row(bridge_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = TaskReporter._keep_end
    ends: list[Any] = []

    def keep_both(reporter: TaskReporter, change: Any) -> Any:
        """The other end comes between the row of the first and its change."""
        ends.append(keep(reporter, change))
        if len(ends) == 1:
            task.end("First")
        return ends[-1] if change["state"] == "First" else ends[0]

    monkeypatch.setattr(TaskReporter, "_keep_end", keep_both)
    with served(bridge_service):
        task = Task(task_name="Import", to_users=1)
        task.begin()
        with pytest.raises(Conflict):
            task.end("Second")
        assert len(ends) == 2
        assert in_service(bridge_service, task)["state"] == "First"
        assert states() == []


def test_an_end_waits_for_no_message_and_no_message_for_it(bridge_service: Service) -> None:
    with away():
        for _ in range(2):
            Task(task_name="Import", to_users=1).end("Ready")
        rows = list(OutboxMessage.objects.all())
        assert len({row.origin for row in rows}) == 2
        assert not {row.origin for row in rows} & {outbox._this_process().origin}


@pytest.mark.parametrize("change", [{"task": {}}, {"task": None}, {"change": []}])
def test_a_row_that_is_no_end_of_a_task_is_kept_as_failed(bridge_service: Service, change: dict[str, Any]) -> None:
    with away():
        Task(task_name="Import", to_users=1).end("Ready")
        row = OutboxMessage.objects.get()
        OutboxMessage.objects.update(payload=json.dumps({**json.loads(row.payload), **change}))
    with served(bridge_service):
        assert delivery.deliver_all().failed == 1
    assert states() == ["failed"]


def test_a_rollback_of_another_database_leaves_no_row_of_an_end_that_the_service_has(bridge_service: Service) -> None:
    with served(bridge_service):
        task = Task(task_name="Import", to_users=1)
        task.begin()
        with transaction.atomic(using="other"):
            task.end("Ready")
            transaction.set_rollback(True, using="other")
        assert in_service(bridge_service, task)["status"] == "succeeded"
        assert states() == []
