"""Runs the examples of docs/django.md, with `test_docs_settings`."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import re
import shlex
import sys
import threading
import types
import unittest
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import celery
import django
import httpx
import pytest
from django.contrib.auth.models import Group, User
from django.core import mail
from django.core.management import call_command, load_command_class
from django.template import RequestContext, Template
from django.test import RequestFactory, override_settings
from django.utils import timezone

from django_bridge import Message, Progress, Task, testing
from django_bridge.models import MessageRecord, OutboxMessage, TaskRecord
from django_bridge.signals import message_unread_for
from django_bridge.testing import outbox
from django_bridge.testing.assertions import Notifications
from django_bridge.tokens import subscriber_token
from tests.django.examples import PAGE, by_name, run, shop
from tests.django.sample.models import SimpleModel
from tests.django.sample.tasks import generate_report
from tests.support import REPOSITORY, Service, wait_for


@pytest.fixture
def eager() -> Iterator[Any]:
    """A Celery app that runs its tasks in this process. A new app, since an app keeps its first broker."""
    before = celery.current_app._get_current_object()
    app = celery.Celery("docs", broker="memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    app.set_current()
    yield app
    before.set_current()
    app.close()


def test_messages(user: User) -> None:
    Group.objects.create(name="editors")
    User.objects.create_user("staff", is_staff=True)
    run("from datetime import datetime", user=user, User=User, tomorrow=timezone.now() + timedelta(days=1))
    assert [message["subject"] for message in outbox.messages] == [
        "Test",
        "Deploy at noon",
        "A new draft",
        "We are back",
    ]


def test_corrections(user: User) -> None:
    names = run("message = Message(to_users=passengers", Message=Message, passengers=[user])
    assert (outbox.messages, outbox.retracted) == ([], [names["message_id"]])


def test_mail_for_what_was_not_read(user: User, eager: Any) -> None:
    User.objects.filter(pk=user.pk).update(email="ann@example.com")
    backend = "django.core.mail.backends.locmem.EmailBackend"
    is_before_mailers = django.VERSION < (6, 1)
    mails: dict[str, Any] = (
        {"EMAIL_BACKEND": backend} if is_before_mailers else {"MAILERS": {"default": {"BACKEND": backend}}}
    )
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "KEEP_MESSAGES": True}, **mails):
        for subject in ("Paid", "Sent"):
            Message(to_users=user, subject=subject, text="12.50").send()
        MessageRecord.objects.update(created_at=timezone.now() - timedelta(hours=1))
        outbox.mark_read(outbox.messages[0]["id"], user)
        names = run("from django.db import transaction")
        (line,) = re.findall(r"^python manage.py (notifier_escalate[^#\n]*)#", PAGE, re.M)
        try:
            call_command(*shlex.split(line), stdout=StringIO())
            run('app.conf.beat_schedule = {"escalate"', app=eager)
            ((entry),) = eager.conf.beat_schedule.values()
            assert eager.tasks[entry["task"]].delay(*entry["args"]).get()["unread"] == 0
        finally:
            message_unread_for.disconnect(names["mail_instead"])
    assert [(sent.to, sent.subject, sent.body) for sent in mail.outbox] == [(["ann@example.com"], "Sent", "12.50")]
    MessageRecord.objects.all().delete()


def test_a_message_as_the_link_of_a_celery_task(eager: Any, user: User) -> None:
    message = Message(to_users=user, subject="Done")
    run("from celery import subtask", generate_report=generate_report, args=(7,), kwargs={}, message=message)
    assert [message["subject"] for message in outbox.messages] == ["Done"]


def test_the_commands_of_the_outbox() -> None:
    commands = re.findall(r"^python manage.py (notifier_outbox[^#\n]*)", PAGE, re.M)
    assert len(commands) == 3
    for line in commands:
        name, *options = shlex.split(line)
        if options != ["--follow"]:  # it runs in test_outbox_outage
            output = StringIO()
            call_command(name, *options, stdout=output)
            assert output.getvalue() == ("0 waiting, 0 failed; oldest 0.0 s\n" if options else "")


def test_the_schedule_of_the_outbox(eager: Any) -> None:
    run('app.conf.beat_schedule = {"outbox"', app=eager)
    ((entry),) = eager.conf.beat_schedule.values()
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "OUTBOX": True}):
        OutboxMessage.objects.create(message_id="m1", payload="nonsense", origin="x")
        assert eager.tasks[entry["task"]].delay().get() == {"delivered": 0, "expired": 0, "failed": 1}
    OutboxMessage.objects.all().delete()


def test_the_decorator(user: User, rows: int) -> None:
    worked: list[Any] = []
    walk = run("from django_bridge import Progress, Task, TaskCancelled, progress", work_on=worked.append)["walk"]
    walk(types.SimpleNamespace(user=user), SimpleModel)
    assert (len(worked), TaskRecord.objects.get().status) == (rows, "succeeded")


async def test_asynchronous_code(user: User, rows: int) -> None:
    names = by_name(Message, Progress, Task)
    names = run("async def view(request):", **names, Model=SimpleModel, work_on=lambda pk: asyncio.sleep(0))
    await names["view"](types.SimpleNamespace(user=user))
    assert [message["subject"] for message in outbox.messages] == ["Imported"]


def test_the_output_of_a_task(user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "import.py").write_text("print('50% of it')")
    monkeypatch.chdir(tmp_path)
    run("import logging", Task=Task, request=types.SimpleNamespace(user=user), sys=sys)
    (task,) = outbox.tasks
    assert outbox.output_of(task["id"]) == "Reading the file\n312 rows\nRow 7 is empty\n50% of it\n"
    assert (task["status"], task["done"]) == ("succeeded", 50)


def test_the_questions_of_a_task(user: User) -> None:
    outbox.answer_with("yes", "Zürich")
    sheets: list[str] = []
    names = {"Task": Task, "request": types.SimpleNamespace(user=user), "_": str, "overwrite": sheets.append}
    run('task = Task(from_user=request.user, task_name="Import")', **names)
    assert (sheets, outbox.tasks[0]["status"]) == (["Zürich"], "succeeded")


def test_a_chat_answer_that_survives_a_refresh(user: User) -> None:
    async def tokens_of(question: str) -> AsyncIterator[str]:
        for token in ("It ", "is ", question):
            yield token

    names = run(
        "async def answer(task, question):",
        Task=Task,
        tokens_of=tokens_of,
        threading=threading,
        asyncio=asyncio,
        redirect=str,
        render=lambda request, name, context: context,
    )
    session: dict[str, Any] = {}
    asking = types.SimpleNamespace(method="POST", user=user, session=session, POST={"question": "blue"})
    assert names["chat"](asking) == "chat"
    task = names["chat"](types.SimpleNamespace(method="GET", session=session))["task"]
    wait_for(lambda: outbox.tasks[0]["status"] == "succeeded", what="the answer")
    assert outbox.output_of(task) == "It is blue"
    (template,) = re.findall(r"```html\n([^`]*notifier-output[^`]*)```", PAGE)
    request = RequestFactory().get("/")
    request.user = user
    page = Template(template).render(RequestContext(request, {"task": task}))
    assert f'<notifier-output task="{task}">' in page
    assert "notifier/widgets/output" in page


def test_a_task_that_continues_in_another_process(eager: Any, user: User) -> None:
    from celery import shared_task

    from django_bridge import Progress, Task, TaskCancelled

    cancel = {"at": -1}
    names = run(
        "def view(request):",
        **by_name(shared_task, Progress, Task, TaskCancelled),
        rows=lambda: iter(range(500)),
        work_on=lambda row: outbox.request_cancel(TaskRecord.objects.get().pk) if row == cancel["at"] else None,
    )
    for cancel["at"], status, done in ((-1, "succeeded", 500), (100, "cancelled", 150)):
        names["view"](types.SimpleNamespace(user=user))
        row = TaskRecord.objects.get()
        assert (row.status, row.done) == (status, done)
        TaskRecord.objects.all().delete()


def test_the_decorator_on_a_celery_task(eager: Any, user: User) -> None:
    from celery import shared_task

    from django_bridge import Progress, progress

    names = by_name(shared_task, Progress, progress)
    import_file = run("@shared_task(bind=True)", **names, lines=list, work_on=str)["import_file"]
    import_file.delay(user.pk, "a.csv").get()
    row = TaskRecord.objects.get()
    assert (row.name, row.user, row.status, row.done) == ("Import of a.csv", user, "succeeded", 5)


def test_a_block(user: User) -> None:
    request = types.SimpleNamespace(user=user)
    run("with Task(", Task=Task, Progress=Progress, request=request, rows=[1, 2], work_on=str)
    row = TaskRecord.objects.get()
    assert (row.status, row.done) == ("succeeded", 2)


def test_a_link_to_the_result(user: User) -> None:
    task = Task(from_user=user, task_name="Export")
    run('task.end("Ready"', task=task, reverse=lambda name, args: f"/{name}/{args[0]}/", _=str)
    row = TaskRecord.objects.get()
    assert (row.state, row.url, row.url_text) == ("Ready", "/export/7/", "Download")


def test_a_part_that_is_not_interrupted(user: User) -> None:
    from django_bridge import Progress, Task, TaskCancelled

    booked: list[int] = []

    def book(line: int) -> None:
        booked.append(line)
        if line == 12:
            outbox.request_cancel(task.id)

    task = Task(from_user=user, task_name="Book")
    with pytest.raises(TaskCancelled):
        run("task.cancelled_text", task=task, Progress=Progress, orders=[[1, 2], [11, 12, 13, 14], [21]], book=book)
    assert booked == [1, 2, 11, 12, 13, 14]
    row = TaskRecord.objects.get()
    assert (row.status, row.state, row.done) == ("cancelled", "Stopped on your request", 2)


def test_the_tests_of_a_project(user: User) -> None:
    names = shop(user)
    case = run("from django.test import TestCase", **names)["OrderTests"]
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun == 3
    assert result.wasSuccessful(), result.failures + result.errors


def test_the_tests_of_a_project_with_fixtures(user: User) -> None:
    def import_rows(buyer: User) -> None:
        with Task(from_user=buyer, task_name="Import"):
            pass

    tests = run("def test_the_buyer_is_notified(db", **shop(user), import_rows=import_rows)
    tests["test_the_buyer_is_notified"](None, testing.assert_notified)
    tests["test_a_draft_sends_nothing"](None, testing.assert_not_notified)
    tests["test_the_message_has_the_price"](None, testing.capture_notifications)
    outbox.clear()
    tests["test_a_committed_payment_is_sent"](None, outbox)
    tests["test_the_import_shows_its_progress"](None, Notifications())


def test_a_test_in_a_browser(user: User) -> None:
    subjects: list[str] = []

    def see(browser: None, subject: str, url: str) -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {subscriber_token(user)}"}) as client:
            subjects.extend(message["subject"] for message in client.get("/v1/inbox").json()["messages"])

    names = {"log_in": lambda browser, url: user, "see": see, "browser": None}
    case = run("from django.contrib.staticfiles.testing", **names)["BellTests"]
    # A TransactionTestCase would flush the tables, which belong to this test run.
    case._fixture_setup = case._fixture_teardown = classmethod(lambda cls: None)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.wasSuccessful(), result.failures + result.errors
    assert subjects == ["Paid"]


def test_the_panels() -> None:
    panels = run("DEBUG_TOOLBAR_PANELS")["DEBUG_TOOLBAR_PANELS"]
    (panel,) = [path for path in panels if "django_bridge" in path]
    assert (REPOSITORY / "django_bridge" / "panel.py").read_text().count(f"class {panel.rpartition('.')[2]}(") == 1


def test_logged_errors_are_sent(user: User) -> None:
    config = run("LOGGING = {")["LOGGING"]
    logging.config.dictConfig(config)
    logger = logging.getLogger("shop")
    try:
        logger.error("the till is stuck")
        logger.handlers[0].flush()
        assert [(message["to"], message["level"]) for message in outbox.messages] == [(["group:oncall"], "error")]
    finally:
        for name in config["loggers"]:
            logging.getLogger(name).handlers.clear()


def test_a_page_with_the_history_in_it(user: User) -> None:
    request = RequestFactory().get("/account/")
    request.user = user
    assert '{% include "django_bridge/history_list.html" %}' in PAGE
    pages = {"account.html": '{% include "django_bridge/history_list.html" %}{{ orders }}'}
    loaders = [("django.template.loaders.locmem.Loader", pages), "django.template.loaders.app_directories.Loader"]
    engine = {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": loaders}}
    with override_settings(TEMPLATES=[engine], NOTIFIER={"TRANSPORT": "memory", "KEEP_MESSAGES": True}):
        Message(to_users=user, subject="Paid").send()
        page = run("from django.contrib.auth.decorators", orders=lambda user: "7 orders")["account"](request)
    assert "Paid" in page.content.decode()
    assert "7 orders" in page.content.decode()
    MessageRecord.objects.all().delete()


def test_the_commands_of_the_database_and_of_the_service(over_http: Service, user: User) -> None:
    lines = re.findall(r"^python manage.py (notifier(?:_send|_prune)?(?= |$)[^#\n]*)", PAGE, re.M)
    assert len(lines) == 7
    for line in lines:
        name, *options = shlex.split(line)
        if name == "notifier":  # it runs in test_commands
            parser = load_command_class("django_bridge", name).create_parser("manage.py", name)
            parser.parse_args(options)
        else:
            call_command(name, *options, stdout=StringIO())


def test_weights(user: User) -> None:
    def step(row: int) -> None: ...

    step.rows = range(2)  # type: ignore[attr-defined]
    task = Task(from_user=user, task_name="Import")
    run("steps = [", read=step, compute=step, write=step, Progress=Progress, task=task)
    assert sorted({(update["done"], update["total"]) for update in outbox.task_updates}) == [
        (done, 100) for done in (0, 5, 10, 45, 80, 90, 100)
    ]


def test_shares(eager: Any, user: User) -> None:
    from celery import chord, shared_task

    names = {"shared_task": shared_task, "Progress": Progress, "Task": Task, "chord": chord}
    chunks = [[1, 2], [3], [4, 5, 6]]
    view = run("@shared_task(bind=True, max_retries=3", **names, chunks=chunks, work_on=str)["view"]
    view(types.SimpleNamespace(user=user))
    row = TaskRecord.objects.get()
    assert (row.status, row.state, row.done, row.total) == ("succeeded", "All rows are in", 6, 6)


def test_the_schedule_of_the_tasks(eager: Any) -> None:
    run('app.conf.beat_schedule = {"tasks"', app=eager)
    ((entry),) = eager.conf.beat_schedule.values()
    assert eager.tasks[entry["task"]].delay().get() == {"quiet": 0, "changed": 0, "lost": 0, "error": ""}


def test_the_command_of_the_tasks() -> None:
    output = StringIO()
    call_command("notifier_tasks", stdout=output)
    assert "manage.py notifier_tasks   # 12 quiet, 1 changed, 0 lost" in PAGE
    assert output.getvalue() == "0 quiet, 0 changed, 0 lost\n"


def test_celery_tasks_that_report_themselves(eager: Any, user: User) -> None:
    from celery import shared_task

    from django_bridge.queues import celery as celery_reports

    try:
        names = run("from django_bridge.celery import report_tasks")
        run(
            "@shared_task(notifier_user",
            **{**names, "shared_task": shared_task, "Progress": Progress},
            rows=lambda year: range(5),
            work_on=str,
        )["report"].delay(user.pk, 2026)
    finally:
        celery_reports._Project.user = None
    row = TaskRecord.objects.get()
    assert (row.name, row.user, row.status, row.done) == ("Report of 2026", user, "succeeded", 5)


def test_other_queues(user: User) -> None:
    """The workers run in test_queues; here the queues are in this process."""
    import dramatiq
    from dramatiq.brokers.stub import StubBroker

    from django_bridge import Progress, progress

    before = dramatiq.get_broker()
    dramatiq.set_broker(StubBroker())
    try:
        names = run(
            '@progress("Import of {path}", user="user_id")',
            **by_name(Progress, progress),
            dramatiq=dramatiq,
            background_task=lambda: lambda function: types.SimpleNamespace(enqueue=function),
            queue=types.SimpleNamespace(enqueue=lambda function, *args: function(*args)),
            user=user,
            lines=list,
            work_on=str,
        )
        (message,) = names["import_actor"].broker.queues["default"].queue
    finally:
        dramatiq.set_broker(before)
    assert b"a.csv" in message
    assert [row.status for row in TaskRecord.objects.all()] == ["succeeded", "succeeded"]
