"""Publishes the events of a run at its rate, each under a key, and repeats what is refused for a time.

Must not know: who hears the events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import Final

from notifier.load.connection import Address, Answer, Connection
from notifier.load.plan import EVENT, Plan
from notifier.load.tally import Tally

CONNECTIONS: Final = 32
AT_ONCE: Final = 2000
"""Events that wait for their answer. With more, the next ones are late, and their latency has the delay."""
GIVE_UP_S: Final = 15.0
PASSING: Final = frozenset({429, 500, 502, 503, 504})


class Calls:
    """A pool of connections. `async with Calls(address) as calls:` closes them."""

    def __init__(self, address: Address, *, connections: int = CONNECTIONS) -> None:
        self._address = address
        self._idle: list[Connection] = []
        self._slots = asyncio.Semaphore(connections)

    async def __aenter__(self) -> Calls:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            await connection.ended()

    async def send(self, request: bytes) -> Answer:
        """Raises `OSError`, and `TimeoutError`."""
        async with self._slots:
            connection = self._idle.pop() if self._idle else Connection()
            try:
                if not connection.connected:
                    connection = Connection()
                    await self._address.open(connection)
                answer = await connection.send(request)
            except BaseException:
                connection.close()
                raise
            if connection.connected:
                self._idle.append(connection)
            return answer


class Publisher:
    """The events of a run."""

    def __init__(self, plan: Plan, address: Address, tally: Tally, calls: Calls) -> None:
        self._plan = plan
        self._address = address
        self._tally = tally
        self._calls = calls
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.sent = 0
        self.behind_s = 0.0
        """The longest that this program woke up late: it, or this machine, was busy."""
        self.repeated: Counter[str] = Counter()
        """Calls that were repeated, by the reason."""
        self.refused: Counter[str] = Counter()
        """Events that were given up, by the reason."""

    async def publish(self, stop: asyncio.Event) -> None:
        """Publish every event when it is due, until `stop`; then wait for the answers."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            for event in range(self._plan.events):
                due = start + event / self._plan.events_per_s
                if (wait_s := due - loop.time()) > 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), wait_s)
                    self.behind_s = max(self.behind_s, loop.time() - due)
                await self._slots.acquire()
                if stop.is_set():
                    return
                self._tally.due[event] = due
                self.sent += 1
                group.create_task(self._publish(event))

    async def _publish(self, event: int) -> None:
        try:
            reason = await self._accepted(event)
        finally:
            self._slots.release()
        if reason:
            self.refused[reason] += 1
        else:
            self._tally.accept(event)

    async def _accepted(self, event: int) -> str:
        """The reason why the service did not take it, or an empty string."""
        plan, loop = self._plan, asyncio.get_running_loop()
        body = {"to": [plan.channel(event)], "type": EVENT, "data": {"run": plan.run, "n": event}}
        headers = {"Authorization": f"Bearer {plan.key}", "Idempotency-Key": f"{plan.run}-{event}"}
        request = self._address.request("POST", "/v1/events", headers, json.dumps(body).encode())
        deadline, pause_s = loop.time() + GIVE_UP_S, 0.1
        while True:
            try:
                answer = await self._calls.send(request)
                if answer.status == 200:
                    return ""
                reason, wait_s = f"status {answer.status}", answer.wait_s(pause_s)
                if answer.status not in PASSING:
                    return f"{reason}: {answer.body[:200].decode(errors='replace')}"
            except OSError as exc:  # and TimeoutError
                reason, wait_s = type(exc).__name__, pause_s
            if loop.time() + wait_s > deadline:
                return reason
            self.repeated[reason] += 1
            pause_s = min(2.0, pause_s * 2)
            await asyncio.sleep(wait_s)
