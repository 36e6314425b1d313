"""A panel for django-debug-toolbar: what a request sent, how long it took, and how this process reaches the service.

    DEBUG_TOOLBAR_PANELS = [..., "django_bridge.panel.NotifierPanel"]

Must not know: what is in a message.
"""

from __future__ import annotations

from contextlib import ExitStack

from debug_toolbar.panels import Panel
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from django_bridge import publisher
from django_bridge.conf import settings


class NotifierPanel(Panel):
    """Calls of the request's own thread or coroutine; what Celery and other threads send is not the request's."""

    title = _("Notifier")
    template = "django_bridge/debug_panel.html"
    is_async = True

    @property
    def nav_subtitle(self) -> str:
        calls = self.get_stats().get("calls", [])
        failed = sum(bool(call["error"]) for call in calls)
        said = ngettext("%d call", "%d calls", len(calls)) % len(calls)
        return f"{said}, {failed} failed" if failed else said

    def enable_instrumentation(self) -> None:
        self._noting = ExitStack()
        self._calls = self._noting.enter_context(publisher.noting())

    def disable_instrumentation(self) -> None:
        self._noting.close()

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:
        current = publisher.current()
        counts = current.counts
        self.record_stats(
            {
                "calls": [
                    {"what": one.what, "ms": round(one.took_s * 1000, 1), "error": one.error} for one in self._calls
                ],
                "transport": settings().transport,
                "sent": counts.sent,
                "repeated": counts.repeated,
                "failed": counts.failed,
                "circuit_open": current.breaker.open,
            }
        )
