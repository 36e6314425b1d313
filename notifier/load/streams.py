"""The streams of a run: opened in portions, read, and opened again from their cursor, as browsers do.

Must not know: how events are published.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Final

from notifier.event import parse_cursor
from notifier.load.connection import Address, Connection
from notifier.load.plan import EVENT, Plan
from notifier.load.tally import Tally

AT_ONCE: Final = 50
"""Streams that are being opened at the same time."""
ATTEMPTS: Final = 4
"""Attempts to open a stream before the first event, after which it counts as refused."""
MAX_WAIT_S: Final = 10.0
_EVENT: Final = EVENT.encode()


class Streams:
    """Every stream of a run. `async with Streams(...) as streams:` ends them."""

    def __init__(self, plan: Plan, address: Address, tally: Tally) -> None:
        self._plan = plan
        self._address = address
        self._tally = tally
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []
        self.open = 0
        self.settled = 0
        """Streams that are open for the first time, or refused."""
        self.refused: Counter[str] = Counter()
        """Streams that did not open, by the reason."""
        self.ends: Counter[str] = Counter()
        """Ends of open streams, by the reason."""
        self.resets = 0

    async def __aenter__(self) -> Streams:
        self._tasks = [asyncio.create_task(self._keep(number)) for number in range(self._plan.streams)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        # An unexpected error in a stream's task ends the run.
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _keep(self, number: int) -> None:
        """Keep one stream open. Returns when it is refused before its first `hello`."""
        heard = self._tally.heard[number]
        cursor, failures = b"", 0
        while True:
            stream = _Stream(self, number, cursor)
            try:
                async with self._slots:
                    await stream.start()
                if not heard.opened:
                    heard.opened = True
                    self.settled += 1
                failures = 0
                await stream.connection.closed
            except OSError as exc:  # and TimeoutError
                failures += 1
                stream.reason = stream.reason or str(exc) or type(exc).__name__
            finally:
                stream.end()
                await stream.connection.ended()
            cursor = stream.cursor
            if heard.opened:
                self.ends[stream.reason or "cut"] += 1
            elif failures >= ATTEMPTS or stream.final:
                self.refused[stream.reason] += 1
                self.settled += 1
                return
            backoff_s = random.uniform(0.1, 0.2) * 2 ** min(failures, 5)
            await asyncio.sleep(min(MAX_WAIT_S, stream.wait_s if stream.wait_s is not None else backoff_s))


class _Stream:
    """One attempt at a stream."""

    def __init__(self, streams: Streams, number: int, cursor: bytes) -> None:
        self._streams = streams
        self._number = number
        self._rest = b""
        self._live = asyncio.get_running_loop().create_future()
        self._counted = False
        self.cursor = cursor
        self.reason = ""
        self.final = False
        """The answer will be the same again."""
        self.wait_s: float | None = None
        """How long the service asks to wait."""
        self.connection = Connection(self._read)

    async def start(self) -> None:
        """Returns when the stream is live. Raises `OSError`, and `TimeoutError` after ten seconds."""
        plan, address = self._streams._plan, self._streams._address
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {plan.tokens[self._number % plan.users]}"}
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor.decode()
        await address.open(self.connection)
        answer = await self.connection.send(address.request("GET", "/v1/stream", headers))
        if answer.status != 200:
            self.reason = f"status {answer.status}"
            self.wait_s = answer.wait_s(1.0) if answer.status in (429, 503) else None
            self.final = 400 <= answer.status < 500 and answer.status != 429
            raise ConnectionError(self.reason)
        async with asyncio.timeout(MAX_WAIT_S):
            await asyncio.wait([self._live, self.connection.closed], return_when=asyncio.FIRST_COMPLETED)
        if not self._live.done():
            raise ConnectionError(self.reason or "the stream ended before its first event")
        self._counted = True
        self._streams.open += 1

    def end(self) -> None:
        if self._counted:
            self._counted = False
            self._streams.open -= 1

    def _read(self, piece: bytes) -> None:
        *frames, self._rest = (self._rest + piece).split(b"\n\n")
        now = asyncio.get_running_loop().time()
        for frame in frames:
            self._take(frame, now)

    def _take(self, frame: bytes, now: float) -> None:
        event = data = b""
        cursor = None
        for line in frame.split(b"\n"):
            name, _, value = line.partition(b": ")
            if name == b"id":
                cursor = value
            elif name == b"event":
                event = value
            elif name == b"data":
                data = value
        if event == _EVENT:
            members = json.loads(data)
            if members["run"] == self._streams._plan.run:
                place = parse_cursor(cursor.decode()) if cursor else None
                self._streams._tally.add(self._number, members["n"], place, now)
        elif event == b"bye":
            members = json.loads(data)
            self.reason = f"bye {members['reason']}"
            self.wait_s = members.get("retry_ms", 1000) / 1000
            # A limit does not change while the run's own streams are what reaches it.
            self.final = members["reason"] == "evicted"
            self.connection.close()
        elif event == b"reset":
            self._streams.resets += self._streams._tally.heard[self._number].opened
        if event in (b"hello", b"reset", b"degraded") and not self._live.done():
            self._live.set_result(None)
        if cursor:
            self.cursor = cursor
