"""The log as JSON: one object a line, and no credential or text of a message in any."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest

from notifier.api import http
from notifier.auth import Authenticator
from notifier.broker.memory.broker import MemoryBroker
from notifier.failures import unexpected
from notifier.logs import JsonFormatter
from tests.serving import KEY, serving
from tests.support import API_KEY, JWT_SECRET, Process, Service, bearer, running, subscriber_token, wait_for

SECRET_TEXT = "a text that only its user may read"


def lines_of(process: Process) -> Iterator[dict[str, object]]:
    for line in process.output().splitlines():
        yield json.loads(line)


@pytest.mark.programs
def test_each_line_is_an_object_without_secrets() -> None:
    token = subscriber_token("ann")
    with running(Service(env={"NOTIFIER_LOG": "json"})) as service:
        with service.client() as client:
            client.post("/v1/messages", json={"to": ["user:ann"], "subject": SECRET_TEXT}).raise_for_status()
            task = client.post("/v1/tasks", json={"to": ["user:ann"], "name": "Import"}).raise_for_status().json()["id"]
            client.patch(f"/v1/tasks/{task}", json={"total": None}).raise_for_status()
        for path, headers in (
            (f"/v1/stream?token={token}x", {}),
            ("/v1/inbox", bearer(token)),
            ("/v1/inbox", {"Origin": "https://other.example", **bearer(token)}),
            ("/v1/messages", bearer("x" * 40)),
        ):
            httpx.get(f"{service.url}{path}", headers=headers, timeout=10)
        wait_for(lambda: "deprecated" in service.process.output(), what="a line of the publish")
        lines, text = list(lines_of(service.process)), service.process.output()
    assert {"time", "level", "logger", "message", "pid"} <= set(lines[0])
    assert {"uvicorn.error", "notifier.api"} <= {line["logger"] for line in lines}
    assert all(datetime.fromisoformat(str(line["time"])).utcoffset() is not None for line in lines)
    for secret in (token, API_KEY, JWT_SECRET, SECRET_TEXT):
        assert secret not in text


@pytest.mark.parametrize(
    ("given", "kept"),
    [(b"req-42.a_B", True), (b"", False), (b"a" * 65, False), (b'x" ,"', False), (b"a\nb", False), (b"\xff", False)],
)
def test_a_failed_request_has_the_id_of_the_proxy_if_that_is_one(
    caplog: pytest.LogCaptureFixture, given: bytes, kept: bool
) -> None:
    answer = unexpected([(b"host", b"a"), (b"x-request-id", given)], ZeroDivisionError("division"))
    request_id = json.loads(answer.body)["request_id"]
    assert (request_id == given.decode("latin-1")) is kept
    assert len(request_id) == (len(given) if kept else 32)
    (record,) = caplog.records
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["request_id"]) == ("error", request_id)
    assert "ZeroDivisionError: division" in line["exception"]


def fails(*_: object, **__: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("method", "path", "body", "failing"),
    [
        ("POST", "/v1/messages", {"subject": SECRET_TEXT}, (MemoryBroker, "submit")),
        ("POST", "/v1/tasks", {"name": SECRET_TEXT}, (MemoryBroker, "create_task")),
        ("PATCH", "/v1/messages/m", {"subject": SECRET_TEXT}, (MemoryBroker, "correct")),
        ("POST", "/v1/tasks", {"name": [SECRET_TEXT]}, (http, "_invalid")),
        ("GET", "/v1/inbox", None, (MemoryBroker, "inbox")),
        ("GET", "/v1/stream", None, (Authenticator, "subscriber")),
    ],
)
async def test_the_log_of_a_failed_request_has_its_traceback_without_its_text_and_token(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    form: str,
    method: str,
    path: str,
    body: dict[str, object] | None,
    failing: tuple[object, str],
) -> None:
    monkeypatch.setattr(*failing, fails)
    token = subscriber_token("ann")
    async with serving() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=False) as client:
        response = await client.request(
            method,
            path,
            headers=bearer(KEY if body else token),
            params=None if body else {"token": token},
            json=body and {"to": ["user:ann"], **body},
        )
    assert response.status_code == 500
    formatter = JsonFormatter() if form == "json" else logging.Formatter()
    text = "\n".join(map(formatter.format, caplog.records))
    assert "ZeroDivisionError" in text
    assert response.json()["request_id"] in text
    for secret in (SECRET_TEXT, token, KEY):
        assert secret not in text


def test_a_line_with_ends_of_lines_stays_one() -> None:
    record = logging.LogRecord("notifier", logging.INFO, "", 0, "a\n%s", ("b\r\n",), None)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "a\nb\r\n"
