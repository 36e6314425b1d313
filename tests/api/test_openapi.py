"""The OpenAPI document: valid, complete, and consistent with the responses of the calls."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, data_of, unique

CALLS = {
    ("get", "/v1/stream"),
    ("get", "/v1/poll"),
    ("post", "/v1/messages"),
    ("post", "/v1/tasks"),
    ("patch", "/v1/tasks/{task_id}"),
    ("post", "/v1/events"),
    ("post", "/v1/batch"),
    ("post", "/v1/hooks/{name}"),
    ("get", "/v1/inbox"),
    ("post", "/v1/inbox/read"),
    ("delete", "/v1/inbox/{message_id}"),
    ("get", "/v1/inbox/unread"),
    ("get", "/v1/tasks"),
    ("post", "/v1/tasks/{task_id}/cancel"),
    ("delete", "/v1/tasks/{task_id}"),
    ("get", "/v1/users/{user_id}/presence"),
    ("post", "/v1/users/{user_id}/disconnect"),
    ("delete", "/v1/users/{user_id}"),
    ("get", "/metrics"),
    ("post", "/v1/tasks/{task_id}/output"),
    ("get", "/v1/tasks/{task_id}/output"),
    ("post", "/v1/tasks/{task_id}/question"),
    ("post", "/v1/tasks/{task_id}/answer"),
    ("get", "/v1/tasks/{task_id}/answer"),
    ("post", "/v1/stream/topics"),
    ("get", "/v1/cursor"),
    ("get", "/v1/topics/{name}/presence"),
    ("post", "/v1/presence"),
    ("patch", "/v1/messages/{message_id}"),
    ("delete", "/v1/messages/{message_id}"),
    ("get", "/healthz"),
    ("get", "/readyz"),
}
EVENTS = {
    "hello": {"v", "recovered", "replayed", "unread", "tasks", "heartbeat_s", "connection", "time"},
    "message": {
        "id", "to", "from", "subject", "text", "sent_at", "level", "url", "icon", "key", "actions", "data", "replaces",
        "edited",
    },
    "task": {
        "id", "name", "status", "state", "done", "total", "percent", "eta_s",
        "started_at", "updated_at", "ended_at", "error", "url", "url_text", "question",
        "answer", "output", "cancellable",
    },
    "task.dismissed": {"id"},
    "task.output": {"id", "n", "from", "text"},
    "inbox": {"read", "deleted", "unread"},
    "topics": {"left", "reason"},
    "presence": {"topic", "count", "joined", "left", "changed"},
    "reset": {"reason", "unread", "tasks"},
    "degraded": {"degraded"},
    "ping": set(),
    "bye": {"reason", "retry_ms"},
}  # fmt: skip


@pytest.fixture
def document(anyone: httpx.Client) -> dict[str, Any]:
    served: dict[str, Any] = anyone.get("/openapi.json").json()
    return served


def calls_of(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): call for path, calls in document["paths"].items() for method, call in calls.items()}


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def parameter_of(document: dict[str, Any], parameter: dict[str, Any]) -> dict[str, Any]:
    """A call's parameter, which may be one of those that several calls have."""
    name = parameter.get("$ref", "").rpartition("/")[2]
    return dict(document["components"]["parameters"][name]) if name else parameter


@ONE_BROKER
def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "notifier"


@ONE_BROKER
def test_every_call_of_the_contract_is_documented(document: dict[str, Any]) -> None:
    assert set(calls_of(document)) >= CALLS


@ONE_BROKER
def test_every_call_documents_its_purpose_security_and_responses(document: dict[str, Any]) -> None:
    for (method, path), call in calls_of(document).items():
        assert call["summary"], path
        assert call["description"], path
        assert ("security" in call) is path.startswith("/v1/"), path
        good = {status: answer for status, answer in call["responses"].items() if status.startswith("2")}
        # A call that waits answers 204 where there is nothing to answer.
        assert len(good) == 1 or set(good) == {"200", "204"}, path
        if "200" in good and path.startswith("/v1/"):
            ((_, content),) = good["200"]["content"].items()
            assert content["schema"], path
        if path.startswith("/v1/"):
            assert list(call["responses"]["401"]["content"]) == ["application/problem+json"], path
        assert ("requestBody" in call) is ((method, path) in WITH_BODY), path
        for kind, content in call.get("requestBody", {}).get("content", {}).items():
            assert content["schema"], (path, kind)


