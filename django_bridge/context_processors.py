"""`notifier` in every template: what a page's own script needs to connect. Made only where a template asks for it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from django_bridge.page import config_of


def notifier(request: HttpRequest) -> dict[str, Any]:
    """`{{ notifier.url }}`, `{{ notifier.token }}`, `{{ notifier.tokenUrl }}`; false for anonymous users.

    A page that shows the token must not be kept by shared caches.
    """
    return {"notifier": SimpleLazyObject(lambda: config_of(getattr(request, "user", None)))}
