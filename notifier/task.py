"""A task's state and its transitions. Pure: every change is a function from one state to the next.

    pending <-> running -> succeeded | failed | cancelled
                   |-> cancelling -> (the same ends)
                   |-> stalled    -> running, or one of the ends
                   |-> waiting    -> running, cancelling, or one of the ends (see `asking`)

A change to "running" and nothing else is a producer's heartbeat (`BEAT`). After the first one, a producer that stays
silent counts as dead: its task is stalled, and later failed. Without heartbeats a task never stalls, nor while it is
"pending": no producer works on it then.

Brokers store the record and compare versions; they know none of these rules. Must not know: asyncio, Redis, HTTP.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from notifier import json_text, rules
from notifier.errors import Conflict, InvalidInput
from notifier.event import frame, new_id
from notifier.question import Answer, Question

ENDED: Final = frozenset(("succeeded", "failed", "cancelled"))
STATUSES: Final = frozenset(("pending", "running", "waiting", "cancelling", "stalled")) | ENDED
CHANGES: Final = frozenset(("state", "done", "total", "status", "error", "url", "url_text", "advance"))

UNKNOWN: Final = "unknown"
"""As a total: how much there is to do is not known."""
BEAT: Final[Mapping[str, object]] = {"status": "running"}
"""A producer's heartbeat. After the first one, further ones are expected."""

