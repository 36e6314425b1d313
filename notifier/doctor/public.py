"""The public address: calls and streams as a browser makes them, with the time that each takes.

Must not know: what an answer means for the promises.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from notifier import address
from notifier.check.result import CannotAsk, Result, Verdict
from notifier.doctor import fixes

TIMEOUT_S: Final = 10.0
EVENT: Final = "notifier.doctor"
"""The type of the events that are published."""
BYE: Final = "bye"


class Silent(Exception):
    """Nothing came within the time."""


class Cut(Exception):
    """The stream ended without `bye`."""


class Refused(Cut):
    """The stream did not open: another answer than 200."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is examined, and by whom."""

    url: str
    token: str = field(repr=False)
    user: str
    """The `sub` of the token: the events are published to this user."""
    key: str = field(repr=False)
    origin: str = ""
    """The origin of the pages, if it differs from that of the URL."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it came."""

    name: str
    id: str
    data: Any


class Listening:
    """An open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.headers = response.headers
        self._lines = response.iter_lines()

    def next(self) -> Event:
        """The next event. Raises `Silent`, `Cut`."""
        fields: dict[str, str] = {}
        try:
            for line in self._lines:
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif "event" in fields:
                    return Event(fields["event"], fields.get("id", ""), _json(fields.get("data", "")))
                else:
                    fields = {}
        except httpx.ReadTimeout:
            raise Silent from None
        except httpx.HTTPError as exc:
            raise Cut(str(exc)) from None
        raise Cut("the connection ended")

    def until(self, *names: str, within_s: float) -> Event:
        """The next event of one of these names, or a `bye`. Raises `Silent`, `Cut`."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if (event := self.next()).name in (*names, BYE):
                return event
        raise Silent


class Public:
    """The service behind its public address."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.url = target.url.rstrip("/")
        self.run = uuid.uuid4().hex
        """In the data of each event, so that two runs at once do not take each other's."""
        self.tls = httpx.create_ssl_context()
        self._client = httpx.Client(
            verify=self.tls,
            timeout=TIMEOUT_S,
            headers={"Accept-Encoding": "identity"},
            # Each call has its own connection: a proxy may close an idle one just when the next call begins.
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self.head: httpx.Headers = httpx.Headers()
        """The headers of an answer at the stream's path."""

    def close(self) -> None:
        self._client.close()

    def result(self, name: str, verdict: Verdict, seen: str, fix: str = "") -> Result:
        return Result(urlsplit(self.url).netloc, name, verdict, seen, fix)

    def lines_for(self, name: str) -> str:
        """The configuration that mends a check, for the proxy that answers, or for each."""
        return fixes.lines(name, self.head)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Raises `CannotAsk` where nothing answers."""
        try:
            return self._client.request(method, f"{self.url}{path}", **options)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise CannotAsk(f"no answer at {self.url}{path}: {address.reason(exc)}") from None

    def stream_head(self, **headers: str) -> httpx.Response:
        """The answer to HEAD at the stream's path: its headers without a stream, so that no buffer keeps them."""
        return self.call("HEAD", "/v1/stream", headers={"Accept": "text/event-stream", **headers})

    def publish(self, number: int) -> httpx.Response:
        """Publish a durable event that no inbox shows."""
        body = {"to": [f"user:{self.target.user}"], "type": EVENT, "data": {"run": self.run, "n": number}}
        headers = {"Authorization": f"Bearer {self.target.key}", "Idempotency-Key": f"{self.run}-{number}"}
        return self.call("POST", "/v1/events", json=body, headers=headers)

    @contextlib.contextmanager
    def listen(self, silence_s: float, **headers: str) -> Iterator[Listening]:
        """A stream. `silence_s`: after so long without a byte, also before the first, it raises `Silent`."""
        sent = {"Accept": "text/event-stream", "Authorization": f"Bearer {self.target.token}", **headers}
        timeout = httpx.Timeout(TIMEOUT_S, read=silence_s)
        request = self._client.build_request("GET", f"{self.url}/v1/stream", headers=sent, timeout=timeout)
        try:
            response = self._client.send(request, stream=True)
        except httpx.ReadTimeout:
            raise Silent from None
        except httpx.HTTPError as exc:
            raise Cut(str(exc)) from None
        with contextlib.closing(response):
            if response.status_code != 200:
                raise Refused(f"the answer is {response.status_code}")
            yield Listening(response)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
