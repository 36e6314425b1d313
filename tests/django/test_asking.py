"""Questions of a task in Django: `ask`, `aask`, `ask_later`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import celery
import celery.signals
import pytest
from celery.contrib.testing.worker import start_worker
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy

from django_bridge import Task, TaskCancelled, publisher
from django_bridge.task import answers, asking
from django_bridge.testing import outbox
from notifier.errors import InvalidInput
from tests.support import Service, wait_for

YES_NO = {"yes": gettext_lazy("Yes"), "no": gettext_lazy("No")}


@pytest.fixture
def task(user: User) -> Task:
    return Task(from_user=user, task_name="Import")


def shown(service: Service, user: User) -> dict[str, Any]:
    with service.user(str(user.pk)) as client:
        tasks = client.get("/v1/tasks").json()["tasks"]
    return dict(tasks[0]) if tasks else {}


def reply(service: Service, user: User, value: str | None) -> None:
    """Answer the next question of the user's task; with None, cancel the task."""
    question = wait_for(lambda: shown(service, user).get("question"), what="the question")
    task_id = shown(service, user)["id"]
    with service.user(str(user.pk)) as client:
        if value is None:
            client.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()
        else:
            body = {"question": question["id"], "value": value}
            client.post(f"/v1/tasks/{task_id}/answer", json=body).raise_for_status()


@pytest.fixture
def replies(live: Service, user: User) -> Iterator[Any]:
    """Answers questions of the user's task beside the test."""
    threads: list[threading.Thread] = []

    def start(*values: str | None) -> None:
        def run() -> None:
            for value in values:
                reply(live, user, value)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


def test_under_tests_the_answer_is_the_test_s_or_the_default(task: Task) -> None:
    outbox.answer_with("yes")
    assert task.ask("Overwrite?", choices=YES_NO, default="no") == "yes"
    assert task.ask("Delete?", choices=YES_NO, default="no") == "no"
    statuses = [update["status"] for update in outbox.task_updates]
    assert statuses == ["running", "waiting", "running", "waiting", "running"]
    (question,) = {update["question"]["text"] for update in outbox.task_updates[:2] if update["question"]}
    assert question == "Overwrite?"


def test_the_answer_of_a_user_reaches_the_worker(live: Service, user: User, task: Task, replies: Any) -> None:
    replies("yes", "Zürich 😀")
    with task:
        assert task.ask("Overwrite 312 rows?", choices=YES_NO, default="no") == "yes"
        assert task.ask("Which sheet?", input="text") == "Zürich 😀"
    wait_for(lambda: shown(live, user)["status"] == "succeeded", what="the end")


def test_after_the_timeout_the_answer_is_the_default(live: Service, user: User, task: Task) -> None:
    assert task.ask("Overwrite?", choices=YES_NO, default="no", timeout=1) == "no"
    assert shown(live, user)["status"] == "running"


async def test_an_asynchronous_task_asks(live: Service, user: User, task: Task, replies: Any) -> None:
    replies("no")
    async with task:
        assert await task.aask("Overwrite?", choices=YES_NO) == "no"


def test_a_cancel_instead_of_an_answer_stops_the_worker(live: Service, user: User, task: Task, replies: Any) -> None:
    replies(None)
    with pytest.raises(TaskCancelled), task:
        task.ask("Overwrite?", choices=YES_NO)
    assert task.status == "cancelled"
    with pytest.raises(TaskCancelled):
        task.ask("Again?", choices=YES_NO)


def test_a_worker_that_restarts_gets_the_old_answer(live: Service, user: User, task: Task, replies: Any) -> None:
    replies("yes")
    assert task.ask("Overwrite?", choices=YES_NO) == "yes"
    again = Task.resume(task.id)
    assert again.ask("Overwrite?", choices=YES_NO) == "yes"
    replies("no")
    assert again.ask("Overwrite?", choices=YES_NO) == "no", "asked a second time by one worker: a new question"
    assert Task.resume(task.id).ask("Other words", choices=YES_NO, key="k", default="no", timeout=1) == "no"
    assert Task.resume(task.id).ask("Quite other words", choices=YES_NO, key="k") == "no"


