"""Spans by OpenTelemetry's API: of a publish, of the broker's part in it, of the event's first write in each process.

    publish message (SERVER)            parent: the request's `traceparent`
      broker publish (PRODUCER)
        first write (CONSUMER)          in each process that has streams for it, however the event came there

A span is made only within a sampled trace, so an unsampled publish costs one decision. No span has an id of a user, a
text of a message or of an error: traces are read by more people than messages.

Which SDK records the spans, and where they are exported to, OpenTelemetry's own variables and programs say (OTEL_*).
Sources: W3C Trace Context; OpenTelemetry's semantic conventions for messaging. Must not know: streams, Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, TypeVar, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from notifier.auth import Publisher
from notifier.broker import Broker
from notifier.broker.values import Idempotency, Receipt, Submitted
from notifier.call import Answer, Call, RequestHead
from notifier.errors import NotifierError
from notifier.event import Event
from notifier.sampling import Sampling
from notifier.trace_context import TracedTime, context_text, headers_of

FLUSH_S: Final = 3.0
"""Time for the export of what waits when the process ends."""
MAX_WRITTEN: Final = 4096
"""Events whose first write is remembered. A span more follows if so many others came between two writes of one."""
CHANGES: Final = frozenset(("create_task", "change_task", "append_output", "correct", "retract"))
"""Calls of the broker that are a span, beside those that publish events."""

T = TypeVar("T")
W3C: Final = TraceContextTextMapPropagator()

log = logging.getLogger("notifier.tracing")


class Spans:
    """Implements `tracing.Tracing`. Starts the SDK that the environment configures, where none is started yet."""

    def __init__(self) -> None:
        _start_sdk()
        self._tracer = trace.get_tracer("notifier", version("sse-notifier"))
        self._written: dict[tuple[int, str], None] = {}

    def call(self, kind: str, call: Call) -> Call:
        def traced(who: Publisher, head: RequestHead, body: bytes) -> Answer | Awaitable[Answer]:
            span = self._tracer.start_span(
                f"publish {kind}",
                _parent_of(head.headers),
                SpanKind.SERVER,
                {"http.request.method": head.method, "messaging.system": "notifier"},
            )
            if not _is_sampled(span):
                return call(who, head, body)
            return _spanned(span, lambda: call(who, head, body))

        return traced

    def broker(self, broker: Broker) -> Broker:
        broker.sampling = _TracedSampling()
        return cast(Broker, _TracedBroker(broker, self._tracer))

    def first_write(self, accepted: TracedTime, streams: int) -> None:
        event = (int(accepted), accepted.context)
        if event in self._written:
            return
        self._written[event] = None
        if len(self._written) > MAX_WRITTEN:
            del self._written[next(iter(self._written))]
        self._tracer.start_span(
            "first write",
            W3C.extract(headers_of(accepted.context)),
            SpanKind.CONSUMER,
            {"messaging.system": "notifier", "messaging.operation.type": "process", "notifier.streams": streams},
            start_time=accepted.received_ns,
        ).end()

    async def flush(self) -> None:
        """Not by the SDK's own hook at exit: a process that a signal ends does not come to it."""
        flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        if flush is None:
            return
        loop, flushed = asyncio.get_running_loop(), asyncio.Event()

        def run() -> None:
            flush(int(FLUSH_S * 1000))
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(flushed.set)

        threading.Thread(target=run, name="spans", daemon=True).start()
        try:
            await asyncio.wait_for(flushed.wait(), FLUSH_S)
        except TimeoutError:
            log.warning("the last spans were not exported within %g s", FLUSH_S)


