"""The publisher: one per process, over one of three transports.

    current().send(payload)                        send a message, its retraction or correction, or an event
    current().deliver(payload)                     the same, but raises, for callers that retry themselves
    current().create_task(task, key)               store a task's complete state
    current().change_task(task_id, change, key)    store a change of a task
    current().append_output(task_id, text, key)    append to a task's output
    current().beat(task_id)                        send a heartbeat of a task's producer

A failure does not break the caller's request. A call is repeated within `TIMEOUT_S` (safe by its idempotency key), then
logged and counted; with `RAISE` it raises. After several failures in a row the circuit breaker opens: for some seconds
calls fail at once instead of blocking their callers.

Must not know: models, what a transport does.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final, Generic, TypeVar

from django_bridge.conf import Settings, settings
from django_bridge.payload import (
    Payload,
    ended_task,
    event_body,
    is_correction,
    is_event,
    is_retraction,
    is_task_end,
    named,
    per_language,
)
from django_bridge.publisher.failures import FailureLog
from django_bridge.publisher.retry import Breaker, repeat
from django_bridge.publisher.transport import REFUSED, Attempt, Seen, TaskAnswer, Transport, Unreachable
from django_bridge.tracing import delivering
from notifier.errors import Conflict, NotFound, NotifierError
from notifier.event import new_id
from notifier.output import Appended
from notifier.question import Answer, Question
from notifier.task import BEAT, Task

log = logging.getLogger("django_bridge")

T = TypeVar("T")

PAGE_SHARE: Final = 0.1
"""Share of `TIMEOUT_S` that a view waits for the cursor of its page."""


@dataclass(slots=True)
class Counts:
    """Number of calls by this process since it started, or since the settings changed."""

    sent: int = 0
    repeated: int = 0
    failed: int = 0
    refused_at_once: int = 0
    """Of the failed: calls that were not tried because the circuit was open."""
    dropped: int = 0
    """Of the failed: calls that were not tried because too many waited in this process."""


@dataclass(frozen=True, slots=True)
class CallResult(Generic[T]):
    """The result of a call. `answer` is None where the call failed."""

    settled: bool
    """The service accepted the call or rejected its content: repeating it would change nothing."""
    answer: T | None = None


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call, as `recording` collects it."""

    what: str
    took_s: float
    error: str
    """Why the call failed; empty where it did not."""


_records: ContextVar[list[CallRecord] | None] = ContextVar("notifier_call_records", default=None)


@contextmanager
def recording() -> Iterator[list[CallRecord]]:
    """Collects the calls made inside the block, by its thread or its coroutine."""
    records: list[CallRecord] = []
    token = _records.set(records)
    try:
        yield records
    finally:
        _records.reset(token)


class _CallDropped(NotifierError):
    """The call was not tried. The service may be well."""


