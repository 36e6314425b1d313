"""The way out of a Django process: one publisher for each process, over one of three transports.

    current().send(payload)                    a message, in as many calls as it needs
    current().deliver(payload)                 the same for those who repeat it themselves: it raises
    current().send_event(body)                 an event of the project's own
    current().create_task(task)                a task's first state, or all of it again
    current().change_task(task_id, change)     a task's next state
    current().beat(task_id)                    its producer lives

Nothing here breaks the caller's request. A call is repeated for `TIMEOUT_S` at most (its idempotency key makes that
safe), then logged and counted; `RAISE` makes it raise. After some failures in a row the circuit opens, and for some
seconds calls fail at once instead of holding their callers.

Must not know: models, what a transport does.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

from django_bridge.conf import Settings, settings
from django_bridge.payload import EventBody, Payload
from django_bridge.publisher.retry import Breaker, repeat
from django_bridge.publisher.transport import REFUSED, Attempt, TaskAnswer, Transport, Unreachable
from notifier.errors import Conflict, NotFound, NotifierError
from notifier.event import new_id
from notifier.task import BEAT, Task

log = logging.getLogger("django_bridge")

T = TypeVar("T")


@dataclass(slots=True)
class Counts:
    """Calls of this process since it started, or since the settings changed."""

    sent: int = 0
    repeated: int = 0
    failed: int = 0
    refused_at_once: int = 0
    """Of the failed: those that met an open circuit."""


@dataclass(frozen=True, slots=True)
class CallResult(Generic[T]):
    """How a call ended."""

    settled: bool
    """The service has it, or refused it for what it is: sending it again would change nothing."""
    answer: T | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """One call, for those who look on."""

    what: str
    took_s: float
    error: str
    """Why it failed; empty where it did not."""


_notes: ContextVar[list[Noted] | None] = ContextVar("notifier_notes", default=None)


@contextmanager
def noting() -> Iterator[list[Noted]]:
    """The calls that are made inside the block, by its thread or its coroutine."""
    found: list[Noted] = []
    token = _notes.set(found)
    try:
        yield found
    finally:
        _notes.reset(token)


class Publisher:
    """Sends over one transport, and keeps what goes wrong away from the caller. Safe to use from many threads."""

    def __init__(self, transport: Transport, *, timeout_s: float, raises: bool) -> None:
        self.transport = transport
        self.counts = Counts()
        self.breaker = Breaker()
        self._counting = threading.Lock()
        self._timeout_s = timeout_s
        self._raises = raises

    @property
    def is_remote(self) -> bool:
        """Whether calls leave this process."""
        return self.transport.is_remote

    def send(self, payload: Payload) -> bool:
        """Sends a message; whether it went out to all of its recipients. What follows a failed part is not tried."""
        calls = enumerate(self.transport.message(payload), 1)
        return all(self._call(f"message {payload['id']}, part {n}", attempt).answer is not None for n, attempt in calls)

    def deliver(self, payload: Payload) -> None:
        """Sends a message to all of its recipients. Raises `Unreachable` or another `NotifierError`, logs nothing."""
        for attempt in self.transport.message(payload):
            self._tried(f"message {payload['id']}", attempt)

    def send_event(self, body: EventBody) -> bool:
        """Sends an event of the project's own; whether it went out to all of its recipients."""
        calls = self.transport.event(body, new_id())
        return all(self._call(f"event {body['type']}", attempt).answer is not None for attempt in calls)

    def create_task(self, task: Task, key: str) -> CallResult[TaskAnswer]:
        """Makes the service know a task. Raises `Conflict`."""
        return self._call(f"task {task.id}", self.transport.create_task(task, key))

    def change_task(self, task_id: str, change: Mapping[str, object], key: str) -> CallResult[TaskAnswer]:
        """Changes a task. Raises `NotFound` and `Conflict`."""
        return self._call(f"task {task_id}", self.transport.change_task(task_id, change, key))

    def beat(self, task_id: str) -> TaskAnswer:
        """Says that whoever works on a task is alive. Raises `NotifierError`, logs nothing: another one follows."""
        return self._tried(f"beat of task {task_id}", self.transport.change_task(task_id, BEAT, new_id()))

    def kept_tasks(self, channel: str, ids: Sequence[str]) -> Mapping[str, Task]:
        """What the service keeps of these tasks. Raises `NotifierError`, logs nothing."""
        return self._tried(f"tasks of {channel}", self.transport.kept_tasks(channel, ids))

    def _call(self, what: str, attempt: Attempt[T]) -> CallResult[T]:
        try:
            return CallResult(settled=True, answer=self._tried(what, attempt))
        except (NotFound, Conflict):
            raise
        except NotifierError as fault:
            if self._raises:
                raise
            log.error("%s could not be sent: %s", what, fault)
            return CallResult(settled=isinstance(fault, REFUSED))

    def _tried(self, what: str, attempt: Attempt[T]) -> T:
        notes = _notes.get()
        if notes is None:
            return self._answer(attempt)
        began, error = time.perf_counter(), ""
        try:
            return self._answer(attempt)
        except NotifierError as fault:
            error = f"{type(fault).__name__}: {fault}"
            raise
        finally:
            notes.append(Noted(what, time.perf_counter() - began, error))

    def _answer(self, attempt: Attempt[T]) -> T:
        """What the service answers within the budget. Counts, and tells the breaker."""
        if not self.breaker.allows():
            self._count("refused_at_once", "failed")
            raise Unreachable("not tried: the last calls failed one after the other")
        try:
            answer = repeat(attempt, self._timeout_s, lambda: self._count("repeated"))
        except Unreachable:
            self.breaker.failed()
            self._count("failed")
            raise
        except NotifierError as fault:
            self.breaker.succeeded()  # it answered
            if not isinstance(fault, NotFound | Conflict):
                self._count("failed")
            raise
        self.breaker.succeeded()
        self._count("sent")
        return answer

    def _count(self, *names: str) -> None:
        with self._counting:
            for name in names:
                setattr(self.counts, name, getattr(self.counts, name) + 1)

    def close(self) -> None:
        self.transport.close()


class _PublisherProcess:
    """What one process holds. A forked child starts its own, and keeps the parent's unused: its sockets are shared."""

    def __init__(self, parent: _PublisherProcess | None = None) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.settings: Settings | None = None
        self.publisher: Publisher | None = None
        self.parent = parent


_process = _PublisherProcess()


def current() -> Publisher:
    """This process's publisher under the present settings. Raises `ImproperlyConfigured`."""
    global _process
    if _process.pid != os.getpid():
        _process = _PublisherProcess(_process)
    mine, wanted = _process, settings()
    with mine.lock:
        if mine.publisher is None or mine.settings != wanted:
            if mine.publisher is not None:
                mine.publisher.close()
            mine.publisher = Publisher(_transport(wanted), timeout_s=wanted.timeout_s, raises=wanted.raise_)
            mine.settings = wanted
        return mine.publisher


def _transport(wanted: Settings) -> Transport:
    # Imported when wanted: a project that uses one of them does not load the others.
    if wanted.transport == "http":
        from django_bridge.publisher.http import HttpTransport

        return HttpTransport(wanted)
    if wanted.transport == "redis":
        from django_bridge.publisher.redis import RedisTransport

        return RedisTransport(wanted)
    from django_bridge.publisher.memory import MemoryTransport

    return MemoryTransport()
