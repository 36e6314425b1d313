"""`notifier_escalate`: reads and unread messages become signals, each once, also where a run is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connections, router
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_bridge import Message, celery, escalation, group, publisher
from django_bridge.escalation import Escalated, escalate
from django_bridge.models import MessageOutcome, MessageRecipient, MessageRecord, OutboxMessage
from django_bridge.publisher.http import MAX_PAGE
from django_bridge.signals import message_read, message_unread_for
from django_bridge.testing import outbox
from django_bridge.tokens import channel_token
from tests.django.listener import listening
from tests.support import API_KEY, REPOSITORY, Service, bearer, wait_for

HOUR = timedelta(hours=1)
KEPT = {"TRANSPORT": "memory", "KEEP_MESSAGES": True}


@pytest.fixture
def kept() -> Iterator[None]:
    with override_settings(NOTIFIER=KEPT):
        yield


@pytest.fixture
def live_kept(live: Service) -> Iterator[Service]:
    with override_settings(NOTIFIER={**settings.NOTIFIER, "KEEP_MESSAGES": True}):
        yield live


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str, Any]]]:
    """The signals: name, subject, user."""
    heard: list[tuple[str, str, Any]] = []

    def read(message: MessageRecord, user: Any, **_: Any) -> None:
        heard.append(("read", message.subject, user))

    def unread(message: MessageRecord, user: Any, **_: Any) -> None:
        heard.append(("unread", message.subject, user))

    message_read.connect(read)
    message_unread_for.connect(unread)
    yield heard
    message_read.disconnect(read)
    message_unread_for.disconnect(unread)


@contextmanager
def receiving(receiver: Callable[..., None]) -> Iterator[None]:
    """`message_unread_for` has this receiver inside the block."""
    message_unread_for.connect(receiver)
    try:
        yield
    finally:
        message_unread_for.disconnect(receiver)


def sent(user: Any, subject: str = "Paid", *, age: timedelta = HOUR, **more: Any) -> str:
    message_id = Message(to_users=user, subject=subject, **more).send()
    MessageRecord.objects.filter(pk=message_id).update(created_at=timezone.now() - age)
    return message_id


def mark_read(service: Service, user: User, *ids: str) -> None:
    headers = {"Authorization": f"Bearer {channel_token(f'user:{user.pk}')}"}
    httpx.post(f"{service.url}/v1/inbox/read", json={"ids": ids}, headers=headers).raise_for_status()


def test_what_became_of_messages_is_told_once(
    live_kept: Service, heard: list[Any], user: User, other_user: User
) -> None:
    sent(user, "unread")
    read = sent([user, other_user], "read by Ann")
    retracted, replaced = sent(user, "retracted"), sent(user, "replaced", key="order")
    sent(user, "young", key="order", age=timedelta(0))
    sent(group("staff"), "to a group")
    mark_read(live_kept, user, read)
    Message.retract_by_id(retracted, to_users=user)
    # As if another project had retracted it.
    hour_ago = timezone.now() - HOUR
    MessageRecord.objects.create(id=retracted, subject="retracted", sent_at=hour_ago, created_at=hour_ago)
    MessageRecipient.objects.create(message_id=retracted, channel=f"user:{user.pk}")
    run = escalate()
    assert sorted(heard, key=str) == sorted(
        [("unread", "unread", user), ("read", "read by Ann", user), ("unread", "read by Ann", other_user)], key=str
    )
    assert (run.checked, run.read, run.unread, run.gone, run.failed, run.error) == (6, 1, 2, 2, 0, "")
    assert MessageOutcome.objects.get(recipient__message=replaced).state == "gone"
    heard.clear()
    assert escalate().counts() == Escalated(checked=3).counts()
    mark_read(live_kept, other_user, read)
    escalate()
    assert heard == [("read", "read by Ann", other_user)], "a message that was escalated is read later"


def test_a_reader_who_is_there_or_was_there_lately_is_left_alone(
    live_kept: Service, heard: list[Any], user: User
) -> None:
    sent(user)
    with listening(live_kept, user.pk):
        assert escalate(timedelta(0)).unread == 0
    assert escalate().unread == 0, "their last stream ended a moment ago"
    wait_for(lambda: escalate(timedelta(0)).unread, what="the end of the stream")
    assert heard == [("unread", "Paid", user)]


def test_a_user_with_many_messages_is_read_in_pages(over_http: Service, heard: list[Any], user: User) -> None:
    with override_settings(NOTIFIER={**settings.NOTIFIER, "KEEP_MESSAGES": True}):
        oldest = sent(user, "oldest")
        more = [{"kind": "message", "to": [f"user:{user.pk}"], "subject": str(n)} for n in range(MAX_PAGE)]
        httpx.post(f"{over_http.url}/v1/batch", json=more, headers=bearer(API_KEY)).raise_for_status()
        mark_read(over_http, user, oldest)
        escalate()
        assert heard == [("read", "oldest", user)]
    MessageRecord.objects.all().delete()


@pytest.mark.usefixtures("kept")
def test_the_signal_of_a_receiver_that_fails_is_sent_again(heard: list[Any], user: User, other_user: User) -> None:
    def fails(message: MessageRecord, user: User, **_: Any) -> None:
        Group.objects.create(name=f"mail to {user.username}")
        if user.username == "ann":
            raise ValueError("no mail server")

    sent([user, other_user])
    with receiving(fails):
        run = escalate()
    assert (run.unread, run.failed) == (1, 1)
    assert [row.name for row in Group.objects.all()] == ["mail to bob"], "what the failed receiver wrote is undone"
    heard.clear()
    assert escalate().unread == 1
    assert heard == [("unread", "Paid", user)]


@pytest.mark.usefixtures("kept")
def test_a_database_error_of_a_receiver_stops_only_its_own_message(
    heard: list[Any], user: User, other_user: User
) -> None:
    def fails(user: User, **_: Any) -> None:
        if user.username == "ann":
            User.objects.create_user("ann")

    sent(user, "first")
    sent(other_user, "second")
    with receiving(fails):
        run = escalate()
    assert (run.unread, run.failed) == (1, 1)
    assert heard[-1] == ("unread", "second", other_user)


@pytest.mark.usefixtures("kept")
def test_a_message_that_is_delivered_during_a_run_is_not_gone(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    row = OutboxMessage.objects.create(message_id=sent(user), payload="{}", origin="other")

    def read(*_: Any) -> dict[str, bool]:
        row.delete()  # delivered after the service answered
        return {}

    monkeypatch.setattr(type(publisher.current()), "read_states", read)
    assert escalate().gone == 0


@pytest.mark.usefixtures("kept")
def test_kept_messages_are_removed_without_reading_their_recipients(user: User) -> None:
    sent(user)
    escalate()
    assert MessageOutcome.objects.count() == 1
    alias = router.db_for_write(MessageRecord)
    with CaptureQueriesContext(connections[alias]) as queries:
        MessageRecord.objects.all().delete()
    of_recipients = [query["sql"].partition(" ")[0] for query in queries if "messagerecipient" in query["sql"]]
    assert of_recipients == ["DELETE"]
    call_command("notifier_prune", "--messages", "1", stdout=StringIO())
    assert not MessageOutcome.objects.exists()


KILLED = """
import json, os, signal, sys, django
django.setup()
from django.conf import settings
settings.NOTIFIER = json.loads(sys.argv[1])
from django.contrib.auth.models import Group
from django_bridge.escalation import escalate
from django_bridge.signals import message_unread_for

