"""A stream as a plain client reads it, for tests of whole deployments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from tests.support import subscriber_token


class StreamReader:
    """A stream of the service, read line by line."""

    def __init__(
        self, url: str, user: str, *, address: str = "127.0.0.1", query: Mapping[str, str] | None = None, **headers: str
    ) -> None:
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(local_address=address), timeout=httpx.Timeout(10), trust_env=False
        )
        headers["Authorization"] = f"Bearer {subscriber_token(user)}"
        self._response = self._client.stream("GET", f"{url}/v1/stream", params=query, headers=headers)
        self.response = self._response.__enter__()
        self._lines = self.response.iter_lines()

    def next(self, *names: str) -> tuple[str, Any]:
        """The next event of one of these names."""
        name = ""
        for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data" and name in names:
                return name, json.loads(value)
        raise AssertionError(f"the stream ended before any of {names}")

    def close(self) -> None:
        self._response.__exit__(None, None, None)
        self._client.close()
