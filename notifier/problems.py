"""An error as problem+json (RFC 9457): its body and its headers.

Must not know: HTTP frameworks; which calls there are.
"""

from __future__ import annotations

import math
from typing import Any, Final

from notifier import json_text
from notifier.call import NO_STORE, Answer, Headers
from notifier.errors import BrokerUnavailable, KeysUnavailable, NotAllowed, NotifierError, RateLimited, Unauthenticated

CONTENT_TYPE: Final = (b"content-type", b"application/problem+json")


def answer(exc: NotifierError, headers: Headers = (), **members: object) -> Answer:
    """The response to an error; `members` are further members of the body."""
    lines = dict((*headers, NO_STORE))
    if isinstance(exc, Unauthenticated):
        code = f', error="{exc.code}"' if exc.code else ""
        lines[b"www-authenticate"] = f'Bearer realm="notifier"{code}'.encode()
    elif isinstance(exc, NotAllowed):
        lines[b"www-authenticate"] = b'Bearer realm="notifier", error="insufficient_scope"'
    elif isinstance(exc, RateLimited):
        lines.update(exc.headers)
    if wait_s := retry_after_s(exc):
        lines[b"retry-after"] = b"%d" % wait_s
    body = json_text.to_json({**fields(exc), **members}).encode("utf-8", "replace")
    return Answer(exc.status, (*lines.items(), CONTENT_TYPE), body)


def retry_after_s(exc: NotifierError) -> int:
    """After how many seconds the call may be repeated; 0 where that does not help."""
    if isinstance(exc, RateLimited):
        return max(1, math.ceil(exc.retry_after_s))
    return 2 if isinstance(exc, BrokerUnavailable | KeysUnavailable) else 0


def fields(exc: NotifierError) -> dict[str, Any]:
    """The members of the body, with the offending field."""
    members: dict[str, Any] = {
        "type": "about:blank",
        "title": exc.title,
        "status": exc.status,
        "detail": str(exc),
        **exc.members,
    }
    if exc.field is not None:
        members["field"] = exc.field
        members["errors"] = [{"field": exc.field, "detail": exc.detail}]
    return members
