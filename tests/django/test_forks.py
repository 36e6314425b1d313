"""Forked processes: a child begins anew, whatever its parent's threads were doing, and its end waits for its calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_bridge.models import OutboxMessage
from tests.django.answering import GOOD, AnsweringService
from tests.django.conftest import FOLDER
from tests.django.outbox_rows import requested
from tests.support import REPOSITORY, running, wait_for

TASK = (200, {}, b'{"done": 0, "total": 10, "updated_at": "2026-11-30T12:00:00Z"}')

SETUP = """
import multiprocessing, sys, threading, time, warnings, django
from pathlib import Path
django.setup()
from django.conf import settings
from django.db import connections
from django_bridge import Message, Task, background
background.FLUSH_S = 20
warnings.simplefilter("ignore", DeprecationWarning)  # since Python 3.12: a fork beside threads
settings.NOTIFIER = {**settings.NOTIFIER, "TIMEOUT_S": 20, "DELIVERY": sys.argv[1], "OUTBOX": sys.argv[2] == "outbox"}

def fork(target, *args):
    connections.close_all()
    child = multiprocessing.get_context("fork").Process(target=target, args=args)
    child.start()
    return child

def finish(child):
    child.join(20)
    print(child.exitcode)
    child.kill()
"""

MESSAGES = """
Message(to_users=1, subject="of the parent").send()
finish(fork(lambda: Message(to_users=1, subject="of the child").send()))
"""

TASKS = """
folder = Path(sys.argv[3])
task = Task(from_user=int(sys.argv[4]), task_name="Import")

def work():
    task.begin(total=10)
    task.advance()
    task.advance()
    connections.close_all()

worker = threading.Thread(target=work)
worker.start()
while not (folder / "asked").exists():
    time.sleep(0.01)
# By then it waits for the answer, or has ended and the scheduler's thread waits. A child that is forked while another
# thread writes to SQLite inherits that thread's lock for good.
worker.join(2)
child = fork(task.end, "over")
(folder / "forked").touch()
finish(child)
"""


def run(code: str, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.django.settings",
        "NOTIFIER_TEST_FOLDER": FOLDER,
        "NOTIFIER_TEST_SERVICE_URL": url,
    }
    command = [sys.executable, "-c", SETUP + code, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("outbox", ["outbox", "none"])
def test_the_end_of_a_child_waits_for_its_messages(outbox: str) -> None:
    with running(AnsweringService(GOOD)) as server:
        done = run(MESSAGES, server.url, "background", outbox)
        assert (done.stdout, done.stderr) == ("0\n", "")
        assert sorted(requested(server)) == ["of the child", "of the parent"]
    assert not OutboxMessage.objects.exists()


@pytest.mark.parametrize("field", ["name", "advance"], ids=["creation", "advance"])
@pytest.mark.parametrize("delivery", ["inline", "background"])
def test_a_child_goes_on_with_a_task_that_its_parent_is_reporting(
    delivery: str, field: str, tmp_path: Path, user: User
) -> None:
    def answer(body: Any) -> Any:
        if field in body and not (tmp_path / "asked").exists():
            (tmp_path / "asked").touch()
            wait_for((tmp_path / "forked").exists, what="the fork")
        return TASK

    with running(AnsweringService(answer)) as server:
        done = run(TASKS, server.url, delivery, "none", str(tmp_path), str(user.pk))
        assert (done.stdout, done.stderr) == ("0\n", "")
        bodies = [body for *_, body in server.requests]
    assert [body["state"] for body in bodies if body.get("status") == "succeeded"] == ["over"]
    assert sum(body.get("advance", 0) for body in bodies) == 2
