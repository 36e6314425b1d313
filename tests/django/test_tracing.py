"""The trace of the code that sends: the service's spans are children of its span, whichever process delivers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, TraceState

from django_bridge import Event, Message, Task, background, outbox
from django_bridge.delivery import deliver_due
from django_bridge.models import MessageRecord, OutboxMessage
from django_bridge.testing import outbox as sent
from notifier.broker.redis.notes import notes_of
from notifier.trace_context import TracedTime
from tests.django.answering import GOOD, AnsweringService, answering
from tests.spans import recorded, seen
from tests.support import REPOSITORY, RedisServer, wait_for


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    with recorded() as exporter:
        yield exporter


@pytest.fixture
def view(exporter: InMemorySpanExporter) -> Iterator[Span]:
    """The span of a view, which the test runs in."""
    with trace.get_tracer("tests").start_as_current_span("POST /order") as span:
        yield span


def parent_of(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def parents(server: AnsweringService) -> list[str | None]:
    """The header `traceparent` of each request, none of which has a trace in its body."""
    assert "_trace" not in repr([body for _, _, _, body in server.requests])
    return [
        {name.lower(): value for name, value in headers.items()}.get("traceparent")
        for _, _, headers, _ in server.requests
    ]


WHILE_IT_LOADS = """
import sys, threading
from django_bridge import tracing

class Hold:
    def find_spec(self, name, path, target=None):
        if name == "opentelemetry.trace.propagation":
            arrived.set()
            assert asked.wait(60)

arrived, asked = threading.Event(), threading.Event()
sys.meta_path.insert(0, Hold())
loading = threading.Thread(target=__import__, args=("opentelemetry.trace",))
loading.start()
assert arrived.wait(60) and "opentelemetry.trace" in sys.modules
try:
    payload = {"id": "1"}
    assert tracing.headers() == {} and tracing.traced(payload) is payload
    with tracing.delivering({**payload, "_trace": f"00-{1:032x}-{1:016x}-01"}) as plain:
        assert plain == payload and "traceparent" in tracing.headers()
finally:
    asked.set()
loading.join()
from opentelemetry import trace
span = trace.NonRecordingSpan(trace.SpanContext(1, 1, False, trace.TraceFlags(1)))
with trace.use_span(span):
    assert tracing.headers() == {"traceparent": f"00-{1:032x}-{1:016x}-01"}
