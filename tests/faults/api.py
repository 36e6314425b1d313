"""Calls to the service, light enough for hundreds of pages on one event loop."""

from __future__ import annotations

import json
from typing import Any, Self

from notifier.load.connection import Address, Answer
from notifier.load.publisher import Calls
from tests.support import bearer

CONNECTIONS = 1000
"""More than there are callers: none waits for another."""


class Api:
    """`async with Api(url) as api:` closes its connections."""

    def __init__(self, url: str) -> None:
        self._address = Address(url)
        self._calls = Calls(self._address, connections=CONNECTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._calls.__aexit__()

    async def call(
        self, method: str, path: str, token: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer | None:
        """None if the call is to be repeated."""
        text = b"" if body is None else json.dumps(body).encode()
        try:
            answer = await self._calls.send(
                self._address.request(method, path, {**bearer(token), **(headers or {})}, text)
            )
        except OSError:  # and TimeoutError
            return None
        return None if answer.status in (429, 503) else answer


def value_of(answer: Answer) -> Any:
    """The value that a call was answered with."""
    assert answer.status == 200, (answer.status, answer.body)
    return json.loads(answer.body)
