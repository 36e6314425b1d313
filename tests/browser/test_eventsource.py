"""The browser's own EventSource, without our client: what anybody writes in three lines has to work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Request

from tests.browser.conftest import CHROMIUM_FIRST, EITHER
from tests.support import Service, running, subscriber_token

LISTEN = """([url, types]) => {
  window.seen = [];
  window.source = new EventSource(url);
  source.onopen = () => seen.push({ type: "open" });
  source.onerror = () => seen.push({ type: "error", state: source.readyState });
  for (const type of types) {
    source.addEventListener(type, ({ data, lastEventId }) => seen.push({ type, data: JSON.parse(data), lastEventId }));
  }
}"""
TYPES = ["hello", "message", "task", "inbox", "reset", "ping", "bye", "order.paid"]


class Listener:
    """A page of the service's origin that listens with EventSource."""

    def __init__(self, context: BrowserContext, service: Service) -> None:
        self.requests: list[Request] = []
        self._service = service
        self.page: Page = context.new_page()
        self.page.on("request", self._note)
        # Any page of the service's origin that brings no script of its own. (A routed one would hide request headers.)
        self.page.goto(f"{service.url}/healthz")

    def listen(self, query: str = "") -> None:
        self.page.evaluate(LISTEN, [f"{self._service.url}/v1/stream{query}", TYPES])
        self.wait("hello")

    def wait(self, kind: str, times: int = 1) -> list[dict[str, Any]]:
        """Waits until so many events of a type were heard; answers them."""
        pick = "seen.filter(({ type }) => type === kind)"
        self.page.wait_for_function(f"([kind, times]) => {pick}.length >= times", arg=[kind, times])
        events: list[dict[str, Any]] = self.page.evaluate(f"kind => {pick}", kind)
        return events

    def publish(self, subject: str) -> None:
        with self._service.client() as client:
            answer = client.post("/v1/messages", json={"to": ["user:ann"], "subject": subject})
            answer.raise_for_status()

    def _note(self, request: Request) -> None:
        if "/v1/stream" in request.url:
            self.requests.append(request)


@pytest.fixture
def listener(context: BrowserContext, service: Service) -> Listener:
    return Listener(context, service)


@pytest.fixture
def restless() -> Iterator[Service]:
    """A service that ends every stream after one to two seconds."""
    with running(Service(env={"NOTIFIER_STREAM_LIFE_S": "2"})) as server:
        yield server


def subjects(events: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["subject"] for event in events]


def test_a_token_in_the_query_lets_it_listen(listener: Listener) -> None:
    listener.listen(f"?token={subscriber_token('ann')}")
    listener.publish("By query")
    (message,) = listener.wait("message")
    assert message["data"]["subject"] == "By query"
    assert message["lastEventId"].rpartition("-")[2].isdigit()


def test_the_cookie_lets_it_listen(listener: Listener, context: BrowserContext, service: Service) -> None:
    context.add_cookies([{"name": "notifier_token", "value": subscriber_token("ann"), "url": service.url}])
    listener.listen()
    listener.publish("By cookie")
    assert subjects(listener.wait("message")) == ["By cookie"]


@CHROMIUM_FIRST
def test_it_hears_tasks_events_of_any_name_and_the_read_state(listener: Listener, service: Service) -> None:
    listener.listen(f"?token={subscriber_token('ann')}")
    with service.client() as client, service.user("ann") as ann:
        client.post("/v1/tasks", json={"to": ["user:ann"], "name": "Walk", "total": 10})
        client.post("/v1/events", json={"to": ["user:ann"], "type": "order.paid", "data": {"n": 1}})
        assert listener.wait("task")[0]["data"]["name"] == "Walk"
        assert listener.wait("order.paid")[0]["data"] == {"n": 1}
        ann.post("/v1/inbox/read", json={"all": True})
        listener.publish("To be read")
        listener.wait("message")
        ann.post("/v1/inbox/read", json={"all": True})
        assert listener.wait("inbox")[-1]["data"]["unread"] == 0


def test_a_bad_token_ends_it_for_good(listener: Listener, service: Service) -> None:
    listener.page.evaluate(LISTEN, [f"{service.url}/v1/stream?token=nonsense", TYPES])
    (error,) = listener.wait("error")
    assert error["state"] == 2
    assert len(listener.requests) == 1


@EITHER
def test_it_comes_back_with_its_last_event_id_and_has_missed_nothing(
    context: BrowserContext, restless: Service
) -> None:
    listener = Listener(context, restless)
    listener.listen(f"?token={subscriber_token('ann')}")
    sent = 0
    while len(listener.requests) < 4:  # three cuts, and messages before, in and after each
        sent += 1
        listener.publish(f"Number {sent}")
        listener.page.wait_for_timeout(150)
    listener.publish("The last")
    listener.page.wait_for_function("seen.some(({ data }) => data?.subject === 'The last')")
    assert subjects(listener.wait("message")) == [*(f"Number {n}" for n in range(1, sent + 1)), "The last"]
    assert listener.wait("bye")[0]["data"]["reason"] == "rotate"
    ids = [request.all_headers().get("last-event-id") for request in listener.requests]
    assert ids[0] is None
    assert all(ids[1:])
    assert all(hello["data"]["recovered"] for hello in listener.wait("hello"))
    assert listener.page.evaluate("seen.filter(({ type }) => type === 'reset').length") == 0


@EITHER
def test_it_survives_a_restart_of_the_service(context: BrowserContext) -> None:
    with running(Service()) as first:
        listener = Listener(context, first)
        listener.listen(f"?token={subscriber_token('ann')}")
        listener.publish("Before")
        listener.wait("message")
        first.stop()
        listener.wait("error")
        with running(Service(port=first.port)):
            listener.wait("hello", 2)
            # The embedded broker began a new epoch: it says so instead of leaving a silent hole.
            listener.wait("reset")
            listener.publish("After")
            assert subjects(listener.wait("message", 2)) == ["Before", "After"]
