"""The transport protocol: the kinds of calls, each as an attempt that can be repeated.

Must not know: when an attempt is repeated, which transports there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeVar

from django_bridge.payload import EventBody, Payload
from notifier.errors import BrokerUnavailable, Conflict, InvalidInput, MalformedBody, PayloadTooLarge
from notifier.output import Appended
from notifier.question import Answer, Question
from notifier.task import Task

T = TypeVar("T")

REFUSED = (InvalidInput, MalformedBody, PayloadTooLarge)
"""Errors by which the service rejects the content of a call: repeating it would change nothing."""

Attempt = Callable[[float], T]
"""One try of a call, given the seconds it may take. It contains its idempotency key, so repeating it is safe."""


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """The service's answer to a change of a task."""

    done: int
    total: int | None
    cancel_requested: bool
    updated_at_ms: int = 0
    """By the clock of the service, or with `redis` of the writing process: orders the states of a task."""

    @classmethod
    def of(cls, task: Task) -> Self:
        return cls(task.done, task.total, task.cancel_requested, task.updated_at_ms)


@dataclass(frozen=True, slots=True)
class Seen:
    """Whether a user has an open stream, and when there was the last."""

    online: bool
    last_seen_ms: int | None
    """Unix time; None where it is not known."""


class Transport(Protocol):
    """Attempts raise `Unreachable` where a repeat may succeed, else another `NotifierError`."""

    is_remote: bool
    """Whether calls leave this process: then they are paced, and heartbeats are sent."""

    def message(self, payload: Payload) -> Iterable[Attempt[object]]:
        """The calls that together send a message to all its recipients."""

    def retract(self, message_id: str, to: Sequence[str]) -> Iterable[Attempt[object]]:
        """The calls that together remove a message from these channels. One that is not there is no error."""

    def correct(self, message_id: str, to: Sequence[str], changes: Mapping[str, Any]) -> Iterable[Attempt[object]]:
        """The calls that together change a message in these channels. One that is not there is no error."""

    def event(self, body: EventBody, key: str) -> Iterable[Attempt[object]]:
        """The calls that together send an event to all its recipients."""

    def create_task(self, task: Task, key: str) -> Attempt[TaskAnswer]:
        """Store a task's complete state under its id."""

    def change_task(self, task_id: str, change: Mapping[str, object], key: str) -> Attempt[TaskAnswer]:
        """Change a task. The attempt raises `NotFound` for an unknown task and `Conflict` for one that has ended."""

    def ask(self, task_id: str, question: Question, key: str) -> Attempt[object]:
        """Ask a task's question, once for its id. The attempt raises as that of `change_task`."""

    def answer(self, task_id: str, question_id: str) -> Attempt[Answer | None]:
        """The answer; None while there is none. The attempt raises `NotFound`, and `Conflict` if it was withdrawn."""

    def append_output(self, task_id: str, text: str, key: str) -> Attempt[Appended]:
        """Append a piece to a task's output. The attempt raises as that of `change_task`."""

    def kept_tasks(self, channel: str, ids: Sequence[str]) -> Attempt[Mapping[str, Task]]:
        """The service's state of these tasks of one channel, by id; unknown ones are absent.

        The attempt raises `NotAllowed` where the project may not read it.
        """

    def cursor(self, user: str) -> Attempt[str]:
        """The present end of the order of a user's events."""

    def read_states(self, user: str, ids: Sequence[str]) -> Attempt[Mapping[str, bool]]:
        """Whether the user has read these messages that were sent to the user by name; those that are gone (deleted,
        retracted, replaced, expired, trimmed) are absent. The attempt raises as that of `kept_tasks`."""

    def presence(self, users: Sequence[str]) -> Attempt[Mapping[str, Seen]]:
        """Who of these users is there, or was last seen when."""

    def close(self) -> None: ...


_STATUS_IN_TEXT: Final = re.compile(r"ended as (\w+)|is (cancelling|cancelled|succeeded|failed):|is (being cancelled)")


def task_status(exc: Conflict) -> str | None:
    """The status for which the service refused a change of a task; None where that was not the cause.

    A service that is one version older names it in the text only.
    """
    if "task_status" in exc.members:
        return str(exc.members["task_status"])
    match = _STATUS_IN_TEXT.search(str(exc))
    return match and ("cancelling" if match[3] else match[1] or match[2])


class Unreachable(BrokerUnavailable):
    """No answer, or one that asks to retry later: the same call may be repeated."""

    def __init__(self, detail: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
