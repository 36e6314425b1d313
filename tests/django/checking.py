"""Settings of a project, and what `manage.py check` says of them."""

from __future__ import annotations

from importlib import import_module
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db.models.signals import class_prepared
from django.test import override_settings

from django_bridge import grants, live_signals
from tests.support import API_KEY, JWT_SECRET

SESSION, AUTHENTICATION, LOCALE = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.locale.LocaleMiddleware",
)
GOOD_HTTP = {"TRANSPORT": "http", "URL": "http://notifier:8000", "API_KEY": API_KEY, "JWT_SECRET": JWT_SECRET}
GOOD_REDIS = {"TRANSPORT": "redis", "REDIS_URL": "rediss://:word@redis:6379/1", "JWT_SECRET": JWT_SECRET}


def checked(value: object, **options: Any) -> str:
    """The output of `manage.py check`."""
    output = StringIO()
    with override_settings(NOTIFIER=value):
        try:
            call_command("check", stdout=output, stderr=output, **options)
        except SystemCheckError as exc:
            output.write(str(exc))
    return output.getvalue()


def no_live_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the test project is live."""
    import_module(settings.ROOT_URLCONF)  # registers what is live
    monkeypatch.setattr(grants, "_permissions", {})
    receivers = [each for each in class_prepared.receivers if not str(each[0][0]).startswith(live_signals._OWN)]
    monkeypatch.setattr(class_prepared, "receivers", receivers)