KEEP_RUNNING_S: Final = 7 * 24 * 3600
"""A task that has not ended is deleted this long after its last update."""
KEEP_ENDED_S: Final = 24 * 3600
"""An ended task stays in the snapshot this long, or until it is dismissed."""
MAX_SNAPSHOT: Final = 100
"""Newest tasks of one channel in a snapshot."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the broker keeps it. Times are ms since 1970."""

    id: str
    name: str
    to: tuple[str, ...]
    status: str
    state: str
    done: int
    total: int | None
    error: str | None
    started_at_ms: int
    updated_at_ms: int
    ended_at_ms: int | None = None
    cancel_requested: bool = False
    version: int = 1
    alive_at_ms: int | None = None
    """The producer's last heartbeat; None if none is expected. While a question is open, the time of its expiry."""
    url: str | None = None
    """Where its result is; given at its end."""
    url_text: str | None = None
    """The text of the button that leads there."""
    output_n: int = 0
    """The number of its newest piece of output; brokers count them, and keep them apart from the record."""
    output_chars: int = 0
    """Characters of all pieces."""
    question: Question | None = None
    """The open question: the task is waiting."""
    answers: tuple[Answer, ...] = ()
    """Answers to earlier questions, oldest first."""

    @property
    def ended(self) -> bool:
        """True once it has ended: no change is accepted any more."""
        return self.status in ENDED

    @property
    def percent(self) -> int | None:
        """See `percent_done`."""
        return percent_done(self.status, self.done, self.total)

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the mean rate so far; None without a total, before the first item is done, or once ended."""
        if self.ended or self.total is None or not self.done:
            return None
        per_item_s = (self.updated_at_ms - self.started_at_ms) / 1000 / self.done
        return round((self.total - self.done) * per_item_s, 1)

    @property
    def keep_s(self) -> int:
        """Seconds for which the broker keeps this state."""
        return KEEP_ENDED_S if self.ended else KEEP_RUNNING_S

    @property
    def cancellable(self) -> bool | None:
        """Whether a user who sees it may cancel it: True if each one is named, False if none is; None if that depends
        on the user. Users with the claim `cancel` may in any case."""
        named = sum(channel.startswith("user:") for channel in self.to)
        return named > 0 if named in (0, len(self.to)) else None

    def public(self, may_cancel: Callable[[tuple[str, ...]], bool] | None = None) -> dict[str, Any]:
        """The fields shown on streams and in API responses. `may_cancel`: tells for one user whether a task to these
        channels may be cancelled; without it the fields are the same for all."""
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "percent": self.percent,
            "eta_s": self.eta_s,
            "started_at": rules.iso_ms(self.started_at_ms),
            "updated_at": rules.iso_ms(self.updated_at_ms),
            "ended_at": rules.iso_ms(self.ended_at_ms),
            "error": self.error,
            "url": self.url,
            "url_text": self.url_text,
            "question": None if self.question is None else self.question.public(),
            "answer": self.answers[-1].on_task() if self.answers else None,
            "output": {"n": self.output_n, "chars": self.output_chars} if self.output_n else None,
            "cancellable": self.cancellable if may_cancel is None else may_cancel(self.to),
        }

    def for_publisher(self) -> dict[str, Any]:
        """The response to its producer: the public fields, and whether a user asked to cancel."""
        return {**self.public(), "cancel_requested": self.cancel_requested}

    def frame(self) -> str:
        """The task event. It has no id, since it is state and not history."""
        return frame("task", json_text.to_json(self.public()))

    def frame_parts(self) -> tuple[str, str]:
        """The task event, before and after the counts of its output."""
        # Quotes within strings are escaped: this is the field.
        head, field, tail = dataclasses.replace(self, output_n=0).frame().partition('"output":')
        return head + field, tail.removeprefix("null")

    def record(self) -> str:
        """The form in which the broker stores it. The counts of its output change without it. A missing link is left
        out: older versions do not know the field."""
        fields = dataclasses.asdict(self)
        del fields["output_n"], fields["output_chars"]
        for name in ("url", "url_text", "question", "answers"):
            if not fields[name]:
                del fields[name]
        return json_text.to_json(fields)

    def conflict(self, detail: str, *, field: str | None = None) -> Conflict:
        """The error of a change that the status does not allow; its member `task_status` has the status. A task that is
        being cancelled is "cancelling", also while it is stalled."""
        exc = Conflict(f"the task {self.id} {detail}", field=field)
        is_cancelling = self.cancel_requested and not self.ended
        exc.members = {"task_status": "cancelling" if is_cancelling else self.status}
        return exc

    def require_output(self) -> None:
        """Raise `Conflict` when the task takes no output: it has ended."""
        if self.ended:
            raise self.conflict(f"ended as {self.status} and takes no output", field="text")

    def with_output(self, n: int, chars: int) -> Task:
        """The same state, with another number and size of its output. Raises as `require_output`."""
        self.require_output()
        return dataclasses.replace(self, output_n=n, output_chars=chars)

    def changed(self, change: Mapping[str, object], *, now_ms: int) -> Task:
        """The state after a producer's change: any of `CHANGES`, with values not checked yet. None leaves a field as it
        is; the total `UNKNOWN` removes the total.

        Raises `InvalidInput` for a value that breaks a rule, `Conflict` when the task has ended.
        """
        for key in change:
            if key not in CHANGES:
                raise InvalidInput("is not a field of a task's change", field=key)
        if self.ended:
            field = next((key for key in ("status", *change) if key in change), "status")
            raise self.conflict(f"ended as {self.status} and cannot be changed", field=field)
        total = self.total if change.get("total") is None else _total(change["total"])
        done = self._done_after(change, total)
        status = self._status_after(change)
        at_ms = max(now_ms, self.updated_at_ms)
        has_heartbeat = status not in ENDED and status != "pending" and (self._has_beats or change == BEAT)
        question = None
        if self.question is not None and status == "waiting":
            has_heartbeat &= change.get("status") != "pending"
            question = dataclasses.replace(self.question, beats=has_heartbeat)
        error = self.error
        if change.get("error") is not None:
            error = rules.text(change["error"], "error", max_chars=rules.MAX_STATE_CHARS)
        state = self.state
        if change.get("state") is not None:
            state = rules.text(change["state"], "state", max_chars=rules.MAX_STATE_CHARS)
        url, url_text = _link(change, status)
        return dataclasses.replace(
            self,
            status=status,
            state=state,
            done=done,
            total=total,
            error=error,
            updated_at_ms=at_ms,
            ended_at_ms=at_ms if status in ENDED else None,
            version=self.version + 1,
            alive_at_ms=question.expires_at_ms if question else at_ms if has_heartbeat else None,
            url=url,
            url_text=url_text,
            question=question,
        )

    @property
    def _has_beats(self) -> bool:
        """True if heartbeats are expected from its producer."""
        return self.alive_at_ms is not None if self.question is None else self.question.beats

    def stalled_or_failed(self, *, now_ms: int, stalled_ms: int, failed_ms: int) -> Task:
        """The state at `now_ms` without a further heartbeat: stalled after `stalled_ms`, failed after `failed_ms`."""
        if self.ended or self.alive_at_ms is None:
            return self
        silent_ms = now_ms - self.alive_at_ms
        at_ms = max(now_ms, self.updated_at_ms)
        if silent_ms >= failed_ms:
            error = f"Its producer sent no heartbeat for {silent_ms // 1000} seconds"
            return self._ended_as("failed", at_ms, error=error)
        if silent_ms < stalled_ms or self.status == "stalled":
            return self
        return dataclasses.replace(self, status="stalled", updated_at_ms=at_ms, version=self.version + 1)

    def cancelled_by_user(self, *, now_ms: int) -> Task:
        """The state after a user asked to cancel; a second request changes nothing. Raises `Conflict` if it has ended.

        A stalled task ends at once, since its producer is dead and cannot answer the request.
        """
        if self.ended:
            raise self.conflict(f"ended as {self.status} and cannot be cancelled")
        at_ms = max(now_ms, self.updated_at_ms)
        if self.status == "stalled" and self.alive_at_ms is not None:
            return self._ended_as("cancelled", at_ms, cancel_requested=True)
        if self.cancel_requested:
            return self
        return dataclasses.replace(
            self,
            status="cancelling",
            cancel_requested=True,
            updated_at_ms=at_ms,
            version=self.version + 1,
            alive_at_ms=self.alive_at_ms if self.question is None else at_ms if self.question.beats else None,
            question=None,
        )

    def without(self, channel: str) -> Task:
        """The state after one of its recipients was forgotten."""
        return dataclasses.replace(
            self, to=tuple(name for name in self.to if name != channel), version=self.version + 1
        )

    def _ended_as(self, status: str, at_ms: int, **more: Any) -> Task:
        return dataclasses.replace(
            self,
            status=status,
            updated_at_ms=at_ms,
            ended_at_ms=at_ms,
            version=self.version + 1,
            alive_at_ms=None,
            question=None,
            **more,
        )

    def _done_after(self, change: Mapping[str, object], total: int | None) -> int:
        if "done" in change and "advance" in change:
            raise InvalidInput("cannot be given together with 'done'", field="advance")
        field = "advance" if "advance" in change else "done"
        if "advance" in change:
            done = self.done + rules.whole(change["advance"], "advance")
        else:
            done = rules.whole(change["done"], "done") if change.get("done") is not None else self.done
        if total is not None and done > total:
            field = field if field in change else "total"
            raise InvalidInput(f"makes {done} done of a total of {total}", field=field)
        return done

    def _status_after(self, change: Mapping[str, object]) -> str:
        status = change.get("status")
        if status is None:
            status = "running" if self.status in ("pending", "stalled") else self.status
        if not isinstance(status, str) or status not in STATUSES:
            raise InvalidInput(
                f"must be one of {', '.join(sorted(STATUSES))}, not {rules.shown(status)}", field="status"
            )
        if status == "waiting" and self.question is None:
            raise InvalidInput("cannot be set: a task waits when it asks a question", field="status")
        if self.question is not None and status in ("running", "pending", "stalled"):
            return "waiting"
        # A producer that still reports "running" has not seen the request to cancel yet; the request stands.
        return "cancelling" if self.cancel_requested and status in ("running", "pending") else status


def _total(value: object) -> int | None:
    """A given total; None for `UNKNOWN`."""
    if isinstance(value, str):
        if value == UNKNOWN:
            return None
        raise InvalidInput(f"must be a whole number or {UNKNOWN!r}, not {rules.shown(value)}", field="total")
    return rules.whole(value, "total")


def _link(change: Mapping[str, object], status: str) -> tuple[str | None, str | None]:
    """The link to the result and the text of its button. Only the change that ends a task may have them."""
    url, shown = rules.url(change.get("url")), change.get("url_text")
    field = "url" if url is not None else "url_text"
    if (url, shown) != (None, None) and status not in ENDED:
        raise InvalidInput("is given when the task ends, together with its last status", field=field)
    if shown is None:
        return url, None
    if url is None:
        raise InvalidInput("is the text of a link, and there is no 'url'", field="url_text")
    return url, rules.text(shown, "url_text", max_chars=rules.MAX_TITLE_CHARS, empty=False)


def percent_done(status: str, done: int, total: int | None) -> int | None:
    """0-100, rounded down. 100 only when all items are done or the task succeeded; None while the total is unknown."""
    if status == "succeeded":
        return 100
    if total is None:
        return None
    return 100 if done >= total else done * 100 // total


def begin(
    *, to: object, name: object, state: object = "", total: object = None, task_id: object = None, now_ms: int
) -> Task:
    """A new running task. Raises `InvalidInput`."""
    return Task(
        id=new_id() if task_id is None else rules.identifier(task_id),
        name=rules.text(name, "name", max_chars=rules.MAX_TITLE_CHARS, empty=False),
        to=rules.recipients(to),
        status="running",
        state=rules.text("" if state is None else state, "state", max_chars=rules.MAX_STATE_CHARS),
        done=0,
        total=None if total is None else _total(total),
        error=None,
        started_at_ms=now_ms,
        updated_at_ms=now_ms,
    )
