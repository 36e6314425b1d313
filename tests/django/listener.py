"""A user's open stream of a real service, read by a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, connect_sse

from tests.support import Service, bearer, subscriber_token, wait_for


class Listener:
    """A user's open stream, read by a thread."""

    def __init__(self, service: Service, user: object, **claims: Any) -> None:
        self.events: list[ServerSentEvent] = []
        self._values: dict[int, Any] = {}
        """Parsed data of events, by their index: loops that wait ask for it again and again."""
        self._client = httpx.Client(headers=bearer(subscriber_token(str(user), **claims)), timeout=30)
        self._url = f"{service.url}/v1/stream"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        wait_for(lambda: self.events, what="hello")

    def _listen(self) -> None:
        with connect_sse(self._client, "GET", self._url) as source:
            self._response = source.response
            for event in source.iter_sse():
                self.events.append(event)
                if event.event == "bye":
                    return

    def data(self, name: str) -> list[Any]:
        return [self._value(n) for n, event in enumerate(self.events) if event.event == name]

    def _value(self, n: int) -> Any:
        if n not in self._values:
            self._values[n] = self.events[n].json()
        return self._values[n]

    def wait(self, name: str, count: int = 1) -> list[Any]:
        wait_for(lambda: len(self.data(name)) >= count, what=f"{count} {name} events")
        return self.data(name)

    def close(self, service: Service, user: object) -> None:
        with service.client("test-admin-0123456789abcdef") as admin:
            admin.post(f"/v1/users/{user}/disconnect").raise_for_status()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._client.close()


@contextmanager
def listening(service: Service, user: object, **claims: Any) -> Iterator[Listener]:
    listener = Listener(service, user, **claims)
    try:
        yield listener
    finally:
        listener.close(service, user)
