"""A panel for django-debug-toolbar: the request's calls to the service, their duration, and this process's counts.

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
    """Shows the calls of the request's own thread or coroutine, not those of Celery or other threads."""

    title = _("Notifier")
    template = "django_bridge/debug_panel.html"
    is_async = True

    @property
    def nav_subtitle(self) -> str:
        calls = self.get_stats().get("calls", [])
        failed = sum(bool(call["error"]) for call in calls)
        subtitle = ngettext("%d call", "%d calls", len(calls)) % len(calls)
        return f"{subtitle}, {failed} failed" if failed else subtitle

    def enable_instrumentation(self) -> None:
        self._recording = ExitStack()
        self._calls = self._recording.enter_context(publisher.recording())

    def disable_instrumentation(self) -> None:
        self._recording.close()

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:
        current = publisher.current()
        counts = current.counts
        self.record_stats(
            {
                "calls": [
                    {"what": call.what, "ms": round(call.took_s * 1000, 1), "error": call.error} for call in self._calls
                ],
                "transport": settings().transport,
                "sent": counts.sent,
                "repeated": counts.repeated,
                "failed": counts.failed,
                "circuit_open": current.breaker.open,
            }
        )
