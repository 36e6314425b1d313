"""The compat modules against the real celery-progress and django-eventstream: the same calls, the same answers."""

from __future__ import annotations

import inspect
import json
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import celery
import celery_progress.backend
import celery_progress.urls
import celery_progress.views
import django_eventstream.eventstream
import httpx
import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.http import Http404
from django.test import RequestFactory, override_settings
from httpx_sse import connect_sse

from django_bridge.compat import celery_progress as ours
from django_bridge.compat import celery_progress_urls, celery_progress_views
from django_bridge.compat.eventstream import send_event
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox
from django_bridge.tokens import subscriber_token
from notifier.errors import InvalidInput
from tests.django import compat_app
from tests.django.conftest import FOLDER, http_settings
from tests.support import REPOSITORY, Process, RedisServer, Service, running, wait_for

# celery-progress


class Worker:
    def __init__(self, server: RedisServer, service: Service) -> None:
        self.celery_url = server.url.removesuffix("/0") + "/2"
        command = [sys.executable, "-m", "celery", "-A", "tests.django.compat_app", "worker", "--pool", "threads"]
        self.process = Process(
            [*command, "--concurrency", "4", "--loglevel", "INFO"],
            cwd=REPOSITORY,
            env={
                "NOTIFIER_TEST_FOLDER": FOLDER,
                "NOTIFIER_TEST_SERVICE_URL": service.url,
                "NOTIFIER_TEST_CELERY_URL": self.celery_url,
            },
        )
        self.process.wait_until(lambda: " ready." in self.process.output(), "the Celery worker", 60)

    def stop(self) -> None:
        self.process.stop()


@pytest.fixture(scope="module")
def worker(redis_server: RedisServer, bridge_service: Service) -> Iterator[Worker]:
    with running(Worker(redis_server, bridge_service)) as started:
        yield started


@pytest.fixture
def queue(worker: Worker) -> Iterator[None]:
    """The app of the worker, as this process's own."""
    app = compat_app.app
    app.conf.update(broker_url=worker.celery_url, result_backend=worker.celery_url)
    from celery import current_app

    before = current_app._get_current_object()
    app.set_current()
    yield
    before.set_current()


def polled(view: Any, task_id: str, user: Any = None) -> Any:
    request = RequestFactory().get("/")
    request.user = user or AnonymousUser()
    return json.loads(view(request, task_id).content)


@pytest.mark.parametrize("fails", [False, True])
def test_a_task_with_only_its_import_changed_answers_pollers_alike(queue: None, tmp_path: Path, fails: bool) -> None:
    gate = tmp_path / "gate"
    old = compat_app.theirs.delay(10, str(gate), fails)
    new = compat_app.ours.delay(10, str(gate), fails)
    views = ((celery_progress.views.get_progress, old.id), (celery_progress_views.get_progress, new.id))

    def at_the_gate() -> Any:
        infos = [polled(*view) for view in views]
        return all(info["progress"].get("description") == "at the gate" for info in infos) and infos

    def at_the_end() -> Any:
        infos = [polled(*view) for view in views]
        return all(info["complete"] for info in infos) and infos

    theirs, bridge = wait_for(at_the_gate, timeout_s=30, what="both halves")
    assert bridge == theirs
    gate.touch()
    theirs, bridge = wait_for(at_the_end, timeout_s=30, what="both ends")
    if fails:
        assert (bridge.pop("result"), theirs.pop("result")) == ("Something went wrong.", "13 is not a coin")
    assert bridge == theirs
    assert TaskRecord.objects.get(pk=new.id).status == ("failed" if fails else "succeeded")


def test_an_unknown_task_is_pending(queue: None) -> None:
    views = (celery_progress.views.get_progress, celery_progress_views.get_progress)
    theirs, bridge = (polled(view, str(uuid.uuid4())) for view in views)
    assert bridge == theirs


