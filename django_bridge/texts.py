"""Conversion to text: lazy translations, and exceptions as users see them.

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
    """The value with every lazy translation inside it replaced by text."""
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Mapping):
        return {rendered(key): rendered(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rendered(item) for item in value]
    return value


def is_lazy(value: Any) -> bool:
    """Whether the value is or contains a lazy translation."""
    if isinstance(value, Mapping):
        return any(is_lazy(part) for pair in value.items() for part in pair)
    return isinstance(value, Promise) or (isinstance(value, list | tuple) and any(map(is_lazy, value)))


def error_text(error: object) -> str:
    """An exception or a text as valid text: characters that cannot be sent are replaced, the length is limited."""
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", str(error))
    return text if len(text) <= rules.MAX_STATE_CHARS else text[: rules.MAX_STATE_CHARS - 1] + "…"
