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

_NEAREST: Final = {"pt": "pt-br", "pt-pt": "pt-br", "zh": "zh-hans", "zh-cn": "zh-hans", "zh-sg": "zh-hans"}
"""The language whose texts stand for those of another."""
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
        "grantsUrl": grants_url(),
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


def grants_url() -> str | None:
    """The URL that renews a page's grants; None where the project does not include `django_bridge.urls`."""
    with contextlib.suppress(NoReverseMatch):
        return reverse("django_bridge:grants")
    return None


def _texts() -> str | None:
    """The URL of the widgets' texts in the active language; None for English and for languages without a file."""
    code = (get_language() or "").lower()
    for name in (code, _NEAREST.get(code), code.partition("-")[0]):
        if name and name != "en" and (TEXTS / f"{name}.js").is_file():
            return static(f"notifier/i18n/{name}.js")
    return None
