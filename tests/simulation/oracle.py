"""What was stored, and what each client must have received: the product's promise as a check of each event.

A client that is at (epoch, seq) has every event of its topics up to there, or was given a reset that covers it. Its
events come in order; each id comes once; no id steps back.
"""

from __future__ import annotations

import bisect
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_LEAD = re.compile(rb"([a-z0-9]+) (\d+) -?\d+ (\S+)(?: [^\n]+)?\n")
_TOKEN = re.compile(rb"#(\d+)#")


def token_text(number: int) -> str:
    """The mark by which a published event is recognised wherever it comes."""
    return f"#{number}#"


def token_of(data: bytes) -> int | None:
    match = _TOKEN.search(data)
    return int(match.group(1)) if match else None


@dataclass(slots=True)
class Stored:
    """An event in the history of a topic."""

    topic: str
    epoch: str
    seq: int
    key: str
    token: int
    is_lost: bool = False
    """Its announcement reached no process: the next one of its topic shows that, and a reset follows."""
    doomed: bool = False
    """Its server was rolled back or replaced: it need not come, if a reset does."""


_seq_of = operator.attrgetter("seq")


class Ledger:
    """Everything that the servers stored, as they announced it."""

    def __init__(self) -> None:
        self.sound: dict[tuple[str, str], list[Stored]] = {}
        """By topic and epoch, in order of seq; without the doomed."""
        self.doomed: list[Stored] = []
        self.doomed_tokens: set[int] = set()
        """Their producers may repeat them: the server has forgotten the idempotency key too."""
        self.tokens: dict[int, set[str]] = {}
        """The topics in which an event is stored, by token."""
        self.acknowledged: set[int] = set()
        self.epochs: dict[str, int] = {}
        """Epochs in the order in which they began."""
        self.doomed_epochs: set[str] = set()
        """Epochs of which a server was rolled back: what is stored in them later is doomed."""

    def began(self, epoch: str) -> None:
        self.epochs.setdefault(epoch, len(self.epochs))

    def announced(self, topic: bytes, payload: bytes, is_lost: bool) -> None:
        lead = _LEAD.match(payload)
        token = token_of(payload)
        if lead is None or token is None or lead.group(2) == b"0":
            return
        key = lead.group(3).decode()
        epoch, seq = lead.group(1).decode(), int(lead.group(2))
        stored = Stored(topic.decode(), epoch, seq, key if key != "-" else "", token, is_lost)
        self.tokens.setdefault(token, set()).add(stored.topic)
        if stored.epoch in self.doomed_epochs:
            self._doom(stored)
        else:
            self.sound.setdefault((stored.topic, stored.epoch), []).append(stored)

    def _doom(self, stored: Stored) -> None:
        stored.doomed = True
        self.doomed_tokens.add(stored.token)
        self.doomed.append(stored)

    def roll_back(self, epoch: str, seq: int) -> None:
        """The events of this epoch after a seq are gone."""
        for (_, of), entries in self.sound.items():
            if of == epoch:
                for stored in [stored for stored in entries if stored.seq > seq]:
                    self._doom(stored)
                entries[:] = [stored for stored in entries if stored.seq <= seq]


