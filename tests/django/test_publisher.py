"""The way out: what arrives over Redis and over HTTP, and what happens when nothing does."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from httpx_sse import ServerSentEvent, connect_sse

from django_bridge import ALL, Message, Progress, Task, group, progress, publisher
from django_bridge.models import TaskRecord
from django_bridge.publisher.http import bodies
from django_bridge.publisher.retry import Breaker
from django_bridge.publisher.transport import Unreachable
from notifier import rules
from notifier.broker.redis.keys import Keys
from notifier.errors import BrokerUnavailable, NotFound, Unauthenticated
from notifier.message import message_of
from tests.django.conftest import http_settings, redis_settings
from tests.support import RedisServer, Service, bearer, free_port, running, subscriber_token, wait_for


class Listener:
    """A user's open stream, read by a thread."""

    def __init__(self, service: Service, user: object, **claims: Any) -> None:
        self.events: list[ServerSentEvent] = []
        self._client = httpx.Client(headers=bearer(subscriber_token(str(user), **claims)), timeout=30)
        self._url = f"{service.url}/v1/stream"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        wait_for(lambda: self.events, what="hello")

    def _listen(self) -> None:
        with connect_sse(self._client, "GET", self._url) as source:
            self._response = source.response
            for event in source.iter_sse():
                self.events.append(event)
                if event.event == "bye":
                    return

    def data(self, name: str) -> list[Any]:
        return [event.json() for event in self.events if event.event == name]

    def wait(self, name: str, count: int = 1) -> list[Any]:
        wait_for(lambda: len(self.data(name)) >= count, what=f"{count} {name} events")
        return self.data(name)

    def close(self, service: Service, user: object) -> None:
        with service.client("test-admin-0123456789abcdef") as admin:
            admin.post(f"/v1/users/{user}/disconnect").raise_for_status()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._client.close()


@contextmanager
def listening(service: Service, user: object, **claims: Any) -> Iterator[Listener]:
    listener = Listener(service, user, **claims)
    try:
        yield listener
    finally:
        listener.close(service, user)


