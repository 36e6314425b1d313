"""Tracing: which spans a publish has, whose children they are, and what never leaves the service."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from notifier.api_key import ApiKey
from notifier.hook import Hook
from notifier.settings import Settings
from tests.faults.clients import Listener, listening, until
from tests.pasted import Document
from tests.serving import KEY, serving
from tests.spans import Receiver, SeenSpan, receiving, recorded, seen
from tests.support import API_KEY, JWT_SECRET, RedisServer, Service, bearer, running, subscriber_token

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
HOOK_KEY = "hook-key-0123456789"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


@dataclass
class Traced:
    """A service in this process that makes spans, and a client of it."""

    port: int
    client: httpx.AsyncClient
    exporter: InMemorySpanExporter

    async def post(self, path: str, body: object, headers: dict[str, str] | None = None, status: int = 200) -> Any:
        response = await self.client.post(path, json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json()

    async def spans(self, count: int) -> list[SeenSpan]:
        """Exactly so many spans, in the order of their starts."""
        await until(lambda: len(seen(self.exporter)) >= count, what=f"{count} spans")
        await asyncio.sleep(0.05)  # a span too many would come now
        spans = sorted(seen(self.exporter), key=lambda span: span.start_ns)
        assert len(spans) == count, [span.name for span in spans]
        return spans


@asynccontextmanager
async def traced(broker_url: str = "memory:") -> AsyncIterator[Traced]:
    key = ApiKey(KEY, frozenset({"publish"}))
    settings = Settings(
        jwt_secret=JWT_SECRET,
        api_keys=(key,),
        hooks=(Hook.parse(f"backup:ntfy:user:a:{HOOK_KEY}"),),
        publish_rate=0,
        drain_s=0,
        tracing=True,
        broker_url=broker_url,
    )
    with recorded() as exporter:
        async with (
            serving(settings) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=bearer(KEY), verify=False) as client,
        ):
            yield Traced(port, client, exporter)


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Traced]:
    url = {"memory": "memory:", "sqlite": f"sqlite://{tmp_path}/notifier.db", "redis": ""}[request.param]
    async with traced(url or request.getfixturevalue("redis_server").url) as running:
        yield running


async def test_a_publish_is_one_tree_under_its_publishers_span(service: Traced) -> None:
    ann, bob = Listener(service.port, "ann", ("staff",)), Listener(service.port, "bob", ("staff",))
    async with listening(ann, bob):
        body = {"to": ["group:staff", "user:ann"], "subject": "Hi", "text": "a secret text"}
        await service.post("/v1/messages", body, {"traceparent": PARENT, "tracestate": "vendor=1"})
        publish, broker, write = await service.spans(3)
        await until(lambda: ann.messages and bob.messages)
    assert (publish.name, publish.kind, publish.parent_id) == ("publish message", "server", PARENT_ID)
    assert (broker.name, broker.kind, broker.parent_id) == ("broker publish", "producer", publish.span_id)
    assert (write.name, write.kind, write.parent_id) == ("first write", "consumer", broker.span_id)
    assert {span.trace_id for span in (publish, broker, write)} == {TRACE_ID}
    assert publish.attributes["http.response.status_code"] == 200
    assert write.attributes["notifier.streams"] in (1, 2)
    assert publish.start_ns <= broker.start_ns <= write.end_ns
    told = repr(seen(service.exporter))
    assert "secret" not in told
    assert "ann" not in told


async def test_no_trace_leaves_the_service(service: Traced) -> None:
    """Neither live, nor by replay, nor in the inbox, nor in a poll."""
    reader = Listener(service.port, "ann")
    async with listening(reader):
        message = {"to": ["user:ann"], "subject": "1"}
        answer = await service.client.post("/v1/messages", json=message, headers={"traceparent": PARENT})
        await service.post("/v1/events", {"to": ["user:ann"], "type": "paid"}, {"traceparent": PARENT})
        await until(lambda: reader.messages and reader.of("paid"))
        trace_of = [span.trace_id for span in await service.spans(6)]
    assert trace_of == [TRACE_ID] * 6
    again = Listener(service.port, "ann", cursor=f"{reader.events[0].id}")
    async with listening(again):
        await until(lambda: again.messages and again.of("paid"))
        token = bearer(subscriber_token("ann"))
        inbox = await service.client.get("/v1/inbox", headers=token)
        poll = await service.client.get("/v1/poll", params={"wait_s": 0, "after": reader.events[0].id}, headers=token)
    sent = repr((reader.events, again.events, inbox.text, poll.text, answer.text, answer.headers))
    assert len(poll.json()["events"]) == 2
    assert TRACE_ID not in sent
    assert "_trace" not in sent


async def test_each_kind_of_call_is_a_span_with_its_broker_call() -> None:
    async with traced() as service:
        own = {"traceparent": PARENT}
        task = await service.post("/v1/tasks", {"to": ["user:a"], "name": "Import"}, own)
        await service.client.patch(f"/v1/tasks/{task['id']}", json={"done": 1}, headers=own)
        await service.post(f"/v1/tasks/{task['id']}/output", {"text": "x"}, own)  # no direct call: by its route
        await service.post(
            f"/v1/tasks/{task['id']}/question", {"text": "Sure?", "choices": [{"value": "y", "text": "Yes"}]}, own
        )
        await service.post("/v1/hooks/backup", {"topic": "backup", "message": "done"}, {**own, **bearer(HOOK_KEY)})
        message = {"to": ["user:a"], "subject": "1"}
        sent = await service.post("/v1/messages", message, {"traceparent": PARENT[:-1] + "0"})
        await service.client.patch(f"/v1/messages/{sent['id']}", json={**message, "subject": "2"}, headers=own)
        await service.client.request("DELETE", f"/v1/messages/{sent['id']}", json={"to": ["user:a"]}, headers=own)
        await service.post("/v1/batch", [{"kind": "event", "to": ["all"], "type": "x"}] * 3, own)
        spans = await service.spans(16)
    assert [(span.name, span.kind) for span in spans] == [
        (name, kind)
        for pair in (
            ("publish task", "broker create task"),
            ("publish patch", "broker change task"),
            ("publish output", "broker append output"),
            ("publish question", "broker change task"),
            ("publish hook", "broker publish"),
            ("publish correction", "broker correct"),
            ("publish retraction", "broker retract"),
            ("publish batch", "broker publish"),
        )
        for name, kind in zip(pair, ("server", "producer"), strict=True)
    ]
    for publish, broker in zip(spans[::2], spans[1::2], strict=True):
        assert (publish.parent_id, broker.parent_id, broker.trace_id) == (PARENT_ID, publish.span_id, TRACE_ID)
        assert publish.attributes["http.response.status_code"] == (204 if "retraction" in publish.name else 200)
    assert spans[-1].attributes["messaging.batch.message_count"] == 3


async def test_each_event_of_a_batch_has_its_first_write(service: Traced) -> None:
    reader = Listener(service.port, "ann")
    async with listening(reader):
        await service.post("/v1/batch", [{"kind": "event", "to": ["all"], "type": "x"}] * 3, {"traceparent": PARENT})
        spans = await service.spans(5)
    assert [span.name for span in spans if span.name != "first write"] == ["publish batch", "broker publish"]


async def test_a_round_to_many_streams_is_one_first_write() -> None:
    async with traced() as service:
        readers = [Listener(service.port, f"u{n % 5}") for n in range(70)]
        async with listening(*readers):
            await service.post("/v1/events", {"to": ["all"], "type": "x"}, {"traceparent": PARENT})
            spans = await service.spans(3)
            await until(lambda: all(reader.of("x") for reader in readers))
    assert spans[-1].attributes["notifier.streams"] == 70


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": "nonsense"},
        {"traceparent": f"00-{'0' * 32}-{PARENT_ID}-01"},
        {"traceparent": f"ff-{TRACE_ID}-{PARENT_ID}-01"},
        {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-0\xe9"},
        {"tracestate": "vendor=1"},
    ],
)
async def test_without_a_valid_traceparent_a_trace_begins(headers: dict[str, str]) -> None:
    async with traced() as service:
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        await service.post("/v1/events", {"to": ["all"], "type": "x"}, raw)  # type: ignore[arg-type]
        publish, broker = await service.spans(2)
    assert (publish.parent_id, broker.parent_id) == ("", publish.span_id)
    assert publish.trace_id != TRACE_ID


@pytest.mark.parametrize("state", ["x" * 700, "=,=,,\x01", "a=" + "b" * 600 + ",c=1"])
async def test_a_bad_tracestate_costs_nothing_but_itself(state: str) -> None:
    async with traced() as service:
        reader = Listener(service.port, "ann")
        async with listening(reader):
            headers = {"traceparent": PARENT.encode(), "tracestate": state.replace("\x01", "!").encode()}
            await service.post("/v1/events", {"to": ["all"], "type": "x"}, headers)  # type: ignore[arg-type]
            assert {span.trace_id for span in await service.spans(3)} == {TRACE_ID}


async def test_an_unsampled_publish_has_no_span(service: Traced) -> None:
    reader = Listener(service.port, "ann")
    async with listening(reader):
        await service.post("/v1/events", {"to": ["all"], "type": "x"}, {"traceparent": PARENT[:-1] + "0"})
        await until(lambda: reader.of("x"))
        assert await service.spans(0) == []


async def test_a_refused_publish_is_a_span_with_its_status_and_without_its_text() -> None:
    async with traced() as service:
        await service.post("/v1/events", {"to": ["all"], "type": "a secret type"}, {"traceparent": PARENT}, 422)
        await service.post("/v1/tasks/none/output", {"text": "secret"}, {"traceparent": PARENT}, 404)
        refused, missing, broker = await service.spans(3)
    assert (refused.attributes["http.response.status_code"], refused.attributes["error.type"]) == (422, "InvalidInput")
    assert (missing.attributes["http.response.status_code"], missing.attributes["error.type"]) == (404, "NotFound")
    assert (broker.parent_id, broker.attributes["error.type"]) == (missing.span_id, "NotFound")
    assert "secret" not in repr((refused, missing, broker))


async def test_a_repeated_publish_is_not_written_again() -> None:
    async with traced() as service:
        reader = Listener(service.port, "ann")
        async with listening(reader):
            for _ in range(2):
                body = {"to": ["user:ann"], "subject": "1"}
                await service.post("/v1/messages", body, {"traceparent": PARENT, "Idempotency-Key": "k"})
            names = [span.name for span in await service.spans(5)]
    assert names.count("first write") == 1


def test_off_spans_are_not_imported_and_on_without_the_extra_the_service_names_it() -> None:
    code = (
        "import sys\nfrom notifier.app import build\nfrom notifier.settings import load\n"
        "build(load(dev=True)); print('notifier.spans' in sys.modules)\n"
        # Newer versions of FastAPI need the API's other modules.
        "sys.modules['opentelemetry.trace.propagation.tracecontext'] = None\n"
        "build(load(dev=True, tracing=True))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "False\n"
    assert "NOTIFIER_TRACING is on" in ended.stderr
    assert "pip install 'sse-notifier[tracing]'" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_each_process_exports_its_spans_by_the_environment_and_before_it_ends(
    redis_server: RedisServer, workers: int
) -> None:
    """An operator's `notifier serve`, with OpenTelemetry's distribution installed and its variables set. Its exporter
    waits for a minute, so all spans come from the end of the processes."""
    with receiving() as receiver, running(_service(redis_server, receiver, workers)) as service:
        readers = [Listener(service.port, f"w{n}") for n in range(16)]
        async with listening(*readers):
            async with httpx.AsyncClient(base_url=service.url, headers=bearer(API_KEY), verify=False) as client:
                body = {"to": ["all"], "type": "x"}
                answer = await client.post("/v1/events", json=body, headers={"traceparent": PARENT})
                assert answer.status_code == 200
            await until(lambda: all(reader.of("x") for reader in readers))
        assert receiver.spans == []
        service.stop()
        (publish,), (broker,) = receiver.named("publish event"), receiver.named("broker publish")
        writes = receiver.named("first write")
        assert {span.trace_id for span in receiver.spans} == {TRACE_ID}
        assert (publish.parent_id, broker.parent_id) == (PARENT_ID, publish.span_id)
        assert [write.parent_id for write in writes] == [broker.span_id] * workers
        assert len({write.process for write in writes}) == workers
        assert publish.process in {write.process for write in writes}


def _service(redis: RedisServer, receiver: Receiver, workers: int) -> Service:
    """With the variables of docs/tracing.md; but the receiver's address, the process in each span."""
    page = Document("docs/tracing.md")
    *lines, command = page.block("sh", "export NOTIFIER_TRACING").strip().splitlines()
    assert command == "notifier serve --workers 2"
    lines.append(page.block("sh", "export OTEL_TRACES_SAMPLER=").strip().replace("=0.01", "=1"))
    words = " ".join(line.removeprefix("export ") for line in lines).split()
    env = dict(word.split("=", 1) for word in words)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"
    env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    return Service(redis_url=redis.url, workers=workers, env={**env, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process"})


def test_the_packages_of_the_page_are_installed_here() -> None:
    *_, own, distro, exporter = Document("docs/tracing.md").block("sh", "pip install").split()
    assert own == "'sse-notifier[server,tracing]'"
    assert version(distro)
    assert version(exporter)
    assert [name for name in requires("sse-notifier") or () if "'tracing'" in name.replace('"', "'")]
