"""The JSON Schemas of a stream's events: files that are as the code makes them, and served."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator, ValidationError

from notifier.api.stream_events import STREAM_EVENTS
from notifier.rules import RESERVED_EVENTS
from tests.api.event_schemas import FOLDER, check_event
from tests.api.support import User, calling
from tests.support import Service
from tools import schemas

NOT_SENT = {"open", "error", "stale"}
"""Reserved names that no stream has."""


def test_the_files_are_what_the_code_makes() -> None:
    files = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}
    assert files == schemas.texts(), "run python -m tools.schemas"


def test_every_event_of_the_service_has_a_schema_that_stands_alone() -> None:
    assert {f"{name}.json" for name in RESERVED_EVENTS - NOT_SENT} == set(schemas.texts())
    for name, text in schemas.texts().items():
        schema = json.loads(text)
        Draft202012Validator.check_schema(schema)
        assert "#/components" not in text, name


def test_the_service_serves_them(service: Service) -> None:
    with calling(service) as client:
        for name, text in schemas.texts().items():
            response = client.get(f"/schemas/{name}")
            assert (response.status_code, response.text) == (200, text), name
            assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bye", {"reason": "bored", "retry_ms": 1}),
        ("task.dismissed", {}),
        ("degraded", {"degraded": 1}),
        ("ping", []),
        ("task.output", {"id": "t", "n": "1", "text": ""}),
        ("topics", {"left": ["a"]}),
    ],
)
def test_an_event_of_another_form_is_refused(name: str, data: Any) -> None:
    assert name in STREAM_EVENTS
    with pytest.raises(ValidationError):
        check_event(name, data)


def test_the_pings_of_a_stream_are_as_their_schema_says(tight: Service, user_of: Any) -> None:
    user: User = user_of(tight)
    with user.listen() as stream:
        check_event("ping", json.loads(stream.ping().data))


def test_the_output_of_a_task_is_as_its_schema_says(publisher: httpx.Client, user: User) -> None:
    task = publisher.post("/v1/tasks", json={"to": [user.channel], "name": "Import"}).json()["id"]
    with user.listen() as stream:
        publisher.post(f"/v1/tasks/{task}/output", json={"text": "42 rows"})
        stream.until("task.output")  # which checks each event