@pytest.fixture(params=["http", "redis"])
def live(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A real service; the project publishes to it over HTTP, or past it to its Redis (three shards)."""
    if request.param == "http":
        service: Service = request.getfixturevalue("bridge_service")
        with override_settings(NOTIFIER=http_settings(service.url)):
            yield service
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    server.client().flushall()
    env = {"NOTIFIER_PREFIX": "bridge:", "NOTIFIER_SHARDS": "3"}
    with (
        running(Service(redis_url=server.url, env=env)) as service,
        override_settings(NOTIFIER=redis_settings(server, PREFIX="bridge:", SHARDS=3)),
    ):
        yield service


# From the project to the browser


def test_a_message_arrives_on_the_stream_of_its_recipient(live: Service, user: User) -> None:
    with listening(live, user.pk) as listener:
        message_id = Message(from_user=user, to_users=user, subject="Тест", text="a\nb", data={"n": [1]}).send()
        (message,) = listener.wait("message")
    assert {**message, "sent_at": "now"} == {
        "id": message_id,
        "to": f"user:{user.pk}",
        "from": {"id": str(user.pk), "name": "Ann Lee"},
        "subject": "Тест",
        "text": "a\nb",
        "sent_at": "now",
        "level": "info",
        "url": None,
        "data": {"n": [1]},
    }


def test_groups_and_everybody_are_reached(live: Service, user: User) -> None:
    with listening(live, user.pk, groups=["staff"]) as listener:
        Message(to_users=group("staff"), subject="staff").send()
        Message(to_users=group("others"), subject="others").send()
        Message(to_users=ALL, subject="all").send()
        Message(to_users=[user, group("staff"), ALL], subject="once").send()
        Message(to_users=user, subject="last").send()
        wait_for(lambda: "last" in [one["subject"] for one in listener.data("message")])
        assert [one["subject"] for one in listener.data("message")] == ["staff", "all", "once", "last"]


def test_a_task_is_seen_from_begin_to_end(live: Service, user: User, rows: int) -> None:
    @progress("Walk", "begins", "over")
    def walk(request: Any, task: Task | None = None) -> None:
        for _ in Progress(User.objects.all(), parts=5, task=task):
            pass

    with listening(live, user.pk) as listener:
        task = Task(from_user=user, task_name="Walk")
        task.begin(state="begins")
        for _ in Progress(range(10), parts=5, task=task):
            pass
        task.advance(0)
        task.end(state="over")
        wait_for(lambda: listener.data("task") and listener.data("task")[-1]["status"] == "succeeded")
        seen = listener.data("task")
    assert {one["id"] for one in seen} == {task.id}
    # Of states that come quickly one after the other, older ones may be skipped.
    assert (seen[-1]["state"], seen[-1]["done"], seen[-1]["total"], seen[-1]["percent"]) == ("over", 10, 10, 100)
    assert [one["done"] for one in seen] == sorted(one["done"] for one in seen)


def test_a_failed_task_says_so_and_stays_in_the_snapshot(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=2)
    task.advance()
    task.fail(LookupError("row 2"))
    with live.user(str(user.pk)) as client:
        (shown,) = [one for one in client.get("/v1/tasks").json()["tasks"] if one["id"] == task.id]
    assert (shown["status"], shown["done"], shown["error"]) == ("failed", 1, "LookupError: row 2")


def test_a_cancel_in_the_browser_reaches_the_loop(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin()
    with live.user(str(user.pk)) as client:
        client.post(f"/v1/tasks/{task.id}/cancel").raise_for_status()
    assert not task.cancel_requested
    task.set_state("going on")
    assert task.cancel_requested
    task.cancelled(state="stopped")
    assert TaskRecord.objects.get().status == "cancelled"


def test_several_processes_advance_one_task(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=60)

    def work(_: int) -> None:
        try:
            mine = Task.resume(task.id)
            for _ in range(10):
                mine.advance()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    # The last word of a handle that is let go is told within a tenth of a second.
    wait_for(lambda: task.set_state("all in") or task.done >= 60, what="every advance")
    assert task.done == 60


def test_a_task_that_the_service_never_heard_of_is_made_known_by_the_next_change(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1)):
        task.begin(state="begins", total=10)
        task.set_state("half", done=5)
        task.advance(2)
    task.end(state="over")
    with live.user(str(user.pk)) as client:
        (shown,) = [one for one in client.get("/v1/tasks").json()["tasks"] if one["id"] == task.id]
    assert (shown["status"], shown["state"], shown["done"], shown["total"]) == ("succeeded", "over", 7, 10)


def test_what_did_not_get_through_is_carried_by_the_next_change(live: Service, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=10)
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1)):
        task.set_state("half", done=5)
        task.advance()
        task.advance(2)
    task.advance()
    assert task.done == 9
    task.set_state(total=12)
    with live.user(str(user.pk)) as client:
        (shown,) = [one for one in client.get("/v1/tasks").json()["tasks"] if one["id"] == task.id]
    assert (shown["state"], shown["done"], shown["total"]) == ("half", 9, 12)


def test_a_message_to_many_reaches_each_of_them_once(live: Service, user: User) -> None:
    many = [user.pk, *range(1_000_000, 1_012_000)]
    with listening(live, user.pk) as listener, listening(live, many[-1]) as last:
        Message(to_users=many, subject="many", text="x" * 5000).send()
        Message(to_users=[user.pk, many[-1]], subject="after").send()
        for one in (listener, last):
            assert [message["subject"] for message in one.wait("message", 2)] == ["many", "after"]


@pytest.mark.slow
def test_a_queryset_of_ten_thousand_users_costs_one_query_and_a_handful_of_calls(live: Service) -> None:
    User.objects.bulk_create(User(username=str(n)) for n in range(10_000))
    one = User.objects.get(username="7777")
    with listening(live, one.pk) as listener:
        before = publisher.current().counts.sent
        with CaptureQueriesContext(connection) as queries:
            Message(to_users=User.objects.all(), subject="many").send()
        assert listener.wait("message")[0]["subject"] == "many"
    assert [query["sql"].startswith('SELECT "auth_user"."id"') for query in queries] == [True]
    assert publisher.current().counts.sent - before <= 25  # over Redis 500 a call, on three shards


def test_a_repeated_message_arrives_once(live: Service, user: User) -> None:
    payload = Message(to_users=user, subject="once").payload()
    with listening(live, user.pk) as listener:
        publisher.current().send(payload)
        publisher.current().send(payload)
        Message(to_users=user, subject="after").send()
        wait_for(lambda: len(listener.data("message")) >= 2)
        assert [one["subject"] for one in listener.data("message")] == ["once", "after"]


# Redis


def test_over_redis_a_message_is_stored_as_the_service_stores_it(over_redis: RedisServer, user: User) -> None:
    message_id = Message(to_users=user, subject="Test").send()
    keys = Keys()
    with over_redis.client() as client:
        ((_, entry),) = client.xrange(keys.log(0, f"user:{user.pk}"))
        assert entry[b"m"].decode() == message_id
        stored = message_of(entry[b"f"].decode())
        assert stored is not None
        assert (stored["id"], stored["subject"]) == (message_id, "Test")
        assert client.ttl(keys.log(0, f"user:{user.pk}")) > 6 * 24 * 3600


def test_over_redis_the_scripts_are_sent_again_when_redis_forgot_them(over_redis: RedisServer) -> None:
    Message(to_users=1, subject="one").send()
    with over_redis.client() as client:
        client.script_flush()
        Message(to_users=1, subject="two").send()
        assert client.xlen(Keys().log(0, "user:1")) == 2


def test_over_redis_a_key_that_holds_a_foreign_value_is_quarantined(
    over_redis: RedisServer, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys()
    task = Task(from_user=user, task_name="Import")
    log, tasks, record = keys.log(0, f"user:{user.pk}"), keys.tasks(0, f"user:{user.pk}"), keys.task(0, task.id)
    with over_redis.client() as client:
        for name in (log, tasks, record, keys.seq(0)):
            client.set(name, "something else")
        message_id = Message(to_users=user, subject="Test").send()
        task.begin(total=2)
        client.delete(record)
        client.sadd(record, "something else")
        task.advance()
        assert message_of(client.xrange(log)[0][1][b"f"].decode())["id"] == message_id  # type: ignore[index]  # it is one
        assert client.zrange(tasks, 0, -1) == [task.id.encode()]
        assert b'"done":1' in client.hget(record, "record")
        assert client.get(f"{log}:foreign") == b"something else"
    assert caplog.text.count("quarantined a key that holds a foreign value") == 5
    assert publisher.current().counts.failed == 0


@pytest.mark.programs
def test_over_redis_a_message_outlives_a_restart_that_is_short_enough(user: User) -> None:
    with running(RedisServer(append_only=True)) as server:
        with override_settings(NOTIFIER=redis_settings(server, TIMEOUT_S=5)):
            Message(to_users=user, subject="before").send()
            server.kill()
            threading.Timer(0.3, server.start).start()
            Message(to_users=user, subject="meanwhile").send()
            assert publisher.current().counts.repeated > 0
            with server.client() as client:
                assert client.xlen(Keys().log(0, f"user:{user.pk}")) == 2
        publisher.current()


# What goes wrong


class Answering(ThreadingHTTPServer):
    """A stand-in for the service that answers as it is told (or by a function of the body); notes what it is asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answering

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.command, self.path, dict(self.headers), json.loads(body)))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        status, headers, content = answer(self.server.asked[-1][3]) if callable(answer) else answer
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = _answer

    def log_message(self, *args: Any) -> None: ...


