"""What becomes text: lazy translations, and exceptions as users may see them.

Must not know: messages, tasks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.utils.functional import Promise

from notifier import rules

_UNSENDABLE = re.compile("[\x00\ud800-\udfff]")


def rendered(value: Any) -> Any:
    """The value with every lazy translation in it as text."""
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Mapping):
        return {rendered(key): rendered(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rendered(item) for item in value]
    return value


def is_lazy(value: Any) -> bool:
    """Whether there is a lazy translation in it."""
    if isinstance(value, Mapping):
        return any(is_lazy(part) for pair in value.items() for part in pair)
    return isinstance(value, Promise) or (isinstance(value, list | tuple) and any(map(is_lazy, value)))


def error_text(error: object) -> str:
    """An exception or a text, with what cannot be sent replaced and what is too long cut."""
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", str(error))
    return text if len(text) <= rules.MAX_STATE_CHARS else text[: rules.MAX_STATE_CHARS - 1] + "…"
