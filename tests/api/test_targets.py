"""What an API key with targets may reach: each call is refused for other channels, and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.support import API_KEY, Service, running

LIMITED = "limited-key-0123456789abcdef"
TARGETS = "user:shop-*|topic:order:*"


@pytest.fixture(scope="module")
def keys() -> Iterator[Service]:
    with running(Service(env={"NOTIFIER_API_KEYS": f"{API_KEY},shop:publish:{TARGETS}:{LIMITED}"})) as service:
        yield service


@pytest.fixture(scope="module")
def limited(keys: Service) -> Iterator[httpx.Client]:
    with keys.client(LIMITED) as client:
        yield client


@pytest.fixture(scope="module")
def task(keys: Service) -> str:
    """A task to a channel that is no target."""
    with keys.client() as client:
        body = {"to": ["user:42"], "name": "Export"}
        return str(client.post("/v1/tasks", json=body).raise_for_status().json()["id"])


@pytest.mark.parametrize("to", [["user:shop-1"], ["topic:order:7", "user:shop-2"]], ids=str)
def test_a_target_is_reached(limited: httpx.Client, to: list[str]) -> None:
    limited.post("/v1/messages", json={"to": to, "subject": "Paid"}).raise_for_status()
    limited.post("/v1/events", json={"to": to, "type": "order.paid"}).raise_for_status()
    begun = limited.post("/v1/tasks", json={"to": to, "name": "Export"}).raise_for_status().json()
    limited.patch(f"/v1/tasks/{begun['id']}", json={"done": 50}).raise_for_status()
    limited.post(f"/v1/tasks/{begun['id']}/output", json={"text": "row"}).raise_for_status()
    assert limited.get(f"/v1/tasks/{begun['id']}").raise_for_status().json()["done"] == 50


MESSAGE = {"to": ["user:42"], "subject": "Paid"}
Call = Callable[[httpx.Client, str], httpx.Response]
OTHERS: dict[str, tuple[str, Call]] = {
    "message": ("to", lambda client, _: client.post("/v1/messages", json=MESSAGE)),
    "message to one of two": (
        "to",
        lambda client, _: client.post("/v1/messages", json={**MESSAGE, "to": ["user:shop-1", "all"]}),
    ),
    "event": ("to", lambda client, _: client.post("/v1/events", json={"to": ["topic:order"], "type": "paid"})),
    "cloud event": (
        "to",
        lambda client, _: client.post(
            "/v1/events",
            json={"specversion": "1.0", "id": "1", "source": "shop", "type": "paid", "to": "group:shop-staff"},
            headers={"Content-Type": "application/cloudevents+json"},
        ),
    ),
    "task": ("to", lambda client, _: client.post("/v1/tasks", json={"to": ["user:42"], "name": "Export"})),
    "report": ("id", lambda client, task: client.patch(f"/v1/tasks/{task}", json={"done": 50})),
    "report of nothing": ("id", lambda client, task: client.patch(f"/v1/tasks/{task}", json={})),
    "output": ("id", lambda client, task: client.post(f"/v1/tasks/{task}/output", json={"text": "row"})),
    "question": (
        "id",
        lambda client, task: client.post(f"/v1/tasks/{task}/question", json={"text": "Go on?", "input": "text"}),
    ),
    "answer": ("id", lambda client, task: client.get(f"/v1/tasks/{task}/answer?question=q1&wait_s=0")),
    "task's state": ("id", lambda client, task: client.get(f"/v1/tasks/{task}")),
    "task's output": ("id", lambda client, task: client.get(f"/v1/tasks/{task}/output")),
    "retraction": ("to", lambda client, _: client.request("DELETE", "/v1/messages/m1", json={"to": ["user:42"]})),
    "correction": ("to", lambda client, _: client.patch("/v1/messages/m1", json={"to": ["user:42"], "subject": "x"})),
    "presence on a topic": ("name", lambda client, _: client.get("/v1/topics/stock/presence")),
    "presence of a user": ("id", lambda client, _: client.get("/v1/users/42/presence")),
    "presence of users": ("users", lambda client, _: client.post("/v1/presence", json={"users": ["shop-1", "42"]})),
    "cursor of a user": ("user", lambda client, _: client.get("/v1/cursor?user=42")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_than_the_targets_are_refused(limited: httpx.Client, task: str, name: str) -> None:
    field, call = OTHERS[name]
    answer = call(limited, task)
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["field"]) == (403, field), problem
    assert "this API key may not" in problem["detail"]


def test_of_a_batch_the_items_to_others_are_refused(keys: Service, limited: httpx.Client, task: str) -> None:
    items = [
        {"kind": "message", "to": ["user:shop-9"], "subject": "Paid"},
        {"kind": "message", **MESSAGE},
        {"kind": "event", "to": ["all"], "type": "paid"},
        {"kind": "task", "to": ["user:42"], "name": "Export"},
        {"kind": "patch", "id": task, "done": 50},
        {"kind": "output", "id": task, "text": "row"},
    ]
    results = limited.post("/v1/batch", json=items).raise_for_status().json()["results"]
    assert [result["status"] for result in results] == [200, 403, 403, 403, 403, 403]


def test_what_was_refused_is_not_stored(keys: Service, limited: httpx.Client, task: str) -> None:
    limited.post("/v1/messages", json=MESSAGE)
    with keys.user("42") as user:
        assert user.get("/v1/inbox").json()["messages"] == []
        (only,) = user.get("/v1/tasks").json()["tasks"]
    assert (only["id"], only["done"]) == (task, 0)


def test_a_key_with_targets_does_not_administer(limited: httpx.Client) -> None:
    assert limited.post("/v1/users/shop-1/disconnect").status_code == 403
