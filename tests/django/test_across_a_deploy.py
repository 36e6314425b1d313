"""A message outlives a deploy: one version of the bridge writes it, another reads it, a service of either takes it.

The literals are what version 0.1.0 wrote, byte for byte. They are never brought up to date: a later version reads them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_bridge import Message, Task, delivery, publisher
from django_bridge.celery import send_message
from django_bridge.models import MessageRecord, OutboxMessage
from django_bridge.publisher.transport import task_status
from django_bridge.testing import outbox
from notifier.errors import Conflict
from notifier.message import FIELDS, FIRST_VERSION
from tests.django.answering import GOOD, answering
from tests.django.conftest import http_settings, redis_settings
from tests.support import RedisServer, Service, running

ROW_OF_0_1_0 = (
    '{"id":"0f8fad5bd9cb469fa16570867728950e","to":["user:7"],"subject":"Paid","text":"12.50","url":"/orders/7/",'
    '"data":{"order":[7]},"from":{"id":"1","name":"Ann Lee"},"level":"success","sent_at":"2026-01-31T12:00:00Z",'
    '"expires_at":null}'
)
"""A row of the outbox; the argument of a Celery task was the same object."""
ROW_IN_TWO_LANGUAGES_OF_0_1_0 = (
    '{"id":"7c9e6679f1ba4f3c8c4f4c5a3b1d2e00","to":["user:7"],"subject":"Paid","text":"","url":null,"data":{},'
    '"from":null,"level":"info","sent_at":"2026-01-31T12:00:00Z","expires_at":null,'
    '"also":[{"to":["user:8"],"subject":"Оплачено","text":"","url":null,"data":{}}]}'
)
FRAME_OF_0_1_0 = (
    'event: message\ndata: {"id":"m1","to":"user:7","from":null,"subject":"Paid","text":"","sent_at":'
    '"2026-01-31T12:00:00Z","level":"info","url":null,"data":{}}\n\n'
)

LATER = [field for field in FIELDS if field.since != FIRST_VERSION]
FIELDS_OF_0_1_0 = {"id", "to", "from", "subject", "text", "sent_at", "level", "url", "data", "expires_at"}


def waiting_row(payload: str) -> OutboxMessage:
    return OutboxMessage.objects.create(
        message_id=json.loads(payload)["id"],
        payload=payload,
        state=OutboxMessage.State.WAITING,
        origin="another process",
    )


def transports(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "memory":
        return {"TRANSPORT": "memory"}
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return redis_settings(server)
    service: Service = request.getfixturevalue("bridge_service")
    return http_settings(service.url)


@pytest.fixture(params=["memory", "http", "redis"])
def transport(request: pytest.FixtureRequest) -> dict[str, Any]:
    return transports(request)


def test_the_list_of_the_first_version_stays_as_it_was() -> None:
    assert {field.name for field in FIELDS} - {field.name for field in LATER} == FIELDS_OF_0_1_0


@pytest.mark.parametrize("payload", [ROW_OF_0_1_0, ROW_IN_TWO_LANGUAGES_OF_0_1_0])
def test_an_outbox_row_of_0_1_0_is_delivered(transport: dict[str, Any], payload: str) -> None:
    row = waiting_row(payload)
    with override_settings(NOTIFIER={**transport, "OUTBOX": True, "DELIVERY": "inline"}):
        run = delivery.deliver_due()
    assert run.counts()["delivered"] == 1, run
    assert not OutboxMessage.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("name", sorted(FIELDS_OF_0_1_0 - {"id", "to", "subject"}))
def test_a_row_without_a_field_is_delivered_with_its_default(transport: dict[str, Any], name: str) -> None:
    """As a row of the version before lacks a field that a later version adds."""
    payload = {key: value for key, value in json.loads(ROW_OF_0_1_0).items() if key != name}
    waiting_row(json.dumps({**payload, "id": f"without-{name}"}))
    with override_settings(NOTIFIER={**transport, "OUTBOX": True, "DELIVERY": "inline"}):
        run = delivery.deliver_due()
    assert run.counts()["delivered"] == 1, run


def test_a_row_of_a_later_version_is_delivered_without_what_is_not_known(transport: dict[str, Any]) -> None:
    """As a worker of this version meets it, while another of the next version runs beside it, or after a rollback."""
    waiting_row(json.dumps({**json.loads(ROW_OF_0_1_0), "id": "from-later", "mood": "good"}))
    with override_settings(NOTIFIER={**transport, "OUTBOX": True, "DELIVERY": "inline"}):
        run = delivery.deliver_due()
    assert run.counts()["delivered"] == 1, run


def test_a_celery_task_of_0_1_0_is_sent(transport: dict[str, Any]) -> None:
    with override_settings(NOTIFIER={**transport, "RAISE": True}):
        assert send_message(json.loads(ROW_OF_0_1_0)) == "0f8fad5bd9cb469fa16570867728950e"


def test_a_test_sees_every_field_of_a_message_of_0_1_0() -> None:
    with override_settings(NOTIFIER={"TRANSPORT": "memory"}):
        send_message(json.loads(ROW_OF_0_1_0))
    (message,) = outbox.messages
    assert set(message) == {field.name for field in FIELDS}
    assert {name: message[name] for name in FIELDS_OF_0_1_0} == json.loads(ROW_OF_0_1_0)


def test_a_message_of_0_1_0_is_kept_with_defaults() -> None:
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "KEEP_MESSAGES": True}):
        send_message(json.loads(ROW_OF_0_1_0))
    record = MessageRecord.objects.get()
    MessageRecord.objects.all().delete()
    assert (record.subject, record.url, record.level) == ("Paid", "/orders/7/", "success")
    assert record.more == {field.name: field.default for field in LATER}


def test_a_message_with_defaults_is_what_0_1_0_takes() -> None:
    """A worker, or a service, of the version before reads it while the deploy goes on."""
    payload = Message(to_users=7, subject="Paid").payload()
    assert set(payload) == FIELDS_OF_0_1_0


def test_the_inbox_shows_a_stored_message_of_0_1_0(redis_server: RedisServer) -> None:
    client = redis_server.client()
    client.flushall()
    with running(Service(redis_url=redis_server.url)) as service:
        with service.client() as publisher_client:
            publisher_client.post("/v1/messages", json={"to": ["user:7"], "subject": "first"}).raise_for_status()
        (log,) = client.keys("*log:user:7")
        ((entry_id, entry),) = client.xrange(log)
        client.delete(log)
        client.xadd(log, {**entry, b"f": FRAME_OF_0_1_0, b"m": "m1"}, id=entry_id)
        with service.user("7") as reader:
            (message,) = reader.get("/v1/inbox").json()["messages"]
    assert message == {**json.loads(FRAME_OF_0_1_0.partition("data: ")[2]), "read": False}


@pytest.mark.parametrize("field", LATER, ids=lambda field: field.name)
def test_a_service_of_the_version_before_gets_a_message_without_its_later_field(
    field: Any, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    problem = {"status": 422, "field": field.name, "detail": f"{field.name}: is not a field of this request"}
    with answering((422, {}, json.dumps(problem).encode()), GOOD) as server:
        Message(to_users=user, subject="Paid", **{field.name: EXAMPLES[field.name]}).send()
        assert publisher.current().counts.failed == 0
    first, second = (body for _, _, _, body in server.requests)
    assert first == {**second, field.name: EXAMPLES[field.name]}
    assert field.name not in second
    assert f"{field.name!r}" in caplog.text


def test_a_field_is_unknown_by_a_member_of_the_problem_not_by_its_text(user: User) -> None:
    problem = {"status": 422, "field": "icon", "detail": "icon: other words", "unknown_field": True}
    with answering((422, {}, json.dumps(problem).encode()), GOOD) as server:
        Message(to_users=user, subject="Paid", icon="cart").send()
        assert publisher.current().counts.failed == 0
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("detail", "members", "status"),
    [
        ("other words", {"task_status": "cancelled"}, "cancelled"),
        ("other words", {}, None),
        ("status: the task t ended as failed and cannot be changed", {}, "failed"),
        ("the task t is being cancelled and cannot ask", {}, "cancelling"),
        ("the task t is cancelled: the question q was withdrawn", {}, "cancelled"),
        ("the task t waits for the answer to another question, q", {"status": 409}, None),
    ],
)
def test_the_status_of_a_refused_task_is_a_member_of_the_problem_or_of_a_service_before_it_in_the_text(
    detail: str, members: dict[str, object], status: str | None
) -> None:
    exc = Conflict(detail)
    exc.members = members
    assert task_status(exc) == status


def test_a_task_that_ended_elsewhere_ends_here_by_a_member_of_the_problem(user: User) -> None:
    moment = "2026-01-31T12:00:00Z"
    known = {"done": 0, "total": None, "cancel_requested": False, "updated_at": moment}
    problem = {"status": 409, "detail": "other words", "task_status": "cancelled"}
    with answering((200, {}, json.dumps(known).encode()), (409, {}, json.dumps(problem).encode())):
        task = Task(from_user=user, task_name="Export")
        task.begin()
        task.set_state("on")
        assert (task.ended, task.status) == (True, "cancelled")


EXAMPLES: dict[str, object] = {
    "icon": "cart",
    "key": "order-7",
    "actions": [{"text": "Show", "url": "/orders/7/", "method": "GET"}],
}
"""A value of each later field that is not its default."""


def test_a_service_of_the_version_before_gets_the_end_of_a_task_without_the_link(
    user: User, caplog: pytest.LogCaptureFixture
) -> None:
    def refusal(field: str) -> tuple[int, dict[str, str], bytes]:
        problem = {"status": 422, "field": field, "detail": f"{field}: is not a field of this request"}
        return 422, {}, json.dumps(problem).encode()

    moment = "2026-01-31T12:00:00Z"
    answer = {"done": 0, "total": None, "cancel_requested": False, "updated_at": moment}
    known = (200, {}, json.dumps(answer).encode())
    with answering(known, refusal("url"), refusal("url_text"), known) as server:
        task = Task(from_user=user, task_name="Export")
        task.begin()
        task.end(url="/reports/7.csv", url_text="Download")
        assert publisher.current().counts.failed == 0
    _, first, _, last = (body for _, _, _, body in server.requests)
    assert (first["url"], first["url_text"]) == ("/reports/7.csv", "Download")
    assert last == {"status": "succeeded"}
    assert "'url'" in caplog.text
