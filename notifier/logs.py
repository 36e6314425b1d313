"""The log of the service: on stderr, as text or as a JSON object a line (`NOTIFIER_LOG`).

A line never has a token, a key or the text of a message; requests are not logged, since their queries may have tokens.
Must not know: who logs.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any, Final, Literal

Form = Literal["text", "json"]
OWN_MEMBERS: Final = ("request_id",)
"""What a caller may add to a line by `extra`."""


class JsonFormatter(logging.Formatter):
    """A line as a JSON object: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `pid`, and where there are,
    `request_id` and `exception` (a traceback)."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": os.getpid(),
        }
        line |= {name: value for name in OWN_MEMBERS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configuration(level: str, form: Form) -> dict[str, Any]:
    """All logs to stderr, in one form, for `logging.config.dictConfig`."""
    forms = {
        "text": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "json": {"()": "notifier.logs.JsonFormatter"},
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": forms,
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": form}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {"uvicorn.error": {"level": level.upper()}},
    }
