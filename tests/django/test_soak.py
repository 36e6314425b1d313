"""Many Celery tasks that fail, are retried, cancelled and killed at random, and a worker that is killed with its tasks:
each task ends in the right state, in the service, in its row and in the browser.

The seed is printed; NOTIFIER_SOAK_SEED=... repeats a run.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import sync_playwright

from django_bridge.models import TaskRecord
from django_bridge.task import reconcile
from tests.django.celery_worker import Worker, project_on
from tests.django.listener import listening
from tests.django.sample.tasks import soak
from tests.support import CHROMIUM, RedisServer, Service, running, subscriber_token, wait_for

USERS, LOST = 4, 4
ENDS = {
    "succeeds": "succeeded",
    "fails": "failed",
    "retried": "succeeded",
    "exhausted": "failed",
    "cancelled": "cancelled",
    "killed": "failed",
    "lost": "failed",
}
"""The status in which each plan ends."""
WEIGHTS = {"succeeds": 100, "fails": 30, "retried": 30, "exhausted": 10, "cancelled": 20, "killed": 6}
BEAT_S, STALLED_S, FAILED_S = 0.5, 5.0, 9.0


OPEN = """
import { connect } from "/client/notifier.js";
import { createStore } from "/client/store.js";
window.store = createStore(connect("/", { token: "%s" }));
"""


class Tab:
    """A user's tab in a real Chromium. In a thread: Django refuses database calls beside playwright's event loop."""

    def __init__(self, service: Service, user: User) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(self._open, service, OPEN % subscriber_token(str(user.pk))).result()

    def _open(self, service: Service, script: str) -> None:
        self._playwright = sync_playwright().start()
        chromium = self._playwright.chromium
        self._browser = chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        self._page = self._browser.new_page()
        self._page.goto(f"{service.url}/healthz")
        self._page.add_script_tag(content=script, type="module")
        self._page.wait_for_function("window.store?.state.connection === 'live'")

    def statuses(self) -> dict[str, str]:
        pick = "Object.fromEntries(store.state.tasks.map(({ name, status }) => [name, status]))"
        statuses: dict[str, str] = self._thread.submit(lambda: self._page.evaluate(pick)).result()
        return statuses

    def stop(self) -> None:
        self._thread.submit(lambda: (self._browser.close(), self._playwright.stop())).result()
        self._thread.shutdown()


@pytest.fixture
def seed() -> int:
    number = int(os.environ.get("NOTIFIER_SOAK_SEED") or random.randrange(10**6))
    print(f"NOTIFIER_SOAK_SEED={number}")
    return number


@pytest.fixture
def service(redis_server: RedisServer) -> Iterator[Service]:
    redis_server.client().flushall()
    env = {"NOTIFIER_TASK_STALLED_S": str(STALLED_S), "NOTIFIER_TASK_FAILED_S": str(FAILED_S)}
    with running(Service(redis_url=redis_server.url, workers=2, env=env)) as started:
        yield started


@pytest.fixture
def workers(redis_server: RedisServer, service: Service) -> Iterator[tuple[Worker, Worker]]:
    """Two workers; the second, for the queue `doomed`, is to be killed with its tasks."""

    def start(queue: str) -> Worker:
        env = {"NOTIFIER_TEST_BEAT_S": str(BEAT_S)}
        return Worker(redis_server, service, concurrency=LOST, queue=queue, env=env)

    with ThreadPoolExecutor(2) as pool:
        survivor, doomed = pool.map(start, ("celery", "doomed"))
    with running(survivor), running(doomed), project_on(redis_server, service):
        yield survivor, doomed


def plans(seed: int, count: int) -> list[str]:
    chance = random.Random(seed)
    drawn = ["lost"] * LOST + list(WEIGHTS)
    drawn += chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count - len(drawn))
    chance.shuffle(drawn)
    return drawn


class Sessions:
    """Users with a stream each, who cancel the tasks that are planned to be cancelled."""

    def __init__(self, service: Service, users: list[User], stack: ExitStack) -> None:
        self._listeners = [stack.enter_context(listening(service, user.pk)) for user in users]
        self._clients = [stack.enter_context(service.user(str(user.pk))) for user in users]
        self._pressed: set[str] = set()

    def tasks(self) -> dict[str, dict[str, Any]]:
        """The newest state of each task that the streams delivered, by name."""
        return {task["name"]: task for listener in self._listeners for task in listener.data("task")}

    def statuses(self) -> dict[str, str]:
        return {name: task["status"] for name, task in self.tasks().items()}

    def kept_statuses(self) -> dict[str, str]:
        """The same, as the service lists them."""
        kept = (task for client in self._clients for task in client.get("/v1/tasks").json()["tasks"])
        return {task["name"]: task["status"] for task in kept}

    def press_cancel(self) -> None:
        for name, task in self.tasks().items():
            if name.startswith("cancelled") and task["status"] == "running" and name not in self._pressed:
                self._pressed.add(name)
                owner = self._clients[owner_of(name)]
                owner.post(f"/v1/tasks/{task['id']}/cancel").raise_for_status()

    def press_until(self, condition: Callable[[], bool], deadline: float, what: Callable[[], str]) -> None:
        while not condition():
            self.press_cancel()
            assert time.monotonic() < deadline, what()
            time.sleep(0.1)


def owner_of(name: str) -> int:
    return int(name.split()[1]) % USERS


def start_tasks(users: list[User], seed: int, count: int) -> dict[str, str]:
    """Start the tasks. Returns the status in which each is to end, by name."""
    wanted: dict[str, str] = {}
    for number, plan in enumerate(plans(seed, count)):
        queue = "doomed" if plan == "lost" else "celery"
        soak.apply_async((users[number % USERS].pk, number, plan), queue=queue)
        wanted[f"{plan} {number}"] = ENDS[plan]
    return wanted


@pytest.mark.timeout(400)
@pytest.mark.parametrize("count", [80, pytest.param(200, marks=pytest.mark.full)])
def test_tasks_end_as_they_should_everywhere(
    workers: tuple[Worker, Worker], service: Service, seed: int, count: int
) -> None:
    owners = [User.objects.create_user(f"user{n}") for n in range(USERS)]
    with ExitStack() as stack:
        tab = stack.enter_context(running(Tab(service, owners[0])))
        sessions = Sessions(service, owners, stack)
        wanted = start_tasks(owners, seed, count)
        started = time.monotonic()

        def until(condition: Callable[[], bool], what: str) -> None:
            sessions.press_until(condition, started + 200, lambda: f"{what}: {differs(sessions.statuses(), wanted)}")

        def doomed() -> list[str]:
            return [name for name, task in sessions.tasks().items() if "lost" in name and task["done"] > 0]

        until(lambda: len(doomed()) == LOST, "progress of each doomed task")
        print(f"killed at {time.monotonic() - started:.1f} s")
        workers[1].kill()
        until(lambda: sessions.statuses() == wanted, "the streams")
        print(f"all ended at {time.monotonic() - started:.1f} s")

        assert sessions.kept_statuses() == wanted
        in_tab = {name: status for name, status in wanted.items() if owner_of(name) == 0}
        wait_for(lambda: tab.statuses() == in_tab, what="the browser")
        for owner in owners:  # a stream opened later has the same states
            with listening(service, owner.pk) as late:
                snapshot = {task["name"]: task["status"] for task in late.data("hello")[0]["tasks"]}
            assert snapshot.items() <= wanted.items()
    assert_rows_are(wanted)
    print(Counter(name.split()[0] for name in wanted))


def assert_rows_are(wanted: dict[str, str]) -> None:
    def statuses() -> dict[str, str]:
        reconcile.check_tasks(quiet_s=0)
        return dict(TaskRecord.objects.values_list("name", "status"))

    wait_for(lambda: statuses() == wanted, what="the rows", timeout_s=20)
    rows = {row.name: row for row in TaskRecord.objects.all()}
    assert all(row.ended_at is not None for row in rows.values())
    assert all(row.percent == 100 for name, row in rows.items() if wanted[name] == "succeeded")
    assert all(row.error for name, row in rows.items() if wanted[name] == "failed")


def differs(states: dict[str, str], wanted: dict[str, str]) -> dict[str, tuple[str | None, str]]:
    return {name: (states.get(name), status) for name, status in wanted.items() if states.get(name) != status}
