"""The state of a task in one process, and the changes of it that the service does not have.

A call that fails is repeated with the next one. Must not know: when calls are made, the row.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from django_bridge import publisher
from django_bridge.publisher.transport import TaskAnswer, task_status
from django_bridge.task.unsent_output import UnsentOutput
from notifier.errors import Conflict, NotFound
from notifier.event import new_id
from notifier.task import ENDED, Task

END_FIELDS: Final = ("status", "error", "url", "url_text")
"""What a task gets with its end: sent after its output."""


@dataclass(frozen=True, slots=True)
class _Advance:
    """One call that adds to `done`."""

    key: str
    """Its idempotency key."""
    n: int


class UnreportedChanges:
    """The state of one task, and its calls to the service. Thread-safe."""

    def __init__(self, known: Task) -> None:
        self.known = known
        """The state as this process knows it: its own changes, and what the service answered."""
        self.ended_elsewhere = False
        """Another process has ended the task: changes of this one are dropped."""
        self.ended_here = False
        """The service has the end from this process: no other process knows more of it."""
        self._begin()

    def _begin(self) -> None:
        """In a new object, and in a forked child, which has the state and nothing to report of it."""
        self._lock = threading.RLock()
        """For the fields of this object. Not locked during calls to the service or the database."""
        self._sending = threading.RLock()
        """Locked during calls to the service: they are in order. Taken before `_lock`."""
        self._is_announced = True
        """Whether the creation in the service was tried."""
        self._in_flight: _Advance | None = None
        """The advance that was sent and not answered. It may have arrived, so it is repeated under its own key."""
        self._unsent: int | None = None
        """The sum of the advances that were not sent yet; None without any."""
        self._output = UnsentOutput()
        self._wrote_at = 0.0
        self._dirty_fields: set[str] = set()
        """Fields whose latest values the service does not have, and which no call sends now."""
        self._fields_in_flight: set[str] = set()
        """Fields that a call sends now."""
        self._asked_at = 0.0
        self._is_asked = False
        """Whether the scheduler will ask the service for its answer."""
        self._took_s = 0.0
        """How long the last call took."""
        self._answered_ms = 0
        """`updated_at_ms` of the newest answer."""
        self._advanced_at = 0.0
        self._is_scheduled = False
        """Whether the scheduler will send what the service does not have."""
        self._due_at = 0.0
        """When it will (monotonic seconds)."""

    def _send_all(self) -> bool:
        """Send all that the service does not have. False if a call failed. Called with `_sending` locked."""
        with self._lock:
            self._is_scheduled = False
            is_announced, self._is_announced = self._is_announced, True
        if not is_announced:
            if not self._create():
                # The next try begins with a change, since the creation may have arrived.
                self._dirty_fields.add("state")
                return False
            if not self._output.pending:
                return True
        # Before a change: an ended task takes no output.
        if self._output.pending and not self._send_output():
            return False
        if self._has_changes():
            return self._send_advances() and self._send_change()
        return not self._is_asked or self._send(new_id(), {"advance": 0})

    def _send_advances(self) -> bool:
        """Send the advance in flight again, then the unsent ones together. False if one failed.

        Advances that come during these calls are left to the next: a loop that is quicker than the service would keep
        the thread that sends for ever.
        """
        return self._send_in_flight() and self._send_unsent()

    def _send_unsent(self) -> bool:
        with self._lock:
            if self._unsent is None:
                return True
            self._in_flight, self._unsent = _Advance(new_id(), self._unsent), None
        return self._send_in_flight()

    def _send_in_flight(self) -> bool:
        advance = self._in_flight
        if advance is None:
            return True
        self._advanced_at = time.monotonic()
        if not self._send(advance.key, {"advance": advance.n}):
            return False
        self._in_flight = None
        return True

    def _send_output(self) -> bool:
        """Send the output that came before this call. False if a call failed."""
        with self._lock:
            budget = self._output.unsent_chars
        self._wrote_at = time.monotonic()
        while True:
            with self._lock:
                piece = self._output.next_piece()
            if piece is None:
                return True
            key, text = piece
            if not self._send_piece(key, text):
                return False
            budget -= len(text)
            if budget <= 0:
                return True

    def _send_piece(self, key: str, text: str) -> bool:
        """Send one piece. Returns as `_send`."""
        if not self.known.to:
            self._output.clear()
            return True
        try:
            with self._timed():
                outcome = publisher.current().append_output(self.known.id, text, key)
        except NotFound:  # as in `_send`
            if not self._create():
                return False
            with self._timed():
                outcome = publisher.current().append_output(self.known.id, text, key)
        except Conflict as exc:
            self._apply_conflict(exc)
            return True
        with self._lock:
            if outcome.settled:
                self._output.sent()
            if outcome.answer is not None and outcome.answer.cancel_requested and not self.known.ended:
                self._apply_cancel()
        return outcome.settled

    def _send_change(self) -> bool:
        """Send the dirty fields. They stay dirty if the call failed.

        An end that came during the calls before, with output ahead of it, is left to its own call.
        """
        with self._lock:
            later = self._dirty_fields & set(END_FIELDS) if self.known.ended and self._output.pending else set()
            sent, self._dirty_fields = self._dirty_fields - later, later
            self._fields_in_flight = sent
            change = {key: getattr(self.known, key) for key in sorted(sent)}
        is_sent = not change
        try:
            is_sent = is_sent or self._send(new_id(), change)
        finally:
            with self._lock:
                self._fields_in_flight = set()
                if not is_sent:
                    self._dirty_fields |= sent
        return is_sent

    def _has_changes(self) -> bool:
        return self._in_flight is not None or self._unsent is not None or bool(self._dirty_fields)

    def _forget_advances(self) -> None:
        self._in_flight = self._unsent = None

    def _send(self, key: str, change: Mapping[str, object]) -> bool:
        """False if the change is to be sent again: the service did not answer. True if it has it, or refused it."""
        if not self.known.to:
            return True
        self._is_asked = False
        try:
            with self._timed():
                outcome = publisher.current().change_task(self.known.id, change, key)
        except NotFound:  # the creation failed, or the service has lost its data
            return self._create()
        except Conflict as exc:
            self._apply_conflict(exc)
            return True
        if outcome.answer is not None and change.get("status") in ENDED:
            self.ended_here = True
        self._apply_answer(outcome.answer)
        return outcome.settled

    def _create(self) -> bool:
        """Create the task in the service with its whole state. Returns as `_send`."""
        if not self.known.to:
            return True
        with self._lock:
            known, advances = self.known, self._unsent
            later: set[str] = set()
            if known.ended and self._output.pending:
                later = {name for name in END_FIELDS if getattr(known, name) is not None}
                known = dataclasses.replace(
                    known, status="running", ended_at_ms=None, error=None, url=None, url_text=None
                )
            sent, self._dirty_fields = self._dirty_fields, set()
            self._fields_in_flight = sent
        is_created = False
        try:
            with self._timed():
                outcome = publisher.current().create_task(dataclasses.replace(known, version=1), new_id())
            is_created = outcome.answer is not None
        except Conflict as exc:
            self._apply_conflict(exc)
            return True
        finally:
            with self._lock:
                self._fields_in_flight = set()
                if is_created:
                    self.ended_here = self.ended_here or known.ended
                    self._dirty_fields |= later
                    self._in_flight = None
                    self._unsent = None if self._unsent == advances else (self._unsent or 0) - (advances or 0)
                else:
                    self._dirty_fields |= sent
        self._apply_answer(outcome.answer)
        return outcome.settled

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Around a call to the service: when it began, and how long it took, whatever came of it.

        The beginning is noted before the answer: else each part of a loop would ask an unreachable service.
        """
        began = self._asked_at = time.monotonic()
        try:
            yield
        finally:
            self._took_s = time.monotonic() - began

    def _apply_answer(self, answer: TaskAnswer | None) -> None:
        with self._lock:
            # A repeated call gets its old answer.
            if answer is None or answer.updated_at_ms < self._answered_ms:
                return
            self._answered_ms = answer.updated_at_ms
            self.known = dataclasses.replace(
                self.known,
                # The answer counts the advance in flight, not those after it.
                done=self.known.done if "done" in self._dirty_fields else answer.done + (self._unsent or 0),
                total=self.known.total if "total" in self._dirty_fields else answer.total,
                updated_at_ms=max(self.known.updated_at_ms, answer.updated_at_ms),
            )
            if answer.cancel_requested:
                self._apply_cancel()

    def _apply_cancel(self) -> None:
        is_cancelling = self.known.status in ("running", "pending")
        status = "cancelling" if is_cancelling else self.known.status
        self.known = dataclasses.replace(self.known, cancel_requested=True, status=status)

    def _apply_conflict(self, exc: Conflict) -> None:
        """The service refused the change. If the task has ended there, so it has here."""
        with self._lock:
            self._forget_advances()
            self._output.clear()
            self._dirty_fields.clear()
            status = task_status(exc)
            if status in ENDED and not self.known.ended:
                self.ended_elsewhere = True
                self.known = dataclasses.replace(self.known, status=status, ended_at_ms=self.known.updated_at_ms)
