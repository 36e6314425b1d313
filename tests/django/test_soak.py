"""200 Celery tasks that fail, are retried, cancelled and killed at random, and a worker that is killed with its tasks:
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
from tests.django.sample.tasks import soak
from tests.django.test_publisher import listening
from tests.support import RedisServer, Service, running, subscriber_token, wait_for

TASKS, USERS, LOST = 200, 4, 4
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
        self._browser = chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
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


def plans(seed: int) -> list[str]:
    chance = random.Random(seed)
    drawn = ["lost"] * LOST + list(WEIGHTS)
    drawn += chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=TASKS - len(drawn))
    chance.shuffle(drawn)
    return drawn


def test_200_tasks_end_as_they_should_everywhere(workers: tuple[Worker, Worker], service: Service, seed: int) -> None:
    users = [User.objects.create_user(f"user{n}") for n in range(USERS)]
    wanted: dict[str, str] = {}
    with ExitStack() as stack:
        tab = stack.enter_context(running(Tab(service, users[0])))
        listeners = [stack.enter_context(listening(service, user.pk)) for user in users]
        clients = [stack.enter_context(service.user(str(user.pk))) for user in users]
        for number, plan in enumerate(plans(seed)):
            queue = "doomed" if plan == "lost" else "celery"
            soak.apply_async((users[number % USERS].pk, number, plan), queue=queue)
            wanted[f"{plan} {number}"] = ENDS[plan]

        def seen() -> dict[str, dict[str, Any]]:
            """The newest state of each task that the streams delivered."""
            return {task["name"]: task for listener in listeners for task in listener.data("task")}

        # Users cancel running tasks; the doomed worker is killed when each of its tasks has made progress.
        pressed: set[str] = set()
        deadline = time.monotonic() + 75

        def press() -> None:
            for name, task in seen().items():
                if name.startswith("cancelled") and task["status"] == "running" and name not in pressed:
                    pressed.add(name)
                    owner = clients[int(name.split()[1]) % USERS]
                    owner.post(f"/v1/tasks/{task['id']}/cancel").raise_for_status()

        def until(condition: Callable[[], bool], what: str) -> None:
            while not condition():
                press()
                assert time.monotonic() < deadline, f"{what}: {differs(states(), wanted)}"
                time.sleep(0.05)

        def states() -> dict[str, str]:
            return {name: task["status"] for name, task in seen().items()}

        until(lambda: sum(task["done"] > 0 for name, task in seen().items() if "lost" in name) == LOST, "the doomed")
        print(f"killed at {time.monotonic() - deadline + 75:.1f} s")
        workers[1].kill()
        until(lambda: states() == wanted, "the streams")

        print(f"all ended at {time.monotonic() - deadline + 75:.1f} s")
        kept = (task for client in clients for task in client.get("/v1/tasks").json()["tasks"])
        shown = {task["name"]: task["status"] for task in kept}
        assert shown == wanted
        in_tab = {name: status for name, status in wanted.items() if int(name.split()[1]) % USERS == 0}
        wait_for(lambda: tab.statuses() == in_tab, what="the browser")
        for user in users:  # a stream opened later has the same states
            with listening(service, user.pk) as late:
                snapshot = {task["name"]: task["status"] for task in late.data("hello")[0]["tasks"]}
            assert snapshot.items() <= wanted.items()

    def rows() -> dict[str, str]:
        reconcile.check_tasks(quiet_s=0)
        return dict(TaskRecord.objects.values_list("name", "status"))

    wait_for(lambda: rows() == wanted, what="the rows", timeout_s=20)
    by_name = {row.name: row for row in TaskRecord.objects.all()}
    assert all(row.ended_at is not None for row in by_name.values())
    assert all(row.percent == 100 for name, row in by_name.items() if wanted[name] == "succeeded")
    assert all(row.error for name, row in by_name.items() if wanted[name] == "failed")
    print(Counter(name.split()[0] for name in wanted))


def differs(states: dict[str, str], wanted: dict[str, str]) -> dict[str, tuple[str | None, str]]:
    return {name: (states.get(name), status) for name, status in wanted.items() if states.get(name) != status}