class Publisher:
    """Sends over one transport, with retries, circuit breaker and counts. Thread-safe."""

    def __init__(self, transport: Transport, *, timeout_s: float, raises: bool) -> None:
        self.transport = transport
        self.counts = Counts()
        self.breaker = Breaker()
        self._page_breaker = Breaker()
        """Of cursors alone: an answer that is too late for a page is no failure of the service."""
        self.failures = FailureLog()
        self._counting = threading.Lock()
        self._timeout_s = timeout_s
        self._raises = raises

    @property
    def is_remote(self) -> bool:
        """Whether calls leave this process."""
        return self.transport.is_remote

    def send(self, payload: Payload) -> bool:
        """Send a payload, in as many calls as it needs. True if all were answered; none is tried after a failed one."""
        with delivering(payload) as plain:
            calls = enumerate(self._attempts(plain), 1)
            return all(self._call(f"{named(plain)}, part {n}", attempt).answer is not None for n, attempt in calls)

    def deliver(self, payload: Payload) -> None:
        """Send a payload of any kind. Raises `Unreachable` or another `NotifierError` and does not log it."""
        if is_task_end(payload):
            self._deliver_end(payload)
            return
        with delivering(payload) as plain:
            for attempt in self._attempts(plain):
                self._recorded(named(plain), attempt)

    def _deliver_end(self, payload: Payload) -> None:
        """Report a task's end. A task that has ended in the service stays as it is."""
        task, what = ended_task(payload), named(payload)
        with suppress(Conflict):
            try:
                self._recorded(what, self.transport.change_task(task.id, payload["change"], payload["id"]))
            except NotFound:  # its creation failed, or the service has lost its data
                self._recorded(what, self.transport.create_task(dataclasses.replace(task, version=1), new_id()))

    def answers(self) -> bool:
        """Whether the service answers at present: asked once, by the beat of an unknown task, also while the
        circuit is open. An answer closes it."""
        try:
            self.transport.change_task(new_id(), BEAT, new_id())(self._timeout_s)
        except NotifierError as exc:
            if isinstance(exc, Unreachable):
                return False
        self._answered(self.breaker)
        return True

    def _attempts(self, payload: Payload) -> Iterable[Attempt[object]]:
        if is_event(payload):
            return self.transport.event(event_body(payload), payload["id"])
        if is_retraction(payload):
            return self.transport.retract(payload["message"], payload["to"])
        if is_correction(payload):
            return chain.from_iterable(
                self.transport.correct(payload["message"], translated["to"], translated["changes"])
                for translated in per_language(payload)
            )
        return self.transport.message(payload)

    def create_task(self, task: Task, key: str) -> CallResult[TaskAnswer]:
        """Store a task's complete state. Raises `Conflict` where the task exists."""
        return self._call(f"task {task.id}", self.transport.create_task(task, key))

    def change_task(self, task_id: str, change: Mapping[str, object], key: str) -> CallResult[TaskAnswer]:
        """Change a task. Raises `NotFound`, and `Conflict` where the task has ended."""
        return self._call(f"task {task_id}", self.transport.change_task(task_id, change, key))

    def ask(self, task_id: str, question: Question, key: str) -> CallResult[object]:
        """Ask a task's question, once for its id. Raises as `change_task`."""
        return self._call(f"question of task {task_id}", self.transport.ask(task_id, question, key))

    def answer(self, task_id: str, question_id: str) -> Answer | None:
        """The answer; None while there is none. Raises `NotifierError` and does not log it."""
        return self._recorded(f"answer to task {task_id}", self.transport.answer(task_id, question_id))

    def append_output(self, task_id: str, text: str, key: str) -> CallResult[Appended]:
        """Append a piece to a task's output. Raises as `change_task`."""
        return self._call(f"output of task {task_id}", self.transport.append_output(task_id, text, key))

    def beat(self, task_id: str) -> TaskAnswer:
        """Send a heartbeat of a task's producer. Raises `NotifierError` and does not log it: the next one follows."""
        return self._recorded(f"beat of task {task_id}", self.transport.change_task(task_id, BEAT, new_id()))

    def kept_tasks(self, channel: str, ids: Sequence[str]) -> Mapping[str, Task]:
        """The service's state of these tasks, by id. Raises `NotifierError` and does not log it."""
        return self._recorded(f"tasks of {channel}", self.transport.kept_tasks(channel, ids))

    def cursor(self, user: str) -> str:
        """The present end of the order of a user's events. A view waits for it: for `PAGE_SHARE` of `TIMEOUT_S`, and
        after several late answers in a row not at all for some seconds. Raises `NotifierError` and does not log it."""
        if self.breaker.open:
            raise self._refused_at_once()
        within_s = self._timeout_s * PAGE_SHARE
        return self._recorded(f"cursor of {user}", self.transport.cursor(user), self._page_breaker, within_s)

    def read_states(self, user: str, ids: Sequence[str]) -> Mapping[str, bool]:
        """Which of these messages a user has read; see `Transport`. Raises `NotifierError` and does not log it."""
        return self._recorded(f"read marks of {user}", self.transport.read_states(user, ids))

    def presence(self, users: Sequence[str]) -> Mapping[str, Seen]:
        """Who of these users is there. Raises `NotifierError` and does not log it."""
        return self._recorded("presence", self.transport.presence(users))

    def dropped(self, what: str) -> None:
        """Count and log a call that was not tried because too many wait already."""
        self._count("dropped", "failed")
        exc = _CallDropped("too many calls wait for the service")
        self.failures.failed(exc, f"{what} was dropped: {exc}")

    def _call(self, what: str, attempt: Attempt[T]) -> CallResult[T]:
        try:
            return CallResult(settled=True, answer=self._recorded(what, attempt))
        except (NotFound, Conflict):
            raise
        except NotifierError as exc:
            if self._raises:
                raise
            if isinstance(exc, REFUSED):
                log.error("%s could not be sent: %s", what, exc)
            else:
                self.failures.failed(exc, f"{what} could not be sent: {exc}")
            return CallResult(settled=isinstance(exc, REFUSED))

    def _recorded(
        self, what: str, attempt: Attempt[T], breaker: Breaker | None = None, within_s: float | None = None
    ) -> T:
        answer = partial(self._answer, attempt, breaker or self.breaker, within_s or self._timeout_s)
        records = _records.get()
        if records is None:
            return answer()
        began, error = time.perf_counter(), ""
        try:
            return answer()
        except NotifierError as exc:
            error = f"{type(exc).__name__}: {exc}"
            raise
        finally:
            records.append(CallRecord(what, time.perf_counter() - began, error))

    def _answer(self, attempt: Attempt[T], breaker: Breaker, within_s: float) -> T:
        """The service's answer within the time budget. Updates the counts and the circuit breaker."""
        if not breaker.allows():
            raise self._refused_at_once()
        try:
            answer = repeat(attempt, within_s, lambda: self._count("repeated"))
        except Unreachable:
            breaker.failed()
            self._count("failed")
            raise
        except NotifierError as exc:
            self._answered(breaker)
            if not isinstance(exc, NotFound | Conflict):
                self._count("failed")
            raise
        self._answered(breaker)
        self._count("sent")
        return answer

    def _answered(self, breaker: Breaker) -> None:
        """The service has answered a call, if only with a refusal."""
        breaker.succeeded()
        self.failures.succeeded()

    def _refused_at_once(self) -> Unreachable:
        self._count("refused_at_once", "failed")
        return Unreachable("not tried: the circuit is open after several failed calls")

    def _count(self, *names: str) -> None:
        with self._counting:
            for name in names:
                setattr(self.counts, name, getattr(self.counts, name) + 1)

    def close(self) -> None:
        self.transport.close()


