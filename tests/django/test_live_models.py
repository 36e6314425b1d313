"""`live_model`: every way in which Django saves, deletes or relates the rows of a model is a change of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group
from django.core.checks import run_checks
from django.db import models, transaction
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save

from django_bridge import changed, live_model, live_signals
from django_bridge.testing import outbox as sent
from notifier.errors import InvalidInput
from tests.django.live_models import Cafe, CafeProxy, Link, Place, PlaceProxy, Roastery, Stamped, Ticket

PLACE, CAFE = "sample.place", "sample.cafe"


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    signals = (post_save, post_delete, m2m_changed, class_prepared)
    receivers = [list(signal.receivers) for signal in signals]
    yield
    for signal, before in zip(signals, receivers, strict=True):
        signal.receivers[:] = before
        signal.sender_receivers_cache.clear()
    for model in (Place, Ticket, Link):
        model.objects.all().delete()


def new_topics() -> set[str]:
    """The topics of the events since the last call."""
    topics = {channel.removeprefix("topic:") for event in sent.events for channel in event["to"]}
    sent.clear()
    return topics


@pytest.mark.parametrize(
    ("live", "saved"),
    [
        (Place, PlaceProxy),
        (PlaceProxy, Place),
        (PlaceProxy, PlaceProxy),
        (Place, Cafe),
        (Place, CafeProxy),
        (Place, Roastery),
    ],
)
def test_the_row_of_a_proxy_or_a_child_is_a_row_of_the_live_model(live: type[Place], saved: type[Place]) -> None:
    live_model(live)
    row = saved.objects.create(name="here")
    own = {f"{PLACE}:{row.place_id if isinstance(row, Cafe) else row.pk}"}
    assert new_topics() == own
    row.save()
    assert new_topics() == own
    row.delete()
    assert new_topics() == own


def test_a_proxy_that_is_defined_later_is_live_too() -> None:
    live_model(Place)

    class Later(Place):
        class Meta:
            app_label = "sample"
            proxy = True

    place = Later.objects.create(name="here")
    assert new_topics() == {f"{PLACE}:{place.pk}"}


def test_the_topic_is_that_of_the_live_class() -> None:
    live_model(CafeProxy)
    cafe = Cafe.objects.create(name="here")
    assert new_topics() == {f"cafe:{cafe.pk}"}
    Place.objects.get(pk=cafe.pk).save()
    assert new_topics() == {f"cafe:{cafe.pk}"}


def test_a_parent_s_row_is_part_of_its_live_child() -> None:
    live_model(Cafe)
    cafe, alone = Roastery.objects.create(name="here"), Place.objects.create(name="there")
    own = {f"{CAFE}:{cafe.pk}"}
    assert new_topics() == own
    for place in (Place.objects.get(pk=cafe.pk), PlaceProxy.objects.get(pk=cafe.pk)):
        place.save()
        assert new_topics() == own
    alone.save()
    alone.delete()
    assert new_topics() == set()
    Place.objects.get(pk=cafe.pk).delete()
    assert new_topics() == own


@pytest.mark.parametrize("live", [Place, PlaceProxy])
def test_every_change_of_a_relation_from_either_side_is_a_change(live: type[models.Model]) -> None:
    live_model(live)
    here, there = (Place.objects.create(name=name) for name in ("here", "there"))
    group = Group.objects.create(name="staff")
    both = {f"{PLACE}:{here.pk}", f"{PLACE}:{there.pk}"}
    new_topics()
    group.places.add(here, there)  # type: ignore[attr-defined]  # the reverse side
    assert new_topics() == both
    group.places.remove(there)  # type: ignore[attr-defined]  # as above
    assert new_topics() == {f"{PLACE}:{there.pk}"}
    group.places.set([there])  # type: ignore[attr-defined]  # as above
    assert new_topics() == both
    group.places.add(here)  # type: ignore[attr-defined]  # as above
    new_topics()
    group.places.clear()  # type: ignore[attr-defined]  # as above
    assert new_topics() == both
    here.groups.add(group)
    new_topics()
    here.groups.clear()
    assert new_topics() == {f"{PLACE}:{here.pk}"}
    here.near.add(there)
    assert new_topics() == both
    here.near.clear()
    assert new_topics() == both


def test_a_relation_of_the_parent_changes_the_live_child_and_the_reverse() -> None:
    cafe = Cafe.objects.create(name="here")
    group = Group.objects.create(name="staff")
    live_model(Cafe)
    group.places.add(Place.objects.get(pk=cafe.pk))  # type: ignore[attr-defined]  # the reverse side
    assert new_topics() == {f"{CAFE}:{cafe.pk}"}
    group.places.clear()  # type: ignore[attr-defined]  # as above
    assert new_topics() == {f"{CAFE}:{cafe.pk}"}
    live_model(Place)
    cafe.groups.add(group)
    assert new_topics() == {f"{CAFE}:{cafe.pk}", f"{PLACE}:{cafe.pk}"}


def test_a_clear_that_is_rolled_back_is_no_change() -> None:
    live_model(Place)
    place = Place.objects.create(name="here")
    group = Group.objects.create(name="staff")
    place.groups.add(group)
    new_topics()
    with transaction.atomic():
        group.places.clear()  # type: ignore[attr-defined]  # the reverse side
        transaction.set_rollback(True)
    assert new_topics() == set()


def test_a_proxy_of_another_model_and_fixtures_are_left_out() -> None:
    live_model(Cafe)
    Place.objects.create(name="here")
    Group.objects.create(name="staff")
    post_save.send(Cafe, instance=Cafe(pk=7, place_id=7), raw=True, created=True, using="default", update_fields=None)
    assert new_topics() == set()


def test_a_key_that_was_given_as_text_is_the_key_of_the_row() -> None:
    live_model(Ticket)
    key = uuid.uuid4()
    own = {f"sample.ticket:{key}"}
    ticket = Ticket.objects.create(pk=key.hex)
    assert new_topics() == own
    changed(ticket)
    assert new_topics() == own
    Ticket(pk=str(key).upper()).delete()
    assert new_topics() == own


def test_a_key_that_no_topic_can_have_stops_no_save(caplog: pytest.LogCaptureFixture) -> None:
    live_model(Link)
    link = Link.objects.create(url="https://example.org/" + "x" * 200)
    Link.objects.create(url="short")
    link.delete()
    assert new_topics() == {"sample.link:short"}
    (line,) = [record.getMessage() for record in caplog.records if record.name == "django_bridge"]
    assert "sample.Link" in line
    assert "1 to 128 characters" in line
    with pytest.raises(InvalidInput):
        changed(Link(url="x" * 200))


def test_an_abstract_live_model_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def warnings() -> list[str]:
        return [message.msg for message in run_checks() if message.id == "notifier.W008"]

    monkeypatch.setattr(live_signals, "_abstract", [])
    assert warnings() == []
    assert live_model(Stamped) is Stamped
    (text,) = warnings()
    assert "tests.django.live_models.Stamped" in text
