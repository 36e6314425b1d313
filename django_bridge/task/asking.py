"""The questions of a task to the users who watch it.

Must not know: how a question is sent, who answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from asgiref.sync import sync_to_async

from django_bridge.publisher.transport import task_status
from django_bridge.task.answers import answering_task
from django_bridge.task.cancel import TaskCancelled
from django_bridge.task.context import SupportsTask
from django_bridge.task.output import TaskOutput
from django_bridge.task.pending import Pending
from django_bridge.texts import rendered
from notifier.errors import Conflict
from notifier.question import TIMEOUT_S, Answer, ask

PAUSE_S: Final = (0.25, 2.0)
"""Between two looks for an answer: the first, and the longest."""


class TaskQuestions(TaskOutput):
    """What a task asks. Begins the task if needed.

    choices: value and text of each button, or `input="text"` for a field. After `timeout` seconds the answer is
    `default`. A question is asked once under its `key`: a worker that restarts and asks again gets the answer that was
    given meanwhile. Without a key it is the text and the choices, and how often this process has asked them.

    Raises `InvalidInput`, `TaskCancelled` where a user cancels instead of answering, and `Conflict` after the end.
    """

    def ask(
        self: SupportsTask,
        text: Any,
        choices: Mapping[str, Any] | None = None,
        *,
        input: str | None = None,  # noqa: A002  # its name on the wire
        default: str | None = None,
        timeout: int = TIMEOUT_S,
        key: str | None = None,
    ) -> str | None:
        """Ask, and wait for the first answer: the value of a choice, or the text."""
        pending = _ask(self, text, choices, input, default, timeout, key)
        for pause_s in _pauses():
            answer = _look(self, pending)
            if answer is not None:
                return answer.value
            time.sleep(pause_s)
        raise AssertionError("the pauses do not end")

    async def aask(
        self: SupportsTask,
        text: Any,
        choices: Mapping[str, Any] | None = None,
        *,
        input: str | None = None,  # noqa: A002  # its name on the wire
        default: str | None = None,
        timeout: int = TIMEOUT_S,  # noqa: ASYNC109  # the users' time, not that of the call
        key: str | None = None,
    ) -> str | None:
        """As `ask`, without blocking the event loop."""
        pending = await sync_to_async(_ask)(self, text, choices, input, default, timeout, key)
        for pause_s in _pauses():
            answer = await sync_to_async(_look)(self, pending)
            if answer is not None:
                return answer.value
            await asyncio.sleep(pause_s)
        raise AssertionError("the pauses do not end")

    def ask_later(
        self: SupportsTask,
        text: Any,
        choices: Mapping[str, Any] | None = None,
        *,
        then: Any,
        input: str | None = None,  # noqa: A002  # its name on the wire
        default: str | None = None,
        timeout: int = TIMEOUT_S,
        key: str | None = None,
    ) -> None:
        """Ask, and return at once. `then` is a Celery signature: it runs with the answer as its first argument.

        No worker waits meanwhile: a Celery task looks for the answer now and then. A cancel, or the end of the task,
        drops the signature.
        """
        pending = _ask(self, text, choices, input, default, timeout, key)
        _look(self, pending)
        self._hand_over()
        looking = answering_task()
        looking.apply_async(
            (self.id, pending.question.id, default, pending.until, dict(then), pending.fields()), countdown=1
        )


def _ask(
    task: SupportsTask,
    text: Any,
    choices: Mapping[str, Any] | None,
    free: str | None,
    default: str | None,
    timeout: int,
    key: str | None,
) -> Pending:
    asked = task._prepare_question()
    words = str(task._text(text))
    ways = None
    if choices is not None:
        ways = [{"value": value, "text": str(task._text(rendered(shown)))} for value, shown in choices.items()]
    if key is None:
        # The values, not their texts: the language may be another one after a restart.
        digest = hashlib.sha256(repr([words, list(choices or ())]).encode()).hexdigest()[:24]
        asked[digest] += 1
        key = f"{digest}-{asked[digest]}"
    else:
        key = hashlib.sha256(key.encode()).hexdigest()[:32]
    question = ask(
        text=words,
        choices=ways,
        free=free,
        default=default,
        timeout_s=timeout,
        question_id=key,
        now_ms=int(time.time() * 1000),
    )
    return Pending(task.id, question)


def _look(task: SupportsTask, pending: Pending) -> Answer | None:
    """As `Pending.look`; where a user has cancelled, end the task as cancelled and raise `TaskCancelled`."""
    try:
        return pending.look()
    except Conflict as exc:
        if task_status(exc) not in ("cancelling", "cancelled"):
            raise
        task.cancelled(task.cancelled_text)
        raise TaskCancelled(task.id) from None


def _pauses() -> Iterator[float]:
    pause_s, longest_s = PAUSE_S
    while True:
        yield pause_s
        pause_s = min(longest_s, pause_s * 1.2)
