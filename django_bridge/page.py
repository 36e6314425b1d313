"""The configuration that a page's scripts connect with: address, token, language.

Must not know: templates, how the client uses it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.translation import get_language

from django_bridge.conf import settings
from django_bridge.event_loop import outside_loop
from django_bridge.tokens import subscriber_token

TOKEN_VIEWS: Final[list[Callable[..., Any]]] = []
"""Views of this process that answer their own address with `?notifier-token` as the token view does."""
TOKEN_QUERY: Final = "notifier-token"  # noqa: S105  # a name
TEXTS: Final = Path(__file__).parent / "static" / "notifier" / "i18n"


@outside_loop
def config_of(user: Any) -> dict[str, Any] | None:
    """The configuration that `client/django.js` reads; None for anonymous users and without a user."""
    if user is None or not user.is_authenticated:
        return None
    return {
        "url": settings().public_url,
        "token": subscriber_token(user),
        "tokenUrl": token_url(),
        "texts": _texts(),
    }


def token_url() -> str | None:
    """The URL that renews a page's token; None where the project neither includes `django_bridge.urls` nor has a
    `progress_page`."""
    with contextlib.suppress(NoReverseMatch):
        return reverse("django_bridge:token")
    for view in TOKEN_VIEWS:
        with contextlib.suppress(NoReverseMatch):
            return f"{reverse(view)}?{TOKEN_QUERY}"
    return None


def _texts() -> str | None:
    """The URL of the widgets' texts in the active language; None for English and for languages without a file."""
    language = (get_language() or "").partition("-")[0]
    if language == "en" or not (TEXTS / f"{language}.js").is_file():
        return None
    return static(f"notifier/i18n/{language}.js")
