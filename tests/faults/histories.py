"""Histories of one user and one message, generated from a seed, and the verdict that is right after each step.

What is right, says oracle.py. The service's records are asked only whether it has noticed the end of a connection.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from notifier.rules import iso_ms
from tests.faults.clients import until
from tests.faults.oracle import Between, Fate, now_ms
from tests.faults.visits import Device, Visit, seq_of

HISTORY_SIZE = 128
"""Messages of a channel in the services of these histories (NOTIFIER_HISTORY_SIZE)."""
FILLER_CHARS = 14_000
LIFE_MS = 5000
"""Of a message that expires."""


@dataclass(eq=False, kw_only=True)
class History(Fate):
    """One user, the user's devices, and one message."""

    port: int
    admin: httpx.AsyncClient
    seed: random.Random
    history_size: int = HISTORY_SIZE
    stored_records: Callable[[str], int] | None = None
    """The number of records that the broker has of a user, where histories may kill processes of the service."""
    devices: list[Device] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    key: str = ""
    has_forgotten: bool = False
    """True if the service was restarted on a file: it knows no longer which messages were removed."""
    revive: Callable[[], None] | None = None
    """Start the service again after its only process was killed."""
    _marks: int = 0

    # The publisher's side

    async def call(self, method: str, path: str, **body: Any) -> Any:
        answer = await self.admin.request(method, path, json=body or None)
        assert answer.status_code < 300, (path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def publish(self) -> None:
        group = f"group:{self.user}-group"
        self.channels = list(
            self.seed.choice([[f"user:{self.user}"], [group], [f"user:{self.user}", group], ["all"], ["group:others"]])
        )
        more: dict[str, Any] = {}
        if self.seed.random() < 0.12 and self.channels[0] != f"user:{self.user}":
            more["except"], self.is_excluded = [f"user:{self.user}"], True
        live = [visit for visit in self.visits if visit.is_open and not visit.is_slow]
        if self.seed.random() < 0.15 and live:
            left_out = self.seed.choice(live)
            more["except_connection"] = left_out.connection
        if self.seed.random() < 0.2:
            self.expires_ms = int(now_ms()) + LIFE_MS
            more["expires_at"] = iso_ms(self.expires_ms)
        if self.seed.random() < 0.2:
            self.key = more["key"] = f"{self.user}-key"
        body = {"to": self.channels, "subject": "s", "text": "the message", **more}
        answer = await self.call("POST", "/v1/messages", **body)
        self.message, self.seq, self.visits_before = answer["id"], seq_of(answer["cursor"]), len(self.visits)
        if "except_connection" in more:
            left_out.skips.add(self.message)
        self.steps.append(f"publish {self.message} at {answer['cursor']} to {self.channels} {sorted(more)}")
        await self.fence()

    async def fence(self) -> None:
        """Return when every connection that reads has what was published so far."""
        self._marks += 1
        mark = f"{self._marks}"
        body = {"to": [f"user:{self.user}"], "type": "fence", "data": {"mark": mark}, "durable": False}
        await self.call("POST", "/v1/events", **body)
        reading = [visit for visit in self.visits if visit.is_open and not visit.is_slow]
        await until(lambda: all(mark in each.marks or not each.is_open for each in reading), what="the fence")

    async def fill(self, count: int, kind: str, **fields: Any) -> None:
        """Publish so many other messages or events to the user."""
        items = [{"kind": kind, "to": [f"user:{self.user}"], **fields} for _ in range(count)]
        answer = await self.admin.post("/v1/batch", json=items)
        assert answer.status_code == 200, answer.text

    # Steps

    async def connect(self, device: Device, *, start: str | None = None, form: str = "", slow: bool = False) -> Visit:
        visit = Visit(device, device.cursor if start is None else start, form)
        self.visits.append(visit)
        self.steps.append(f"{device.name} connects with {visit.start or 'no cursor'} {form}{' slow' if slow else ''}")
        asked_ms = now_ms()
        if form == "poll":
            await visit.poll(self.admin)
        else:
            await visit.open(self.port, slow=slow)
        if visit.reset and self.message:
            self.reset_at[visit] = Between(asked_ms, now_ms())
        self.steps.append(f"  it has {visit.received.get(self.message)}, reset {visit.reset or None}")
        return visit

    async def slow_down(self, visit: Visit) -> None:
        """Let a connection read nothing until the service has stopped to write to it."""
        self.steps.append(f"{visit.device.name} reads no more")
        visit.stop_reading()
        before: set[str] = set()
        for _ in range(40):
            await self.fill(20, "event", type="filler", data={"text": "x" * FILLER_CHARS})
            await self.fence()
            places = {each["to"] for each in await self.records() if not each["closed_at"]}
            if places & before:
                return  # one of them has not moved
            before = places
        raise AssertionError("the kernel took everything")

    async def trim(self) -> None:
        self.steps.append("other messages fill the history of the user")
        await self.fill(self.history_size, "message", subject="filler")

    async def read(self) -> None:
        device = self.seed.choice(self.devices)
        headers = device.headers
        if self.seed.random() < 0.7:
            answer = await self.admin.post("/v1/inbox/read", json={"ids": [self.message]}, headers=headers)
        else:
            answer = await self.admin.delete(f"/v1/inbox/{self.message}", headers=headers)
        hears = any(self.hears(device, channel) for channel in self.channels)
        has_it = hears and not self.is_excluded and not self.is_expired and not self.removed
        assert answer.status_code < 300 or not has_it or self.is_read, answer.text
        self.is_read = self.is_read or has_it
        self.steps.append(f"{device.name} reads or deletes it in the inbox: {self.is_read}")

    async def expire(self) -> None:
        self.steps.append("it expires")
        await until(lambda: now_ms() > self.expires_ms + 5, what="the expiry")

    async def retract(self) -> None:
        self.steps.append("it is retracted")
        asked_ms = now_ms()
        await self.call("DELETE", f"/v1/messages/{self.message}", to=self.channels)
        self.removed, self.removed_at = "retracted", Between(asked_ms, now_ms())

    async def replace(self) -> None:
        self.steps.append("it is replaced")
        asked_ms = now_ms()
        await self.call("POST", "/v1/messages", to=self.channels, subject="newer", key=self.key)
        self.removed, self.removed_at = "replaced", Between(asked_ms, now_ms())
        await self.fence()

    async def correct(self) -> None:
        self.steps.append("it is corrected")
        await self.call("PATCH", f"/v1/messages/{self.message}", to=self.channels, text=f"v{self.seed.random()}")
        await self.fence()

    async def revoke(self) -> None:
        self.steps.append("the user is disconnected")
        await self.call("POST", f"/v1/users/{self.user}/disconnect")
        await until(lambda: not any(visit.is_open and not visit.is_slow for visit in self.visits), what="the byes")
        for visit in self.visits:
            if visit.is_open:
                await visit.cut()

    async def kill(self, visit: Visit) -> None:
        """Kill the process that has a connection."""
        self.steps.append(f"the process of {visit.device.name} is killed")
        await self.settled()
        # A record is written up to a second later; one that was not written is lost with its process.
        assert self.stored_records is not None
        await until(lambda: self.stored_records(self.user) >= len(self.visits), what="the records in the broker")
        record = await self._record_of(visit)
        os.kill(int(record["process"].rpartition(":")[2]), signal.SIGKILL)
        if self.revive is not None:
            await asyncio.to_thread(self.revive)
            self.has_forgotten = True
        for each in self.visits:
            if each.is_slow and each.is_open:  # it reads nothing, so it does not see that end
                await self._see_end(each)
        await until(lambda: not visit.is_open, what="the end of its stream")

    async def _see_end(self, visit: Visit) -> None:
        """Let a slow connection see whether its process was killed."""
        record = await self._record_of(visit)
        if record["closed_why"] == "process_ended":
            visit.ended = "killed"
            await visit.cut()

    # Compare

    async def records(self) -> list[dict[str, Any]]:
        answer = await self.admin.get(f"/v1/users/{self.user}/connections")
        assert answer.status_code == 200, answer.text
        listed: list[dict[str, Any]] = answer.json()["connections"]
        return listed

    async def _record_of(self, visit: Visit) -> dict[str, Any]:
        """The record of a stream."""
        streams = [each for each in self.visits if each.form != "poll"]
        records = [each for each in await self.records() if not each["polls"]]
        record = records[len(streams) - 1 - streams.index(visit)]
        assert record["user_agent"] == visit.device.name, record
        return record

    async def settled(self) -> None:
        """Return when the service has noticed every end."""
        deadline = time.monotonic() + 20
        while True:
            records = await self.records()
            if any(each["closed_why"] == "slow" for each in records):
                for visit in self.visits:
                    if visit.is_slow:
                        await visit.cut()  # it reads nothing, so it did not see that end
            is_open = sum(not each["closed_at"] and not each["closed_why"] for each in records)
            if sum(each["polls"] or 1 for each in records) == len(self.visits) and is_open == sum(
                visit.is_open for visit in self.visits
            ):
                return
            assert time.monotonic() < deadline, f"records: {records}"
            await asyncio.sleep(0.05)

    async def compare(self) -> None:
        """Raise AssertionError if `trace` answers anything but what is right."""
        await self.settled()
        expected = self.expected()
        query = {"user": self.user, "to": [name for name in self.channels if name != f"user:{self.user}"]}
        for _ in range(3):
            began = time.monotonic()
            answer = await self.admin.get(f"/v1/messages/{self.message}/trace", params=query)
            if time.monotonic() - began < 1:  # else the part of another process may have been left out
                break
        if self.removed and self.has_forgotten and answer.status_code == 404:
            return
        expected += self.expected()  # it may have expired meanwhile
        if answer.status_code != 200:
            raise AssertionError(f"expected {expected}, the answer is {answer.text}")
        trace = answer.json()
        if not any(each.is_met(trace) for each in expected):
            raise AssertionError(f"expected {expected}\nthe answer is {trace}")
        self.steps.append(f"  verdict {trace['verdict']} {trace['reason'] or ''}")

    def told(self) -> str:
        return "\n".join([f"history of {self.user}:", *self.steps])
