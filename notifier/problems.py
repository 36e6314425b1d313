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


def answer(exc: NotifierError, **members: object) -> Answer:
    """The response to an error; `members` are further members of the body."""
    headers: dict[str, str] = {"Cache-Control": "no-store"}
    if isinstance(exc, Unauthenticated):
        code = f', error="{exc.code}"' if exc.code else ""
        headers["WWW-Authenticate"] = f'Bearer realm="notifier"{code}'
    elif isinstance(exc, NotAllowed):
        headers["WWW-Authenticate"] = 'Bearer realm="notifier", error="insufficient_scope"'
    elif isinstance(exc, RateLimited):
        headers |= exc.headers
    if wait_s := retry_after_s(exc):
        headers["Retry-After"] = str(wait_s)
    return Answer(rules.to_json({**fields(exc), **members}).encode("utf-8", "replace"), headers)


def retry_after_s(exc: NotifierError) -> int:
    """After how many seconds the call may be repeated; 0 where that does not help."""
    if isinstance(exc, RateLimited):
        return max(1, math.ceil(exc.retry_after_s))
    return 2 if isinstance(exc, BrokerUnavailable) else 0


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