GOOD = (200, {}, b'{"id": "x", "cursor": "a-1", "watched": false}')
BUSY = (503, {"Retry-After": "0"}, b'{"detail": "the broker is away"}')
CUT = (0, {}, b"")


@contextmanager
def over(*answers: Any, **settings: Any) -> Iterator[Answering]:
    with running(Answering(*answers)) as server, override_settings(NOTIFIER=http_settings(server.url, **settings)):
        yield server


@pytest.mark.parametrize("trouble", [BUSY, CUT, (429, {"Retry-After": "0"}, b"{}"), (502, {}, b"<html>")])
def test_a_call_is_repeated_under_the_same_key_until_it_works(trouble: Any, user: User) -> None:
    with over(trouble, trouble, GOOD) as server:
        message_id = Message(to_users=user, subject="Test").send()
        assert [(method, path) for method, path, _, _ in server.asked] == [("POST", "/v1/messages")] * 3
        assert {headers["Idempotency-Key"] for _, _, headers, _ in server.asked} == {message_id}
        assert {headers["Authorization"] for _, _, headers, _ in server.asked} == {"Bearer test-key-0123456789abcdef"}
        assert len({json.dumps(body) for _, _, _, body in server.asked}) == 1
        counts = publisher.current().counts
        assert (counts.sent, counts.repeated, counts.failed) == (1, 2, 0)


def test_the_body_is_that_of_the_wire_contract(user: User) -> None:
    with over(GOOD) as server:
        message_id = Message(from_user=user, to_users=[user, ALL], subject="Test", url="/x").send()
        (_, _, headers, body) = server.asked[0]
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "id": message_id,
        "to": ["all", f"user:{user.pk}"],
        "subject": "Test",
        "text": "",
        "from": {"id": str(user.pk), "name": "Ann Lee"},
        "level": "info",
        "url": "/x",
        "data": {},
        "sent_at": None,
        "expires_at": None,
    }


