"""The publisher with a real service: messages and tasks arrive in the browser, over HTTP and over Redis."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_bridge import ALL, Message, Progress, Task, group, progress, publisher
from django_bridge.models import TaskRecord
from django_bridge.publisher.transport import Unreachable
from notifier.errors import BrokerUnavailable
from tests.django.conftest import http_settings
from tests.django.listener import listening
from tests.support import Service, free_port, wait_for


def test_a_message_arrives_on_the_stream_of_its_recipient(live: Service, user: User) -> None:
    with listening(live, user.pk) as listener:
        message_id = Message(from_user=user, to_users=user, subject="Тест", text="a\nb", data={"n": [1]}).send()
        (message,) = listener.wait("message")
    assert {**message, "sent_at": "now"} == {
        "id": message_id,
        "to": f"user:{user.pk}",
        "from": {"id": str(user.pk), "name": "Ann Lee"},
        "subject": "Тест",
        "text": "a\nb",
        "sent_at": "now",
        "level": "info",
        "url": None,
        "data": {"n": [1]},
    }


def test_messages_reach_groups_and_all(live: Service, user: User) -> None:
    with listening(live, user.pk, groups=["staff"]) as listener:
        Message(to_users=group("staff"), subject="staff").send()
        Message(to_users=group("others"), subject="others").send()
        Message(to_users=ALL, subject="all").send()
        Message(to_users=[user, group("staff"), ALL], subject="once").send()
        Message(to_users=user, subject="last").send()
        wait_for(lambda: "last" in [message["subject"] for message in listener.data("message")])
        assert [message["subject"] for message in listener.data("message")] == ["staff", "all", "once", "last"]


def test_a_task_is_shown_from_begin_to_end(live: Service, user: User, rows: int) -> None:
    @progress("Walk", "begins", "over")
    def walk(request: Any, task: Task | None = None) -> None:
        for _ in Progress(User.objects.all(), parts=5, task=task):
            pass

    with listening(live, user.pk) as listener:
        task = Task(from_user=user, task_name="Walk")
        task.begin(state="begins")
        for _ in Progress(range(10), parts=5, task=task):
            pass
        task.advance(0)
        task.end(state="over")
        wait_for(lambda: listener.data("task") and listener.data("task")[-1]["status"] == "succeeded")
        seen = listener.data("task")
    assert {state["id"] for state in seen} == {task.id}
    # Older states may be skipped when several follow quickly.
    assert (seen[-1]["state"], seen[-1]["done"], seen[-1]["total"], seen[-1]["percent"]) == ("over", 10, 10, 100)
    assert [state["done"] for state in seen] == sorted(state["done"] for state in seen)


def test_a_failed_task_stays_in_the_snapshot(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=2)
    task.advance()
    task.fail(LookupError("row 2"))
    with live.user(str(user.pk)) as client:
        (shown,) = [listed for listed in client.get("/v1/tasks").json()["tasks"] if listed["id"] == task.id]
    assert (shown["status"], shown["done"], shown["error"]) == ("failed", 1, "Something went wrong.")


def test_a_cancel_in_the_browser_reaches_the_task(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin()
    with live.user(str(user.pk)) as client:
        client.post(f"/v1/tasks/{task.id}/cancel").raise_for_status()
    assert not task.cancel_requested
    task.set_state("going on")
    assert task.cancel_requested
    task.cancelled(state="stopped")
    assert TaskRecord.objects.get().status == "cancelled"


def test_several_processes_advance_one_task(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=60)

    def work(_: int) -> None:
        try:
            resumed = Task.resume(task.id)
            for _ in range(10):
                resumed.advance()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    # The last advance of a deleted handle is reported within a tenth of a second.
    wait_for(lambda: task.set_state("all in") or task.done >= 60, what="every advance")
    assert task.done == 60


def test_a_task_unknown_to_the_service_is_created_by_the_next_change(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1)):
        task.begin(state="begins", total=10)
        task.set_state("half", done=5)
        task.advance(2)
    task.end(state="over")
    with live.user(str(user.pk)) as client:
        (shown,) = [listed for listed in client.get("/v1/tasks").json()["tasks"] if listed["id"] == task.id]
    assert (shown["status"], shown["state"], shown["done"], shown["total"]) == ("succeeded", "over", 7, 10)


def test_a_lost_change_is_sent_with_the_next_one(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=10)
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1)):
        task.set_state("half", done=5)
        task.advance()
        task.advance(2)
    task.advance()
    assert task.done == 9
    task.set_state(total=12)
    with live.user(str(user.pk)) as client:
        (shown,) = [listed for listed in client.get("/v1/tasks").json()["tasks"] if listed["id"] == task.id]
    assert (shown["state"], shown["done"], shown["total"]) == ("half", 9, 12)


def test_a_message_to_many_reaches_each_recipient_once(live: Service, user: User) -> None:
    many = [user.pk, *range(1_000_000, 1_012_000)]
    with listening(live, user.pk) as listener, listening(live, many[-1]) as last:
        Message(to_users=many, subject="many", text="x" * 5000).send()
        Message(to_users=[user.pk, many[-1]], subject="after").send()
        for stream in (listener, last):
            assert [message["subject"] for message in stream.wait("message", 2)] == ["many", "after"]


@pytest.mark.slow
def test_a_queryset_of_ten_thousand_users_costs_one_query_and_at_most_25_calls(live: Service) -> None:
    User.objects.bulk_create(User(username=str(n)) for n in range(10_000))
    recipient = User.objects.get(username="7777")
    with listening(live, recipient.pk) as listener:
        before = publisher.current().counts.sent
        with CaptureQueriesContext(connection) as queries:
            Message(to_users=User.objects.all(), subject="many").send()
        assert listener.wait("message")[0]["subject"] == "many"
    assert [query["sql"].startswith('SELECT "auth_user"."id"') for query in queries] == [True]
    assert publisher.current().counts.sent - before <= 25  # over Redis a call has 500 recipients, on three shards


def test_a_repeated_message_arrives_once(live: Service, user: User) -> None:
    payload = Message(to_users=user, subject="once").payload()
    with listening(live, user.pk) as listener:
        publisher.current().send(payload)
        publisher.current().send(payload)
        Message(to_users=user, subject="after").send()
        wait_for(lambda: len(listener.data("message")) >= 2)
        assert [message["subject"] for message in listener.data("message")] == ["once", "after"]


# Processes and threads


def in_a_child(action: Callable[[], None]) -> None:
    """Run `action` in a forked child. Fails if it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
            os.write(writing, b"done")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        result = answer.read()
    os.waitpid(child, 0)
    assert result == b"done"


