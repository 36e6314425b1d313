"""The present end of the service's order, read before a page's data are: what is newer makes the page stale.

Must not know: templates, what a page shows.
"""

from __future__ import annotations

from typing import Final

from django_bridge import publisher
from django_bridge.publisher.transport import Unreachable
from notifier.errors import NotifierError

ATTRIBUTE: Final = "notifier_cursor"
"""Of a request: the cursor that was read before its view. The middleware sets it on every request."""
UNKNOWN: Final = "-"
"""A cursor of no order: whatever a page shows is stale."""


def cursor_of(user: str) -> str:
    """The cursor for a page of this user, by one short call to the service; `UNKNOWN` while that is away or slow, or
    refuses it."""
    current = publisher.current()
    try:
        return current.cursor(user)
    except NotifierError as exc:
        if not isinstance(exc, Unreachable):  # nothing heals this, and pages only become slower
            current.failures.failed(exc, f"a page's cursor could not be read, its live parts are fetched again: {exc}")
        return UNKNOWN
