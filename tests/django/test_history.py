"""Kept messages: what is written, who sees it, the history page, removal, and the admin."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.apps.registry import Apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.template.loader import render_to_string
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import timezone

from django_bridge import ALL, Message, Task, group, history
from django_bridge.admin import TaskRecordAdmin
from django_bridge.celery import send_message
from django_bridge.models import MessageRecipient, MessageRecord, OutboxMessage, TaskRecord
from django_bridge.testing import outbox
from django_bridge.views import history_of

KEPT = {"TRANSPORT": "memory", "KEEP_MESSAGES": True}


class ImportTask(TaskRecord):
    class Meta:
        app_label = "sample"
        proxy = True
        apps = Apps()  # of its own: without migrations it may inherit no model that has some


site = admin.AdminSite("of a project")
site.register(ImportTask, TaskRecordAdmin)
urlpatterns = [path("own/", site.urls)]


@pytest.fixture(autouse=True)
def _keeping() -> Iterator[None]:
    with override_settings(NOTIFIER=KEPT):
        yield


def subjects(user: User) -> list[str]:
    return [row.subject for row in history.messages_of(user)]


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


# Keeping


def test_a_message_is_kept_as_it_was_sent(user: User, other_user: User) -> None:
    due = timezone.now() + timedelta(days=1)
    sent_id = Message(
        from_user=user,
        to_users=[other_user, group("staff")],
        subject="Paid",
        text="12.50",
        level="success",
        url="/orders/7/",
        data={"order": [7]},
        expires_at=due,
    ).send()
    row = MessageRecord.objects.get()
    assert (row.pk, row.subject, row.text, row.level, row.url) == (sent_id, "Paid", "12.50", "success", "/orders/7/")
    assert (row.sender_id, row.sender_name, row.data) == (str(user.pk), "Ann Lee", {"order": [7]})
    assert abs(row.sent_at - timezone.now()) < timedelta(seconds=5)
    assert row.expires_at is not None
    assert abs(row.expires_at - due) < timedelta(milliseconds=1)
    assert {recipient.channel for recipient in row.recipients.all()} == {f"user:{other_user.pk}", "group:staff"}


def test_a_message_in_several_languages_is_kept_with_all_recipients_and_the_first_text() -> None:
    payload = Message(to_users=[1, 2], subject="Paid").payload()
    history.keep({**payload, "also": [{"to": ["user:3"], "subject": "Bezahlt"}]})
    assert MessageRecord.objects.get().subject == "Paid"
    assert sorted(MessageRecipient.objects.values_list("channel", flat=True)) == ["user:1", "user:2", "user:3"]


def test_without_the_setting_nothing_is_kept() -> None:
    with override_settings(NOTIFIER={"TRANSPORT": "memory"}):
        Message(to_users=1, subject="Paid").send()
    assert not MessageRecord.objects.exists()


def test_a_rolled_back_message_is_not_kept() -> None:
    with transaction.atomic():
        Message(to_users=1, subject="Paid").send()
        assert MessageRecord.objects.exists()
        transaction.set_rollback(True)
    assert not MessageRecord.objects.exists()


def test_a_celery_task_that_runs_twice_keeps_once() -> None:
    payload = Message(to_users=1, subject="Paid").payload()
    send_message(payload)
    send_message(payload)
    assert MessageRecipient.objects.count() == 1


def test_a_message_through_the_outbox_is_kept_too() -> None:
    with override_settings(NOTIFIER={**KEPT, "OUTBOX": True}):
        Message(to_users=1, subject="Paid").send()
    assert (MessageRecord.objects.count(), len(outbox.messages)) == (1, 1)


@pytest.mark.slow
def test_a_message_to_ten_thousand_is_kept_by_at_most_thirty_statements() -> None:
    with CaptureQueriesContext(connection) as queries:
        Message(to_users=range(1, 10_001), subject="Everybody").send()
    assert MessageRecipient.objects.count() == 10_000
    assert len(queries) <= 30, [query["sql"][:80] for query in queries]


def test_a_database_error_leaves_the_callers_transaction_usable(caplog: pytest.LogCaptureFixture) -> None:
    with connection.schema_editor() as editor:
        editor.alter_db_table(MessageRecord, "django_bridge_messagerecord", "renamed")
    try:
        with transaction.atomic():
            Message(to_users=1, subject="Paid").send()
            User.objects.create_user("still-there")
        with override_settings(NOTIFIER={**KEPT, "RAISE": True}), pytest.raises(DatabaseError):
            Message(to_users=1, subject="Paid").send()
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(MessageRecord, "renamed", "django_bridge_messagerecord")
    assert User.objects.filter(username="still-there").exists()
    assert [message["subject"] for message in outbox.messages] == ["Paid"]
    assert "could not be kept" in caplog.text


# Whose messages


def test_a_user_sees_messages_to_itself_to_its_groups_and_to_all(user: User, other_user: User) -> None:
    user.groups.add(Group.objects.create(name="staff"))
    now = timezone.now()
    for minutes, (to, subject) in enumerate(
        [(user, "own"), (other_user, "another's"), (group("staff"), "group's"), (group("board"), "no"), (ALL, "all's")]
    ):
        Message(to_users=to, subject=subject, send_datetime=now - timedelta(minutes=9 - minutes)).send()
    Message(to_users=[user, ALL, group("staff")], subject="thrice").send()
    assert subjects(user) == ["thrice", "all's", "group's", "own"]
    assert subjects(other_user) == ["thrice", "all's", "another's"]


def test_expired_and_future_messages_are_not_shown(user: User) -> None:
    soon = timezone.now() + timedelta(hours=1)
    Message(to_users=user, subject="later", send_datetime=soon).send()
    Message(to_users=user, subject="short", expires_at=soon).send()
    MessageRecord.objects.filter(subject="short").update(expires_at=timezone.now() - timedelta(seconds=1))
    assert subjects(user) == []


# The page


def test_the_page_shows_only_messages_and_tasks_of_the_user(user: User, other_user: User) -> None:
    Message(from_user=other_user, to_users=user, subject="<Paid>", text="one\n\ntwo", url="/orders/7/").send()
    Message(to_users=other_user, subject="secret").send()
    for owner, name in ((user, "Import"), (other_user, "hidden")):
        task = Task(from_user=owner, task_name=name)
        task.begin(total=4)
        task.advance()
    page = logged_in(user).get("/notifier/history/")
    text = page.content.decode()
    assert '<a href="/orders/7/">&lt;Paid&gt;</a>' in text
    assert "<p>one</p>" in text
    assert '<progress max="100" value="25">' in text
    assert "Import" in text
    assert "secret" not in text
    assert "hidden" not in text
    assert "no-store" in page.headers["Cache-Control"]


def test_the_history_needs_a_login() -> None:
    answer = Client().get("/notifier/history/")
    assert (answer.status_code, answer.headers["Location"].split("?")[0]) == (302, "/accounts/login/")


def test_a_long_history_has_pages_of_at_most_eight_queries(user: User) -> None:
    for number in range(60):
        Message(to_users=user, subject=f"message {number:02}").send()
    client = logged_in(user)
    client.get("/notifier/history/")
    with CaptureQueriesContext(connection) as queries:
        text = client.get("/notifier/history/?messages=2").content.decode()
    assert "message 34" in text
    assert "message 35" not in text
    assert 'href="?messages=1"' in text
    assert 'href="?messages=3"' in text
    assert len(queries) <= 8
    assert client.get("/notifier/history/?messages=nonsense&tasks=-1").status_code == 200


def test_without_kept_messages_the_page_shows_tasks_only(user: User) -> None:
    with override_settings(NOTIFIER={"TRANSPORT": "memory"}):
        text = logged_in(user).get("/notifier/history/").content.decode()
    assert "Messages" not in text
    assert "No tasks." in text


def test_the_list_can_be_included_in_a_page_of_the_project(user: User) -> None:
    Message(to_users=user, subject="Paid").send()
    request = RequestFactory().get("/mine/")
    request.user = user
    assert "Paid" in render_to_string("django_bridge/history_list.html", history_of(request), request)


# Removing


def pruned(*options: str) -> str:
    output = StringIO()
    call_command("notifier_prune", *options, stdout=output)
    return output.getvalue()


def aged(days: float) -> Any:
    return timezone.now() - timedelta(days=days)


def test_older_rows_are_removed_and_the_others_stay(user: User) -> None:
    for days in (1, 40, 100):
        Message(to_users=user, subject=f"{days} days", send_datetime=aged(days)).send()
        task = Task(from_user=user, task_name=f"{days} days")
        task.begin()
        TaskRecord.objects.filter(pk=task.id).update(updated_at=aged(days))
        for state in ("failed", "waiting"):
            OutboxMessage.objects.create(
                message_id=f"{state}{days}", payload="{}", state=state, created_at=aged(days), origin="x"
            )
    dry = pruned("--tasks", "30", "--messages", "90", "--failed", "0.5", "--dry-run")
    assert dry == "tasks: 2 would be removed\nmessages: 1 would be removed\nfailed: 3 would be removed\n"
    assert pruned("--tasks", "30", "--messages", "90", "--failed", "0.5") == dry.replace("would be ", "")
    assert set(TaskRecord.objects.values_list("name", flat=True)) == {"1 days"}
    assert subjects(user) == ["1 days", "40 days"]
    assert MessageRecipient.objects.count() == 2
    assert set(OutboxMessage.objects.values_list("state", flat=True)) == {"waiting"}


def test_rows_are_removed_in_batches(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "BATCH", 10)
    TaskRecord.objects.bulk_create(
        TaskRecord(pk=f"t{n}", name="x", user=user, status="running", started_at=aged(9), updated_at=aged(9))
        for n in range(25)
    )
    assert list(history.remove_in_batches(history.old_tasks(timedelta(days=1)))) == [10, 10, 5]


@pytest.mark.parametrize("options", [[], ["--tasks", "0"], ["--messages", "-1"], ["--tasks", "nan"]])
def test_an_age_is_required(options: list[str]) -> None:
    with pytest.raises(CommandError):
        pruned(*options)


# The admin


@pytest.fixture
def boss() -> Client:
    return logged_in(User.objects.create_superuser("boss"))


def test_the_admin_lists_kept_messages_with_their_first_recipients(boss: Client) -> None:
    for number in range(5):
        Message(to_users=range(1, 6), subject=f"message {number}", level="warning").send()
    boss.get("/admin/django_bridge/messagerecord/")
    with CaptureQueriesContext(connection) as queries:
        text = boss.get("/admin/django_bridge/messagerecord/?level=warning&q=message").content.decode()
    assert text.count("user:1, user:2, user:3, …") == 5
    assert len(queries) <= 12
    pk = MessageRecord.objects.values_list("pk", flat=True)[0]
    assert "user:1, user:2" in boss.get(f"/admin/django_bridge/messagerecord/{pk}/change/").content.decode()
    assert boss.get("/admin/django_bridge/messagerecord/add/").status_code == 403
    assert boss.get("/admin/django_bridge/messagerecord/?q=user:3").content.decode().count("message 4") == 1


def test_the_list_marks_unfinished_tasks_and_the_board_reads_rows(boss: Client, user: User) -> None:
    task, over = Task(from_user=user, task_name="Import"), Task(from_user=user, task_name="Over")
    task.begin(total=4)
    over.begin(total=1)
    over.end()
    text = boss.get("/admin/django_bridge/taskrecord/").content.decode()
    assert f'data-notifier-task="{task.id}"' in text
    assert over.id not in text.replace(f"/{over.id}/", "").replace(f'value="{over.id}"', "")
    assert "django_bridge/admin_tasks.js" in text
    task.set_state("half", done=2)
    address = "/admin/django_bridge/taskrecord/live/"
    (polled,) = boss.get(address, {"id": [task.id, "unknown"]}).json()["tasks"]
    shown = {"id": task.id, "status": "running", "state": "half", "done": 2, "percent": 50, "ended_at": None}
    assert {name: polled[name] for name in shown} == shown
    clerk = logged_in(User.objects.create_user("clerk", is_staff=True))
    assert clerk.get(address, {"id": task.id}).status_code == 403
    assert Client().get(address, {"id": task.id}).status_code == 302


def test_staff_who_may_delete_a_user_delete_its_tasks_with_it_and_no_task_alone(user: User, other_user: User) -> None:
    task = Task(from_user=other_user, task_name="Import")
    task.begin()
    with task.share("a") as share:
        share.advance()
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "delete_user"]))
    staff = Client()
    staff.force_login(user)
    assert "taskrecord" not in staff.get("/admin/").content.decode()
    page = f"/admin/auth/user/{other_user.pk}/delete/"
    assert "Import" in staff.get(page).content.decode()
    assert staff.get(f"/admin/django_bridge/taskrecord/{task.id}/delete/").status_code == 403
    assert staff.post(page, {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=other_user.pk).exists()
    assert not TaskRecord.objects.exists()


def test_no_one_deletes_a_task_in_the_admin(boss: Client, user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin()
    own = "/admin/django_bridge/taskrecord/"
    assert boss.post(f"{own}{task.id}/delete/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in boss.get(own).content.decode()
    boss.post(own, {"action": "delete_selected", "_selected_action": [task.id], "post": "yes"})
    assert TaskRecord.objects.exists()


@override_settings(ROOT_URLCONF=__name__)
def test_no_one_deletes_a_task_in_the_admin_of_a_proxy(user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin()
    user.is_staff = True
    user.save()
    staff = Client()
    staff.force_login(user)
    assert staff.post(f"/own/sample/importtask/{task.id}/delete/", {"post": "yes"}).status_code == 403
    assert TaskRecord.objects.exists()