def test_what_is_no_question_is_refused_at_once(task: Task) -> None:
    for fields in ({}, {"choices": {}}, {"choices": YES_NO, "default": "maybe"}, {"input": "number"}):
        with pytest.raises(InvalidInput):
            task.ask("Overwrite?", **fields)  # type: ignore[arg-type]  # wrong on purpose


class Scheduled:
    """Celery's side: the calls that wait for a worker."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def apply_async(self, args: tuple[Any, ...], countdown: float) -> None:
        assert countdown >= 1
        self.calls.append(json.loads(json.dumps(args)))  # as a broker carries it


def test_a_celery_signature_runs_with_the_answer(
    live: Service, user: User, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled = Scheduled()
    for module in (asking, answers):
        monkeypatch.setattr(module, "answering_task", lambda: scheduled)
    before = celery.current_app._get_current_object()
    app = celery.Celery("asking", broker="memory://", set_as_current=False)
    app.conf.update(task_always_eager=True)
    app.set_current()
    given: list[Any] = []

    @app.task(name=f"tests.go_on.{uuid.uuid4().hex}")
    def go_on(answer: str, rows: int) -> None:
        given.append((answer, rows))

    try:
        task.ask_later("Overwrite?", choices=YES_NO, default="no", then=go_on.s(312))
        assert shown(live, user)["status"] == "waiting"
        assert answers.look_for_answer(*scheduled.calls.pop()) == "waiting"
        reply(live, user, "yes")
        assert answers.look_for_answer(*scheduled.calls.pop()) == "answered"
        assert (given, scheduled.calls) == ([("yes", 312)], [])
        task.ask_later("Delete?", choices=YES_NO, then=go_on.s(1))
        reply(live, user, None)
        assert answers.look_for_answer(*scheduled.calls.pop()).startswith("withdrawn")
        assert len(given) == 1
    finally:
        before.set_current()
        app.close()


@pytest.fixture
def own_logging() -> Iterator[None]:
    """A worker in this process leaves the logging as it is."""

    def leave_it(**_: object) -> None: ...

    celery.signals.setup_logging.connect(leave_it)
    yield
    celery.signals.setup_logging.disconnect(leave_it)


@pytest.mark.usefixtures("own_logging")
def test_a_failed_look_for_the_answer_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    before = celery.current_app._get_current_object()
    app = celery.Celery("asking", broker="memory://", set_as_current=False)
    app.set_current()
    failures = [ConnectionError("the broker is away"), LookupError("a broken transport")]
    given: list[Any] = []

    def answer(task_id: str, question_id: str) -> None:
        if failures:
            raise failures.pop()

    @app.task(name=f"tests.go_on.{uuid.uuid4().hex}")
    def go_on(answer: str, rows: int) -> None:
        given.append((answer, rows))

    real, refused = celery.Task.apply_async, []

    def apply_async(self: Any, *args: Any, **options: Any) -> Any:
        if not refused:
            refused.append(self.name)
            raise ConnectionError("the broker takes no new message")
        return real(self, *args, **options)

    monkeypatch.setattr(publisher.current(), "answer", answer)
    monkeypatch.setattr(answers, "LONGEST_PAUSE_S", 0.1)
    try:
        answers.answering_task().apply_async(("t", "q", "no", 0.0, dict(go_on.s(312))))
        monkeypatch.setattr(celery.Task, "apply_async", apply_async)
        with start_worker(app, perform_ping_check=False):
            wait_for(lambda: given, what="the signature")
        assert (given, failures) == ([("no", 312)], [])
        assert refused == ["django_bridge.look_for_answer"]
        looking = app.tasks["django_bridge.look_for_answer"]
        assert looking.acks_late
        assert looking.reject_on_worker_lost
    finally:
        before.set_default()
        before.set_current()
        app.close()


def test_the_bridge_asks_without_celery() -> None:
    code = (
        "import sys; sys.modules['celery'] = None\n"
        "from django_bridge.task import answers\n"
        "assert answers.answering_task() is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