class _TracedSampling(Sampling):
    """Adds the trace of the current span to the time of acceptance."""

    __slots__ = ()

    def accepted_us(self) -> int:
        accepted_us = super().accepted_us()
        span = trace.get_current_span()
        if not _is_sampled(span):
            return accepted_us
        carrier: dict[str, str] = {}
        W3C.inject(carrier, trace.set_span_in_context(span))
        context = context_text(carrier["traceparent"], carrier.get("tracestate", ""))
        return TracedTime(accepted_us or time.time_ns() // 1000, context)


class _TracedBroker:
    """A broker whose publishing calls are spans, within a sampled trace. Every other name is the broker's own."""

    def __init__(self, broker: Broker, tracer: trace.Tracer) -> None:
        self._broker = broker
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._broker, name)
        if name not in CHANGES or not _is_sampled(trace.get_current_span()):
            return attribute
        return lambda *args, **named: _spanned(
            self._started(name.replace("_", " "), 1), lambda: attribute(*args, **named)
        )

    def submit(self, event: Event, idempotency: Idempotency | None = None) -> Receipt | Awaitable[Receipt]:
        if not _is_sampled(trace.get_current_span()):
            return self._broker.submit(event, idempotency)
        return _spanned(self._started("publish", 1), lambda: self._broker.submit(event, idempotency))

    def submit_all(self, events: Sequence[tuple[Event, Idempotency | None]]) -> list[Submitted]:
        if not events or not _is_sampled(trace.get_current_span()):
            return self._broker.submit_all(events)
        span = self._started("publish", len(events))
        with _ending(span), _within(span):
            results = self._broker.submit_all(events)
        last = max((n for n, result in enumerate(results) if isinstance(result, Awaitable)), default=None)
        if last is None:
            _end(span, results)
        else:
            # The broker answers in order, so the span ends with the last answer that is waited for.
            results[last] = _ended(span, cast(Awaitable[Receipt], results[last]))
        return results

    def _started(self, action: str, events: int) -> Span:
        attributes: dict[str, Any] = {"messaging.system": "notifier", "messaging.operation.type": "send"}
        if events > 1:
            attributes["messaging.batch.message_count"] = events
        return self._tracer.start_span(f"broker {action}", kind=SpanKind.PRODUCER, attributes=attributes)


def _start_sdk() -> None:
    """As `opentelemetry-instrument` does for a program: earlier versions of it do nothing for workers, which are
    processes of their own. The exporter's thread needs to begin here too, since no fork takes it along."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        with contextlib.suppress(ModuleNotFoundError):
            from opentelemetry.instrumentation.auto_instrumentation import initialize

            initialize()
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        log.warning("NOTIFIER_TRACING is on, but no OpenTelemetry SDK is installed and configured: no span is recorded")


def _parent_of(headers: Mapping[bytes, bytes]) -> Context | None:
    """The trace of a request. None: the current one, of an operator's own instrumentation, or a new trace."""
    traceparent = headers.get(b"traceparent")
    if traceparent is None or trace.get_current_span().get_span_context().is_valid:
        return None
    carrier = {"traceparent": traceparent.decode("latin-1")}
    if (tracestate := headers.get(b"tracestate")) is not None:
        carrier["tracestate"] = tracestate.decode("latin-1")
    return W3C.extract(carrier)


def _is_sampled(span: Span) -> bool:
    context = span.get_span_context()
    return context.is_valid and context.trace_flags.sampled


def _within(span: Span) -> contextlib.AbstractContextManager[Span]:
    """Errors are recorded by `_end`: their texts may have what a message says."""
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


@contextlib.contextmanager
def _ending(span: Span) -> Iterator[None]:
    """Ends the span with an exception of the block."""
    try:
        yield
    except BaseException as exc:
        _end(span, exc)
        raise


def _spanned(span: Span, run: Callable[[], T | Awaitable[T]]) -> T | Awaitable[T]:
    """What `run` returns. The span ends with it, or where it is to be awaited, with what that brings."""
    with _ending(span), _within(span):
        outcome = run()
    if isinstance(outcome, Awaitable):
        return _ended(span, outcome)
    _end(span, outcome)
    return outcome


async def _ended(span: Span, pending: Awaitable[T]) -> T:
    """The result, after whose arrival the span ends. A coroutine begins only here."""
    with _ending(span), _within(span):
        result = await pending
    _end(span, result)
    return result


def _end(span: Span, outcome: object) -> None:
    status = outcome.status if isinstance(outcome, Answer | NotifierError) else None
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    if isinstance(outcome, BaseException):
        span.set_attribute("error.type", type(outcome).__name__)
        if status is None or status >= 500:
            span.set_status(Status(StatusCode.ERROR))
    span.end()