def test_a_forked_child_opens_its_own_connections(live: Service) -> None:
    Message(to_users=7, subject="parent").send()
    parent = publisher.current()

    def child() -> None:
        assert publisher.current() is not parent
        for n in range(20):
            Message(to_users=7, subject=f"child {n}").send()
        assert publisher.current().counts.sent == 20

    in_a_child(child)
    for n in range(20):
        Message(to_users=7, subject=f"parent {n}").send()
    assert publisher.current() is parent
    assert (parent.counts.sent, parent.counts.failed) == (21, 0)
    with live.user("7") as client:
        subjects = [message["subject"] for message in client.get("/v1/inbox?limit=100").json()["messages"]]
    wanted = {"parent", *(f"{who} {n}" for who in ("parent", "child") for n in range(20))}
    assert set(subjects) >= wanted
    assert len([subject for subject in subjects if subject in wanted]) == len(wanted)


def test_threads_share_the_publisher(live: Service) -> None:
    def send(n: int) -> str:
        return Message(to_users=8, subject=f"thread {n}").send()

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(send, range(80)))
    assert len(set(ids)) == 80
    assert publisher.current().counts.sent == 80
    with live.user("8") as client:
        listed = {message["id"] for message in client.get("/v1/inbox?limit=100").json()["messages"]}
    assert listed >= set(ids)


def test_changed_settings_apply_at_once() -> None:
    first = publisher.current()
    with override_settings(NOTIFIER=http_settings("http://127.0.0.1:1")):
        assert publisher.current() is not first
    assert isinstance(Unreachable("x"), BrokerUnavailable)