def test_each_change_of_a_task_has_a_key_of_its_own(user: User) -> None:
    with over((200, {}, b'{"done": 1, "total": 4, "cancel_requested": true}')) as server:
        task = Task(from_user=user, task_name="Import")
        task.begin(state="begins", total=4)
        task.set_state(done=1)
        task.end()
        keys = [headers["Idempotency-Key"] for _, _, headers, _ in server.asked]
        calls = [(method, path, body) for method, path, _, body in server.asked]
    assert len(set(keys)) == 3
    assert calls == [
        (
            "POST",
            "/v1/tasks",
            {"id": task.id, "to": [f"user:{user.pk}"], "name": "Import", "state": "begins", "total": 4},
        ),
        ("PATCH", f"/v1/tasks/{task.id}", {"done": 1}),
        ("PATCH", f"/v1/tasks/{task.id}", {"status": "succeeded"}),
    ]
    assert task.cancel_requested


def test_a_connection_is_kept(user: User) -> None:
    ports = set()

    with over(GOOD) as server:
        handler = server.finish_request
        server.finish_request = lambda request, address: (ports.add(address[1]), handler(request, address))  # type: ignore[method-assign,assignment,func-returns-value]  # counts connections
        for _ in range(5):
            Message(to_users=user, subject="Test").send()
    assert len(ports) == 1


