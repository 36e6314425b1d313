"""Where staff starts and watches tasks: `progress_action`, a task's page, the board, `manage.py notifier_run`."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import threading
from queue import Empty, SimpleQueue
from typing import Any
from unittest import mock

import jwt
import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.core.management import CommandError, call_command, load_command_class
from django.db import transaction
from django.http import HttpRequest
from django.test import Client, RequestFactory, override_settings
from django.urls import reverse

from django_bridge import Progress, Task, admin_action, board, progress, progress_action, thread_runs
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox
from notifier.errors import InvalidInput
from tests.django.conftest import http_settings
from tests.django.examples import PAGE, run
from tests.django.sample.models import SimpleModel
from tests.support import API_KEY, JWT_SECRET, Service, wait_for

LIST = "/admin/sample/simplemodel/?q="
queued: list[tuple[str, list[int]]] = []


@progress_action("Count", end="All counted")
def count(modeladmin: Any, request: HttpRequest, queryset: Any) -> None:
    for _ in Progress(queryset, parts=2):
        pass


@progress_action("Break")
def break_down(modeladmin: Any, request: HttpRequest, queryset: Any, task: Task | None = None) -> None:
    raise LookupError("no")


def enqueue(task: Task, keys: list[int]) -> None:
    queued.append((task.id, keys))


class SimpleAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    search_fields = ("title",)
    actions = (count, break_down, progress_action("Export", queue=enqueue))


# At the import: a URLconf that another test has loaded would not have its pages.
admin.site.register(SimpleModel, SimpleAdmin)


class LateQueue(SimpleQueue[Any]):
    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        raise Empty


@pytest.fixture(autouse=True)
def _nothing_queued() -> None:
    queued.clear()


def act(client: Client, action: str) -> Any:
    keys = list(SimpleModel.objects.values_list("pk", flat=True)[:3])
    return client.post(LIST, {"action": action, "_selected_action": keys})


# progress_action


@pytest.mark.parametrize(("action", "end"), [("count", ("succeeded", 3)), ("break_down", ("failed", 0))])
@pytest.mark.usefixtures("rows")
def test_an_action_runs_as_a_task_of_its_user_and_leads_to_its_bar(
    boss: Client, user: User, action: str, end: tuple[str, int]
) -> None:
    answer = act(boss, action)
    wait_for(lambda: TaskRecord.objects.filter(status=end[0]).exists(), what="the end of the task")
    record = TaskRecord.objects.get()
    assert (record.status, record.done, record.user) == (*end, user)
    bar = reverse("admin:django_bridge_taskrecord_bar", args=[record.pk])
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, bar)
    page = boss.get(answer["Location"]).content.decode()
    assert f'<notifier-progress task="{record.pk}">' in page
    assert f'<notifier-output task="{record.pk}">' in page
    assert f'href="{LIST}"' in page


@pytest.mark.usefixtures("rows")
def test_an_action_of_a_queue_hands_over_a_task_that_has_begun(boss: Client) -> None:
    answer = act(boss, "enqueue")
    ((task_id, keys),) = queued
    assert task_id in answer["Location"]
    assert sorted(keys) == sorted(SimpleModel.objects.values_list("pk", flat=True)[:3])
    assert [task["id"] for task in outbox.tasks] == [task_id]


@pytest.mark.usefixtures("rows")
def test_an_action_of_a_queue_is_queued_on_commit(boss: Client) -> None:
    with transaction.atomic():
        act(boss, "enqueue")
        assert (queued, outbox.tasks) == ([], [])
        transaction.set_rollback(True)
    assert (queued, outbox.tasks) == ([], [])
    with transaction.atomic():
        act(boss, "enqueue")
    assert [task["id"] for task in outbox.tasks] == [task_id for task_id, _ in queued]
    assert len(queued) == 1


@pytest.mark.usefixtures("rows")
def test_an_action_that_begins_late_or_not_leads_back_to_the_list(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def texts(answer: Any) -> list[str]:
        assert (answer.status_code, answer["Location"]) == (302, LIST)
        return [str(message) for message in get_messages(answer.wsgi_request)]

    may_begin = threading.Event()
    started: list[threading.Thread] = []
    take = admin_action.takes_task

    def late(function: Any) -> bool:
        started.append(threading.current_thread())
        may_begin.wait()
        return take(function)

    monkeypatch.setattr(admin_action, "SimpleQueue", LateQueue)
    monkeypatch.setattr(admin_action, "takes_task", late)
    monkeypatch.setattr(thread_runs, "MAX_USER_RUNS", 1)
    try:
        assert "Started" in texts(act(boss, "count"))
        wait_for(lambda: started, what="the thread")
        assert started[0].daemon, "the process ends without it"
        assert any("Too many runs at once" in text for text in texts(act(boss, "count")))
    finally:
        may_begin.set()
    started[0].join()
    assert TaskRecord.objects.get().status == "succeeded"


def test_an_action_with_progress_of_its_own_and_options_that_a_queue_cannot_have_are_refused() -> None:
    with pytest.raises(TypeError, match="@progress"):
        progress_action("Twice")(progress("Once")(lambda modeladmin, request, queryset, task=None: None))
    with pytest.raises(TypeError, match="queue"):
        progress_action("Export", queue=enqueue, end="Ready")


def test_the_page_of_a_task_is_its_users_and_leads_to_this_site_only(
    boss: Client, other_user: User, user: User
) -> None:
    foreign, own = Task(from_user=other_user, task_name="Theirs"), Task(from_user=user, task_name="Own")
    foreign.begin()
    own.begin()
    assert boss.get(reverse("admin:django_bridge_taskrecord_bar", args=[foreign.id])).status_code == 403
    assert boss.get(reverse("admin:django_bridge_taskrecord_bar", args=["nothing"])).status_code == 404
    page = boss.get(reverse("admin:django_bridge_taskrecord_bar", args=[own.id]), {"next": "https://evil.test/"})
    assert "evil.test" not in page.content.decode()


def test_the_example(boss: Client, user: User, rows: int) -> None:
    written: list[SimpleModel] = []
    example = run("from django.contrib import admin", write=written.append, export_later=enqueue)
    request = RequestFactory().post(LIST)
    request.user = user
    actions = example["RowAdmin"](SimpleModel, admin.site).actions
    for action in actions:
        assert (
            action(example["RowAdmin"](SimpleModel, admin.site), request, SimpleModel.objects.all()).status_code == 302
        )
    wait_for(lambda: TaskRecord.objects.filter(state="The export is ready").exists(), what="the end of the export")
    assert (len(written), len(queued)) == (rows, 1)


# The board


BOARD = override_settings(
    NOTIFIER={"TRANSPORT": "memory", "URL": "http://notifier.test", "API_KEY": API_KEY, "JWT_SECRET": JWT_SECRET,
              "TASKS_GROUP": "tasks"}
)  # fmt: skip


def data_of(page: str, name: str) -> Any:
    text = re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert text is not None
    return json.loads(text[1])


@BOARD
def test_the_board_has_and_streams_the_tasks_of_all_users(boss: Client, user: User, other_user: User) -> None:
    ended, running = Task(from_user=other_user, task_name="Ended"), Task(from_user=other_user, task_name="Running")
    ended.begin()
    ended.end(url="/r.csv", url_text="Download")
    running.begin(total=4)
    assert [record.to for record in TaskRecord.objects.all()] == [[f"user:{other_user.pk}", "group:tasks"]] * 2
    page = boss.get(reverse("admin:django_bridge_taskrecord_board")).content.decode()
    rows = data_of(page, "notifier-board")["tasks"]
    assert [(row["name"], row["user"], row["status"]) for row in rows] == [
        ("Running", "bob", "running"),
        ("Ended", "bob", "succeeded"),
    ]
    assert rows[1]["link"] == ["/r.csv", "Download"]
    config = data_of(page, "notifier-config")
    assert config["shared"] is False
    renewed = boss.get(config["tokenUrl"]).json()["token"]
    for token in (config["token"], renewed):
        claims = jwt.decode(token, JWT_SECRET, algorithms=["HS256"], audience="notifier:stream")
        assert (claims["sub"], claims["groups"], claims["cancel"]) == (str(user.pk), ["tasks"], True)
        assert "answers" not in claims


@BOARD
def test_the_board_needs_the_permission_to_view_tasks_and_cancels_with_that_to_change_them(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client = Client()
    client.force_login(user)
    urls = [reverse(f"admin:django_bridge_taskrecord_{name}") for name in ("board", "board_token")]
    assert [client.get(url).status_code for url in urls] == [403, 403]
    user.user_permissions.add(Permission.objects.get(codename="view_taskrecord"))
    assert [client.get(url).status_code for url in urls] == [200, 200]
    claims = jwt.decode(
        client.get(urls[1]).json()["token"], JWT_SECRET, algorithms=["HS256"], audience="notifier:stream"
    )
    assert "cancel" not in claims
    assert claims["answers"] is False


@BOARD
def test_the_scripts_of_the_pages_have_the_nonce_and_their_links_stay_in_their_admin(user: User) -> None:
    Task(from_user=user, task_name="Import").begin()
    site = admin.AdminSite("other")
    for name, args in (("board", ()), ("bar", (TaskRecord.objects.get().pk,))):
        request = RequestFactory().get("/")
        request.user = User.objects.get(pk=user.pk)
        request.csp_nonce = "n0nce"  # type: ignore[attr-defined]
        shown = getattr(board, name)
        with mock.patch.object(board, "reverse", return_value="/"):
            page = shown(request, site, *(args or (TaskRecord.objects.all(),)))
        assert page._request.current_app == "other"
        page._request.current_app = "admin"  # the URLconf of the tests has this one
        scripts = re.findall(r'<script type="module"[^>]*>', page.render().content.decode())
        assert len(scripts) > 1
        assert all('nonce="n0nce"' in script for script in scripts), scripts


def test_a_board_without_the_setting_shows_the_rows_and_opens_no_stream(boss: Client, user: User) -> None:
    Task(from_user=user, task_name="Import").begin()
    page = boss.get(reverse("admin:django_bridge_taskrecord_board")).content.decode()
    assert [row["name"] for row in data_of(page, "notifier-board")["tasks"]] == ["Import"]
    assert "TASKS_GROUP" in page
    assert "notifier-config" not in page


@BOARD
def test_staff_sees_the_tasks_of_anonymous_users_and_a_task_to_the_group_has_it_once() -> None:
    from django.contrib.auth.models import AnonymousUser

    Task(from_user=AnonymousUser(), task_name="Visit").begin()
    assert TaskRecord.objects.get().to == ["group:tasks"]
    with pytest.raises(InvalidInput):
        Task(task_name="For no one")


@BOARD
def test_the_list_of_tasks_hears_them_all_and_asks_nothing(boss: Client, user: User) -> None:
    Task(from_user=user, task_name="Import").begin()
    page = boss.get(reverse("admin:django_bridge_taskrecord_changelist")).content.decode()
    config = data_of(page, "notifier-config")
    claims = jwt.decode(config["token"], JWT_SECRET, algorithms=["HS256"], audience="notifier:stream")
    assert (claims["groups"], config["shared"], config["widgets"]) == (["tasks"], False, False)
    texts = data_of(page, "notifier-task-texts")
    assert (texts["statuses"]["running"], texts["open"]) == ("running", "Open")
    listens = page.index("django_bridge/admin_tasks.js")
    assert listens < page.index("notifier/django.js"), "before the stream opens"


def test_without_the_setting_the_list_opens_no_stream(boss: Client) -> None:
    page = boss.get(reverse("admin:django_bridge_taskrecord_changelist")).content.decode()
    assert "notifier-config" not in page


# notifier_run


def test_the_commands_of_the_documentation_are_accepted() -> None:
    lines = re.findall(r"^python manage.py (notifier_run .*)", PAGE, re.M)
    assert len(lines) == 2
    for line in lines:
        name, *words = shlex.split(line)
        parser = load_command_class("django_bridge", name).create_parser("manage.py", name)
        assert parser.parse_args(words).command


def shown(service: Service, user: User) -> tuple[str, str, int, str]:
    with service.user(str(user.pk)) as reader:
        (task,) = [task for task in reader.get("/v1/tasks").json()["tasks"] if task["name"] == "Nightly"]
        text = reader.get(f"/v1/tasks/{task['id']}/output").json()["text"]
    return task["name"], task["status"], task["done"], text


@pytest.mark.slow
def test_a_command_of_manage_py_runs_as_a_task_with_its_output(user: User, bridge_service: Service) -> None:
    with override_settings(NOTIFIER=http_settings(bridge_service.url)):
        call_command("notifier_run", "Nightly", "--", "check", "--tag=models", user="ann")
    name, status, _, text = shown(bridge_service, user)
    assert (name, status) == ("Nightly", "succeeded")
    assert "System check identified no issues" in text
    assert TaskRecord.objects.get().user == user


@pytest.mark.slow
def test_a_program_runs_as_a_task_with_its_percentages_and_exit_code(other_user: User, bridge_service: Service) -> None:
    with (
        override_settings(NOTIFIER=http_settings(bridge_service.url)),
        pytest.raises(CommandError, match="code 4") as raised,
    ):
        call_command("notifier_run", "Nightly", "--", "sh", "-c", "echo 30 %; exit 4", pk=str(other_user.pk))
    assert raised.value.returncode == 4
    assert shown(bridge_service, other_user) == ("Nightly", "failed", 30, "30 %\n")


def test_a_run_without_users_or_without_a_service_is_refused() -> None:
    with pytest.raises(CommandError, match="memory"):
        call_command("notifier_run", "Nightly", "true", pk="1")
    with override_settings(NOTIFIER=http_settings("http://127.0.0.1:9")), pytest.raises(CommandError, match="--user"):
        call_command("notifier_run", "Nightly", "true")


@pytest.mark.slow
def test_sigterm_ends_the_command_and_its_program(user: User, bridge_service: Service) -> None:
    def missed(*_: Any) -> None:
        raise AssertionError("the command has no handler")

    script = f"echo $$; kill -TERM {os.getpid()}; sleep 600"
    before = signal.signal(signal.SIGTERM, missed)
    try:
        with override_settings(NOTIFIER=http_settings(bridge_service.url)), pytest.raises(SystemExit) as raised:
            call_command("notifier_run", "Nightly", "--", "sh", "-c", script, pk=str(user.pk))
        assert signal.getsignal(signal.SIGTERM) is missed
    finally:
        signal.signal(signal.SIGTERM, before)
    assert raised.value.code == 143
    name, status, _, _ = shown(bridge_service, user)
    assert (name, status) == ("Nightly", "failed")
