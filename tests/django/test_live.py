"""Topics of model instances: `changed`, `live_model`, and events to a topic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.test import override_settings

from django_bridge import Event, Message, changed, delivery, live_model, topic
from django_bridge.models import OutboxMessage
from django_bridge.testing import outbox as sent
from notifier.errors import InvalidInput
from tests.django.listener import listening
from tests.django.outbox_rows import MEMORY
from tests.django.sample.models import SimpleModel
from tests.support import Service


def topics() -> list[str]:
    """The topics that `changed` was sent to, in order."""
    return [channel for event in sent.events if event["type"] == "changed" for channel in event["to"]]


def test_an_event_to_a_topic_reaches_the_streams_that_hear_it(live: Service, user: User) -> None:
    with listening(live, user.pk, topics=["order:42"]) as listener:
        Event(type="order.paid", to_users=topic("order:7")).send()
        Event(type="order.paid", to_users=topic("order:42"), data={"sum": 3}).send()
        assert listener.wait("order.paid") == [{"topic": "order:42", "sum": 3}]


def test_the_data_name_the_topic_unless_they_are_no_object() -> None:
    for data in (None, {"sum": 3}, {"topic": "own"}, [1], "text"):
        Event(type="order.paid", to_users=[topic("order:42"), 7], data=data).send()
    assert [event["data"] for event in sent.events] == [
        {"topic": "order:42"},
        {"topic": "order:42", "sum": 3},
        {"topic": "own"},
        [1],
        "text",
    ]
    assert {tuple(event["to"]) for event in sent.events} == {("topic:order:42", "user:7")}


def test_an_event_has_one_topic_at_most() -> None:
    with pytest.raises(InvalidInput, match="more than one topic"):
        Event(type="order.paid", to_users=[topic("order:1"), topic("order:2")]).send()


def test_a_message_may_go_to_a_topic() -> None:
    Message(subject="Paid", to_users=topic("order:42")).send()
    assert [message["to"] for message in sent.messages] == [["topic:order:42"]]


def test_the_topic_of_an_instance_is_its_model_and_key_or_its_own(row: SimpleModel) -> None:
    class Proxy(SimpleModel):
        class Meta:
            proxy = True
            app_label = "sample"

    class Named:
        live_topic = "build:9"

    changed(row)
    changed(Proxy.objects.get(pk=row.pk))
    changed(SimpleModel.objects.only("pk").get(pk=row.pk))
    row.live_topic = "build:9"  # type: ignore[attr-defined]
    changed(row)
    row.live_topic = lambda: "build:10"  # type: ignore[attr-defined]
    changed(row)
    changed(topic("build:11"))
    changed("build:12")
    own = f"topic:sample.simplemodel:{row.pk}"
    assert topics() == [own, own, own, "topic:build:9", "topic:build:10", "topic:build:11", "topic:build:12"]


def test_each_row_of_a_queryset_is_changed(rows: int) -> None:
    queryset = SimpleModel.objects.order_by("pk")
    changed(queryset)
    expected = [f"topic:sample.simplemodel:{row.pk}" for row in queryset]
    assert topics() == expected
    sent.clear()
    changed(SimpleModel.objects)
    assert sorted(topics()) == sorted(expected)


@pytest.mark.parametrize("shown", [SimpleModel(), 7, None, "two\nlines", SimpleModel.objects.values("title")])
def test_what_has_no_topic_is_refused(shown: Any) -> None:
    with pytest.raises(InvalidInput):
        changed(shown)
    assert not sent.events


@pytest.mark.parametrize("spread_s", [-1, 61, "2"])
def test_a_spread_is_a_number_of_seconds_within_bounds(spread_s: Any) -> None:
    with pytest.raises(InvalidInput, match="spread_s"):
        changed("order:1", spread_s=spread_s)


def test_the_spread_goes_with_the_event() -> None:
    changed("order:1", spread_s=1.5)
    assert [event["data"] for event in sent.events] == [{"topic": "order:1", "spread_s": 1.5}]


@pytest.fixture(params=[False, True], ids=["without outbox", "with outbox"])
def _settings(request: pytest.FixtureRequest, outbox_process: None) -> Iterator[None]:
    with override_settings(NOTIFIER={**MEMORY, "OUTBOX": request.param}):
        yield


@pytest.mark.usefixtures("_settings")
def test_calls_within_a_transaction_are_one_event_for_each_topic() -> None:
    with transaction.atomic():
        for name in ("order:1", "order:2", "order:1"):
            changed(name)
            with transaction.atomic():
                changed(name)
        assert topics() == []
    assert topics() == ["topic:order:1", "topic:order:2"]
    with transaction.atomic():
        changed("order:1")
    changed("order:1")
    assert topics()[2:] == ["topic:order:1", "topic:order:1"]
    assert not OutboxMessage.objects.exists()


@pytest.mark.usefixtures("_settings")
def test_a_rollback_drops_the_calls_within_it_and_no_others() -> None:
    with transaction.atomic():
        changed("order:1")
        transaction.set_rollback(True)
    assert topics() == []
    with transaction.atomic():
        with transaction.atomic():
            changed("order:1")
            changed("order:2")
            transaction.set_rollback(True)
        changed("order:1")
    assert topics() == ["topic:order:1"]


@pytest.mark.usefixtures("_settings")
def test_what_a_commit_hook_changes_is_an_event_of_its_own() -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: changed("order:1"))
        changed("order:1")
        transaction.on_commit(lambda: changed("order:1"))
    assert topics() == ["topic:order:1"] * 3


def test_with_an_outbox_the_event_is_a_row_of_the_transaction(no_service: dict[str, Any]) -> None:
    with transaction.atomic():
        changed("order:1")
        changed("order:1")
        assert OutboxMessage.objects.count() == 1
    assert OutboxMessage.objects.count() == 1
    with override_settings(NOTIFIER={**MEMORY, "OUTBOX": True}):
        OutboxMessage.objects.update(due_at="2000-01-01T00:00Z")
        delivery.deliver_due()
    assert topics() == ["topic:order:1"]
    OutboxMessage.objects.all().delete()


@pytest.fixture
def _live_models() -> Iterator[None]:
    signals = (post_save, post_delete, m2m_changed)
    receivers = [list(signal.receivers) for signal in signals]
    assert live_model(SimpleModel) is SimpleModel
    live_model(User)
    yield
    for signal, before in zip(signals, receivers, strict=True):
        signal.receivers[:] = before
        signal.sender_receivers_cache.clear()


@pytest.mark.usefixtures("_live_models")
def test_saving_and_deleting_a_live_model_is_a_change() -> None:
    row = SimpleModel.objects.create(title="first")
    row.save()
    own = f"topic:sample.simplemodel:{row.pk}"
    assert topics() == [own, own]
    SimpleModel.objects.update(title="second")
    assert topics() == [own, own], "update() sends no signals"
    row.delete()
    assert topics() == [own, own, own]


@pytest.mark.usefixtures("_live_models")
def test_a_many_to_many_relation_changes_the_live_side(user: User) -> None:
    group = Group.objects.create(name="staff")
    sent.clear()
    own = f"topic:auth.user:{user.pk}"
    user.groups.add(group)
    assert topics() == [own]
    group.user_set.remove(user)
    assert topics() == [own, own]
    user.groups.set([group])
    user.groups.clear()
    assert topics() == [own] * 4
