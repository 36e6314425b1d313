"""The types of the bridge, checked by mypy in a project's code."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support import REPOSITORY

pytestmark = pytest.mark.slow

PROGRAM = """
from collections.abc import AsyncIterator
from typing import Any, assert_type

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

from django_bridge import Event, Message, Progress, Task, changed, live_model, progress, topic
from django_bridge.queues.celery import reported_task
from django_bridge.task.share import Share


@progress("Walk")
def walk(request: HttpRequest, count: int, task: Task | None = None) -> str:
    for n in Progress(range(count), task=task):
        assert_type(n, int)
    return "done"


@progress
async def awalk(request: HttpRequest, rows: AsyncIterator[str], *, task: Task | None = None) -> bytes:
    async for row in Progress(rows, task=task, total=3):
        assert_type(row, str)
    return b""


class View:
    @progress("Post", user=lambda view, request: request.user)
    def post(self, request: HttpRequest, *, task: Task | None = None) -> HttpResponse:
        return HttpResponse()


def calls(request: HttpRequest, user: User, rows: AsyncIterator[str]) -> None:
    assert_type(walk(request, 3), str)
    assert_type(walk(request, count=3, task=Task(from_user=user, task_name="Outer")), str)
    assert_type(View().post(request), HttpResponse)
    with Task(from_user=user, task_name="Block") as task:
        assert_type(task, Task)
        assert_type(task.share("a"), Share)
        assert_type(task.percent, int | None)
    assert_type(Task.resume("id"), Task)
    assert_type(reported_task(), Task | None)
    assert_type([row for row in Progress(User.objects.all(), weights=[1])], list[User])
    assert_type(Message(to_users=user, subject="Hi").send(), str)
    assert_type(Event(type="order.paid", to_users=topic("order:42"), except_=user).send(), str)
    changed(user)
    assert_type(live_model(User), type[User])


async def acalls(request: HttpRequest, rows: AsyncIterator[str]) -> None:
    assert_type(await awalk(request, rows), bytes)


def mistakes(request: HttpRequest) -> None:
    walk(request)  # wrong: count is missing
    walk(request, "3")  # wrong: no number
    walk(request, 3, task="task")  # wrong: no task
    walk(request, 3, taks=None)  # wrong: no such argument
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of mypy for the program, with the settings of this repository."""
    path = tmp_path_factory.mktemp("types") / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(REPOSITORY / "pyproject.toml"), str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stdout


def wrong_lines() -> list[int]:
    return [n for n, line in enumerate(PROGRAM.splitlines(), 1) if "# wrong" in line]


def test_each_mistake_is_reported_and_nothing_else(output: str) -> None:
    lines = {int(n) for n in re.findall(r"program\.py:(\d+): error", output)}
    assert sorted(lines) == wrong_lines(), output


def test_the_type_of_the_injected_task_is_checked(output: str) -> None:
    words = 'Argument "task" to "walk" has incompatible type "str"; expected "{}Task | None"'
    assert any(words.format(module) in output for module in ("", "django_bridge.task.task."))
