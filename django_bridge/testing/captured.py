"""The outbox of the transport `memory`, and blocks that capture what is sent inside them.

Must not know: assertions.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from notifier.asking import answered, asked, looked_up
from notifier.errors import no_task
from notifier.output import Appended
from notifier.question import Answer, Question
from notifier.task import Task

if TYPE_CHECKING:
    from django_bridge.payload import EventBody, Payload


class Outbox:
    """Everything sent over the transport `memory`, in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self.captures: list[Outbox] = []
        """Open captures. The last one receives everything instead of this outbox."""
        self.messages: list[Payload] = []
        """Messages with `id to subject text from level url data sent_at expires_at`."""
        self.events: list[EventBody] = []
        """Custom events with `to type data`."""
        self.retracted: list[str] = []
        """The ids of retracted messages, which `messages` no longer has; a corrected message there has `edited`."""
        self.task_updates: list[Mapping[str, Any]] = []
        """Each state of each task, as sent to browsers."""
        self.read: set[tuple[str, str]] = set()
        """User and message id of what was marked by `mark_read`."""
        self._outputs: dict[str, str] = {}
        self._answers: deque[str] = deque()

    @property
    def tasks(self) -> list[Mapping[str, Any]]:
        """The latest state of each task, in the order of their begin."""
        return [task.public() for task in self._tasks.values()]

    @property
    def receiving(self) -> Outbox:
        """The innermost open capture; without any, this outbox."""
        return self.captures[-1] if self.captures else self

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            self.messages.clear()
            self.events.clear()
            self.retracted.clear()
            self.read.clear()
            self.task_updates.clear()
            self._tasks.clear()
            self._outputs.clear()
            self._answers.clear()

    def mark_read(self, message_id: str, user: Any) -> None:
        """As a user (itself or its id) who reads a message: `notifier_escalate` sees it."""
        self.receiving.read.add((str(getattr(user, "pk", user)), message_id))

    def request_cancel(self, task: Any) -> None:
        """As a user's click on "cancel" of this task, a `Task` or its id. Raises `NotFound`, and `Conflict` where the
        task has ended."""
        self.put_task(self.kept_task(str(getattr(task, "id", task))).cancelled_by_user(now_ms=int(time.time() * 1000)))

    def output_of(self, task: Any) -> str:
        """The output that a task, a `Task` or its id, has written so far."""
        return self._outputs.get(str(getattr(task, "id", task)), "")

    def answer_with(self, *values: str) -> None:
        """The answers to the next questions, in order; a question without one gets its default."""
        self.receiving._answers.extend(values)

    # For the transport

    def put_message(self, payload: Payload) -> bool:
        if self.captures:
            return self.captures[-1].put_message(payload)
        with self._lock:
            if all((kept["id"], kept["to"]) != (payload["id"], payload["to"]) for kept in self.messages):
                self.messages.append(payload)
        return True

    def put_retraction(self, message_id: str, to: Sequence[str]) -> bool:
        for owner in (self, *self.captures):
            owner._leave_out(message_id, to)
        self.receiving.retracted.append(message_id)
        return True

    def _leave_out(self, message_id: str, to: Sequence[str]) -> None:
        with self._lock:
            for n, message in enumerate(self.messages):
                if message["id"] == message_id:
                    self.messages[n] = {**message, "to": [channel for channel in message["to"] if channel not in to]}
            self.messages[:] = [message for message in self.messages if message["to"]]

    def put_correction(self, message_id: str, to: Sequence[str], changes: Mapping[str, Any]) -> bool:
        for owner in (self, *self.captures):
            with owner._lock:
                for n, message in enumerate(owner.messages):
                    if message["id"] == message_id and not set(to).isdisjoint(message["to"]):
                        owner.messages[n] = {**message, **changes, "edited": True}
        return True

    def put_event(self, body: EventBody) -> bool:
        if self.captures:
            return self.captures[-1].put_event(body)
        with self._lock:
            self.events.append(body)
        return True

    def put_task(self, task: Task) -> Task:
        if self.captures:
            return self.captures[-1].put_task(task)
        with self._lock:
            self._tasks[task.id] = task
            self.task_updates.append(task.public())
        return task

    def put_question(self, task_id: str, question: Question) -> Task:
        return self.put_task(asked(self.kept_task(task_id), question, now_ms=int(time.time() * 1000)))

    def answer_to(self, task_id: str, question_id: str) -> Answer | None:
        """The answer that the test gave, else the default, at once."""
        task, answers, now_ms = self.kept_task(task_id), self.receiving._answers, int(time.time() * 1000)
        if task.question is not None and answers:
            value = answers.popleft()
            task = self.put_task(answered(task, question_id, value, by_id="test", by_name=None, now_ms=now_ms))
        elif task.question is not None:
            now_ms = task.question.expires_at_ms
        present, answer = looked_up(task, question_id, now_ms=now_ms)
        if present is not task:
            self.put_task(present)
        return answer

    def append_output(self, task_id: str, text: str) -> Appended:
        if self.captures:
            return self.captures[-1].append_output(task_id, text)
        task = self.kept_task(task_id)
        task = task.with_output(task.output_n + 1, task.output_chars + len(text))
        with self._lock:
            self._tasks[task_id] = task
            self._outputs[task_id] = self._outputs.get(task_id, "") + text
        return Appended(task.output_n, task.output_chars, task.cancel_requested)

    def has_task(self, task_id: str) -> bool:
        return any(task_id in owner._tasks for owner in (self, *self.captures))

    def kept_task(self, task_id: str) -> Task:
        for capture in reversed(self.captures):
            if task_id in capture._tasks:
                return capture._tasks[task_id]
        if task_id not in self._tasks:
            raise no_task(task_id)
        return self._tasks[task_id]


outbox: Final = Outbox()


@contextmanager
def capture_notifications() -> Iterator[Outbox]:
    """An `Outbox` of everything sent inside the block, with any transport; nothing of it leaves the process.

    Messages that wait for a commit are captured when the block ends, since a `TestCase` never commits. Of nested blocks
    the innermost captures. The `Outbox` can be read after the block.
    """
    # Imported here, since the transport `memory` loads this module outside tests too.
    from django.conf import settings
    from django.test import TestCase, override_settings

    captured = Outbox()
    memory = {**(getattr(settings, "NOTIFIER", None) or {}), "TRANSPORT": "memory", "TEST_TRANSPORT": "memory"}
    outbox.captures.append(captured)
    try:
        with override_settings(NOTIFIER=memory), TestCase.captureOnCommitCallbacks(execute=True):
            yield captured
    finally:
        outbox.captures.remove(captured)
