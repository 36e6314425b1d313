"""A Redis that is paused: its connections stay open, and it answers nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_bridge import Message, Task
from tests.django.conftest import redis_settings
from tests.support import RedisServer, running

pytestmark = pytest.mark.programs

TIMEOUT_S = 1.0


@pytest.fixture
def paused() -> Iterator[Callable[[], None]]:
    """The project on a Redis of its own, and a function that pauses it."""
    with (
        running(RedisServer()) as server,
        override_settings(NOTIFIER=redis_settings(server, TIMEOUT_S=TIMEOUT_S, SHARDS=8)),
    ):
        yield lambda: server.process.signal(signal.SIGSTOP)
        server.process.signal(signal.SIGCONT)


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_call_takes_no_longer_than_its_budget(
    paused: Callable[[], None], user: User, other_user: User, is_connected: bool
) -> None:
    task = Task(from_user=user, task_name="Import", to_users=[user, other_user, 7, 8, 9])
    if is_connected:
        Message(to_users=user, subject="before").send()
        task.begin()
    paused()
    message = Message(to_users=user, subject="paused")
    for call in (message.send, task.begin, lambda: task.set_state("half"), task.end):
        began = time.monotonic()
        call()
        assert time.monotonic() - began < TIMEOUT_S + 2.5
