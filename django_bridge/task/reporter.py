"""What one process knows of a task, and what it still has to tell: to the service at once, then to the row.

A change that does not get through is carried by the next one. Advances that come quickly one after the other join: ten
calls a second, the first at once, the last one not lost. While the work goes on here, the service gets signs of life.

Must not know: what users of a task may call.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django_bridge import publisher
from django_bridge.publisher.transport import TaskAnswer
from django_bridge.task import scheduler
from django_bridge.task.heartbeat import Heartbeat
from notifier.errors import Conflict, NotFound
from notifier.event import new_id
from notifier.task import ENDED, Task

ASK_EVERY_S: Final = 1.0
"""How old an answer may be before the service is asked again whether a user cancelled."""
PACE_S: Final = 0.1
"""Between two advances that are told."""


@dataclass(frozen=True, slots=True)
class _Advance:
    """One call that adds to `done`."""

    key: str
    """Its idempotency key."""
    n: int


class TaskReporter:
    """The state of one task as this process knows it. Its lock is held while the caller or the scheduler talks."""

    def __init__(self, known: Task, user_key: Any) -> None:
        self.known = known
        self.user_key = user_key
        self._lock = threading.RLock()
        self.ended_elsewhere = False
        """Whether somebody else has ended it: the rest of this run concerns nobody."""
        self._in_flight: _Advance | None = None
        """The advance that was sent and not answered: it may have arrived, so it is repeated under its own key."""
        self._unsent: int | None = None
        """The sum of the advances that were not sent yet; None without any."""
        self._dirty_fields: set[str] = set()
        """Fields whose latest values did not get through."""
        self._asked_at = 0.0
        self._answered_ms = 0
        self._advanced_at = 0.0
        self._waiting = False
        """Whether the scheduler will tell what is owed."""
        self._row_is_behind = False
        self._heartbeat = Heartbeat(known.id, self._heard)

    # What the caller does

    def announce(self) -> None:
        """Makes service and row know the task."""
        with self._lock:
            try:
                self._announce()
            finally:
                self._write()
        if self.known.to:
            self._heartbeat.plan()

    def change(self, change: Mapping[str, Any]) -> None:
        """Raises `InvalidInput` or `Conflict` before anything is told."""
        ends_here = change.get("status", "running") != "running"
        if ends_here:
            self._heartbeat.rest()  # a sign of life after it would say the opposite
        with self._lock:
            if self.ended_elsewhere:
                return
            self.known = self.known.changed(change, now_ms=now_ms())
            self._dirty_fields |= change.keys()
            if "done" in change:
                self._forget_advances()
            self._tell()
        if not ends_here:
            self.works_here()

    def advance(self, n: int) -> None:
        """As `change`. Told at once, or with those that follow within a tenth of a second."""
        with self._lock:
            if self.ended_elsewhere:
                return
            self.known = self.known.changed({"advance": n}, now_ms=now_ms())
            if "done" not in self._dirty_fields:
                self._unsent = n + (self._unsent or 0)
            if self._may_wait():
                self._row_is_behind = True
                self._tell_later()
            else:
                self._tell()
        self.works_here()

    def advance_once(self, key: str, n: int) -> bool:
        """An advance with a key of the caller's own; whether the service has it, or does not want it."""
        with self._lock:
            if self.known.ended or self.ended_elsewhere:
                return True
            before, done = self.known, self.known.done + n
            self.known = dataclasses.replace(before, done=min(done, done if before.total is None else before.total))
            told = False
            try:
                told = self._settle() and self._send(key, {"advance": n})
            finally:
                self.known = self.known if told else before
                self._write()
        self.works_here()
        return told

    def ask(self) -> None:
        """Renews the answer where it is older than a second: a change that changes nothing."""
        with self._lock:
            if time.monotonic() - self._asked_at < ASK_EVERY_S:
                return
            if self._has_advances() or self._dirty_fields:
                self._tell()
            else:
                self._send(new_id(), {"advance": 0})

    def settle(self) -> None:
        """Tells what waits for its time, and brings the row up to date."""
        with self._lock:
            if self._waiting:
                self._settle()
            if self._row_is_behind:
                self._write()

    def leave(self) -> None:
        """Nobody holds the task any more. What waits is told by the scheduler; the row is left to `notifier_tasks`."""
        if self._waiting:
            scheduler.current().last(self._its_time)

    # Its time

    def _may_wait(self) -> bool:
        known = self.known
        if not publisher.current().is_remote or (known.total is not None and known.done >= known.total):
            return False
        return time.monotonic() - self._advanced_at < PACE_S

    def _tell_later(self) -> None:
        if not self._waiting:
            self._waiting = True
            scheduler.current().at_exit(self)
            scheduler.current().after(self._advanced_at + PACE_S - time.monotonic(), self._its_time)

    def _its_time(self) -> None:
        if not self._lock.acquire(blocking=False):  # the caller is talking: it takes this along
            scheduler.current().after(PACE_S, self._its_time)
            return
        try:
            if self._waiting:
                self._settle()
        finally:
            self._lock.release()

    # Signs of life

    def works_here(self) -> None:
        """From now on the service hears that this process is alive."""
        if self.known.to and not self.known.ended:
            self._heartbeat.work_here()

    def hand_over(self) -> None:
        """The work goes on elsewhere: until then nobody gives signs of life, and nobody misses them."""
        if self._heartbeat.given and not self.known.ended:
            self.change({"status": "pending"})
        self._heartbeat.rest()

    def _heard(self, answer: TaskAnswer) -> None:
        with self._lock:
            self._asked_at = time.monotonic()
            if answer.cancel_requested and not self.known.ended:
                self._learn_cancel()

    # One change: to the service, then to the row

    def _tell(self) -> None:
        try:
            if self._settle() and self._dirty_fields:
                change = {key: getattr(self.known, key) for key in sorted(self._dirty_fields)}
                if self._send(new_id(), change):
                    self._dirty_fields.clear()
        finally:
            self._write()

    def _settle(self) -> bool:
        """Sends the advances that are owed, each under its own key; whether all got through."""
        self._waiting = False
        while self._has_advances():
            if self._in_flight is None:
                self._in_flight, self._unsent = _Advance(new_id(), self._unsent or 0), None
            self._advanced_at = time.monotonic()
            if not self._send(self._in_flight.key, {"advance": self._in_flight.n}):
                return False
            self._in_flight = None
        return True

    def _has_advances(self) -> bool:
        return self._in_flight is not None or self._unsent is not None

    def _forget_advances(self) -> None:
        self._in_flight = self._unsent = None

    def _send(self, key: str, change: Mapping[str, object]) -> bool:
        """Whether the service has the change now, or does not want it."""
        if not self.known.to:
            return True
        self._asked_at = time.monotonic()  # answered or not: a service that is away is not asked at each part
        try:
            outcome = publisher.current().change_task(self.known.id, change, key)
        except NotFound:  # the begin was lost, or the service has forgotten everything
            return self._announce()
        except Conflict as exc:
            self._learn_end(exc)
            return True
        self._learn(outcome.answer)
        return outcome.settled

    def _announce(self) -> bool:
        """Makes the service know all of the state."""
        if not self.known.to:
            return True
        self._asked_at = time.monotonic()  # answered or not: a service that is away is not asked at each part
        try:
            outcome = publisher.current().create_task(dataclasses.replace(self.known, version=1), new_id())
        except Conflict as exc:
            self._learn_end(exc)
            return True
        if outcome.answer is not None:
            self._forget_advances()
            self._dirty_fields.clear()
        self._learn(outcome.answer)
        return outcome.settled

    def _learn(self, answer: TaskAnswer | None) -> None:
        if answer is None or answer.updated_at_ms < self._answered_ms:  # that of a repeat is older
            return
        self._answered_ms = answer.updated_at_ms
        # The answer counts the advance in flight; the later ones are added here.
        self.known = dataclasses.replace(
            self.known,
            done=self.known.done if "done" in self._dirty_fields else answer.done + (self._unsent or 0),
            total=self.known.total if "total" in self._dirty_fields else answer.total,
            updated_at_ms=max(self.known.updated_at_ms, answer.updated_at_ms),
        )
        if answer.cancel_requested:
            self._learn_cancel()

    def _learn_cancel(self) -> None:
        cancelling = self.known.status in ("running", "pending")
        status = "cancelling" if cancelling else self.known.status
        self.known = dataclasses.replace(self.known, cancel_requested=True, status=status)

    def _learn_end(self, exc: Conflict) -> None:
        self._forget_advances()
        self._dirty_fields.clear()
        status = re.search(r"ended as (\w+)", str(exc))
        if status and status[1] in ENDED and not self.known.ended:
            self.ended_elsewhere = True
            self.known = dataclasses.replace(self.known, status=status[1], ended_at_ms=self.known.updated_at_ms)

    def _write(self) -> None:
        from django_bridge.task import records

        self._row_is_behind = False
        records.write(self.known, self.user_key)


def now_ms() -> int:
    return int(time.time() * 1000)
