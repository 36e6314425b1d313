"""The verdict on the message of a history that is right after each step, from what clients received (visits.py) and
what the publisher asked for: nothing is read from the service's records.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

from notifier.polls import MAX_PAUSE_MS
from tests.faults.visits import POLLED, Device, Visit, seq_of

AFTER = ("written", "replayed")


def now_ms() -> float:
    """Since 1970."""
    return time.time() * 1000


@dataclass(frozen=True)
class Between:
    """Something happened at a time between these two, in ms since 1970: a call was sent, and its answer was there."""

    asked_ms: float
    answered_ms: float

    def at(self, *, is_late: bool) -> float:
        return self.answered_ms if is_late else self.asked_ms


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


@dataclass(eq=False, kw_only=True)
class Fate:
    """One user's message and connections, and what happened to them."""

    user: str
    message: str = ""
    seq: int = 0
    """Its place in the order."""
    visits: list[Visit] = field(default_factory=list)
    visits_before: int = 0
    """Connections that opened before the message was sent."""
    channels: list[str] = field(default_factory=list)
    expires_ms: int = 0
    is_excluded: bool = False
    is_read: bool = False
    removed: str = ""
    removed_at: Between = Between(0, 0)
    reset_at: dict[Visit, Between] = field(default_factory=dict)

    def hears(self, device: Device, channel: str) -> bool:
        groups = [f"group:{name}" for name in device.groups]
        return channel in ("all", f"user:{self.user}", *groups)

    @property
    def is_expired(self) -> bool:
        return 0 < self.expires_ms <= now_ms()

    def expected(self) -> list[Expected]:
        """What is right now. What happened during a call may have happened at its beginning or at its end."""
        return [self._expected(is_late=is_late) for is_late in (False, True)]

    def _expected(self, *, is_late: bool) -> Expected:
        is_open = [visit for visit in self.visits if visit.is_open]
        is_heard = [each for each in self.visits if any(self.hears(each.device, name) for name in self.channels)]
        if not is_heard and not {"all", f"user:{self.user}"} & set(self.channels):
            return Expected("not_a_recipient", {""})
        if self.is_excluded:
            return Expected("excluded", {""})
        if self.is_read:
            return Expected("read", {""})
        if have := [visit for visit in self.visits if self.message in visit.received]:
            return self._of_delivery(have)
        removed_ms = self.removed_at.at(is_late=is_late)
        ends = [float(self.expires_ms)] if self.is_expired else []
        if self.removed:
            ends.append(removed_ms)
        resets = [at for visit, at in self.reset_at.items() if visit in is_heard and visit.form != "turbo"]
        if min((at.at(is_late=is_late) for at in resets), default=math.inf) < min(ends, default=math.inf):
            return Expected("missed_reset", {""})
        if ends:
            was_killed = any(visit.ended == "killed" for visit in is_heard)
            reasons = {"process_ended"} if was_killed else set()
            return Expected("expired", reasons | {self.removed if min(ends) == removed_ms else ""})
        may_have_it = any(visit.is_slow or visit.ended == "killed" for visit in is_heard)
        if not may_have_it and any(self.message in visit.skips for visit in is_heard if visit.form != "turbo"):
            return Expected("excluded", {""})
        return Expected("waiting", self._reasons(is_open))

    def _of_delivery(self, have: list[Visit]) -> Expected:
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

    def _is_forgotten(self, visit: Visit) -> bool:
        """True if the service cannot know how far a connection came: no cursor of its device has the message, or the
        page began anew before that, and the cursor may be from there."""
        if visit.ended != "killed":
            return False
        for number, each in enumerate(self.visits):
            if each.device is visit.device and number > self.visits.index(visit):
                if seq_of(each.start) >= self.seq:
                    return False
                if number >= self.visits_before:
                    return True
        return True

    def _reasons(self, is_open: list[Visit]) -> set[str]:
        slow = [visit for visit in self.visits if visit.is_slow and self._hears_it(visit)]
        reasons = {"unsent"} if any(not visit.is_open for visit in slow) else set()
        if any(visit.ended == "killed" for visit in self.visits):
            reasons.add("process_ended")
        if any(visit.is_open for visit in slow):
            reasons.add("behind")
        if any(visit.form != "turbo" and visit not in slow for visit in is_open):
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
