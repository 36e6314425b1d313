"""A stored task: read back, and checked as if it came from outside.

Must not know: where tasks are stored, how they change.
"""

from __future__ import annotations

import json
from typing import Any

from notifier import rules
from notifier.errors import InvalidInput
from notifier.question import answer_from_fields, from_fields
from notifier.task import STATUSES, Task


def from_record(record: str | bytes) -> Task | None:
    """A stored task, or None if the record breaks a rule (a producer may write to Redis directly)."""
    try:
        fields = json.loads(record)
        own: dict[str, Any] = {"to": rules.recipients(fields["to"])}
        if "question" in fields:
            own["question"] = from_fields(fields["question"])
        if "answers" in fields:
            own["answers"] = tuple(map(answer_from_fields, fields["answers"]))
        task = Task(**{**fields, **own})
        _check(task)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return task


def _check(task: Task) -> None:
    """Raises ValueError, TypeError or OverflowError for a field that could not be shown or changed."""
    rules.identifier(task.id)
    rules.text(task.name, "name")
    rules.text(task.state, "state")
    if task.error is not None:
        rules.text(task.error, "error")
    rules.url(task.url)
    if task.url_text is not None:
        rules.text(task.url_text, "url_text", empty=False)
    if task.status not in STATUSES:
        raise InvalidInput(f"is no status: {rules.shown(task.status)}", field="status")
    if not isinstance(task.cancel_requested, bool):
        raise InvalidInput("must be true or false", field="cancel_requested")
    for field in ("done", "started_at_ms", "updated_at_ms", "version", "output_n", "output_chars"):
        rules.whole(getattr(task, field), field)
    if task.total is not None and rules.whole(task.total, "total") < task.done:
        raise InvalidInput("is over the total", field="done")
    if (task.status == "waiting") != (task.question is not None):
        raise InvalidInput("does not agree with the status", field="question")
    if task.ended != (task.ended_at_ms is not None):
        raise InvalidInput("does not agree with the status", field="ended_at_ms")
    if task.alive_at_ms is not None:
        rules.whole(task.alive_at_ms, "alive_at_ms")
    for moment_ms in (task.started_at_ms, task.updated_at_ms, task.ended_at_ms):
        rules.iso_ms(moment_ms)