@pytest.fixture(params=["refused", "hangs", "redis refused", "redis hangs"])
def away(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Settings with which nothing can be reached."""
    with running(Silent()) as silent:
        url = f"127.0.0.1:{silent.port}" if "hangs" in request.param else f"127.0.0.1:{free_port()}"
        if "redis" in request.param:
            yield {"TRANSPORT": "redis", "REDIS_URL": f"redis://{url}", "TIMEOUT_S": 0.4}
        else:
            yield http_settings(f"http://{url}", TIMEOUT_S=0.4)


class Silent:
    """Takes connections and never answers."""

    def __init__(self) -> None:
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def stop(self) -> None:
        self._socket.close()


def test_a_service_that_is_away_holds_the_caller_for_its_budget_only_and_breaks_nothing(
    away: dict[str, Any], user: User, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(NOTIFIER=away):
        started = time.monotonic()
        message_id = Message(to_users=user, subject="Test").send()
        assert time.monotonic() - started < 0.9
        assert publisher.current().counts.failed == 1
        (record,) = [one for one in caplog.records if one.name == "django_bridge"]
        assert record.levelno == logging.ERROR
        assert message_id in record.getMessage()


@pytest.mark.slow
def test_the_row_of_a_task_is_written_also_when_the_service_is_away(away: dict[str, Any], user: User) -> None:
    with override_settings(NOTIFIER=away):
        task = Task(from_user=user, task_name="Import")
        for _ in Progress(range(4), parts=2, task=task):
            pass
        task.fail("no paper")
        row = TaskRecord.objects.get()
        assert (row.status, row.done, row.total, row.error) == ("failed", 4, 4, "no paper")


@pytest.mark.slow
def test_with_raise_it_raises_and_the_row_is_written_all_the_same(away: dict[str, Any], user: User) -> None:
    with override_settings(NOTIFIER={**away, "RAISE": True}):
        with pytest.raises(BrokerUnavailable):
            Message(to_users=user, subject="Test").send()
        task = Task(from_user=user, task_name="Import")
        with pytest.raises(BrokerUnavailable):
            task.begin(state="begins")
        assert TaskRecord.objects.get().state == "begins"


def test_with_raise_the_exception_of_a_decorated_function_is_still_the_one_that_goes_on(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None:
        with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1, RAISE=True)):
            raise LookupError("row 5")

    class Request:
        pass

    request: Any = Request()
    request.user = user
    with pytest.raises(LookupError, match="row 5"):
        run(request)


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthenticated), (404, NotFound), (418, Exception), (301, Exception)]
)
def test_a_refusal_is_not_repeated(
    status: int, error: type[Exception], user: User, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = (status, {}, b'{"detail": "because of this"}')
    with over(refusal, RAISE=True) as server:
        task = Task(from_user=user, task_name="Import")
        with pytest.raises(error, match="because of this"):
            task.begin()
        assert len(server.asked) == 1
    if status != 404:
        with over(refusal) as server:
            Message(to_users=user, subject="Test").send()
            assert len(server.asked) == 1
            assert "because of this" in caplog.text


def test_an_address_that_is_not_the_notifiers_is_said_so(user: User, caplog: pytest.LogCaptureFixture) -> None:
    with over((200, {}, b"<html>")):
        Message(to_users=user, subject="Test").send()
    with over((200, {}, b"[]")):
        Task(from_user=user, task_name="Import").begin()
    assert caplog.text.count("is this the notifier's address?") == 2


@pytest.mark.slow
def test_a_wait_that_the_service_asks_for_is_kept_when_the_budget_allows_it(user: User) -> None:
    with over((429, {"Retry-After": "1"}, b"{}"), GOOD) as server:
        started = time.monotonic()
        Message(to_users=user, subject="Test").send()
        assert time.monotonic() - started >= 1
        assert len(server.asked) == 2
    with over((503, {"Retry-After": "60"}, b"{}"), GOOD) as server:
        Message(to_users=user, subject="Test").send()
        assert len(server.asked) == 1


def test_after_failures_in_a_row_callers_are_not_held_any_more(user: User) -> None:
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.2)):
        for _ in range(3):
            Message(to_users=user, subject="Test").send()
        started = time.monotonic()
        for _ in range(100):
            Message(to_users=user, subject="Test").send()
        assert time.monotonic() - started < 2
        counts = publisher.current().counts
        assert (counts.failed, counts.refused_at_once) == (103, 100)


def test_the_circuit_lets_one_call_try_after_its_pause_and_closes_when_it_works() -> None:
    now = 0.0
    breaker = Breaker(threshold=2, open_s=5, clock=lambda: now)
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    now = 5.1
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed()
    now = 10.0
    assert not breaker.allows()
    assert breaker.open
    now = 10.3
    assert not breaker.open
    assert breaker.allows()
    assert breaker.open
    breaker.succeeded()
    assert not breaker.open
    assert breaker.allows()
    assert breaker.allows()


# Bodies


def test_recipients_that_do_not_fit_into_one_body_are_spread_over_several() -> None:
    payload = Message(to_users=list(range(1_000_000, 1_010_000)), subject="Test", text="ж" * 6000).payload()
    made = list(bodies(payload))
    assert len(made) > 2
    assert all(len(body) <= rules.MAX_BODY_BYTES for body in made)
    parts = [json.loads(body) for body in made]
    assert [channel for part in parts for channel in part["to"]] == payload["to"]
    assert all({**part, "to": []} == {**payload, "to": []} for part in parts)


# Processes and threads


def in_a_child(action: Callable[[], None]) -> None:
    """Runs `action` in a fork of this process; its failure is this one's."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
            os.write(writing, b"done")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        told = answer.read()
    os.waitpid(child, 0)
    assert told == b"done"


def test_a_forked_child_opens_its_own_connections(live: Service) -> None:
    Message(to_users=7, subject="parent").send()
    mine = publisher.current()

    def child() -> None:
        assert publisher.current() is not mine
        for n in range(20):
            Message(to_users=7, subject=f"child {n}").send()
        assert publisher.current().counts.sent == 20

    in_a_child(child)
    for n in range(20):
        Message(to_users=7, subject=f"parent {n}").send()
    assert publisher.current() is mine
    assert (mine.counts.sent, mine.counts.failed) == (21, 0)
    with live.user("7") as client:
        subjects = [one["subject"] for one in client.get("/v1/inbox?limit=100").json()["messages"]]
    wanted = {"parent", *(f"{who} {n}" for who in ("parent", "child") for n in range(20))}
    assert set(subjects) >= wanted
    assert len([one for one in subjects if one in wanted]) == len(wanted)


def test_threads_share_the_publisher(live: Service) -> None:
    def send(n: int) -> str:
        return Message(to_users=8, subject=f"thread {n}").send()

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(send, range(80)))
    assert len(set(ids)) == 80
    assert publisher.current().counts.sent == 80
    with live.user("8") as client:
        listed = {one["id"] for one in client.get("/v1/inbox?limit=100").json()["messages"]}
    assert listed >= set(ids)


def test_other_settings_are_taken_at_once() -> None:
    first = publisher.current()
    with override_settings(NOTIFIER=http_settings("http://127.0.0.1:1")):
        assert publisher.current() is not first
    assert isinstance(Unreachable("x"), BrokerUnavailable)
