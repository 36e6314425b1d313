"""The link to a task's result: from `task.end` and `@progress` to the row, the admin and what browsers receive."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from django_bridge import Task, progress
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox
from notifier.errors import InvalidInput
from tests.django.conftest import RedisServer, http_settings, redis_settings
from tests.django.test_decorator import plain_request
from tests.support import Service

BAD = "javascript:alert(1)"


def links() -> list[tuple[Any, Any]]:
    """Of every update that browsers would receive."""
    return [(update["url"], update["url_text"]) for update in outbox.task_updates]


def row() -> tuple[str, Any, Any]:
    record = TaskRecord.objects.get()
    return record.status, record.url, record.url_text


def test_the_end_has_a_link_and_the_row_keeps_it(user: User) -> None:
    task = Task(from_user=user, task_name="Export")
    task.begin()
    task.end("Ready", url="/reports/7.csv", url_text=_("Download"))
    assert links() == [(None, None), ("/reports/7.csv", "Download")]
    assert row() == ("succeeded", "/reports/7.csv", "Download")


async def test_the_asynchronous_end_has_a_link(user: User) -> None:
    task = Task(from_user=user, task_name="Export")
    await task.aend("Ready", url="/reports/7.csv", url_text="Download")
    assert links()[-1] == ("/reports/7.csv", "Download")


def test_an_end_with_an_unsafe_link_raises_and_ends_nothing(user: User) -> None:
    task = Task(from_user=user, task_name="Export")
    task.begin()
    with pytest.raises(InvalidInput):
        task.end(url=BAD)
    assert not task.ended
    task.end()
    assert row() == ("succeeded", "", "")


# @progress


@pytest.mark.parametrize(
    ("answer", "link"),
    [("/7.csv", ("/7.csv", None)), (("/7.csv", _("Download")), ("/7.csv", "Download")), (None, (None, None))],
)
def test_progress_makes_a_link_of_the_returned_value(user: User, answer: Any, link: tuple[Any, Any]) -> None:
    @progress("Export", result=lambda value: value)
    def run(request: Any, task: Task | None = None) -> Any:
        return answer

    assert run(plain_request(user)) == answer
    assert links()[-1] == link


async def test_progress_makes_a_link_of_an_asynchronous_function(user: User) -> None:
    @progress("Export", result=lambda number: f"/reports/{number}.csv")
    async def run(request: Any, task: Task | None = None) -> int:
        return 7

    assert await run(plain_request(user)) == 7
    assert links()[-1] == ("/reports/7.csv", None)


def test_a_result_that_raises_or_is_unsafe_fails_the_task(user: User) -> None:
    for result, error in ((lambda value: 1 / value, ZeroDivisionError), (lambda value: BAD, InvalidInput)):

        @progress("Export", result=result)
        def run(request: Any, task: Task | None = None) -> int:
            return 0

        with pytest.raises(error):
            run(plain_request(user))
    assert [task["status"] for task in outbox.tasks] == ["failed", "failed"]


# The service keeps it


def ended_task(user: User) -> Task:
    task = Task(from_user=user, task_name="Export")
    task.begin()
    task.end("Ready", url="/reports/7.csv", url_text="Download")
    return task


def listed(service: Service, user: User, task: Task) -> tuple[Any, Any]:
    with service.user(str(user.pk)) as reader:
        (shown,) = [item for item in reader.get("/v1/tasks").json()["tasks"] if item["id"] == task.id]
    return shown["url"], shown["url_text"]


def test_the_service_keeps_it(user: User, bridge_service: Service) -> None:
    with override_settings(NOTIFIER={**http_settings(bridge_service.url), "RAISE": True}):
        task = ended_task(user)
    assert listed(bridge_service, user, task) == ("/reports/7.csv", "Download")


def test_a_task_that_the_service_never_saw_is_created_with_it(user: User, bridge_service: Service) -> None:
    with override_settings(NOTIFIER=http_settings("http://127.0.0.1:1")):
        task = Task(from_user=user, task_name="Export")
        task.begin()
    with override_settings(NOTIFIER={**http_settings(bridge_service.url), "RAISE": True}):
        task.end("Ready", url="/reports/7.csv", url_text="Download")
    assert listed(bridge_service, user, task) == ("/reports/7.csv", "Download")


@pytest.mark.programs
def test_the_service_over_redis_shows_what_the_bridge_wrote_there(user: User, redis_server: RedisServer) -> None:
    with override_settings(NOTIFIER={**redis_settings(redis_server), "RAISE": True}):
        task = ended_task(user)
    service = Service(redis_url=redis_server.url)
    try:
        assert listed(service, user, task) == ("/reports/7.csv", "Download")
    finally:
        service.stop()


# The admin


def test_the_admin_shows_a_button(boss: Client, user: User) -> None:
    task = ended_task(user)
    page = boss.get(reverse("admin:django_bridge_taskrecord_changelist")).content.decode()
    assert '<a class="button" href="/reports/7.csv">Download</a>' in page
    live = boss.get(reverse("admin:django_bridge_taskrecord_live"), {"id": task.id}).json()
    assert live["tasks"][0]["link"] == ["/reports/7.csv", "Download"]


def test_the_admin_shows_no_button_for_a_row_with_an_unsafe_address(boss: Client, user: User) -> None:
    task = ended_task(user)
    TaskRecord.objects.update(url=BAD)
    page = boss.get(reverse("admin:django_bridge_taskrecord_changelist")).content.decode()
    assert "javascript:alert" not in page
    live = boss.get(reverse("admin:django_bridge_taskrecord_live"), {"id": task.id}).json()
    assert live["tasks"][0]["link"] == ["", ""]
