"""A user of the service and the user's streams, over real HTTP."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import httpx
from httpx_sse import EventSource, ServerSentEvent

from notifier.api.stream_events import STREAM_EVENTS
from tests.api.event_schemas import check_event
from tests.support import Service, bearer, subscriber_token

PROBLEM = "application/problem+json"
ANSWERS_S = 1.0
"""How long a worker of the service waits for the others' part of an answer."""


def unique(word: str = "user") -> str:
    """A name that no other test uses."""
    return f"{word}-{uuid.uuid4().hex[:12]}"


def calling(service: Service, credential: str | None = None) -> httpx.Client:
    """A client of the service. `verify`: loading the machine's certificates takes time, and plain HTTP needs none."""
    headers = {} if credential is None else bearer(credential)
    return httpx.Client(base_url=service.url, headers=headers, timeout=10, verify=False)


def complete(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """An answer with the part of every worker: that of one which does not answer within a second is left out."""
    for _ in range(20):
        began, answer = time.monotonic(), ask()
        if time.monotonic() - began < ANSWERS_S:
            return answer
    raise AssertionError(f"no answer of all workers: {answer.text}")


def data_of(event: ServerSentEvent) -> Any:
    return json.loads(event.data)


def problem_of(response: httpx.Response, status: int, field: str | None = None) -> dict[str, Any]:
    """The problem+json (RFC 9457) of a response, which must have this status, and this field if one is given."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == PROBLEM
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    if field is not None:
        assert problem["field"] == field, problem
        assert field in problem["detail"]
    return problem


def checked(event: ServerSentEvent) -> ServerSentEvent:
    """The same event, which must be as the service's JSON Schema says. Events of publishers have no schema."""
    if event.event in STREAM_EVENTS:
        check_event(event.event, data_of(event))
    return event


class Listening:
    """One open stream, read event by event, each checked by its JSON Schema. Pings are skipped, since they come at any
    time."""

    def __init__(
        self,
        service: Service,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        query: Sequence[tuple[str, str]] = (),
        address: str = "127.0.0.1",
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._for_turbo = ("format", "turbo") in query
        self._client = httpx.Client(
            base_url=service.url, timeout=10, transport=httpx.HTTPTransport(verify=False, local_address=address)
        )
        self._request = self._client.build_request(
            "GET", "/v1/stream", headers=list(dict(headers).items() if isinstance(headers, Mapping) else headers),
            params=list(query),
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._stack.enter_context(self._client)
        self.response = self._client.send(self._request, stream=True)
        self._stack.callback(self.response.close)
        received = EventSource(self.response).iter_sse() if self.response.status_code == 200 else iter(())
        # For Turbo, `message` has what the publisher gave as text.
        self._events = received if self._for_turbo else map(checked, received)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def next(self, name: str | None = None) -> ServerSentEvent:
        """The next event except pings; it must have this name if one is given."""
        event = next(event for event in self._events if event.event != "ping")
        assert name is None or event.event == name, event
        return event

    def until(self, name: str) -> list[ServerSentEvent]:
        """The next events, up to and including the first of this name."""
        events = [self.next()]
        while events[-1].event != name:
            events.append(self.next())
        return events

    def rest(self) -> list[ServerSentEvent]:
        """All further events until the service ends the stream."""
        return [event for event in self._events if event.event != "ping"]

    def ping(self) -> ServerSentEvent:
        return next(event for event in self._events if event.event == "ping")


class User:
    """A user with a token: calls and streams."""

    def __init__(self, service: Service, name: str, **claims: Any) -> None:
        self.service = service
        self.name = name
        self.token = subscriber_token(name, **claims)
        self.client = calling(service, self.token)

    @property
    def channel(self) -> str:
        return f"user:{self.name}"

    def inbox(self, **params: Any) -> Any:
        return self._got("/v1/inbox", params)

    def messages(self) -> list[Any]:
        return list(self.inbox()["messages"])

    def unread(self) -> int:
        return int(self._got("/v1/inbox/unread", {})["unread"])

    def tasks(self) -> list[Any]:
        return list(self._got("/v1/tasks", {})["tasks"])

    def _got(self, path: str, params: Mapping[str, Any]) -> Any:
        response = self.client.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def listen(self, *, after: str | None = None, query: Sequence[tuple[str, str]] = ()) -> Listening:
        cursor = [] if after is None else [("Last-Event-ID", after)]
        return Listening(self.service, [("Authorization", f"Bearer {self.token}"), *cursor], query)

    @contextlib.contextmanager
    def sees_no_change(self) -> Iterator[None]:
        """Assert that history, cursor, unread count and tasks are the same after the block as before."""
        before = (self.inbox(limit=100), self.tasks())
        yield
        assert (self.inbox(limit=100), self.tasks()) == before


def send(client: httpx.Client, *to: User | str, subject: str = "Test") -> str:
    """Send a message. Returns its id."""
    channels = [recipient.channel if isinstance(recipient, User) else recipient for recipient in to]
    response = client.post("/v1/messages", json={"to": channels, "subject": subject})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def mark(user: User, *ids: str) -> int:
    """Mark messages as read; without ids, all. Returns the number of unread messages left."""
    response = user.client.post("/v1/inbox/read", json={"ids": list(ids)} if ids else {"all": True})
    assert response.status_code == 200, response.text
    return int(response.json()["unread"])


PING = b"event: ping\ndata: {}\n\n"


def publish(client: httpx.Client, *to: User | str, **fields: Any) -> dict[str, Any]:
    """Publish a message, or an event if a `type` is given."""
    channels = [recipient.channel if isinstance(recipient, User) else recipient for recipient in to]
    path, body = ("/v1/events", {}) if "type" in fields else ("/v1/messages", {"subject": "Test"})
    response = client.post(path, json={"to": channels, **body, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def raw_stream(service: Service, user: User, *, until: bytes, act: Callable[[], object], query: str = "") -> bytes:
    """The bytes of a stream from its start through the first `until` of hello or after it, without pings; `act` is
    called after hello."""
    received, acted = b"", False
    with calling(service, user.token) as client, client.stream("GET", f"/v1/stream{query}") as response:
        for part in response.iter_raw():
            received += part
            if b"event: hello" in received and not acted:
                acted = True
                act()
            if until in received.partition(b"event: hello")[2] and received.endswith(b"\n\n"):
                return received if until == PING else received.replace(PING, b"")
    raise AssertionError(f"{until!r} was not received: {received!r}")


def ids_replayed(stream: Listening, count: int) -> list[str]:
    hello = data_of(stream.next("hello"))
    assert (hello["recovered"], hello["replayed"]) == (True, count)
    return [stream.next("message").id for _ in range(count)]
