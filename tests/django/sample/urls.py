"""URLs of a project that does not include `django_bridge.urls`."""

from __future__ import annotations

urlpatterns: list[object] = []
