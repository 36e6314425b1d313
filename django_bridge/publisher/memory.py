"""The transport `memory`: everything stays in this process, in `django_bridge.testing.outbox`.

Values are checked by the same rules as with the other transports.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from django_bridge.payload import EventBody, Payload, per_language, to_custom_event, to_event, with_defaults
from django_bridge.publisher.transport import Attempt, Seen, TaskAnswer
from django_bridge.testing import outbox
from notifier.output import Appended
from notifier.question import Answer, Question
from notifier.task import Task


class MemoryTransport:
    """Keeps messages, events and every state of tasks for tests, at once."""

    is_remote = False

    def message(self, payload: Payload) -> Iterator[Attempt[object]]:
        for translated in per_language(payload):
            to_event(translated)
            yield partial(_put_message, translated)

    def retract(self, message_id: str, to: Sequence[str]) -> Iterator[Attempt[object]]:
        yield lambda within_s: outbox.put_retraction(message_id, to)

    def correct(self, message_id: str, to: Sequence[str], changes: Mapping[str, Any]) -> Iterator[Attempt[object]]:
        yield lambda within_s: outbox.put_correction(message_id, to, changes)

    def event(self, body: EventBody, key: str) -> Iterator[Attempt[object]]:
        to_custom_event(body)
        yield lambda within_s: outbox.put_event(body)

    def create_task(self, task: Task, key: str) -> Attempt[TaskAnswer]:
        return lambda within_s: TaskAnswer.of(outbox.put_task(task))

    def change_task(self, task_id: str, change: Mapping[str, object], key: str) -> Attempt[TaskAnswer]:
        now_ms = int(time.time() * 1000)
        return lambda within_s: TaskAnswer.of(outbox.put_task(outbox.kept_task(task_id).changed(change, now_ms=now_ms)))

    def ask(self, task_id: str, question: Question, key: str) -> Attempt[object]:
        return lambda within_s: outbox.put_question(task_id, question)

    def answer(self, task_id: str, question_id: str) -> Attempt[Answer | None]:
        return lambda within_s: outbox.answer_to(task_id, question_id)

    def append_output(self, task_id: str, text: str, key: str) -> Attempt[Appended]:
        return lambda within_s: outbox.append_output(task_id, text)

    def kept_tasks(self, channel: str, ids: Sequence[str]) -> Attempt[Mapping[str, Task]]:
        return lambda within_s: {task_id: outbox.kept_task(task_id) for task_id in ids if outbox.has_task(task_id)}

    def cursor(self, user: str) -> Attempt[str]:
        return lambda within_s: f"memory-{len(outbox.receiving.events)}"

    def read_states(self, user: str, ids: Sequence[str]) -> Attempt[Mapping[str, bool]]:
        sent = {message["id"] for message in outbox.receiving.messages}
        return lambda within_s: {
            message_id: (user, message_id) in outbox.receiving.read for message_id in ids if message_id in sent
        }

    def presence(self, users: Sequence[str]) -> Attempt[Mapping[str, Seen]]:
        return lambda within_s: {user: Seen(False, None) for user in users}

    def close(self) -> None:
        """Nothing to close; the outbox keeps its contents."""


def _put_message(payload: Payload, within_s: float) -> object:
    return outbox.put_message(with_defaults(payload))
