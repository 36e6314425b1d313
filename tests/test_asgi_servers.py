"""The service under another ASGI server: without uvicorn's protocol, the routes and their own streams do all of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.stream_reader import StreamReader
from tests.support import API_KEY, JWT_SECRET, Process, bearer, free_port

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the service under Hypercorn."""
    folder: Path = tmp_path_factory.mktemp("hypercorn")
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-W", "error", "-m", "hypercorn", "notifier.app:create()", "--bind", address]
    process = Process(
        command,
        env={"NOTIFIER_JWT_SECRET": JWT_SECRET, "NOTIFIER_API_KEYS": API_KEY, "NOTIFIER_BROKER_URL": "memory:"},
        cwd=folder,
    )

    def answers() -> bool:
        try:
            return httpx.get(f"http://{address}/readyz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        process.wait_until(answers, "hypercorn")
        yield f"http://{address}"
    finally:
        process.stop()


def test_a_stream_has_what_is_published_and_resumes(url: str) -> None:
    first = StreamReader(url, "ann")
    assert first.next("hello")[1]["unread"] == 0
    with httpx.Client(base_url=url, headers=bearer(API_KEY), trust_env=False) as publisher:
        sent = publisher.post("/v1/messages", json={"to": ["user:ann"], "subject": "One"}).json()
        assert first.next("message")[1]["subject"] == "One"
        task = publisher.post("/v1/tasks", json={"to": ["user:ann"], "name": "Import", "total": 2}).json()["id"]
        assert first.next("task")[1]["id"] == task
        publisher.patch(f"/v1/tasks/{task}", json={"advance": 1}).raise_for_status()
        assert first.next("task")[1]["done"] == 1
        first.close()
        publisher.post("/v1/messages", json={"to": ["user:ann"], "subject": "Two"}).raise_for_status()
        lines = ['{"kind": "message", "to": ["user:ann"], "subject": "Three"}', '{"kind": "message"}']
        results = publisher.post(
            "/v1/batch", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
        ).json()["results"]
        assert [result["status"] for result in results] == [200, 422]
    again = StreamReader(url, "ann", **{"Last-Event-ID": sent["cursor"]})
    assert [again.next("message")[1]["subject"] for _ in range(2)] == ["Two", "Three"]
    again.close()


def test_errors_are_the_same_documents(url: str) -> None:
    with httpx.Client(base_url=url, headers=bearer(API_KEY), trust_env=False) as publisher:
        refused = publisher.post("/v1/messages", json={"to": ["user:ann"], "subject": ""})
    assert (refused.status_code, refused.json()["field"]) == (422, "subject")
    assert httpx.get(f"{url}/v1/stream", trust_env=False).status_code == 401