"""


def left_for_another_process() -> None:
    """The rows are as those of a process that ended before it delivered them."""
    OutboxMessage.objects.update(state="waiting", due_at=timezone.now(), origin=outbox._OutboxProcess().origin)


def test_a_call_names_the_views_span(view: Span) -> None:
    with answering(GOOD) as server:
        Message(to_users=1, subject="Paid").send()
        Event(to_users=1, type="order.paid").send()
        assert parents(server) == [parent_of(view)] * 2


def test_a_call_while_another_thread_loads_opentelemetry_has_no_trace_and_is_made() -> None:
    """A first call to Celery imports redis-py, which imports OpenTelemetry where that is installed."""
    done = subprocess.run([sys.executable, "-c", WHILE_IT_LOADS], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_row_of_the_outbox_keeps_the_trace_for_the_process_that_delivers_it(exporter: InMemorySpanExporter) -> None:
    with answering(GOOD, OUTBOX=True) as server:
        with trace.get_tracer("tests").start_as_current_span("POST /order") as view, transaction.atomic():
            Message(to_users=1, subject="Paid").send()
            transaction.get_connection().run_on_commit.clear()
        left_for_another_process()
        assert json.loads(OutboxMessage.objects.get().payload)["_trace"] == parent_of(view)
        assert not trace.get_current_span().get_span_context().is_valid
        assert deliver_due().delivered == 1
        assert parents(server) == [parent_of(view)]


def test_the_delivering_thread_names_the_span_of_send(view: Span) -> None:
    with answering(GOOD, DELIVERY="background") as server:
        Message(to_users=1, subject="Paid").send()
        assert background.current().wait(10)
        assert parents(server) == [parent_of(view)]


def test_each_delivery_has_its_own_trace_and_none_has_that_of_the_one_before(exporter: InMemorySpanExporter) -> None:
    with answering(GOOD, OUTBOX=True) as server:
        with transaction.atomic():
            with trace.get_tracer("tests").start_as_current_span("first") as first:
                Message(to_users=1, subject="1").send()
            Message(to_users=1, subject="2").send()
            transaction.get_connection().run_on_commit.clear()
        left_for_another_process()
        assert deliver_due().delivered == 2
        assert parents(server) == [parent_of(first), None]


def test_a_trace_that_is_sampled_out_is_named_too_so_that_the_service_begins_none(exporter: Any) -> None:
    state = TraceState([("vendor", "1")])
    context = SpanContext(0xAF, 0xB7, is_remote=True, trace_flags=TraceFlags(0), trace_state=state)
    with answering(GOOD) as server, trace.use_span(NonRecordingSpan(context)):
        Message(to_users=1, subject="Paid").send()
        assert parents(server) == [f"00-{0xAF:032x}-{0xB7:016x}-00"]
        assert server.requests[0][2]["tracestate"] == "vendor=1"


def test_without_a_span_nothing_is_added() -> None:
    with answering(GOOD, OUTBOX=True, DELIVERY="inline") as server:
        with transaction.atomic():
            Message(to_users=1, subject="Paid").send()
            assert "_trace" not in OutboxMessage.objects.get().payload
        assert parents(server) == [None]


@pytest.mark.parametrize("damage", ["", "x", 7, None, "00-AF-B7-01"])
def test_a_damaged_trace_of_a_row_is_left_out(damage: object) -> None:
    with answering(GOOD, OUTBOX=True) as server:
        with transaction.atomic():
            Message(to_users=1, subject="Paid").send()
            transaction.get_connection().run_on_commit.clear()
        row = OutboxMessage.objects.get()
        OutboxMessage.objects.update(payload=json.dumps({**json.loads(row.payload), "_trace": damage}))
        left_for_another_process()
        assert deliver_due().delivered == 1
        assert parents(server) == [None]


def test_calls_about_a_task_name_the_current_span(view: Span) -> None:
    task = b'{"id": "t", "done": 0, "total": null, "cancel_requested": false}'
    with answering((200, {}, task)) as server:
        Task(task_name="Import", to_users=1).begin()
        assert set(parents(server)) == {parent_of(view)}


@pytest.fixture
def instrumented(exporter: InMemorySpanExporter) -> Iterator[None]:
    """httpx as an operator instruments it."""
    HTTPXClientInstrumentor().instrument()
    yield
    HTTPXClientInstrumentor().uninstrument()


@pytest.mark.usefixtures("instrumented")
def test_an_instrumented_client_adds_its_span_and_no_second_header(exporter: InMemorySpanExporter) -> None:
    with answering(GOOD, OUTBOX=True) as server:
        with trace.get_tracer("tests").start_as_current_span("POST /order") as view, transaction.atomic():
            Message(to_users=1, subject="Paid").send()
            transaction.get_connection().run_on_commit.clear()
        left_for_another_process()
        assert deliver_due().delivered == 1
        (client,) = [span for span in seen(exporter) if span.kind == "client"]
        assert client.parent_id == f"{view.get_span_context().span_id:016x}"
        assert parents(server) == [f"00-{client.trace_id}-{client.span_id}-{view.get_span_context().trace_flags:02x}"]


def test_the_database_and_the_tests_transport_do_not_have_it(view: Span) -> None:
    with answering(GOOD, TRANSPORT="memory", KEEP_MESSAGES=True):
        Message(to_users=1, subject="Paid").send()
        (message,) = sent.messages
        (record,) = MessageRecord.objects.values()
    assert "_trace" not in repr((message, record))


def test_straight_to_redis_the_announcement_carries_the_trace(over_redis: RedisServer, view: Span) -> None:
    with over_redis.client() as client, client.pubsub() as pubsub:
        pubsub.psubscribe("*:ch:user:1")  # no canary of a service on the same Redis
        assert pubsub.get_message(timeout=5)
        Message(to_users=1, subject="Paid").send()
        (announced,) = wait_for(lambda: [each] if (each := pubsub.get_message(timeout=1)) else [])
        _, accepted_us = notes_of(announced["data"].partition(b"\n")[0].split(b" ", 4)[4])
        assert isinstance(accepted_us, TracedTime)
        assert accepted_us.context == parent_of(view)
        stored = b"".join(client.dump(key) for key in client.scan_iter())
    assert f"{view.get_span_context().trace_id:032x}".encode() not in stored
