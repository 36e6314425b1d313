"""`changed` and live models with two databases: the event follows the commit of the database that has the change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save
from django.test import override_settings
from django.utils import timezone

from django_bridge import Event, Message, background, changed, delivery, live_model, publisher
from django_bridge.models import OutboxMessage
from django_bridge.testing import outbox as sent
from tests.django.listener import listening
from tests.django.outbox_rows import MEMORY, subjects
from tests.django.sample.models import SimpleModel
from tests.support import Service


class Elsewhere:
    """A router by which the model is in the other database."""

    def db_for_read(self, model: type, **_: Any) -> str | None:
        return "other" if model is SimpleModel else None

    db_for_write = db_for_read


@pytest.fixture(autouse=True)
def _live_models() -> Iterator[None]:
    signals = (post_save, post_delete, m2m_changed, class_prepared)
    receivers = [list(signal.receivers) for signal in signals]
    live_model(SimpleModel)
    live_model(User)
    yield
    for signal, before in zip(signals, receivers, strict=True):
        signal.receivers[:] = before
        signal.sender_receivers_cache.clear()
    SimpleModel.objects.using("other").all().delete()


@pytest.fixture(params=[False, True], ids=["without outbox", "with outbox"])
def _settings(request: pytest.FixtureRequest, outbox_process: None) -> Iterator[None]:
    with override_settings(NOTIFIER={**MEMORY, "OUTBOX": request.param}):
        yield


@pytest.fixture
def row() -> SimpleModel:
    row = SimpleModel.objects.create(title="first")
    sent.clear()
    return row


def topics() -> list[str]:
    return [channel.removeprefix("topic:") for event in sent.events for channel in event["to"]]


def own(row: SimpleModel) -> str:
    return f"sample.simplemodel:{row.pk}"


@contextmanager
def rolled_back(*aliases: str) -> Iterator[None]:
    """Transactions in these databases, the first outermost, that are rolled back."""
    with ExitStack() as stack:
        for alias in aliases:
            stack.enter_context(transaction.atomic(using=alias))
        yield
        for alias in aliases:
            transaction.set_rollback(True, using=alias)


@pytest.mark.usefixtures("_settings")
def test_a_row_saved_outside_of_a_transaction_is_a_change_at_once(row: SimpleModel, user: User) -> None:
    group = Group.objects.create(name="staff")
    sent.clear()
    with rolled_back("other"):
        row.save()
        assert topics() == [own(row)]
        group.user_set.add(user)
        group.user_set.clear()
        assert topics()[1:] == [f"auth.user:{user.pk}"] * 2
        row.delete()
    assert len(topics()) == 4


@pytest.mark.usefixtures("_settings")
def test_a_transaction_of_another_database_that_rolls_back_drops_no_committed_change(row: SimpleModel) -> None:
    with transaction.atomic():
        with rolled_back("other"):
            row.save()
            row.save(using="other")
        assert topics() == []
    assert topics() == [own(row)]
    sent.clear()
    with rolled_back("other"), transaction.atomic():
        row.save(using="default")
    assert topics() == [own(row)]
    assert not OutboxMessage.objects.exists()


@pytest.mark.usefixtures("_settings")
def test_a_rollback_of_its_own_database_drops_a_change_and_no_others(row: SimpleModel) -> None:
    with transaction.atomic(using="other"):
        with rolled_back("default"):
            row.save()
        with transaction.atomic():
            with rolled_back("default"):
                row.save()
            row.save()
            row.save()
        assert topics() == [own(row)]
    assert topics() == [own(row)]


@pytest.mark.parametrize("ends", [transaction.atomic, lambda: rolled_back("default")], ids=["commits", "rolls back"])
@pytest.mark.usefixtures("_settings")
def test_a_commit_beside_an_open_transaction_of_the_outbox_is_told_at_once(row: SimpleModel, ends: Any) -> None:
    with ends():
        with transaction.atomic(using="other"):
            row.save(using="other")
            row.save(using="other")
            assert topics() == []
        assert topics() == [own(row)]
    assert set(topics()) == {own(row)}


def test_it_reaches_a_stream_once_although_the_outbox_sends_it_again(live: Service, user: User) -> None:
    with (
        override_settings(NOTIFIER={**settings.NOTIFIER, "OUTBOX": True, "DELIVERY": "inline"}),
        listening(live, user.pk, topics=["sample.simplemodel:7", "end"]) as listener,
    ):
        with transaction.atomic():
            SimpleModel(pk=7, title="there").save(using="other")
            assert OutboxMessage.objects.count() == 1
            assert len(listener.wait("changed")) == 1
        changed("end")
        assert [data["topic"] for data in listener.wait("changed", 2)] == ["sample.simplemodel:7", "end"]
    assert not OutboxMessage.objects.exists()


def test_while_the_service_is_away_the_outbox_has_it(no_service: dict[str, Any], row: SimpleModel) -> None:
    OutboxMessage.objects.all().delete()
    with override_settings(NOTIFIER={**no_service, "RAISE": True}), transaction.atomic():
        row.save(using="other")
    with override_settings(NOTIFIER=MEMORY):
        delivery.deliver_all()
    assert topics() == [own(row)]


@pytest.mark.usefixtures("_settings")
def test_a_transaction_of_the_outbox_that_is_broken_stops_no_change_of_another_database(row: SimpleModel) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        row.save(using="other")
    assert topics() == [own(row)]


def test_a_change_without_a_row_that_finds_the_queue_full_is_counted_as_dropped(
    no_service: dict[str, Any], row: SimpleModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    worker = background.Worker("test", 1)
    monkeypatch.setattr(background, "_worker", worker)
    with override_settings(NOTIFIER={**no_service, "OUTBOX": True, "DELIVERY": "background"}), transaction.atomic():
        while worker.put(go_on.wait):
            pass
        transaction.set_rollback(True)
        row.save(using="other")
        go_on.set()
        assert publisher.current().counts.dropped == 1


# By hand


@pytest.mark.usefixtures("_settings")
def test_a_topic_without_a_database_is_told_by_each_commit() -> None:
    with transaction.atomic():
        with transaction.atomic(using="other"):
            changed("orders")
            changed("orders")
        assert topics() == ["orders"]
    assert set(topics()) == {"orders"}
    sent.clear()
    with transaction.atomic(), rolled_back("other"):
        changed("orders")
    assert topics() == ["orders"]
    sent.clear()
    with rolled_back("default", "other"):
        changed("orders")
    assert topics() == []


@pytest.mark.usefixtures("_settings")
def test_rows_that_are_committed_are_told_also_if_another_database_rolls_back(row: SimpleModel) -> None:
    for shown in (row, SimpleModel.objects.all(), SimpleModel.objects):
        sent.clear()
        with rolled_back("other"):
            changed(shown)
        assert topics() == [own(row)]


@pytest.mark.usefixtures("_settings")
def test_the_database_of_a_change_may_be_given(row: SimpleModel) -> None:
    with transaction.atomic(), transaction.atomic(using="other"):
        changed("orders", using="default")
        changed(row, using="default")
    assert topics() == ["orders", own(row)]
    sent.clear()
    with transaction.atomic(using="other"):
        changed("orders", using="default")
        assert topics() == ["orders"]
    assert topics() == ["orders"]


@pytest.mark.usefixtures("_settings")
def test_rows_are_read_from_the_database_of_their_router() -> None:
    with override_settings(DATABASE_ROUTERS=["tests.django.test_live_databases.Elsewhere"]):
        row = SimpleModel.objects.create(title="there")
        sent.clear()
        with rolled_back("default"):
            changed(row)
            changed(SimpleModel.objects.all())
            assert topics() == [own(row)] * 2


@pytest.mark.usefixtures("_settings")
def test_messages_and_events_wait_for_all_transactions(row: SimpleModel) -> None:
    with transaction.atomic(using="other"):
        Message(to_users=1, subject="later").send()
        Event(type="later", to_users=1).send()
        assert (subjects(), sent.events) == ([], [])
        with rolled_back("other"):
            Message(to_users=1, subject="never").send()
    assert (subjects(), [event["type"] for event in sent.events]) == (["later"], ["later"])


def test_a_commit_hook_of_the_project_that_raises_costs_no_later_change(live: Service, user: User) -> None:
    def broken() -> None:
        raise LookupError

    with (
        override_settings(NOTIFIER={**settings.NOTIFIER, "OUTBOX": True, "DELIVERY": "inline"}),
        listening(live, user.pk, topics=["order:1"]) as listener,
    ):
        with suppress(LookupError), transaction.atomic():
            transaction.on_commit(broken)
            changed("order:1")
        OutboxMessage.objects.update(due_at=timezone.now())
        assert delivery.deliver_all().delivered == 1
        listener.wait("changed")
        with transaction.atomic():
            changed("order:1")
        listener.wait("changed", 2)


@dataclass
class Unhashable:
    """A commit hook of a project."""

    calls: int = 0

    def __call__(self) -> None:
        self.calls += 1


@pytest.mark.usefixtures("_settings")
def test_a_commit_hook_of_the_project_may_be_unhashable() -> None:
    with transaction.atomic():
        transaction.on_commit(Unhashable())
        changed("order:1")
        with rolled_back("default"):
            changed("order:2")
        changed("order:3")
    assert topics() == ["order:1", "order:3"]