WITH_BODY = {
    ("post", "/v1/messages"),
    ("post", "/v1/tasks"),
    ("patch", "/v1/tasks/{task_id}"),
    ("patch", "/v1/messages/{message_id}"),
    ("delete", "/v1/messages/{message_id}"),
    ("post", "/v1/tasks/{task_id}/output"),
    ("post", "/v1/tasks/{task_id}/question"),
    ("post", "/v1/tasks/{task_id}/answer"),
    ("post", "/v1/events"),
    ("post", "/v1/hooks/{name}"),
    ("post", "/v1/batch"),
    ("post", "/v1/inbox/read"),
    ("post", "/v1/stream/topics"),
    ("post", "/v1/presence"),
}
OF_USERS = {
    ("post", "/v1/presence"),
    ("post", "/v1/inbox/read"),
    ("post", "/v1/tasks/{task_id}/answer"),
    ("post", "/v1/stream/topics"),
}
REPEATABLE = {("patch", "/v1/messages/{message_id}"), ("delete", "/v1/messages/{message_id}")}
"""A repeat of these changes nothing, with or without a key."""


@ONE_BROKER
def test_calls_that_publish_take_an_idempotency_key(document: dict[str, Any]) -> None:
    for (method, path), call in calls_of(document).items():
        given = [parameter_of(document, parameter) for parameter in call.get("parameters", ())]
        names = {parameter["name"] for parameter in given if parameter["in"] == "header"}
        assert ("Idempotency-Key" in names) is ((method, path) in WITH_BODY - OF_USERS - REPEATABLE), path


@ONE_BROKER
def test_events_may_be_cloud_events_and_batches_ndjson(document: dict[str, Any]) -> None:
    calls = calls_of(document)
    assert "application/cloudevents+json" in calls["post", "/v1/events"]["requestBody"]["content"]
    assert "application/x-ndjson" in calls["post", "/v1/batch"]["requestBody"]["content"]


@ONE_BROKER
def test_the_cursor_of_a_stream_is_documented_under_all_its_names(document: dict[str, Any]) -> None:
    call = calls_of(document)["get", "/v1/stream"]
    parameters = [parameter_of(document, parameter) for parameter in call["parameters"]]
    # Generators make one name of several spellings, so there is one parameter, which tells the others.
    assert [(each["in"], each["name"]) for each in parameters if "event" in each["name"].lower()] == [
        ("header", "Last-Event-ID")
    ]
    (cursor,) = (each for each in parameters if each["name"] == "Last-Event-ID")
    assert set(re.findall(r"`(\w+)`", cursor["description"])) >= {"last_event_id", "lastEventId", "lastEventID"}
    assert document["components"]["securitySchemes"]["subscriberQuery"]["name"] == "token"


@ONE_BROKER
@pytest.mark.parametrize("name", EVENTS)
def test_every_event_of_a_stream_is_documented_with_its_fields(document: dict[str, Any], name: str) -> None:
    call = calls_of(document)["get", "/v1/stream"]
    content = call["responses"]["200"]["content"]["text/event-stream"]
    assert set(content["x-events"]) == set(EVENTS)
    shape = resolved(document, content["x-events"][name])
    assert set(shape.get("properties", {})) == EVENTS[name]
    (line,) = (line for line in call["description"].splitlines() if line.startswith(f"| `{name}` |"))
    assert set(re.findall(r"`([a-z_.]+)`", line)) >= EVENTS[name] | {name}


