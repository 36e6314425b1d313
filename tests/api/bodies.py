"""Request bodies of the publishing calls, valid or with changed fields."""

from __future__ import annotations

import json
from typing import Any

from tests.api.support import User


class Omit:
    """The type of `OMIT`. Its name in test ids is the same in every run."""

    def __repr__(self) -> str:
        return "OMIT"


OMIT = Omit()
"""Marks a field to leave out of the body."""
PAST = "2020-01-01T00:00:00+00:00"

BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"subject": "Test", "text": "Text"},
    "/v1/events": {"type": "order.paid", "data": {}},
    "/v1/tasks": {"name": "Import", "total": 10},
}


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def body_for(path: str, user: User, changed: dict[str, Any]) -> bytes:
    """A valid body of a call with some fields changed or left out; surrogates and NUL are escaped as in JSON."""
    body = {"to": [user.channel], **BODIES[path], **changed}
    return json.dumps({name: value for name, value in body.items() if value is not OMIT}).encode()
