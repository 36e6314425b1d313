"""Messages, events and tasks with a value that breaks a rule: the problem names the field, and nothing changes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.api.bodies import OMIT, PAST, body_for
from tests.api.conftest import ONE_BROKER
from tests.api.support import User, problem_of

# Messages


@ONE_BROKER
@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"subject": OMIT}, "subject"),
        ({"subject": None}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "  "}, "subject"),
        ({"subject": 7}, "subject"),
        ({"subject": "s" * 256}, "subject"),
        ({"subject": "\x00"}, "subject"),
        ({"subject": "\ud800"}, "subject"),
        ({"text": None}, "text"),
        ({"text": 7}, "text"),
        ({"text": ["a"]}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"text": "\udc00\ud800"}, "text"),
        ({"from": "Ann"}, "from"),
        ({"from": {}}, "from"),
        ({"from": {"id": 7}}, "from.id"),
        ({"from": {"id": ""}}, "from.id"),
        ({"from": {"id": "a\n"}}, "from.id"),
        ({"from": {"id": "a" * 129}}, "from.id"),
        ({"from": {"name": "\ud800"}}, "from.name"),
        ({"from": {"id": "7", "mail": "x"}}, "from.mail"),
        ({"level": "fatal"}, "level"),
        ({"level": None}, "level"),
        ({"level": 3}, "level"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "\x01javascript:alert(1)"}, "url"),
        ({"url": "data:text/html,x"}, "url"),
        ({"url": ""}, "url"),
        ({"url": 7}, "url"),
        ({"data": []}, "data"),
        ({"data": "x"}, "data"),
        ({"data": {"a": {"b": ["\ud800"]}}}, "data.a.b[0]"),
        ({"data": {"a": "\x00"}}, "data.a"),
        ({"data": {"\ud800": 1}}, "data"),
        ({"sent_at": "yesterday"}, "sent_at"),
        ({"sent_at": "2026-01-31T12:00:00"}, "sent_at"),
        ({"sent_at": 1769860800}, "sent_at"),
        ({"sent_at": "0001-01-01T00:00:00+23:59"}, "sent_at"),
        ({"expires_at": PAST}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"id": ""}, "id"),
        ({"id": "a b"}, "id"),
        ({"id": "a" * 65}, "id"),
        ({"id": 7}, "id"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_message_that_breaks_a_rule(publisher: httpx.Client, user: User, changed: dict[str, Any], field: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post("/v1/messages", content=body_for("/v1/messages", user, changed)), 422, field)


# Events


@ONE_BROKER
@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"type": OMIT}, "type"),
        ({"type": None}, "type"),
        ({"type": 7}, "type"),
        ({"type": ""}, "type"),
        ({"type": "Order"}, "type"),
        ({"type": "1a"}, "type"),
        ({"type": "a b"}, "type"),
        ({"type": "a\n"}, "type"),
        ({"type": "a\n\nevent: message\ndata: {}"}, "type"),
        ({"type": "a" * 65}, "type"),
        *(
            ({"type": name}, "type")
            for name in (
                *("hello", "message", "task", "inbox", "reset", "degraded", "ping", "bye", "open", "error"),
                *("task.dismissed", "task.output", "topics", "presence", "stale"),
            )
        ),
        ({"data": "\ud800"}, "data"),
        ({"data": ["\x00"]}, "data[0]"),
        ({"durable": "false"}, "durable"),
        ({"durable": 0}, "durable"),
        ({"durable": None}, "durable"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_event_that_breaks_a_rule(publisher: httpx.Client, user: User, changed: dict[str, Any], field: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post("/v1/events", content=body_for("/v1/events", user, changed)), 422, field)


# Tasks


@ONE_BROKER
@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": OMIT}, "name"),
        ({"name": None}, "name"),
        ({"name": " "}, "name"),
        ({"name": "n" * 256}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"state": 7}, "state"),
        ({"state": "s" * 2001}, "state"),
        ({"state": "\x00"}, "state"),
        ({"total": -1}, "total"),
        ({"total": 1.5}, "total"),
        ({"total": "10"}, "total"),
        ({"total": True}, "total"),
        ({"total": 2**53}, "total"),
        ({"id": "a/b"}, "id"),
        ({"id": ""}, "id"),
        ({"done": 1}, "done"),
        ({"status": "running"}, "status"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_task_that_breaks_a_rule(publisher: httpx.Client, user: User, changed: dict[str, Any], field: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.post("/v1/tasks", content=body_for("/v1/tasks", user, changed)), 422, field)


@ONE_BROKER
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"done": 11}, "done"),
        ({"done": -1}, "done"),
        ({"done": 2.0}, "done"),
        ({"done": "2"}, "done"),
        ({"done": True}, "done"),
        ({"advance": 8}, "advance"),
        ({"advance": -1}, "advance"),
        ({"advance": 2**53}, "advance"),
        ({"advance": 1, "done": 1}, "advance"),
        ({"total": 2}, "total"),
        ({"total": -1}, "total"),
        ({"status": "over"}, "status"),
        ({"status": "RUNNING"}, "status"),
        ({"status": 7}, "status"),
        ({"state": "s" * 2001}, "state"),
        ({"state": ["a"]}, "state"),
        ({"state": "\ud800"}, "state"),
        ({"error": "\x00"}, "error"),
        ({"error": "e" * 2001}, "error"),
        ({"total": "many"}, "total"),
        ({"total": True}, "total"),
        ({"name": "Other"}, "name"),
        ({"to": ["all"]}, "to"),
        ({"percent": 50}, "percent"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_change_of_a_task_that_breaks_a_rule(
    publisher: httpx.Client, user: User, change: dict[str, Any], field: str
) -> None:
    task = publisher.post("/v1/tasks", content=body_for("/v1/tasks", user, {})).json()
    path = f"/v1/tasks/{task['id']}"
    assert publisher.patch(path, json={"done": 3}).status_code == 200
    with user.sees_no_change():
        problem_of(publisher.patch(path, content=json.dumps(change)), 422, field)


@ONE_BROKER
@pytest.mark.parametrize("task_id", ["none", "a b", "a:b", "*", "%00", "x" * 500, "ä"])
def test_a_change_of_an_unknown_task(publisher: httpx.Client, user: User, task_id: str) -> None:
    with user.sees_no_change():
        problem_of(publisher.patch(f"/v1/tasks/{task_id}", json={"done": 1}), 404, "id")


def test_a_change_of_an_ended_task(publisher: httpx.Client, user: User) -> None:
    task = publisher.post("/v1/tasks", content=body_for("/v1/tasks", user, {})).json()
    path = f"/v1/tasks/{task['id']}"
    publisher.patch(path, json={"status": "failed"})
    for status in ("running", "succeeded", "failed", "cancelling", "stalled", "pending"):
        with user.sees_no_change():
            problem_of(publisher.patch(path, json={"status": status}), 409, "status")