class _PublisherProcess:
    """The publisher of one process. A forked child has its own and keeps a reference to the parent's without using it:
    closing that would close the shared sockets."""

    def __init__(self, parent: _PublisherProcess | None = None) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.settings: Settings | None = None
        self.publisher: Publisher | None = None
        self.parent = parent


_process = _PublisherProcess()


def current() -> Publisher:
    """The publisher of this process under the current settings. Raises `ImproperlyConfigured`."""
    global _process
    if _process.pid != os.getpid():
        _process = _PublisherProcess(_process)
    process, configured = _process, settings()
    with process.lock:
        if process.publisher is None or process.settings != configured:
            if process.publisher is not None:
                process.publisher.close()
            transport = _transport(configured)
            process.publisher = Publisher(transport, timeout_s=configured.timeout_s, raises=configured.raise_)
            process.settings = configured
        return process.publisher


def delivers_in_background() -> bool:
    """Whether calls are handed to a thread: with `DELIVERY="background"`, unless they stay in this process."""
    return settings().delivery == "background" and current().is_remote


def _transport(configured: Settings) -> Transport:
    # Imported here, so that a project loads only the transport it uses.
    if configured.transport == "http":
        from django_bridge.publisher.http import HttpTransport

        return HttpTransport(configured)
    if configured.transport == "redis":
        from django_bridge.publisher.redis import RedisTransport

        return RedisTransport(configured)
    from django_bridge.publisher.memory import MemoryTransport

    return MemoryTransport()
