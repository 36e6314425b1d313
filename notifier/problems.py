"""An error as problem+json (RFC 9457): its body and its headers.

Must not know: HTTP frameworks; which calls there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from notifier import rules
from notifier.errors import BrokerUnavailable, NotAllowed, NotifierError, RateLimited, Unauthenticated

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to an error, without its status and media type."""

    body: bytes
    headers: dict[str, str]


def answer(exc: NotifierError) -> Answer:
    """The response to an error."""
    headers: dict[str, str] = {"Cache-Control": "no-store"}
    if isinstance(exc, Unauthenticated):
        code = f', error="{exc.code}"' if exc.code else ""
        headers["WWW-Authenticate"] = f'Bearer realm="notifier"{code}'
    elif isinstance(exc, NotAllowed):
        headers["WWW-Authenticate"] = 'Bearer realm="notifier", error="insufficient_scope"'
    elif isinstance(exc, RateLimited):
        headers |= {"Retry-After": str(max(1, math.ceil(exc.retry_after_s))), **exc.headers}
    elif isinstance(exc, BrokerUnavailable):
        headers["Retry-After"] = "2"
    return Answer(rules.to_json(fields(exc)).encode("utf-8", "replace"), headers)


def fields(exc: NotifierError) -> dict[str, Any]:
    """The members of the body, with the offending field."""
    members: dict[str, Any] = {
        "type": "about:blank",
        "title": exc.title,
        "status": exc.status,
        "detail": str(exc),
    }
    if exc.field is not None:
        members["field"] = exc.field
        members["errors"] = [{"field": exc.field, "detail": exc.detail}]
    return members