def matches(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Assert that a value matches a schema of the document."""
    whole = {**schema, "components": document["components"]}
    Draft202012Validator(whole).validate(value)


NAMED = {"retry-after", "www-authenticate", "ratelimit", "ratelimit-policy", "etag", "location"}
"""Headers that an answer has only if the document says so."""


def answers(document: dict[str, Any], method: str, path: str, response: httpx.Response) -> Any:
    """The body of a response, which must match the document."""
    content = calls_of(document)[method, path]["responses"][str(response.status_code)]["content"]
    answer = calls_of(document)[method, path]["responses"][str(response.status_code)]
    assert NAMED.intersection(response.headers) <= {name.lower() for name in answer.get("headers", ())}
    ((kind, shape),) = content.items()
    assert response.headers["Content-Type"].partition(";")[0] == kind
    matches(document, shape["schema"], response.json())
    return response.json()


def test_the_responses_of_the_calls_match_the_document(
    document: dict[str, Any], publisher: httpx.Client, admin: httpx.Client, anyone: httpx.Client, user: User
) -> None:
    to = {"to": [user.channel]}
    sender = {"id": "7", "name": "Ann"}
    message = publisher.post("/v1/messages", json={**to, "subject": "Test", "from": sender})
    answers(document, "post", "/v1/messages", message)
    answers(document, "post", "/v1/events", publisher.post("/v1/events", json={**to, "type": "order.paid"}))
    task = answers(document, "post", "/v1/tasks", publisher.post("/v1/tasks", json={**to, "name": "Import"}))
    task_path = f"/v1/tasks/{task['id']}"
    answers(document, "patch", "/v1/tasks/{task_id}", publisher.patch(task_path, json={"done": 1, "total": 4}))
    answers(document, "post", "/v1/tasks/{task_id}/output", publisher.post(f"{task_path}/output", json={"text": "a"}))
    answers(document, "get", "/v1/tasks/{task_id}/output", user.client.get(f"{task_path}/output"))
    question = {"text": "Sure?", "choices": [{"value": "yes", "text": "Yes"}], "id": "q"}
    answers(document, "post", "/v1/tasks/{task_id}/question", publisher.post(f"{task_path}/question", json=question))
    given = {"question": "q", "value": "yes"}
    for _ in range(2):
        answers(document, "post", "/v1/tasks/{task_id}/answer", user.client.post(f"{task_path}/answer", json=given))
    answers(document, "get", "/v1/tasks/{task_id}/answer", publisher.get(f"{task_path}/answer?question=q"))
    batch = [{"kind": "patch", "id": task["id"], "done": 2}, {"kind": "letter"}]
    answers(document, "post", "/v1/batch", publisher.post("/v1/batch", json=batch))
    answers(document, "get", "/v1/poll", user.client.get("/v1/poll"))
    answers(document, "get", "/v1/poll", user.client.get("/v1/poll", params={"after": "e-1"}))
    answers(document, "get", "/v1/poll", user.client.get("/v1/poll", params={"wait_s": "long"}))
    answers(document, "get", "/v1/poll", anyone.get("/v1/poll"))
    answers(document, "get", "/v1/inbox", user.client.get("/v1/inbox"))
    answers(document, "get", "/v1/inbox/unread", user.client.get("/v1/inbox/unread"))
    answers(document, "get", "/v1/tasks", user.client.get("/v1/tasks"))
    answers(document, "post", "/v1/tasks/{task_id}/cancel", user.client.post(f"{task_path}/cancel"))
    answers(document, "post", "/v1/inbox/read", user.client.post("/v1/inbox/read", json={"all": True}))
    message_path = f"/v1/inbox/{message.json()['id']}"
    answers(document, "delete", "/v1/inbox/{message_id}", user.client.delete(message_path))
    answers(document, "delete", "/v1/inbox/{message_id}", user.client.delete(message_path))
    answers(document, "delete", "/v1/tasks/{task_id}", user.client.delete(task_path))
    answers(document, "patch", "/v1/tasks/{task_id}", publisher.patch("/v1/tasks/none", json={"done": 1}))
    answers(document, "post", "/v1/messages", publisher.post("/v1/messages", json={}))
    answers(document, "post", "/v1/messages", publisher.post("/v1/messages", content=b"{"))
    answers(document, "post", "/v1/messages", publisher.post("/v1/messages", content=b" " * 70_000))
    answers(document, "post", "/v1/messages", anyone.post("/v1/messages"))
    answers(document, "post", "/v1/inbox/read", user.client.post("/v1/inbox/read", content=b"{"))
    presence = "/v1/users/{user_id}/presence"
    answers(document, "get", presence, admin.get(f"/v1/users/{user.name}/presence"))
    answers(document, "get", presence, publisher.get(f"/v1/users/{user.name}/presence"))
    disconnect = "/v1/users/{user_id}/disconnect"
    answers(document, "post", disconnect, admin.post(f"/v1/users/{user.name}/disconnect"))
    answers(document, "get", "/healthz", anyone.get("/healthz"))
    answers(document, "get", "/readyz", anyone.get("/readyz"))


def test_the_events_of_a_stream_match_the_document(
    document: dict[str, Any], publisher: httpx.Client, admin: httpx.Client, user: User
) -> None:
    events = calls_of(document)["get", "/v1/stream"]["responses"]["200"]["content"]["text/event-stream"]["x-events"]
    with user.listen(after="nonsense") as stream:
        shown = [stream.next("hello"), stream.next("reset")]
        to = {"to": [user.channel]}
        publisher.post("/v1/messages", json={**to, "subject": "Test"})
        task = publisher.post("/v1/tasks", json={**to, "name": "Import"}).json()
        user.client.post("/v1/inbox/read", json={"all": True})
        shown += stream.until("inbox")
        publisher.patch(f"/v1/tasks/{task['id']}", json={"status": "succeeded"})
        user.client.delete(f"/v1/tasks/{task['id']}")
        shown += stream.until("task.dismissed")
        admin.post(f"/v1/users/{user.name}/disconnect")
        shown += stream.rest()
    names = [event.event for event in shown]
    assert names == ["hello", "reset", "message", "task", "inbox", "task", "task.dismissed", "bye"]
    for event in shown:
        matches(document, events[event.event], data_of(event))


@ONE_BROKER
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"subject": "Test", "from": {"name": "Ann"}, "url": None, "expires_at": None, "data": {}}),
        ("/v1/tasks", {"name": "Import", "state": "reading", "total": 100, "id": None}),
        ("/v1/events", {"type": "order.paid", "data": {}, "durable": False}),
    ],
)
def test_the_document_accepts_the_bodies_that_the_calls_accept(
    document: dict[str, Any], publisher: httpx.Client, user: User, path: str, body: dict[str, Any]
) -> None:
    whole = {"to": [user.channel], **body}
    shape = calls_of(document)["post", path]["requestBody"]["content"]["application/json"]["schema"]
    matches(document, shape, whole)
    assert publisher.post(path, json=whole).status_code == 200
    with pytest.raises(Exception, match="extra"):
        matches(document, shape, {**whole, "extra": 1})


@ONE_BROKER
def test_the_page_shows_the_document_and_loads_nothing_from_other_hosts(anyone: httpx.Client) -> None:
    page = anyone.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    links = re.findall(r"(?:src=|href=|url: )[\"']([^\"']+)", page.text)
    loaded = {str(page.url.join(link)) for link in links}
    assert str(page.url.join("/openapi.json")) in loaded
    assert len(loaded) >= 3
    for url in loaded:
        assert url.startswith(str(anyone.base_url)), url
        assert anyone.get(url).status_code == 200, url


@ONE_BROKER
def test_the_demo_is_documented_nowhere(document: dict[str, Any]) -> None:
    assert not [path for path in document["paths"] if path.startswith("/demo")]
    assert unique() not in document["paths"]
