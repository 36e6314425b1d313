"""Histories of one user and one message, generated from a seed, and the verdict that is right after each step.

The oracle knows what the publisher asked for and what the clients received (visits.py). It reads nothing of the
service's records; those are asked only whether the service has noticed the end of a connection.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from notifier.polls import MAX_PAUSE_MS
from notifier.rules import iso_ms
from tests.faults.clients import until
from tests.faults.visits import POLLED, Device, Visit, seq_of

HISTORY_SIZE = 128
"""Messages of a channel in the services of these histories (NOTIFIER_HISTORY_SIZE)."""
FILLER_CHARS = 14_000
LIFE_MS = 5000
"""Of a message that expires."""
AFTER = ("written", "replayed")


@dataclass
class Expected:
    """What `trace` has to answer: the verdict, and the reasons of which any is right."""

    verdict: str
    """`POLLED`: either of `AFTER`."""
    reasons: set[str]
    is_unknowable: bool = False
    """A client that received it has not come back since its process was killed: `process_ended` is right, too."""

    def is_met(self, trace: dict[str, Any]) -> bool:
        if self.is_unknowable and trace["reason"] == "process_ended":
            return True
        verdicts = AFTER if self.verdict == POLLED else (self.verdict,)
        return trace["verdict"] in verdicts and (trace["reason"] or "") in self.reasons


@dataclass(eq=False)
class History:
    """One user, the user's devices, and one message."""

    port: int
    admin: httpx.AsyncClient
    seed: random.Random
    user: str
    history_size: int = HISTORY_SIZE
    stored_records: Callable[[str], int] | None = None
    """The number of records that the broker has of a user, where histories may kill processes of the service."""
    devices: list[Device] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    message: str = ""
    visits_before: int = 0
    """Connections that opened before the message was sent."""
    channels: list[str] = field(default_factory=list)
    expires_ms: int = 0
    expired_first: bool = False
    is_excluded: bool = False
    is_read: bool = False
    removed: str = ""
    removed_ms: float = 0
    key: str = ""
    reset_at: dict[Visit, float] = field(default_factory=dict)
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
            self.expires_ms = int(time.time() * 1000) + LIFE_MS
            more["expires_at"] = iso_ms(self.expires_ms)
        if self.seed.random() < 0.2:
            self.key = more["key"] = f"{self.user}-key"
        body = {"to": self.channels, "subject": "s", "text": "the message", **more}
        answer = await self.call("POST", "/v1/messages", **body)
        self.message, self.visits_before = answer["id"], len(self.visits)
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
        if form == "poll":
            await visit.poll(self.admin)
        else:
            await visit.open(self.port, slow=slow)
        if visit.reset and self.message:
            self.reset_at[visit] = time.time() * 1000
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
        await until(lambda: time.time() * 1000 > self.expires_ms + 5, what="the expiry")

    async def retract(self) -> None:
        self.steps.append("it is retracted")
        await self.call("DELETE", f"/v1/messages/{self.message}", to=self.channels)
        self.removed, self.removed_ms = "retracted", time.time() * 1000

    async def replace(self) -> None:
        self.steps.append("it is replaced")
        await self.call("POST", "/v1/messages", to=self.channels, subject="newer", key=self.key)
        self.removed, self.removed_ms = "replaced", time.time() * 1000
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

    # What is right

    def hears(self, device: Device, channel: str) -> bool:
        groups = [f"group:{name}" for name in device.groups]
        return channel in ("all", f"user:{self.user}", *groups)

    @property
    def is_expired(self) -> bool:
        return 0 < self.expires_ms <= time.time() * 1000

    def expected(self) -> Expected:
        is_open = [visit for visit in self.visits if visit.is_open]
        is_heard = [each for each in self.visits if any(self.hears(each.device, name) for name in self.channels)]
        if not is_heard and not {"all", f"user:{self.user}"} & set(self.channels):
            return Expected("not_a_recipient", {""})
        if self.is_excluded:
            return Expected("excluded", {""})
        if self.is_read:
            return Expected("read", {""})
        have = [visit for visit in self.visits if self.message in visit.received]
        if have:
            last = have[-1]
            later = self.visits[self.visits.index(last) + 1 :]
            if last.received[self.message] == "corrected":
                return Expected("written", {"unconfirmed"}, is_unknowable=all(map(self._is_forgotten, have)))
            seq = last.seqs[self.message]
            confirmed = any(each.device is last.device and seq_of(each.start) >= seq for each in later)
            reasons = {"acknowledged" if confirmed else "unconfirmed"}
            if any(each.device is last.device and (each.reset or not each.start) for each in later):
                reasons.add("unconfirmed")  # a page that began anew may have made the later cursor
            return Expected(last.received[self.message], reasons, is_unknowable=all(map(self._is_forgotten, have)))
        ends = [self.expires_ms] if self.is_expired else []
        if self.removed:
            ends.append(self.removed_ms)
        resets = [at for visit, at in self.reset_at.items() if visit in is_heard and visit.form != "turbo"]
        if resets and min(resets) < min(ends, default=math.inf):
            return Expected("missed_reset", {""})
        if ends:
            was_killed = any(visit.ended == "killed" for visit in is_heard)
            reasons = {"process_ended"} if was_killed else set()
            return Expected("expired", reasons | {self.removed if min(ends) == self.removed_ms else ""})
        may_have_it = any(visit.is_slow or visit.ended == "killed" for visit in is_heard)
        if not may_have_it and any(self.message in visit.skips for visit in is_heard if visit.form != "turbo"):
            return Expected("excluded", {""})
        return Expected("waiting", self._reasons(is_open))

    def _is_forgotten(self, visit: Visit) -> bool:
        """True if the service cannot know how far a connection came."""
        later = self.visits[self.visits.index(visit) + 1 :]
        has_returned = any(each.device is visit.device and each.start for each in later)
        return visit.ended == "killed" and not has_returned

    def _reasons(self, is_open: list[Visit]) -> set[str]:
        slow = [visit for visit in self.visits if visit.is_slow]
        reasons = {"unsent"} if any(not visit.is_open for visit in slow) else set()
        if any(visit.ended == "killed" for visit in self.visits):
            reasons.add("process_ended")
        if any(visit.is_open for visit in slow):
            reasons.add("behind")
        if any(visit.form != "turbo" and not visit.is_slow for visit in is_open):
            reasons.add("in_inbox")
        elif any(visit.form == "turbo" for visit in is_open):
            reasons.add("without_messages")
        polled = [visit for visit in self.visits if visit.form == "poll"]
        if not is_open and all(time.time() - visit.answered_at > MAX_PAUSE_MS / 2000 for visit in polled):
            reasons.add("offline")
        if any(map(self._hears_it, polled)):
            reasons.add("between_polls")
        if any(visit not in self.visits[: self.visits_before] or not self._hears_it(visit) for visit in polled):
            reasons.add("in_inbox")  # unless its answer was the beginning of a long replay
        return reasons

    def _hears_it(self, visit: Visit) -> bool:
        return any(self.hears(visit.device, name) for name in self.channels)

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
        before = self.expected()
        query = {"user": self.user, "to": [name for name in self.channels if name != f"user:{self.user}"]}
        answer = await self.admin.get(f"/v1/messages/{self.message}/trace", params=query)
        if self.removed and self.has_forgotten and answer.status_code == 404:
            return
        expected = self.expected()
        if answer.status_code != 200:
            raise AssertionError(f"expected {expected}, the answer is {answer.text}")
        trace = answer.json()
        # It may expire meanwhile.
        if not any(each.is_met(trace) for each in (before, expected)):
            raise AssertionError(f"expected {expected}\nthe answer is {trace}")
        self.steps.append(f"  verdict {trace['verdict']} {trace['reason'] or ''}")

    def told(self) -> str:
        return "\n".join([f"history of {self.user}:", *self.steps])
