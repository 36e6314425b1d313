"""`Event`: recipients, data, commit, outbox, and what a page receives."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.test import override_settings
from django.utils import translation
from django.utils.translation import gettext_lazy

from django_bridge import ALL, Event, delivery, group
from django_bridge.models import MessageRecord, OutboxMessage
from django_bridge.testing import outbox as sent
from notifier.errors import InvalidInput
from tests.django.listener import listening
from tests.django.outbox_rows import MEMORY
from tests.support import Service


def test_an_event_reaches_the_page(live: Service, user: User) -> None:
    with listening(live, user.pk) as listener:
        Event(type="order.paid", to_users=user, data={"order": 7}).send()
        Event(type="order.seen", to_users=[user, group("staff")], data=[1], durable=False).send()
        assert listener.wait("order.paid") == [{"order": 7}]
        assert listener.wait("order.seen") == [[1]]


def test_a_user_may_be_left_out(live: Service, user: User, other_user: User) -> None:
    with listening(live, user.pk) as left_out, listening(live, other_user.pk) as listener:
        for except_, number in ((user, 1), ([user.pk], 2), (None, 3)):
            Event(type="order.paid", to_users=ALL, data=number, except_=except_).send()
        assert listener.wait("order.paid", 3) == [1, 2, 3]
        assert left_out.wait("order.paid") == [3]


def test_one_stream_may_be_left_out(live: Service, user: User) -> None:
    with listening(live, user.pk) as left_out, listening(live, user.pk) as listener:
        (hello,) = left_out.wait("hello")
        for connection, number in ((hello["connection"], 1), (None, 2)):
            Event(type="order.paid", to_users=user, data=number, except_connection=connection).send()
        assert listener.wait("order.paid", 2) == [1, 2]
        assert left_out.wait("order.paid") == [2]
    with pytest.raises(InvalidInput) as raised:
        Event(type="order.paid", to_users=user, except_connection="").send()
    assert raised.value.field == "except_connection"


def test_who_is_left_out_must_be_users() -> None:
    for except_ in (group("staff"), ALL, range(1, 52), 4.5):
        with pytest.raises(InvalidInput) as raised:
            Event(type="order.paid", to_users=1, except_=except_).send()
        assert str(raised.value.field).startswith("except_")
    Event(type="order.paid", to_users=1, except_=AnonymousUser()).send()
    assert [event["to"] for event in sent.events] == [["user:1"]]


def test_recipients_are_those_of_a_message(user: User, other_user: User) -> None:
    for to in (user, user.pk, str(user.pk), [user, other_user.pk], User.objects.order_by("pk"), group("staff"), ALL):
        Event(type="order.paid", to_users=to).send()
    ann, bob = f"user:{user.pk}", f"user:{other_user.pk}"
    assert [event["to"] for event in sent.events] == [
        *[[ann]] * 3,
        *[[ann, bob]] * 2,
        ["group:staff"],
        ["all"],
    ]


def test_data_may_have_dates_decimals_uuids_and_lazy_translations(user: User) -> None:
    key = uuid.uuid4()
    data = {
        "at": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "sum": Decimal("12.50"),
        "key": key,
        "text": gettext_lazy("Yes"),
    }
    with translation.override("de"):
        Event(type="order.paid", to_users=user, data=data).send()
    expected = {"at": "2026-01-31T12:00:00Z", "sum": "12.50", "key": str(key), "text": "Ja"}
    assert sent.events == [{"to": [f"user:{user.pk}"], "type": "order.paid", "data": expected}]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "message"}, "type"),
        ({"type": "two words"}, "type"),
        ({"data": object()}, "data"),
        ({"to_users": []}, "to_users"),
        ({"to_users": 4.5}, "to_users"),
        ({"durable": "yes"}, "durable"),
    ],
)
def test_values_that_break_a_rule_are_refused_at_the_call(fields: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Event(**{"type": "order.paid", "to_users": 1, **fields}).send()
    assert raised.value.field == field
    assert not sent.events


@pytest.fixture(params=[False, True], ids=["without outbox", "with outbox"])
def _settings(request: pytest.FixtureRequest, outbox_process: None) -> Any:
    with override_settings(NOTIFIER={**MEMORY, "OUTBOX": request.param, "KEEP_MESSAGES": True}):
        yield


@pytest.mark.usefixtures("_settings")
def test_an_event_is_sent_on_commit_and_never_after_a_rollback() -> None:
    with transaction.atomic():
        Event(type="order.paid", to_users=1).send()
        with transaction.atomic():
            Event(type="order.dropped", to_users=1).send()
            transaction.set_rollback(True)
        assert not sent.events
    assert [event["type"] for event in sent.events] == ["order.paid"]
    assert not OutboxMessage.objects.exists()
    assert not MessageRecord.objects.exists(), "events are not messages for people"


@pytest.mark.usefixtures("_settings")
async def test_an_event_can_be_awaited() -> None:
    await Event(type="order.paid", to_users=1).asend()
    Event(type="order.seen", to_users=1).send()
    assert [event["type"] for event in sent.events] == ["order.paid", "order.seen"]


def test_without_a_service_an_event_waits_in_the_outbox_in_its_place(
    outbox_process: None, no_service: dict[str, Any]
) -> None:
    event_id = Event(type="order.paid", to_users=1, data={"order": 7}, durable=False).send()
    row = OutboxMessage.objects.get()
    assert (row.message_id, row.state) == (event_id, "waiting")
    with override_settings(NOTIFIER=MEMORY):
        assert delivery.deliver_all().delivered == 1
    assert sent.events == [{"to": ["user:1"], "type": "order.paid", "data": {"order": 7}, "durable": False}]
