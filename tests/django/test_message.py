"""`Message`: payload, recipients, time of sending, and refused values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Self

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from django_bridge import ALL, Message, group
from django_bridge.commit import after_commit
from django_bridge.testing import outbox
from notifier.errors import InvalidInput, PayloadTooLarge
from tests.django.sample.models import SimpleModel


def sent(**values: Any) -> Any:
    """Send a message with these values. Returns its payload."""
    outbox.clear()
    message_id = Message(**{"subject": "Test", "to_users": 1, **values}).send()
    assert [message["id"] for message in outbox.messages] == [message_id]
    return outbox.messages[0]


def test_a_message_carries_its_sender_texts_level_link_and_data(user: User) -> None:
    message = sent(
        from_user=user, to_users=user, text="Loong text", level="warning", url="/orders/1", data={"order": [1, None]}
    )
    assert message == {
        "id": message["id"],
        "to": [f"user:{user.pk}"],
        "subject": "Test",
        "text": "Loong text",
        "from": {"id": str(user.pk), "name": "Ann Lee"},
        "level": "warning",
        "url": "/orders/1",
        "icon": None,
        "actions": None,
        "key": None,
        "data": {"order": [1, None]},
        "sent_at": None,
        "expires_at": None,
    }


def test_each_send_is_a_new_message() -> None:
    message = Message(subject="Test", to_users=1)
    assert message.send() != message.send()
    assert len(outbox.messages) == 2


# Sender


def test_the_sender_may_be_a_user_a_key_or_none(user: User, other_user: User) -> None:
    named = {"id": str(user.pk), "name": "Ann Lee"}
    assert sent(from_user=user)["from"] == named
    assert sent(from_user=user.pk)["from"] == named
    assert sent(from_user=str(user.pk))["from"] == named
    assert sent(from_user=SimpleLazyObject(lambda: user))["from"] == named
    assert sent(from_user=other_user)["from"] == {"id": str(other_user.pk), "name": "bob"}
    assert sent(from_user=None)["from"] is None
    assert sent(from_user=AnonymousUser())["from"] is None
    assert sent(from_user=10**6)["from"] == {"id": "1000000"}


def test_a_senders_name_that_is_too_long_is_cut(user: User) -> None:
    user.first_name = user.last_name = "x" * 150
    assert sent(from_user=user)["from"]["name"] == "x" * 150 + " " + "x" * 104


# Recipients


def test_recipients_may_be_given_in_every_form(user: User, other_user: User) -> None:
    staff = Group.objects.create(name="staff")
    staff.user_set.add(user, other_user)
    both = [f"user:{user.pk}", f"user:{other_user.pk}"]
    forms: list[tuple[Any, list[str]]] = [
        (user, both[:1]),
        (SimpleLazyObject(lambda: user), both[:1]),
        (user.pk, both[:1]),
        (str(user.pk), both[:1]),
        ([user, other_user.pk], both),
        ((recipient for recipient in (user, other_user)), both),
        ({user.pk, other_user.pk}, both),
        (User.objects.order_by("pk"), both),
        (User.objects.order_by("pk").values_list("pk", flat=True), both),
        (User.objects, both),
        (staff.user_set, both),
        (staff, ["group:staff"]),
        (group("staff"), ["group:staff"]),
        (Group.objects.all(), ["group:staff"]),
        (ALL, ["all"]),
        ([user, [other_user, user], staff, ALL], ["group:staff", "all", *both]),
    ]
    for to_users, channels in forms:
        assert sorted(sent(to_users=to_users)["to"]) == sorted(channels), to_users


def test_a_queryset_of_users_is_read_by_its_keys_alone(user: User, other_user: User) -> None:
    users = User.objects.order_by("pk")
    with CaptureQueriesContext(connection) as queries:
        sent(to_users=users)
    assert len(queries) == 1
    assert '"auth_user"."id"' in queries[0]["sql"]
    assert "username" not in queries[0]["sql"]
    assert users._result_cache is None


def test_a_fetched_queryset_costs_no_query(user: User) -> None:
    users = User.objects.all()
    assert len(users) == 1
    with CaptureQueriesContext(connection) as queries:
        sent(to_users=users)
    assert len(queries) == 0


@pytest.mark.parametrize(
    ("to_users", "what"),
    [
        (None, "must be a user"),
        ([], "at least one recipient"),
        ("all", "ALL"),
        ("", "not a primary key"),
        (True, "not a primary key"),
        (1.5, "must be a user"),
        (b"1", "must be a user"),
        ({"a": 1}, "must be a user"),
        (object(), "must be a user"),
        ([1, None], r"to_users\[1\]"),
        (AnonymousUser(), "anonymous"),
        (User(username="new"), "never saved"),
        (SimpleModel(pk=1), "is a SimpleModel, not a user"),
        (SimpleModel.objects.all(), "is a QuerySet of sample.SimpleModel"),
        (Group(name="x" * 129), "1 to 128 characters"),
        (Group(name="a\nb"), "not allowed"),
    ],
)
def test_invalid_recipients_are_refused(to_users: Any, what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as caught:
        Message(subject="Test", to_users=to_users).send()
    assert (caught.value.field or "").startswith("to_users")
    assert not outbox.messages


@pytest.mark.parametrize("name", ["", "x" * 129, "a\x00b", "\ud800", 7])
def test_a_group_name_that_no_channel_can_have_is_refused(name: Any) -> None:
    with pytest.raises(InvalidInput):
        group(name)


def name_as_id(user: User) -> str:
    return f"name/{user.username}"


def bad_id(user: User) -> str:
    return "two\nlines"


def test_the_id_on_the_wire_can_be_customized(user: User) -> None:
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "USER_ID": f"{__name__}.name_as_id"}):
        message = sent(from_user=user, to_users=[user, user.pk, User.objects.all()])
        assert message["to"] == ["user:name/ann"]
        assert message["from"]["id"] == "name/ann"
        with pytest.raises(InvalidInput, match="not the key of a user"):
            Message(subject="Test", to_users=10**6).send()
    with (
        override_settings(NOTIFIER={"TRANSPORT": "memory", "USER_ID": f"{__name__}.bad_id"}),
        pytest.raises(InvalidInput, match="not allowed"),
    ):
        Message(subject="Test", to_users=user).send()


# Values


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject", ""),
        ("subject", 7),
        ("subject", "x" * 256),
        ("subject", "a\x00b"),
        ("subject", "\ud800"),
        ("text", "\udfff"),
        ("text", None),
        ("level", "loud"),
        ("url", "javascript:alert(1)"),
        ("data", {"n": float("nan")}),
        ("data", {"n": Decimal(1)}),
        ("data", {1: 2}),
        ("data", ["a", "list"]),
        ("send_datetime", "yesterday"),
        ("send_datetime", 0),
        ("expires_at", datetime(2001, 1, 1, tzinfo=UTC)),
        ("from_user", "ann"),
        ("from_user", SimpleModel(pk=1)),
        ("from_user", User(username="new")),
    ],
)
def test_a_bad_value_is_refused_at_the_call_by_its_django_name(field: str, value: Any) -> None:
    with transaction.atomic(), pytest.raises(InvalidInput) as caught:
        Message(**{"subject": "Test", "to_users": 1, field: value}).send()
    assert (caught.value.field or "").startswith(field)
    assert not outbox.messages


def test_a_message_that_is_too_large_is_refused_at_the_call() -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        Message(subject="Test", to_users=1, text="x" * 20_000).send()
    assert caught.value.field == "text"


def test_lazy_translations_are_text_in_the_language_of_the_call() -> None:
    lazy = gettext_lazy("Yes")
    with translation.override("de"), transaction.atomic():
        Message(subject=lazy, text=lazy, to_users=1, data={"answers": [lazy]}).send()
        translation.activate("en")
    assert [outbox.messages[0][key] for key in ("subject", "text", "data")] == ["Ja", "Ja", {"answers": ["Ja"]}]  # type: ignore[literal-required]  # the names are in the list


# Time


def test_a_time_without_a_zone_is_in_djangos_current_time_zone() -> None:
    noon = datetime(2026, 7, 1, 12)
    assert sent(send_datetime=noon)["sent_at"] == "2026-07-01T10:00:00Z"
    with timezone.override("Asia/Tokyo"):
        assert sent(send_datetime=noon)["sent_at"] == "2026-07-01T03:00:00Z"
    assert sent(send_datetime=noon.replace(tzinfo=UTC))["sent_at"] == "2026-07-01T12:00:00Z"
    assert sent(expires_at=datetime(2999, 1, 1, 1))["expires_at"] == "2999-01-01T00:00:00Z"


def test_inside_a_transaction_a_message_is_sent_on_commit_and_its_id_returned_at_once() -> None:
    with transaction.atomic():
        with transaction.atomic():
            message_id = Message(subject="Test", to_users=1).send()
        assert not outbox.messages
    assert [message["id"] for message in outbox.messages] == [message_id]


def test_a_rolled_back_message_is_not_sent() -> None:
    with transaction.atomic():
        Message(subject="kept", to_users=1).send()
        with transaction.atomic():
            Message(subject="dropped", to_users=1).send()
            transaction.set_rollback(True)
    with transaction.atomic():
        Message(subject="dropped too", to_users=1).send()
        transaction.set_rollback(True)
    assert [message["subject"] for message in outbox.messages] == ["kept"]


def test_with_several_databases_every_open_transaction_must_commit() -> None:
    done: list[str] = []
    with transaction.atomic(using="other"):
        with transaction.atomic():
            after_commit(lambda: done.append("both"))
        assert not done
    assert done == ["both"]
    with transaction.atomic(using="other"):
        with transaction.atomic():
            after_commit(lambda: done.append("never"))
        transaction.set_rollback(True, using="other")
    with transaction.atomic(), transaction.atomic(using="other"):
        after_commit(lambda: done.append("never"))
        transaction.set_rollback(True, using="other")
    assert done == ["both"]


class Later(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(hours=2)


@pytest.mark.parametrize("hours", [1, 3])
def test_a_message_that_expired_while_it_waited_is_not_sent(hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction.atomic():
        Message(subject="Test", to_users=1, expires_at=timezone.now() + timedelta(hours=hours)).send()
        monkeypatch.setattr("django_bridge.payload.datetime", Later)
    assert len(outbox.messages) == (hours == 3)


def test_a_key_is_sent_in_the_data() -> None:
    Message(to_users=1, subject="40 %", key="import-7", data={"n": 1}).send()
    assert outbox.messages[0]["data"] == {"n": 1, "key": "import-7"}


@pytest.mark.parametrize("key", ["", "x" * 129, 7])
def test_a_key_that_does_not_fit_is_refused(key: Any) -> None:
    with pytest.raises(InvalidInput, match="key"):
        Message(to_users=1, subject="40 %", key=key).send()
