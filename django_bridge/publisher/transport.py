"""What a transport is: four kinds of calls, each as a try that can be repeated.

Must not know: when a try is repeated, which transports there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from django_bridge.payload import EventBody, Payload
from notifier.errors import BrokerUnavailable, InvalidInput, MalformedBody, PayloadTooLarge
from notifier.task import Task

T = TypeVar("T")

REFUSED = (InvalidInput, MalformedBody, PayloadTooLarge)
"""The service refused a call for what it is: sending it again would change nothing."""

Attempt = Callable[[float], T]
"""One try that takes at most that many seconds. The same however often it is repeated: its key is inside."""


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """What the service says about a task after a change."""

    done: int
    total: int | None
    cancel_requested: bool
    updated_at_ms: int = 0
    """By the clock of whoever keeps the task: the order of its states."""


class Transport(Protocol):
    """How calls leave. Tries raise `Unreachable` where another try may help, else another `NotifierError`."""

    is_remote: bool
    """Whether calls leave this process: then they are paced, and signs of life are given."""

    def message(self, payload: Payload) -> Iterable[Attempt[object]]:
        """The calls that together bring a message to all of its recipients."""

    def event(self, body: EventBody, key: str) -> Iterable[Attempt[object]]:
        """The calls that together bring an event to all of its recipients."""

    def create_task(self, task: Task, key: str) -> Attempt[TaskAnswer]:
        """Stores all of a task's state under its id."""

    def change_task(self, task_id: str, change: Mapping[str, object], key: str) -> Attempt[TaskAnswer]:
        """Changes a task. Its try raises `NotFound` where the service does not know it, `Conflict` where it ended."""

    def kept_tasks(self, channel: str, ids: Sequence[str]) -> Attempt[Mapping[str, Task]]:
        """What is kept of these tasks, which this channel watches, by id; those that are not known any more are absent.

        Its try raises `NotAllowed` where the project cannot ask.
        """

    def close(self) -> None: ...


class Unreachable(BrokerUnavailable):
    """No answer, or one that says "later": the same call may be tried again."""

    def __init__(self, detail: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
