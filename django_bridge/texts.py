"""Conversion to text: lazy translations, and exceptions as users see them.

Must not know: messages, tasks.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from django_bridge.conf import settings
from notifier import rules

log = logging.getLogger("django_bridge")

GENERIC_ERROR: Final = _("Something went wrong.")
"""What users see of an exception, unless `NOTIFIER["ERROR_TEXT"]` says more."""
MAX_TRACEBACK_CHARS: Final = 20_000
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


def shown_error(error: object) -> str:
    """What users see of an exception: the result of `NOTIFIER["ERROR_TEXT"]`, or a generic text. A text stays.

    An error of that function is logged, and the generic text is shown: this is called in error handling.
    """
    if not isinstance(error, BaseException):
        return error_text(error)
    function = settings().error_text
    try:
        own = (import_string(function) if isinstance(function, str) else function)(error) if function else None
        return error_text(rendered(own)) if own else str(GENERIC_ERROR)
    except Exception:
        log.exception("NOTIFIER['ERROR_TEXT'] failed for %s", type(error).__name__)
        return str(GENERIC_ERROR)


def traceback_text(error: BaseException) -> str:
    """The traceback, for staff; of a long one the end."""
    return _valid("".join(traceback.format_exception(error)))[-MAX_TRACEBACK_CHARS:]


def error_text(error: object) -> str:
    """An exception or a text as valid text: characters that cannot be sent are replaced, the length is limited."""
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = _valid(str(error))
    return text if len(text) <= rules.MAX_STATE_CHARS else text[: rules.MAX_STATE_CHARS - 1] + "…"


def _valid(text: str) -> str:
    return _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", text)
