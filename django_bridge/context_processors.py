"""The variable `notifier` in every template: the configuration that a page's own script connects with."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from django_bridge.page import config_of


def notifier(request: HttpRequest) -> dict[str, Any]:
    """`{{ notifier.url }}`, `{{ notifier.token }}`, `{{ notifier.tokenUrl }}`; false for anonymous users. Computed on
    first use.

    A page that contains the token must not be kept by shared caches.
    """
    return {"notifier": SimpleLazyObject(lambda: config_of(getattr(request, "user", None)))}