def test_a_task_with_a_user_is_shown_only_to_that_user(
    queue: None, bridge_service: Service, user: User, other_user: User
) -> None:
    with override_settings(NOTIFIER=http_settings(bridge_service.url)):
        token = subscriber_token(user)
    with httpx.Client(base_url=bridge_service.url, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
        with connect_sse(client, "GET", "/v1/stream") as stream:
            events = stream.iter_sse()
            next(events)
            result = compat_app.ours_for.delay(user.pk, 5)
            ended = next(task for event in events if (task := json.loads(event.data)).get("status") == "succeeded")
        assert (ended["id"], ended["name"], ended["percent"]) == (result.id, "Ours for", 100)
    # The row is written after the frame is sent.
    wait_for(lambda: polled(celery_progress_views.get_progress, result.id, user)["complete"], what="the end")
    with pytest.raises(Http404):
        polled(celery_progress_views.get_progress, result.id, other_user)


def test_a_retry_continues_the_same_task(queue: None) -> None:
    result = compat_app.tried_twice.delay()
    assert result.get(timeout=30) == "the second time"
    row = wait_for(lambda: TaskRecord.objects.filter(pk=result.id, status="succeeded").first(), what="the end")
    assert (row.done, row.total) == (2, 2)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # raised by Celery about redis-py
def test_a_saved_group_answers_pollers_alike(queue: None, tmp_path: Path, user: User) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    infos = []
    for task, view in (
        (compat_app.theirs, celery_progress.views.get_group_progress),
        (compat_app.ours, celery_progress_views.get_group_progress),
    ):
        result = celery.group([task.s(2, str(gate)), task.s(4, str(gate))]).apply_async()
        result.save()
        wait_for(lambda: polled(view, result.id)["complete"], timeout_s=30, what="the end of the group")  # noqa: B023
        infos.append(polled(view, result.id))
    assert infos[0] == infos[1] == {
        "complete": True, "success": True, "progress": {"total": 200, "current": 200, "percent": 100.0},
    }  # fmt: skip
    TaskRecord.objects.update(status="running", total=None, done=0)
    begun = polled(celery_progress_views.get_group_progress, result.id)
    assert (begun["complete"], begun["progress"]) == (False, {"total": 0, "current": 0, "percent": 0.0})
    TaskRecord.objects.update(user=user)
    with pytest.raises(Http404):
        polled(celery_progress_views.get_group_progress, result.id)
    with pytest.raises(Http404):
        polled(celery_progress_views.get_group_progress, str(uuid.uuid4()))


def test_a_recorder_in_a_reported_celery_task_uses_its_task(queue: None, user: User) -> None:
    result = compat_app.reported.delay(user.pk, 5)
    wait_for(lambda: TaskRecord.objects.filter(status="succeeded").exists(), timeout_s=30, what="the end")
    row = TaskRecord.objects.get()
    assert (row.pk, row.user, row.name, row.done, row.total) == (result.id, user, "Reported", 5, 5)


def test_a_hundred_thousand_calls_cause_fewer_than_sixty_updates(user: User) -> None:
    app = compat_app.app
    app.conf.update(task_always_eager=True, task_store_eager_result=False)
    try:
        compat_app.ours_for.apply((user.pk, 100_000)).get()
    finally:
        app.conf.update(task_always_eager=False)
    assert outbox.tasks[-1]["percent"] == 100
    assert outbox.tasks[-1]["status"] == "succeeded"
    assert len(outbox.task_updates) < 60


def test_the_last_number_is_reported_when_the_celery_task_ends() -> None:
    class CeleryTask:
        name = "shop.tasks.load_all"

        class request:
            id = "abc"
            retries = 0

    recorder = ours.ProgressRecorder(CeleryTask())
    for done in range(1, 78):
        recorder.set_progress(done, 100)
    ours._over(CeleryTask(), "SUCCESS")
    row = TaskRecord.objects.get()
    assert (row.name, row.done, row.total, row.status) == ("Load all", 77, 100, "succeeded")
    ours._over(CeleryTask(), "SUCCESS")


def test_signatures_and_url_names_are_those_of_celery_progress() -> None:
    theirs: Any = celery_progress.backend
    for name in ("set_progress", "increment_progress"):
        for kind in ("ProgressRecorder", "ConsoleProgressRecorder"):
            old, new = (list(inspect.signature(getattr(getattr(m, kind), name)).parameters) for m in (theirs, ours))
            assert new == old
    assert [url.name for url in celery_progress_urls.urlpatterns] == [
        url.name for url in celery_progress.urls.urlpatterns
    ]
    assert celery_progress_urls.app_name == celery_progress.urls.app_name


# django-eventstream


def test_send_event_has_the_signature_of_django_eventstream() -> None:
    old, new = (inspect.signature(function) for function in (django_eventstream.eventstream.send_event, send_event))
    assert list(new.parameters) == list(old.parameters)
    assert [parameter.default for parameter in new.parameters.values()] == [
        parameter.default for parameter in old.parameters.values()
    ]


def channels_of(user: User) -> list[str]:
    """The function that `NOTIFIER["GROUPS"]` names in these tests."""
    return ["test", f"user-{user.pk}"]


@pytest.mark.parametrize("transport", ["http", "redis"])
def test_an_event_reaches_the_users_of_its_channel(
    redis_server: RedisServer, redis_service: Service, user: User, transport: str
) -> None:
    value = http_settings(redis_service.url, GROUPS=f"{__name__}.channels_of")
    with override_settings(NOTIFIER={**value, "TRANSPORT": transport, "REDIS_URL": redis_server.url}):
        headers = {"Authorization": f"Bearer {subscriber_token(user)}"}
        with (
            httpx.Client(base_url=redis_service.url, headers=headers, timeout=20) as client,
            connect_sse(client, "GET", "/v1/stream") as stream,
        ):
            events = stream.iter_sse()
            next(events)
            send_event("somewhere-else", "message", {"text": "not for you"})
            send_event("test", "message", {"text": "not for you either"}, skip_user_ids=[str(user.pk)])
            send_event("test", "message", {"text": "hello world"}, skip_user_ids=[user.pk + 1])
            send_event(f"user-{user.pk}", "paid", '{"order": 7}', json_encode=False)
            received = [next(events) for _ in range(2)]
    assert [(event.event, json.loads(event.data)) for event in received] == [
        ("channel.message", {"text": "hello world"}),
        ("paid", {"order": 7}),
    ]
    assert all(event.id for event in received)


def test_data_is_encoded_as_django_does_it() -> None:
    send_event("test", "paid", {"at": datetime(2026, 1, 31, 12, tzinfo=UTC), "sum": Decimal("12.50")})
    send_event("test", "note", "plain text", json_encode=False, async_publish=False)
    assert outbox.events == [
        {"to": ["group:test"], "type": "paid", "data": {"at": "2026-01-31T12:00:00Z", "sum": "12.50"}},
        {"to": ["group:test"], "type": "note", "data": "plain text"},
    ]


@pytest.mark.parametrize("skipped", [[1, "2"], (1, 2), iter([1, 2])], ids=lambda skipped: type(skipped).__name__)
def test_users_that_are_skipped_are_left_out_of_the_event(skipped: Any) -> None:
    send_event("test", "paid", {}, skip_user_ids=skipped)
    send_event("test", "paid", {}, skip_user_ids=[])
    assert [event.get("except") for event in outbox.events] == [["user:1", "user:2"], None]


def id_of_another_user(user: User) -> str:
    """Of the user with the key 1 it is 2, and the other way round."""
    return str(3 - user.pk)


def test_users_that_are_skipped_are_named_by_the_projects_function_once() -> None:
    User.objects.bulk_create([User(pk=key, username=str(key)) for key in (1, 2)])
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "USER_ID": f"{__name__}.id_of_another_user"}):
        for skipped in ([1], iter([1]), User.objects.filter(pk=1)):
            send_event("test", "paid", {}, skip_user_ids=skipped)
    assert [event["except"] for event in outbox.events] == [["user:2"]] * 3


def test_an_event_is_sent_on_commit_and_dropped_on_rollback() -> None:
    with transaction.atomic():
        send_event("test", "paid", {})
        assert not outbox.events
    with transaction.atomic():
        send_event("test", "unpaid", {})
        transaction.set_rollback(True)
    assert [event["type"] for event in outbox.events] == ["paid"]


def test_invalid_arguments_raise_at_the_call() -> None:
    with pytest.raises(InvalidInput, match="skip_user_ids: must name at most 50 users, not 51"):
        send_event("test", "message", {}, skip_user_ids=range(1, 52))
    assert not outbox.events
    for channel, event_type in (("", "message"), ("test", "Paid Order"), ("test", "task")):
        with pytest.raises(InvalidInput):
            send_event(channel, event_type, {})
