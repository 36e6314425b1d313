"""A task's question to the users who watch it, and the answer: values, and what a publisher or a user may give.

Pure. Must not know: tasks' states, brokers, HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from notifier import rules
from notifier.errors import InvalidInput
from notifier.event import new_id

MAX_CHOICES: Final = 10
MAX_VALUE_CHARS: Final = 2000
MAX_CHOICE_CHARS: Final = 255
MAX_TIMEOUT_S: Final = 7 * 24 * 3600
"""As long as a task that nothing changes is stored."""
TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Question:
    """An open question. Times are ms since 1970."""

    id: str
    text: str
    choices: tuple[tuple[str, str], ...]
    """Value and text of each; empty where the answer is any text."""
    default: str | None
    """The answer after the timeout."""
    asked_at_ms: int
    expires_at_ms: int
    beats: bool = False
    """True if heartbeats are expected from the task's producer once the question is answered."""

    def public(self) -> dict[str, Any]:
        """The fields of the task's JSON."""
        return {
            "id": self.id,
            "text": self.text,
            "choices": [{"value": value, "text": text} for value, text in self.choices] or None,
            "input": None if self.choices else "text",
            "asked_at": rules.iso_ms(self.asked_at_ms),
            "expires_at": rules.iso_ms(self.expires_at_ms),
        }

    def checked(self, value: object) -> str:
        """A user's answer. Raises `InvalidInput` for what is no choice."""
        answer = rules.text(value, "value", max_chars=MAX_VALUE_CHARS, empty=False)
        values = [choice for choice, _ in self.choices]
        if values and answer not in values:
            raise InvalidInput(f"must be one of {', '.join(values)}, not {rules.shown(answer)}", field="value")
        return answer


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question."""

    question: str
    value: str | None
    by_id: str | None
    """The user who gave it; None after the timeout."""
    by_name: str | None
    answered_at_ms: int

    def public(self) -> dict[str, Any]:
        """The fields of the response."""
        by = None if self.by_id is None else {"id": self.by_id, "name": self.by_name}
        return {"value": self.value, "by": by, "answered_at": rules.iso_ms(self.answered_at_ms)}

    def on_task(self) -> dict[str, Any]:
        """The field `answer` of the task's JSON: users who watch it see who answered."""
        return {"question": self.question, **self.public()}


def ask(
    *,
    text: object,
    choices: Sequence[Mapping[str, object]] | None,
    free: object,
    default: object,
    timeout_s: object,
    question_id: object,
    now_ms: int,
) -> Question:
    """A new question; `free` is the field `input`. Raises `InvalidInput`."""
    if (choices is None) == (free is None):
        raise InvalidInput("is required, or input: one of them", field="choices")
    if free not in (None, "text"):
        raise InvalidInput(f"must be 'text', not {rules.shown(free)}", field="input")
    timeout = rules.whole(timeout_s, "timeout_s")
    if not 1 <= timeout <= MAX_TIMEOUT_S:
        raise InvalidInput(f"must be from 1 to {MAX_TIMEOUT_S}, not {timeout}", field="timeout_s")
    question = Question(
        id=new_id() if question_id is None else rules.identifier(question_id),
        text=rules.text(text, "text", max_chars=rules.MAX_STATE_CHARS, empty=False),
        choices=() if choices is None else _choices(choices),
        default=None,
        asked_at_ms=now_ms,
        expires_at_ms=now_ms + 1000 * timeout,
    )
    return question if default is None else _with_default(question, default)


def _choices(choices: Sequence[Mapping[str, object]]) -> tuple[tuple[str, str], ...]:
    if not 1 <= len(choices) <= MAX_CHOICES:
        raise InvalidInput(f"must have 1 to {MAX_CHOICES} items, not {len(choices)}", field="choices")
    checked: list[tuple[str, str]] = []
    for place, choice in enumerate(choices):
        value, text = (
            rules.text(choice[name], f"choices[{place}].{name}", max_chars=MAX_CHOICE_CHARS, empty=False)
            for name in ("value", "text")
        )
        if value in dict(checked):
            raise InvalidInput(f"is there twice: {rules.shown(value)}", field=f"choices[{place}].value")
        checked.append((value, text))
    return tuple(checked)


def _with_default(question: Question, default: object) -> Question:
    try:
        value = question.checked(default)
    except InvalidInput as exc:
        raise InvalidInput(exc.detail, field="default") from None
    return Question(
        question.id,
        question.text,
        question.choices,
        value,
        question.asked_at_ms,
        question.expires_at_ms,
    )


def from_fields(fields: Mapping[str, Any]) -> Question:
    """A question of a stored record. Raises ValueError, TypeError or KeyError where it breaks a rule."""
    question = Question(**{**fields, "choices": tuple((value, text) for value, text in fields["choices"])})
    rules.identifier(question.id)
    for value in (question.text, *(part for choice in question.choices for part in choice)):
        rules.text(value, "question")
    if question.default is not None:
        rules.text(question.default, "question")
    for moment_ms in (question.asked_at_ms, question.expires_at_ms):
        rules.iso_ms(rules.whole(moment_ms, "question"))
    return question


def answer_from_fields(fields: Mapping[str, Any]) -> Answer:
    """An answer of a stored record. Raises ValueError, TypeError or KeyError where it breaks a rule."""
    answer = Answer(**fields)
    rules.identifier(answer.question)
    for value in (answer.value, answer.by_id, answer.by_name):
        if value is not None:
            rules.text(value, "answers")
    rules.iso_ms(rules.whole(answer.answered_at_ms, "answers"))
    return answer
