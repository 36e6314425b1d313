"""The present end of the service's order, read before a page's data are: what is newer makes the page stale.

Must not know: templates, what a page shows.
"""

from __future__ import annotations

from typing import Final

from django_bridge import publisher
from notifier.errors import NotifierError

ATTRIBUTE: Final = "notifier_cursor"
"""Of a request: the cursor that was read before its view."""
UNKNOWN: Final = "-"
"""A cursor of no order: whatever a page shows is stale."""


def cursor_of(user: str) -> str:
    """The cursor for a page of this user, by one call to the service; `UNKNOWN` while that is away."""
    try:
        return publisher.current().cursor(user)
    except NotifierError:
        return UNKNOWN
