"""A question of a task until it has its answer: asked, asked again where the service did not get it or has lost it.

Must not know: `Task`, Celery, how long a caller waits between two looks.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any, Final, Self

from django.db import Error

from django_bridge import publisher
from django_bridge.event_loop import outside_loop
from notifier.errors import Conflict, InvalidInput, NotFound, NotifierError
from notifier.event import new_id
from notifier.question import Answer, Question, from_fields

log = logging.getLogger("django_bridge")

GRACE_S: Final = 10.0
"""The service itself gives the default at the timeout. This long after it, a service that cannot be reached is not
waited for."""


class Pending:
    """A question without an answer. Its users have its whole timeout from the call that reached the service."""

    def __init__(self, task_id: str, question: Question, *, is_asked: bool = False, until: float | None = None) -> None:
        """`until`: time (s since 1970) after which a service that cannot be reached is not waited for."""
        self.task_id = task_id
        self.question = question
        self.is_asked = is_asked
        self._deadline = self._full_wait() if until is None else time.monotonic() + until - time.time()

    @property
    def until(self) -> float:
        """See `__init__`."""
        return time.time() + self._deadline - time.monotonic()

    def fields(self) -> dict[str, Any]:
        """What another process needs beside `until` to look for the answer: as JSON, for `from_fields`."""
        return {"question": dataclasses.asdict(self.question), "is_asked": self.is_asked}

    @classmethod
    def from_fields(cls, task_id: str, until: float, fields: Mapping[str, Any]) -> Self:
        return cls(task_id, from_fields(fields["question"]), is_asked=fields["is_asked"], until=until)

    def look(self) -> Answer | None:
        """The answer; None while there is none. Raises `Conflict` where the task was cancelled or has ended, and
        `InvalidInput`."""
        answer = None
        try:
            if not self.is_asked:
                self._ask()
            if self.is_asked:
                answer = publisher.current().answer(self.task_id, self.question.id)
        except (Conflict, InvalidInput):
            raise
        except NotFound:
            self.is_asked = False
            self._restore_task()
        except NotifierError as exc:
            log.warning("the answer to a question of task %s cannot be read: %s", self.task_id, exc)
        if answer is None and time.monotonic() > self._deadline:
            return Answer(self.question.id, self.question.default, None, None, 0)
        return answer

    def _ask(self) -> None:
        timeout_ms = self.question.expires_at_ms - self.question.asked_at_ms
        now_ms = int(time.time() * 1000)
        self.question = dataclasses.replace(self.question, asked_at_ms=now_ms, expires_at_ms=now_ms + timeout_ms)
        self.is_asked = publisher.current().ask(self.task_id, self.question, new_id()).settled
        if self.is_asked:
            self._deadline = self._full_wait()

    def _full_wait(self) -> float:
        timeout_s = (self.question.expires_at_ms - self.question.asked_at_ms) / 1000
        return time.monotonic() + timeout_s + GRACE_S

    @outside_loop
    def _restore_task(self) -> None:
        """Create the task in the service from its row: the service never got it, or has lost its data."""
        from django_bridge.task import records  # loads the models: too early where a models module imports `Task`

        try:
            known, _ = records.read(self.task_id)
            if known.to:
                publisher.current().create_task(known, new_id())
        except (Conflict, NotFound):  # another process was first; or the row is gone
            return
        except (NotifierError, Error) as exc:
            log.warning("task %s cannot be created again: %s", self.task_id, exc)
