"""Questions of a task in Django: `ask`, `aask`, `ask_later`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import celery
import celery.signals
import pytest
from celery.contrib.testing.worker import start_worker
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils.translation import gettext_lazy

from django_bridge import Task, TaskCancelled, publisher
from django_bridge.task import answers, asking, pending
from django_bridge.testing import outbox
from notifier.errors import InvalidInput
from notifier.question import Question
from tests.django.conftest import http_settings
from tests.support import Service, free_port, running, wait_for

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
    with service.user(str(user.pk)) as client:

        def asking() -> dict[str, Any] | None:
            tasks = client.get("/v1/tasks").raise_for_status().json()["tasks"]
            return next((task for task in tasks if task["question"]), None)

        task = wait_for(asking, timeout_s=60, what="the question")
        if value is None:
            client.post(f"/v1/tasks/{task['id']}/cancel").raise_for_status()
        else:
            body = {"question": task["question"]["id"], "value": value}
            client.post(f"/v1/tasks/{task['id']}/answer", json=body).raise_for_status()


@pytest.fixture
def replies(live: Service, user: User) -> Iterator[Any]:
    """Answers questions of the user's task beside the test. Where that fails, so does the test, by the same error."""
    with ThreadPoolExecutor(1) as pool:
        running_replies: list[Future[None]] = []

        def start(*values: str | None) -> None:
            def run() -> None:
                for value in values:
                    reply(live, user, value)

            running_replies.append(pool.submit(run))

        yield start
        for replying in running_replies:
            replying.result()


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


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> Scheduled:
    scheduled = Scheduled()
    for module in (asking, answers):
        monkeypatch.setattr(module, "answering_task", lambda: scheduled)
    return scheduled


@pytest.fixture
def go_on() -> Iterator[tuple[Any, list[Any]]]:
    """A Celery task, which runs when it is called, and the arguments of its runs."""
    before = celery.current_app._get_current_object()
    app = celery.Celery("asking", broker="memory://", set_as_current=False)
    app.conf.update(task_always_eager=True)
    app.set_current()
    given: list[Any] = []

    @app.task(name=f"tests.go_on.{uuid.uuid4().hex}")
    def run(answer: str, rows: int) -> None:
        given.append((answer, rows))

    yield run, given
    before.set_current()
    app.close()


def test_a_celery_signature_runs_with_the_answer(
    live: Service, user: User, task: Task, scheduled: Scheduled, go_on: tuple[Any, list[Any]]
) -> None:
    run, given = go_on
    task.ask_later("Overwrite?", choices=YES_NO, default="no", then=run.s(312))
    assert shown(live, user)["status"] == "waiting"
    assert answers.look_for_answer(*scheduled.calls.pop()) == "waiting"
    reply(live, user, "yes")
    assert answers.look_for_answer(*scheduled.calls.pop()) == "answered"
    assert (given, scheduled.calls) == ([("yes", 312)], [])
    task.ask_later("Delete?", choices=YES_NO, then=run.s(1))
    reply(live, user, None)
    assert answers.look_for_answer(*scheduled.calls.pop()).startswith("withdrawn")
    assert len(given) == 1


def test_a_question_is_asked_later_where_the_service_is_away_or_loses_its_data(
    user: User, task: Task, scheduled: Scheduled, go_on: tuple[Any, list[Any]]
) -> None:
    run, given = go_on
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with override_settings(NOTIFIER=http_settings(url, TIMEOUT_S=0.1)):
        task.ask_later("Overwrite?", choices=YES_NO, default="no", then=run.s(312))
        assert answers.look_for_answer(*scheduled.calls.pop()) == "waiting"

    def is_shown(service: Service) -> bool:
        assert answers.look_for_answer(*scheduled.calls.pop()) == "waiting"
        return shown(service, user).get("question") is not None

    with override_settings(NOTIFIER=http_settings(url)):
        with running(Service(port=port)) as service:
            wait_for(lambda: is_shown(service), timeout_s=60, what="the question")
            assert shown(service, user)["id"] == task.id
        with running(Service(port=port)) as without_data:
            wait_for(lambda: is_shown(without_data), timeout_s=60, what="the question")
            reply(without_data, user, "yes")
            is_answered = lambda: answers.look_for_answer(*scheduled.calls.pop()) == "answered"  # noqa: E731
            wait_for(is_answered, timeout_s=60, what="the answer")
    assert given == [("yes", 312)]


def test_a_message_of_an_older_version_runs_the_signature(
    task: Task, scheduled: Scheduled, go_on: tuple[Any, list[Any]]
) -> None:
    run, given = go_on
    task.begin()
    message = (task.id, "lost", "no")
    assert answers.look_for_answer(*message, time.time() + 60, dict(run.s(1))) == "waiting"
    assert answers.look_for_answer(*message, time.time() - 1, dict(run.s(2))) == "answered"
    assert given == [("no", 2)]


class Clock:
    """The module `time` of `pending`, at a time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def time(self) -> float:
        return self.now_s

    monotonic = time


def test_a_question_that_is_asked_late_has_its_whole_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(pending, "time", clock)
    received: list[Question] = []

    def ask(task_id: str, question: Question, key: str) -> publisher.CallResult[object]:
        received.append(question)
        return publisher.CallResult(settled=len(received) > 1)

    monkeypatch.setattr(publisher.current(), "ask", ask)
    monkeypatch.setattr(publisher.current(), "answer", lambda task_id, question_id: None)
    question = Question("q", "Overwrite?", (("yes", "Yes"),), "yes", asked_at_ms=0, expires_at_ms=60_000)
    waiting = pending.Pending("t", question)
    assert waiting.look() is None
    clock.now_s += 55
    assert waiting.look() is None
    assert received[1].expires_at_ms == int(clock.now_s * 1000) + 60_000
    clock.now_s += 65
    assert waiting.look() is None, "the users have five seconds more"
    again = pending.Pending.from_fields("t", waiting.until, json.loads(json.dumps(waiting.fields())))
    assert (again.question, again.is_asked, again.until) == (waiting.question, True, waiting.until)
    clock.now_s += 10
    answer = again.look()
    assert answer is not None
    assert (answer.value, len(received)) == ("yes", 2)


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
