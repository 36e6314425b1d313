"""Clients that others wrote read our streams: npm's `eventsource`, `httpx-sse`, `curl -N`."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from tests.support import REPOSITORY, Process, Service, bearer, running, subscriber_token, wait_for

UNUSUAL = "Привет, €🚀\nsecond line\r\nthird\u2028fourth: {\"json\": 'inside'} data: x"


@pytest.fixture(scope="module")
def restless() -> Iterator[Service]:
    """A service that ends every stream after one to two seconds."""
    with running(Service(env={"NOTIFIER_STREAM_LIFE_S": "2", "NOTIFIER_HEARTBEAT_S": "0.5"})) as server:
        yield server


def publish(service: Service, user: str, subject: str, text: str = "") -> None:
    with service.client() as client:
        client.post("/v1/messages", json={"to": [f"user:{user}"], "subject": subject, "text": text}).raise_for_status()


class Npm:
    """npm's `eventsource` in Node, in a process of its own, that prints what it hears."""

    def __init__(self, service: Service, user: str) -> None:
        package = REPOSITORY / "node_modules" / "eventsource"
        assert package.exists(), "npm's `eventsource` is not installed: run `npm install` first"
        self.process = Process(
            ["node", str(Path("tests", "js", "third_party_eventsource.js"))],
            cwd=REPOSITORY,
            env={"NOTIFIER_URL": service.url, "NOTIFIER_TOKEN": subscriber_token(user)},
        )
        self.wait("hello")

    def heard(self, event: str) -> list[dict[str, Any]]:
        whole = self.process.output().rpartition("\n")[0]
        events = [json.loads(line) for line in whole.split("\n") if line.startswith("{")]
        return [record for record in events if record["event"] == event]

    def wait(self, event: str, times: int = 1) -> list[dict[str, Any]]:
        """Waits until so many events of a name were heard; answers them."""
        return wait_for(
            lambda: events if len(events := self.heard(event)) >= times else None,  # type: ignore[return-value]
            what=f"{times} x {event} in:\n{self.process.output()}",
        )

    def stop(self) -> None:
        self.process.stop()


@pytest.mark.programs
def test_npm_eventsource_hears_everything(service: Service) -> None:
    with running(Npm(service, "npm-1")) as npm, service.client() as client:
        publish(service, "npm-1", "Unusual", UNUSUAL)
        client.post("/v1/tasks", json={"to": ["user:npm-1"], "name": "Walk", "total": 4})
        client.post("/v1/events", json={"to": ["user:npm-1"], "type": "order.paid", "data": [1, {"n": 2}]})
        (message,) = npm.wait("message")
        assert (message["data"]["subject"], message["data"]["text"]) == ("Unusual", UNUSUAL)
        assert npm.wait("task")[0]["data"]["name"] == "Walk"
        assert npm.wait("order.paid")[0]["data"] == [1, {"n": 2}]
        assert npm.heard("error") == []


@pytest.mark.programs
def test_npm_eventsource_comes_back_and_misses_nothing(restless: Service) -> None:
    with running(Npm(restless, "npm-2")) as npm:
        sent = 0
        while len(npm.heard("hello")) < 3:
            sent += 1
            publish(restless, "npm-2", f"Number {sent}")
            time.sleep(0.1)  # the rate of publishing, not a guess about when something is ready
        events = npm.wait("message", sent)
        assert [record["data"]["subject"] for record in events] == [f"Number {n}" for n in range(1, sent + 1)]
        assert npm.heard("reset") == []
        assert npm.heard("ping")


def test_httpx_sse_hears_everything_and_goes_on_from_its_last_id(service: Service) -> None:
    def events(last_event_id: str | None = None) -> Iterator[ServerSentEvent]:
        headers = bearer(subscriber_token("python"))
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        with (
            httpx.Client(base_url=service.url, timeout=20) as client,
            connect_sse(client, "GET", "/v1/stream", headers=headers) as source,
        ):
            yield from (event for event in source.iter_sse() if event.event != "ping")  # comes at any time

    first = events()
    hello = next(first)
    assert (hello.event, hello.json()["recovered"], hello.retry is not None) == ("hello", True, True)
    publish(service, "python", "Unusual", UNUSUAL)
    message = next(first)
    assert (message.event, message.json()["text"]) == ("message", UNUSUAL)
    first.close()
    publish(service, "python", "Missed")
    again = events(message.id)
    hello, missed = next(again), next(again)
    assert (hello.json()["recovered"], hello.json()["replayed"]) == (True, 1)
    assert missed.json()["subject"] == "Missed"
    again.close()


@pytest.mark.programs
def test_curl_shows_each_event_as_it_comes(service: Service) -> None:
    token = subscriber_token("shell")
    command = ["curl", "-sN", "-H", f"Authorization: Bearer {token}", f"{service.url}/v1/stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        lines: Queue[str] = Queue()
        reader = Thread(target=lambda stream: [lines.put(line) for line in stream], args=(curl.stdout,))
        reader.start()
        try:
            assert block(lines)["event"] == "hello"
            publish(service, "shell", "From here", "to there")
            while (message := block(lines))["event"] == "ping":  # comes at any time
                pass
            assert message["event"] == "message"
            assert message["id"]
            assert json.loads(message["data"])["subject"] == "From here"
        finally:
            curl.terminate()
            reader.join()


@pytest.mark.programs
def test_curl_without_a_token_is_told_why(service: Service) -> None:
    command = ["curl", "-s", "-o", "-", "-w", "\n%{http_code}", f"{service.url}/v1/stream"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    problem, _, status = answer.rpartition("\n")
    assert status == "401"
    assert "token" in json.loads(problem)["detail"]


def block(lines: Queue[str], timeout_s: float = 15) -> dict[str, str]:
    """The fields of the next event, as a shell script would read them line by line."""
    fields: dict[str, str] = {}
    while True:
        try:
            line = lines.get(timeout=timeout_s).rstrip("\n")
        except Empty:
            raise AssertionError(f"no whole event within {timeout_s} s, only {fields}") from None
        if not line:
            return fields
        name, _, value = line.partition(": ")
        fields[name] = value