def killed(message, user, **_):
    Group.objects.create(name=f"mail to {user.username}")
    print("written", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

message_unread_for.connect(killed)
print(escalate())
"""


def test_a_run_that_is_killed_loses_nothing_and_tells_nothing_twice(over_http: Service, user: User) -> None:
    with override_settings(NOTIFIER={**settings.NOTIFIER, "KEEP_MESSAGES": True}):
        sent(user)
        child = subprocess.run(
            [sys.executable, "-c", KILLED, json.dumps(settings.NOTIFIER)],
            cwd=REPOSITORY,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.django.settings"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (child.returncode, child.stdout) == (-signal.SIGKILL, "written\n"), child.stderr

        def mails(message: MessageRecord, user: User, **_: Any) -> None:
            Group.objects.create(name=f"mail to {user.username}")

        with receiving(mails):
            assert [escalate().unread, escalate().unread] == [1, 0]
        assert [row.name for row in Group.objects.all()] == ["mail to ann"]
    MessageRecord.objects.all().delete()


@pytest.mark.usefixtures("kept")
def test_of_two_runs_at_once_one_sends_the_signal(
    heard: list[Any], user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(user)
    look: Callable[..., Any] = escalation._portions
    runs: list[Escalated] = []

    def rows(*window: Any) -> Any:
        known = list(look(*window))
        monkeypatch.setattr(escalation, "_portions", look)
        runs.append(escalate())  # the other run, between the look and the signal of this
        return known

    monkeypatch.setattr(escalation, "_portions", rows)
    assert (escalate().unread, runs[0].unread) == (0, 1)
    assert heard == [("unread", "Paid", user)]


@pytest.mark.usefixtures("kept")
def test_a_message_that_is_retracted_during_a_run_is_not_told(
    heard: list[Any], user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = sent(user)
    look: Callable[..., Any] = escalation._is_absent

    def is_absent(*given: Any) -> Any:
        Message.retract_by_id(message_id)
        return look(*given)

    monkeypatch.setattr(escalation, "_is_absent", is_absent)
    assert (escalate().unread, heard, MessageOutcome.objects.count()) == (0, [], 0)


@pytest.mark.usefixtures("kept")
def test_a_message_that_waits_in_the_outbox_is_not_gone(heard: list[Any], user: User) -> None:
    message_id = sent(user)
    outbox.messages.clear()
    row = OutboxMessage.objects.create(message_id=message_id, payload="{}", origin="other")
    assert escalate().gone == 0
    row.delete()
    assert escalate().gone == 1
    assert heard == []


@pytest.mark.usefixtures("kept")
def test_young_old_expired_and_earlier_messages_are_left_out(heard: list[Any], user: User) -> None:
    sent(user, "young", age=timedelta(minutes=9))
    sent(user, "old", age=timedelta(days=8))
    expired = sent(user, "expired")
    MessageRecord.objects.filter(pk=expired).update(expires_at=timezone.now())
    earlier = sent(user, "of the version before")
    MessageRecord.objects.filter(pk=earlier).update(created_at=None)
    assert (escalate().checked, heard) == (1, [])
    assert escalate(timedelta(minutes=8)).unread == 1
    assert heard == [("unread", "young", user)]


@pytest.mark.usefixtures("kept")
def test_without_a_receiver_of_reads_only_due_messages_are_looked_at(user: User) -> None:
    sent(user, "young", age=timedelta(0))
    read = sent(user, "read")
    outbox.mark_read(read, user)
    run = escalate()
    assert (run.checked, run.read, run.unread) == (1, 1, 0)
    assert escalate().checked == 0


@pytest.mark.usefixtures("kept")
def test_a_user_who_is_gone_or_has_an_id_of_the_project_s_own_is_told_by_id(heard: list[Any], user: User) -> None:
    sent(user, "one")
    user.delete()
    escalate()
    assert heard == [("unread", "one", None)]


@pytest.mark.usefixtures("kept")
def test_the_command_and_the_task_of_celery(heard: list[Any], user: User) -> None:
    sent(user)
    output = StringIO()
    call_command("notifier_escalate", "--unread-for", "90", stdout=output)
    call_command("notifier_escalate", stdout=output)
    assert output.getvalue() == "1 checked, 0 unread, 0 read, 0 gone\n1 checked, 1 unread, 0 read, 0 gone\n"
    sent(user)
    assert celery.escalate(5)["unread"] == 1
    assert celery.escalating_task().name == "django_bridge.escalate"
    with override_settings(NOTIFIER={"TRANSPORT": "memory"}), pytest.raises(CommandError, match="KEEP_MESSAGES"):
        call_command("notifier_escalate")


def test_while_the_service_is_away_nothing_is_told_and_nothing_lost(
    no_service: dict[str, Any], heard: list[Any], user: User
) -> None:
    with override_settings(NOTIFIER={**no_service, "KEEP_MESSAGES": True}):
        sent(user)
        with pytest.raises(CommandError, match="Connect"):
            call_command("notifier_escalate", stdout=StringIO())
        assert heard == []
        assert not MessageOutcome.objects.exists()
    MessageRecord.objects.all().delete()
    OutboxMessage.objects.all().delete()
