"""Lazy texts in the language of each recipient."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from django.utils.translation import gettext_lazy

from django_bridge import ALL, Message, Task, group, progress
from django_bridge.celery import deliver_outbox
from django_bridge.models import MessageRecipient, OutboxMessage
from django_bridge.outbox import _written, release
from django_bridge.testing import outbox
from tests.django.conftest import http_settings
from tests.django.listener import listening
from tests.support import Service

YES = gettext_lazy("Yes")
YES_IN = {"de": "Ja", "ru": "Да", "": "Yes"}


def language_of(user: User) -> str | None:
    return user.last_name or None


PATH = f"{__name__}.language_of"


@pytest.fixture
def known() -> Iterator[None]:
    from django.conf import settings

    with override_settings(NOTIFIER={**settings.NOTIFIER, "USER_LANGUAGE": PATH}):
        yield


@pytest.fixture
def people() -> dict[str, User]:
    return {name: User.objects.create_user(name or "any", last_name=name) for name in YES_IN}


def recipients_by_subject() -> dict[str, list[str]]:
    return {message["subject"]: message["to"] for message in outbox.messages}


def channels(*users: User) -> list[str]:
    return sorted(f"user:{user.pk}" for user in users)


@pytest.mark.parametrize("form", ["users", "keys", "queryset", "nested", "manager"])
def test_each_recipient_reads_its_own_language(known: None, people: dict[str, User], form: str) -> None:
    to: Any = {
        "users": list(people.values()),
        "keys": [user.pk for user in people.values()],
        "queryset": User.objects.all(),
        "nested": [[people["de"], people["ru"].pk], User.objects.filter(last_name="")],
        "manager": User.objects,
    }[form]
    message_id = Message(to_users=to, subject=YES, data={"word": YES}).send()
    assert recipients_by_subject() == {YES_IN[language]: channels(user) for language, user in people.items()}
    assert {message["data"]["word"] for message in outbox.messages} == set(YES_IN.values())
    assert {message["id"] for message in outbox.messages} == {message_id}


def test_one_user_needs_one_message(known: None, people: dict[str, User]) -> None:
    for to in (people["de"], people["de"].pk):
        outbox.clear()
        Message(to_users=to, subject=YES).send()
        assert recipients_by_subject() == {"Ja": channels(people["de"])}


def test_without_a_known_language_the_active_one_is_used(known: None, people: dict[str, User]) -> None:
    Group.objects.create(name="staff")
    with translation.override("fr"):
        Message(to_users=[people[""], group("staff"), ALL, 10**9], subject=YES).send()
        Message(to_users=[people["de"]], subject=YES).send()
    oui = {"all", "group:staff", f"user:{10**9}", f"user:{people[''].pk}"}
    assert {subject: set(to) for subject, to in recipients_by_subject().items()} == {
        "Oui": oui,
        "Ja": set(channels(people["de"])),
    }
    assert translation.get_language() == "en"


def test_without_lazy_texts_languages_are_not_looked_up(known: None, people: dict[str, User]) -> None:
    with CaptureQueriesContext(connection) as queries:
        Message(to_users=[user.pk for user in people.values()], subject="Yes").send()
    assert (len(queries), len(outbox.messages)) == (0, 1)


@pytest.mark.slow
def test_ten_thousand_users_cost_at_most_twenty_queries(known: None) -> None:
    User.objects.bulk_create(User(username=str(n), last_name=("de", "ru")[n % 2]) for n in range(10_000))
    keys = list(User.objects.values_list("pk", flat=True))
    for users in (User.objects.all(), keys):
        outbox.clear()
        with CaptureQueriesContext(connection) as queries:
            Message(to_users=users, subject=YES).send()
        assert len(queries) <= 20  # SQLite takes 999 keys in one query
        assert {subject: len(to) for subject, to in recipients_by_subject().items()} == {"Ja": 5000, "Да": 5000}


def test_both_languages_arrive_over_a_real_service(live: Service, people: dict[str, User]) -> None:
    from django.conf import settings

    with (
        override_settings(NOTIFIER={**settings.NOTIFIER, "USER_LANGUAGE": PATH}),
        listening(live, people["de"].pk) as german,
        listening(live, people["ru"].pk) as russian,
    ):
        message_id = Message(to_users=User.objects.all(), subject=YES).send()
        messages = [listener.wait("message")[0] for listener in (german, russian)]
    assert [(message["subject"], message["id"]) for message in messages] == [("Ja", message_id), ("Да", message_id)]


def test_a_message_in_the_outbox_keeps_its_languages(people: dict[str, User], over_http: Service) -> None:

    settings = http_settings(over_http.url, USER_LANGUAGE=PATH, OUTBOX=True, DELIVERY="inline", KEEP_MESSAGES=True)
    with override_settings(NOTIFIER=settings), listening(over_http, people["ru"].pk) as russian:
        release(_written(Message(to_users=User.objects.all(), subject=YES).payload()))
        assert deliver_outbox()["delivered"] == 1
        assert russian.wait("message")[0]["subject"] == "Да"
        Message(to_users=User.objects.all(), subject=YES).send()
    assert MessageRecipient.objects.count() == 3
    assert not OutboxMessage.objects.exists()


# Tasks


def test_a_task_is_in_the_language_of_its_user(known: None, people: dict[str, User]) -> None:
    task = Task(from_user=people["de"].pk, task_name=YES)
    task.begin(state=YES)
    Task.resume(task.id).set_state(gettext_lazy("No"))
    assert [(update["name"], update["state"]) for update in outbox.task_updates] == [("Ja", "Ja"), ("Ja", "Nein")]


def test_the_task_of_a_decorated_function_is_in_the_language_of_its_user(known: None, people: dict[str, User]) -> None:
    @progress(YES, YES, gettext_lazy("No"))
    def run(request: Any, task: Any = None) -> None: ...

    run(types.SimpleNamespace(user=people["de"]))
    assert [(update["name"], update["state"]) for update in outbox.task_updates] == [("Ja", "Ja"), ("Ja", "Nein")]


async def test_the_task_of_a_decorated_coroutine_is_in_the_language_of_its_user(
    known: None, people: dict[str, User]
) -> None:
    @progress(YES, YES, gettext_lazy("No"))
    async def run(request: Any, task: Any = None) -> None: ...

    await run(types.SimpleNamespace(user=people["ru"]))
    assert [(update["name"], update["state"]) for update in outbox.task_updates] == [("Да", "Да"), ("Да", "Нет")]
