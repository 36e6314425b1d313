"""The transport `http`: bodies, keys, retries and refusals."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_bridge import ALL, Message, Task, publisher
from django_bridge.publisher.http import bodies
from notifier import rules
from notifier.errors import NotFound, Unauthenticated
from tests.django.answering import BUSY, CUT, GOOD, answering


@pytest.mark.parametrize("trouble", [BUSY, CUT, (429, {"Retry-After": "0"}, b"{}"), (502, {}, b"<html>")])
def test_a_call_is_repeated_under_the_same_key_until_it_works(trouble: Any, user: User) -> None:
    with answering(trouble, trouble, GOOD) as server:
        message_id = Message(to_users=user, subject="Test").send()
        assert [(method, path) for method, path, _, _ in server.requests] == [("POST", "/v1/messages")] * 3
        assert {headers["Idempotency-Key"] for _, _, headers, _ in server.requests} == {message_id}
        assert {headers["Authorization"] for _, _, headers, _ in server.requests} == {
            "Bearer test-key-0123456789abcdef"
        }
        assert len({json.dumps(body) for _, _, _, body in server.requests}) == 1
        counts = publisher.current().counts
        assert (counts.sent, counts.repeated, counts.failed) == (1, 2, 0)


def test_a_call_of_a_publisher_that_was_closed_by_other_settings_does_not_break_its_caller(user: User) -> None:
    with answering(GOOD) as server:
        current = publisher.current()
        current.close()
        assert Message(to_users=user, subject="Test").send()
        assert (current.counts.failed, server.requests) == (1, [])


def test_the_body_follows_the_wire_contract(user: User) -> None:
    with answering(GOOD) as server:
        message_id = Message(from_user=user, to_users=[user, ALL], subject="Test", url="/x").send()
        (_, _, headers, body) = server.requests[0]
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "id": message_id,
        "to": ["all", f"user:{user.pk}"],
        "subject": "Test",
        "text": "",
        "from": {"id": str(user.pk), "name": "Ann Lee"},
        "level": "info",
        "url": "/x",
        "data": {},
        "sent_at": None,
        "expires_at": None,
    }


def test_each_change_of_a_task_has_its_own_key(user: User) -> None:
    with answering((200, {}, b'{"done": 1, "total": 4, "cancel_requested": true}')) as server:
        task = Task(from_user=user, task_name="Import")
        task.begin(state="begins", total=4)
        task.set_state(done=1)
        task.end()
        keys = [headers["Idempotency-Key"] for _, _, headers, _ in server.requests]
        calls = [(method, path, body) for method, path, _, body in server.requests]
    assert len(set(keys)) == 3
    assert calls == [
        (
            "POST",
            "/v1/tasks",
            {"id": task.id, "to": [f"user:{user.pk}"], "name": "Import", "state": "begins", "total": 4},
        ),
        ("PATCH", f"/v1/tasks/{task.id}", {"done": 1}),
        ("PATCH", f"/v1/tasks/{task.id}", {"status": "succeeded"}),
    ]
    assert task.cancel_requested


def test_calls_share_one_connection(user: User) -> None:
    ports = set()

    with answering(GOOD) as server:
        handler = server.finish_request
        server.finish_request = lambda request, address: (ports.add(address[1]), handler(request, address))  # type: ignore[method-assign,assignment,func-returns-value]  # counts connections
        for _ in range(5):
            Message(to_users=user, subject="Test").send()
    assert len(ports) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthenticated), (404, NotFound), (418, Exception), (301, Exception)]
)
def test_a_refusal_is_not_repeated(
    status: int, error: type[Exception], user: User, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = (status, {}, b'{"detail": "because of this"}')
    with answering(refusal, RAISE=True) as server:
        task = Task(from_user=user, task_name="Import")
        with pytest.raises(error, match="because of this"):
            task.begin()
        assert len(server.requests) == 1
    if status != 404:
        with answering(refusal) as server:
            Message(to_users=user, subject="Test").send()
            assert len(server.requests) == 1
            assert "because of this" in caplog.text


def test_an_answer_of_another_server_is_an_error_that_asks_for_the_address(
    user: User, caplog: pytest.LogCaptureFixture
) -> None:
    with answering((200, {}, b"<html>")):
        Message(to_users=user, subject="Test").send()
    with answering((200, {}, b"[]")):
        Task(from_user=user, task_name="Import").begin()
    assert caplog.text.count("is this the notifier's address?") == 2


@pytest.mark.slow
def test_a_retry_waits_as_long_as_the_service_asks_within_the_budget(user: User) -> None:
    with answering((429, {"Retry-After": "1"}, b"{}"), GOOD) as server:
        started = time.monotonic()
        Message(to_users=user, subject="Test").send()
        assert time.monotonic() - started >= 1
        assert len(server.requests) == 2
    with answering((503, {"Retry-After": "60"}, b"{}"), GOOD) as server:
        Message(to_users=user, subject="Test").send()
        assert len(server.requests) == 1


def test_many_recipients_are_split_over_several_bodies() -> None:
    payload = Message(to_users=list(range(1_000_000, 1_010_000)), subject="Test", text="ж" * 6000).payload()
    posted = list(bodies(payload))
    assert len(posted) > 2
    assert all(len(body) <= rules.MAX_BODY_BYTES for body in posted)
    parts = [json.loads(body) for body in posted]
    assert [channel for part in parts for channel in part["to"]] == payload["to"]
    assert all({**part, "to": []} == {**payload, "to": []} for part in parts)
