"""Whether this process makes spans (`NOTIFIER_TRACING`). Off, everything passes through unchanged, at no cost.

Must not know: OpenTelemetry (`spans`), which is imported only where tracing is on.
"""

from __future__ import annotations

from typing import Protocol

from notifier.broker import Broker
from notifier.call import Call
from notifier.errors import ConfigurationError
from notifier.settings import Settings
from notifier.trace_context import FirstWrite


class Tracing(Protocol):
    """What the application asks for."""

    @property
    def first_write(self) -> FirstWrite | None:
        """Receives the first writes of traced events."""

    def call(self, kind: str, call: Call) -> Call:
        """A publisher's call, within a span."""

    def broker(self, broker: Broker) -> Broker:
        """The broker as publishers' calls use it, each call of it within a span."""

    async def flush(self) -> None:
        """Export what waits: the process ends."""


class Untraced:
    """No spans."""

    first_write: FirstWrite | None = None

    def call(self, kind: str, call: Call) -> Call:
        return call

    def broker(self, broker: Broker) -> Broker:
        return broker

    async def flush(self) -> None: ...


def open_tracing(settings: Settings) -> Tracing:
    """Raises `ConfigurationError` where tracing is on and OpenTelemetry's API is not installed."""
    if not settings.tracing:
        return Untraced()
    try:
        from notifier.spans import Spans
    except ModuleNotFoundError as exc:
        if not (exc.name or "").startswith("opentelemetry"):
            raise
        raise ConfigurationError(
            "NOTIFIER_TRACING is on, but OpenTelemetry's API is not installed: pip install 'sse-notifier[tracing]'"
        ) from None
    return Spans()
