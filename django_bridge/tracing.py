"""The trace of the code that sends: from its current span into the payload, and from there to the delivering call.

A payload may be delivered later, by another thread or process: it carries the trace of the moment of `send()`, also in
its row of the outbox. Nothing is imported here: where the project has loaded no OpenTelemetry, or another thread is
just loading it, there is no span. Must not know: transports, the outbox.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from notifier.trace_context import TracedTime, context_text, headers_of, is_context

FIELD: Final = "_trace"
"""Of a payload. No call to the service has it in its body."""

_outgoing: ContextVar[str] = ContextVar("notifier_outgoing_trace", default="")
"""The trace of the payload that is being delivered."""


def traced(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload with the trace of the current span; the payload itself where there is none, or it has one."""
    if _api() is None or FIELD in payload:
        return payload
    context = _current()
    return {**payload, FIELD: context} if context else payload


@contextmanager
def delivering(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Within it, calls belong to the payload's trace. Yields the payload without it.

    The trace is OpenTelemetry's current one as well where there is no other, so that spans of an instrumented HTTP
    client are part of it.
    """
    if FIELD not in payload:
        yield payload
        return
    context = payload[FIELD]
    plain = {name: value for name, value in payload.items() if name != FIELD}
    if not isinstance(context, str) or not is_context(context):  # another program wrote the row
        yield plain
        return
    token = _outgoing.set(context)
    try:
        with _attached(context):
            yield plain
    finally:
        _outgoing.reset(token)


def headers() -> dict[str, str]:
    """The headers `traceparent` and `tracestate` of a call; none without a trace."""
    context = _outgoing.get() or _current()
    return headers_of(context) if context else {}


def accepted(accepted_us: int) -> int:
    """The time of acceptance of a publish straight to Redis, with its trace if that is sampled."""
    context = _outgoing.get() or _current()
    if not context or not int(context.partition(" ")[0][-2:], 16) & 1:
        return accepted_us
    return TracedTime(accepted_us or time.time_ns() // 1000, context)


def _api() -> Any:
    """The module `opentelemetry.trace`; None where it is not loaded.

    While another thread imports it, `sys.modules` has it without its names. Its package has it once it is complete.
    """
    return getattr(sys.modules.get("opentelemetry"), "trace", None)


def _current() -> str:
    """The current span's trace as text, also if it is not sampled: the service then makes no span either."""
    trace = _api()
    if trace is None:
        return ""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return ""
    parent = f"00-{trace.format_trace_id(span.trace_id)}-{trace.format_span_id(span.span_id)}-{span.trace_flags:02x}"
    return context_text(parent, span.trace_state.to_header())


@contextmanager
def _attached(context: str) -> Iterator[None]:
    if _api() is None:
        yield
        return
    from opentelemetry import context as contexts
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if trace.get_current_span().get_span_context().is_valid:
        yield
        return
    token = contexts.attach(TraceContextTextMapPropagator().extract(headers_of(context)))
    try:
        yield
    finally:
        contexts.detach(token)
