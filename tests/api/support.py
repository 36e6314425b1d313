"""A user of the service and a stream that it listens to, over real HTTP."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import httpx
from httpx_sse import EventSource, ServerSentEvent

from tests.support import Service, bearer, subscriber_token

PROBLEM = "application/problem+json"


def unique(word: str = "user") -> str:
    """A name that no other test uses."""
    return f"{word}-{uuid.uuid4().hex[:12]}"


def calling(service: Service, credential: str | None = None) -> httpx.Client:
    """A client of the service. `verify`: over plain HTTP, reading the machine's certificates would only cost time."""
    headers = {} if credential is None else bearer(credential)
    return httpx.Client(base_url=service.url, headers=headers, timeout=10, verify=False)


def data_of(event: ServerSentEvent) -> Any:
    return json.loads(event.data)


def problem_of(response: httpx.Response, status: int, field: str | None = None) -> dict[str, Any]:
    """The problem+json of an answer with this status, and its field where one is expected (RFC 9457)."""
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


class Listening:
    """One open stream, read event by event. Pings are passed over: they come when they like."""

    def __init__(
        self,
        service: Service,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        query: Sequence[tuple[str, str]] = (),
        address: str = "127.0.0.1",
    ) -> None:
        self._stack = contextlib.ExitStack()
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
        self._events = EventSource(self.response).iter_sse() if self.response.status_code == 200 else iter(())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def next(self, name: str | None = None) -> ServerSentEvent:
        """The next event but pings; it must have this name where one is given."""
        event = next(one for one in self._events if one.event != "ping")
        assert name is None or event.event == name, event
        return event

    def until(self, name: str) -> list[ServerSentEvent]:
        """The next events up to the first of this name, which is the last of them."""
        found = [self.next()]
        while found[-1].event != name:
            found.append(self.next())
        return found

    def rest(self) -> list[ServerSentEvent]:
        """Whatever still comes until the service ends the stream."""
        return [one for one in self._events if one.event != "ping"]

    def ping(self) -> ServerSentEvent:
        return next(one for one in self._events if one.event == "ping")


class User:
    """One user with a token: its calls and its streams."""

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
        """History, cursor, unread count and tasks are afterwards what they were before."""
        before = (self.inbox(limit=100), self.tasks())
        yield
        assert (self.inbox(limit=100), self.tasks()) == before
