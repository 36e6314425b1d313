"""Messages that are retracted and corrected from Django: over both transports, on commit, through the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings
from django.utils.translation import gettext_lazy

from django_bridge import Message, publisher
from django_bridge.corrections import retraction
from django_bridge.delivery import deliver_all
from django_bridge.history import messages_of
from django_bridge.models import MessageRecord, OutboxMessage
from django_bridge.testing import outbox
from django_bridge.tokens import channel_token
from notifier.errors import InvalidInput, PayloadTooLarge
from notifier.rules import MAX_EVENT_BYTES
from tests.django.answering import answering
from tests.support import Service

MEMORY: Mapping[str, Any] = {"TRANSPORT": "memory"}


def inbox_of(service: Service, user: User) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {channel_token(f'user:{user.pk}')}"}
    answer = httpx.get(f"{service.url}/v1/inbox", headers=headers)
    messages: list[dict[str, Any]] = answer.raise_for_status().json()["messages"]
    return messages


@pytest.fixture
def kept() -> Iterator[None]:
    with override_settings(NOTIFIER={**MEMORY, "KEEP_MESSAGES": True}):
        yield


def test_a_message_is_corrected_and_retracted_in_the_inbox(live: Service, user: User, other_user: User) -> None:
    message = Message(to_users=[user, other_user], subject="Train 7", text="leaves at 9:20")
    message_id, other_id = message.send(), Message(to_users=user, subject="stays").send()
    Message.correct(message_id, to_users=[user, other_user], text="leaves at 9:40", from_user=user, level="warning")
    for reader in (user, other_user):
        shown = inbox_of(live, reader)[-1]
        assert (shown["id"], shown["text"], shown["edited"]) == (message_id, "leaves at 9:40", True)
        assert (shown["subject"], shown["level"], shown["from"]["name"]) == ("Train 7", "warning", "Ann Lee")
    message.retract()
    assert [shown["id"] for shown in inbox_of(live, user)] == [other_id]
    assert inbox_of(live, other_user) == []
    message.retract()  # a message that is gone stays so, without an error
    Message.correct(message_id, to_users=user, text="too late")
    Message.retract_by_id(other_id, to_users=user)
    assert inbox_of(live, user) == []
    assert publisher.current().counts.failed == 0


def test_each_language_is_corrected_in_its_own_words(live: Service, user: User, other_user: User) -> None:
    people = User.objects.filter(pk__in=[user.pk, other_user.pk])
    with override_settings(NOTIFIER={**settings.NOTIFIER, "USER_LANGUAGE": f"{__name__}.language_of"}):
        message = Message(to_users=people, subject="x")
        message.send()
        assert message.id is not None
        Message.correct(message.id, to_users=people, subject=gettext_lazy("Yes"))
    assert [inbox_of(live, reader)[0]["subject"] for reader in (user, other_user)] == ["Yes", "Ja"]


def language_of(user: User) -> str:
    return "de" if user.username == "bob" else "en"


@pytest.mark.parametrize("with_outbox", [False, True])
def test_both_are_sent_on_commit_and_not_after_a_rollback(with_outbox: bool, user: User) -> None:
    with override_settings(NOTIFIER={**MEMORY, "OUTBOX": with_outbox, "DELIVERY": "inline"}):
        message = Message(to_users=user, subject="Test")
        message_id = message.send()
        with transaction.atomic():
            Message.correct(message_id, to_users=user, subject="other")
            message.retract()
            transaction.set_rollback(True)
        assert [sent["subject"] for sent in outbox.messages] == ["Test"]
        with transaction.atomic():
            Message.correct(message_id, to_users=user, subject="other")
            assert outbox.messages[0]["subject"] == "Test"
        assert (outbox.messages[0]["subject"], outbox.messages[0]["edited"]) == ("other", True)
        with transaction.atomic():
            message.retract()
            assert outbox.retracted == []
        assert (outbox.messages, outbox.retracted) == ([], [message_id])
        assert not OutboxMessage.objects.exists()


def test_the_outbox_keeps_both_in_order_until_the_service_is_back(
    no_service: dict[str, Any], bridge_service: Service, user: User
) -> None:
    first, second = (Message(to_users=user, subject=name) for name in ("first", "second"))
    first_id = first.send()
    second.send()
    Message.correct(first_id, to_users=user, text="corrected")
    second.retract()
    assert OutboxMessage.objects.count() == 4
    with override_settings(NOTIFIER={**no_service, "URL": bridge_service.url, "TIMEOUT_S": 10}):
        run = deliver_all()
        assert (run.delivered, run.failed, run.error) == (4, 0, "")
        assert [(shown["subject"], shown["text"]) for shown in inbox_of(bridge_service, user)] == [
            ("first", "corrected")
        ]
    assert not OutboxMessage.objects.exists()


def test_a_row_that_the_bridge_did_not_write_is_refused_and_the_others_go_on(outbox_process: None, user: User) -> None:
    OutboxMessage.objects.create(
        message_id="r1", payload='{"id":"r1","kind":"message.retraction","message":"m"}', origin="other"
    )
    OutboxMessage.objects.create(
        message_id="r2",
        payload='{"id":"r2","kind":"message.correction","message":"m","to":["all"],"changes":{"key":"a"}}',
        origin="other",
    )
    run = deliver_all()
    assert (run.delivered, run.failed) == (0, 2)


def test_a_kept_message_follows_its_correction_and_its_retraction(kept: None, user: User, other_user: User) -> None:
    message = Message(to_users=[user, other_user], subject="Train 7", icon="bell", data={"n": 1})
    message_id = message.send()
    Message.correct(message_id, text="late", url=None, icon="heart", from_user=other_user)
    (record,) = messages_of(user)
    assert (record.subject, record.text, record.url, record.data) == ("Train 7", "late", "", {"n": 1})
    assert (record.sender_name, record.more["icon"]) == ("bob", "heart")
    Message.correct(message_id, to_users=other_user, text="for Bob alone")
    assert messages_of(user).get().text == "late"
    Message.retract_by_id(message_id, to_users=other_user)
    assert (messages_of(user).count(), messages_of(other_user).count()) == (1, 0)
    Message.retract_by_id(message_id)
    assert not MessageRecord.objects.exists()
    assert outbox.messages == []


def test_a_call_that_breaks_a_rule_names_its_argument(user: User) -> None:
    def refused(field: str, message_id: str = "m1", **values: Any) -> None:
        with pytest.raises(InvalidInput) as raised:
            Message.correct(message_id, **{"to_users": user, **values})
        assert raised.value.field == field

    with pytest.raises(PayloadTooLarge) as raised:
        Message.correct("m1", to_users=user, data={"text": "y" * MAX_EVENT_BYTES})
    assert raised.value.field == "data"
    refused("changes")
    refused("key", key="x")
    refused("subject", subject="")
    refused("send_datetime", send_datetime="soon")
    refused("to_users", to_users=None, text="x")
    refused("to_users", to_users=[], text="x")
    refused("message_id", "not an id", text="x")
    with pytest.raises(InvalidInput, match="retract_by_id"):
        Message(to_users=user, subject="never sent").retract()
    assert outbox.messages == []


def test_the_bodies_follow_the_wire_contract() -> None:
    with answering((204, {}, b"")) as server:
        transport = publisher.current().transport
        many = [f"user:{n}" for n in range(6000)]
        for attempt in transport.retract("m1", many):
            assert attempt(10.0)
        (first, *others) = server.requests
    assert others
    assert [(method, path) for method, path, _, _ in server.requests] == [("DELETE", "/v1/messages/m1")] * (
        1 + len(others)
    )
    assert [channel for _, _, _, body in server.requests for channel in body["to"]] == many
    assert first[3].keys() == {"to"}
    assert retraction("m1", ["all"])["to"] == ["all"]


def test_asynchronous_code_awaits_both(user: User) -> None:
    async def run() -> None:
        message = Message(to_users=user, subject="Test")
        message_id = await message.asend()
        await Message.acorrect(message_id, to_users=user, text="more")
        assert outbox.messages[0]["text"] == "more"
        await message.aretract()
        await Message.aretract_by_id(message_id, to_users=user)

    asyncio.run(run())
    assert outbox.messages == []