@dataclass(slots=True)
class Witness:
    """What one client received, compared with the ledger as it comes."""

    name: str
    topics: tuple[str, ...]
    ledger: Ledger
    report: Callable[[str], None]
    place: tuple[str, int] | None = None
    """The epoch and seq of its last id."""
    start: tuple[str, int] | None = None
    ids: set[tuple[str, int]] = field(default_factory=set)
    tokens: set[int] = field(default_factory=set)
    tokens_of_epoch: set[int] = field(default_factory=set)
    """Those that came since the last reset to another epoch. A producer without an answer publishes an event again, and
    a server that took over with older data stores it once more."""
    keys: set[str] = field(default_factory=set)
    resets: list[tuple[tuple[str, int], tuple[str, int]]] = field(default_factory=list)
    """Where it was, and where it is since the reset."""
    unclear: bool = False
    """Connected anew with a cursor: `hello` has not said if it is complete."""
    passed: list[Stored] = field(default_factory=list)
    """Events whose announcements were lost, that the client is past: a reset must follow."""
    tasks: dict[str, Any] = field(default_factory=dict)
    without_id: set[int] = field(default_factory=set)
    """Events without id that came on the present connection."""

    def connects(self) -> None:
        self.without_id.clear()
        self.order_ends()

    def order_ends(self) -> None:
        """The order that would show a lost announcement, by the next one of its topic, is read anew from the log. Redis
        loses no announcement of a connection that stays open, so the service does not look for these."""
        self._excuse_passed()

    def _excuse_passed(self) -> None:
        self.tokens.update(stored.token for stored in self.passed)
        self.passed.clear()

    def hello(self, at: tuple[str, int] | None, data: dict[str, Any], asked: tuple[str, int] | None) -> None:
        self.tasks = {task["id"]: task for task in data["tasks"]}
        self.unclear = not data["recovered"]
        if at is None:
            self.report("a hello without an id")
        elif asked is None:
            if self.place is not None:
                self.report(f"the client lost its place {self.place}")
            if not data["recovered"]:
                self.report("hello is not recovered, although no cursor was sent")
            self.place = at
            self.start = self.start or at
        elif data["recovered"]:
            self._advance(at, "hello")
        elif at[0] != "0" and at != self.place:
            self.report(f"a hello that is not recovered moves the client from {self.place} to {at}")

    def reset(self, at: tuple[str, int] | None, data: dict[str, Any]) -> None:
        self.tasks = {task["id"]: task for task in data["tasks"]}
        self.unclear = False
        assert at is not None
        assert self.place is not None
        if at[0] == self.place[0] and at[1] < self.place[1] and not self._has_doomed(at[0]):
            self.report(f"a reset steps back from {self.place} to {at}")
        self.resets.append((self.place, at))
        if at[0] != self.place[0]:
            self.tokens_of_epoch.clear()
        self._excuse_passed()
        self.place = at

    def event(self, at: tuple[str, int] | None, text: str) -> None:
        token = token_of(text.encode())
        assert token is not None
        if at is None:
            if token in self.without_id:
                self.report(f"the event {token} without id came twice on one connection")
            self.without_id.add(token)
            return
        if self.unclear:
            self.report(f"the event {token} came between a hello that is not recovered and its reset")
        if at in self.ids and not self._has_doomed(at[0]):
            self.report(f"the id {at} came twice")
        self._advance(at, f"the event {token}", itself=token)
        self.ids.add(at)
        keys = {stored.key for stored in self._between(at[0], at[1] - 1, at[1])} - {""}
        if token in self.tokens_of_epoch and not keys and token not in self.ledger.doomed_tokens:
            self.report(f"the event {token} came twice")
        self.tokens.add(token)
        self.tokens_of_epoch.add(token)
        self.keys |= keys

    def place_again(self, at: tuple[str, int] | None, kind: str) -> None:
        """A frame of the service's own that repeats the client's place, or has no id."""
        if at is not None and at != self.place and at[0] != "0":
            self.report(f"{kind} moves the client from {self.place} to {at}")

    def _has_doomed(self, epoch: str) -> bool:
        return epoch in self.ledger.doomed_epochs

    def _between(self, epoch: str, after: int, up_to: int) -> Iterator[Stored]:
        for topic in self.topics:
            entries = self.ledger.sound.get((topic, epoch), ())
            place = bisect.bisect_right(entries, after, key=_seq_of)
            while place < len(entries) and entries[place].seq <= up_to:
                yield entries[place]
                place += 1

    def _advance(self, at: tuple[str, int], what: str, itself: int | None = None) -> None:
        assert self.place is not None
        epoch, seq = self.place
        if at[0] != epoch:
            self.report(f"{what} moves the client from {self.place} to {at} without a reset")
        elif at[1] < seq or (itself is not None and at[1] == seq):
            self.report(f"{what} steps back from {self.place} to {at}")
        for stored in self._between(epoch, seq, at[1]):
            if stored.token == itself or self._has(stored):
                continue
            if stored.is_lost and itself is not None:
                self.passed.append(stored)
            else:
                self.report(f"{what} at {at} comes, and the event {stored.token} at {stored.seq} is missing")
        self.place = at

    def _has(self, stored: Stored) -> bool:
        return stored.token in self.tokens or (stored.key != "" and stored.key in self.keys)

    def has_or_was_reset(self, token: int) -> bool:
        if token in self.tokens:
            return True
        stored_by_epoch = [entries for (topic, _), entries in self.ledger.sound.items() if topic in self.topics]
        events = [stored for entries in stored_by_epoch for stored in entries[-5:] if stored.token == token]
        return all(self._is_covered(stored.epoch, stored.seq) for stored in events)

    def check_end(self) -> None:
        """After the faults, when the client is live: everything has come, or a reset covers it."""
        assert self.start is not None
        for (topic, epoch), entries in self.ledger.sound.items():
            for stored in entries if topic in self.topics else ():
                if not self._has(stored) and not self._is_covered(epoch, stored.seq):
                    self.report(f"the event {stored.token} at {epoch}-{stored.seq} never came to {self.place}")
        for stored in self.ledger.doomed:
            if stored.topic not in self.topics or stored.token not in self.ledger.acknowledged or self._has(stored):
                continue
            if not self._is_covered(stored.epoch, stored.seq):
                self.report(f"the lost event {stored.token} at {stored.epoch}-{stored.seq} is covered by no reset")

    def _is_covered(self, epoch: str, seq: int) -> bool:
        order = self.ledger.epochs
        assert self.start is not None
        if order[epoch] < order[self.start[0]] or (epoch == self.start[0] and seq <= self.start[1]):
            return True
        for before, after in self.resets:
            if order[epoch] < order[after[0]]:
                return True
            if epoch == after[0] and seq <= after[1] and (before[0] != epoch or before[1] < seq):
                return True
        return False
