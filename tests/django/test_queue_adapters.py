"""RQ, Dramatiq and Huey with a real worker each: jobs that report themselves, with nothing added to them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import RequestFactory

from django_bridge.middleware import current_user
from django_bridge.models import TaskRecord
from tests.django import queues
from tests.django.conftest import FOLDER
from tests.support import REPOSITORY, Process, RedisServer, Service, wait_for


class Worker(Process):
    """A worker of a queue, with the test project."""

    def __init__(self, url: str, service: Service, code: str, ready: str, *arguments: str) -> None:
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.django.settings",
            "NOTIFIER_TEST_FOLDER": FOLDER,
            "NOTIFIER_TEST_SERVICE_URL": service.url,
            "NOTIFIER_TEST_CELERY_URL": url,
            "PYTHONPATH": str(REPOSITORY),
        }
        self.ready = ready
        super().__init__([sys.executable, "-c", f"import sys, {code}", *arguments], cwd=REPOSITORY, env=env)

    def wait(self) -> None:
        self.wait_until(lambda: self.ready in self.output(), self.ready, 60)


@dataclass
class Queue:
    """A queue whose worker is started by `work`, so that jobs may wait before."""

    put: Callable[..., Any]
    """From the name of a function of `queues` and its arguments to the job's id."""
    worker: Callable[[], Any]
    started: Any = None

    def work(self) -> None:
        if self.started is None:
            self.started = self.worker()
            self.started.wait()


def rq_queue(url: str, service: Service, connection: Any) -> Queue:
    import rq

    from django_bridge.queues.rq import ReportedJob

    jobs = rq.Queue(connection=connection, job_class=ReportedJob)

    def put(name: str, *args: Any) -> str:
        retry = rq.Retry(max=2) if name == "stumble" else None
        meta = {"notifier_name": "Crunch {items}"} if name == "crunch" else None
        return str(jobs.enqueue(f"tests.django.queues.{name}", *args, retry=retry, meta=meta).id)

    code = "django; django.setup(); from rq.cli import main; sys.exit(main())"
    options = ["worker", "--url", url, "--job-class", "django_bridge.queues.rq.ReportedJob"]
    return Queue(put, lambda: Worker(url, service, code, "Listening on", *options))


def dramatiq_queue(url: str, service: Service, connection: Any) -> Queue:
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(client=connection, middleware=queues.MIDDLEWARE)
    for actor in (queues.crunch_actor, queues.export_actor, queues.stumble_actor):
        actor.broker = broker
        broker.declare_actor(actor)

    def put(name: str, *args: Any) -> str:
        return str(getattr(queues, f"{name}_actor").send(*args).message_id)

    code = "dramatiq.__main__ as m; sys.exit(m.main())"
    options = ["tests.django.queues", "--processes", "1", "--threads", "2"]
    return Queue(put, lambda: Worker(url, service, code, "is ready for action", *options))


def huey_queue(url: str, service: Service, connection: Any) -> Queue:
    queues.huey.storage.conn = connection

    def put(name: str, *args: Any) -> str:
        return str(getattr(queues, f"{name}_task")(*args).id)

    code = "huey.bin.huey_consumer as m; m.consumer_main()"
    return Queue(put, lambda: Worker(url, service, code, "consumer started", "tests.django.queues.huey"))


QUEUES = {"redis-rq": rq_queue, "redis-dramatiq": dramatiq_queue, "redis-huey": huey_queue}


@pytest.fixture(scope="module", params=QUEUES)
def queue(request: pytest.FixtureRequest, redis_server: RedisServer, bridge_service: Service) -> Iterator[Queue]:
    url = redis_server.url.removesuffix("/0") + "/1"
    redis_server.client().flushall()
    with redis.Redis.from_url(url) as connection:
        queue = QUEUES[request.param](url, bridge_service, connection)
        try:
            yield queue
        finally:
            if queue.started is not None:
                queue.started.stop()


def ended(task_id: str) -> TaskRecord:
    rows = TaskRecord.objects.filter(pk=task_id).exclude(ended_at=None)
    row: TaskRecord = wait_for(rows.first, timeout_s=60, what="the end of the task")
    return row


def cancel(service: Service, user: User, task_id: str) -> None:
    with service.user(str(user.pk)) as client:
        client.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()


# The first test runs while no worker runs.


def test_jobs_wait_and_those_that_are_cancelled_meanwhile_do_not_run(
    queue: Queue, over_http: Service, user: User
) -> None:
    stopped, left = queue.put("crunch", user.pk, 50), queue.put("crunch", user.pk, 20)
    assert sorted(TaskRecord.objects.values_list("pk", "name", "status")) == sorted(
        [(stopped, "Crunch 50", "pending"), (left, "Crunch 20", "pending")]
    )
    cancel(over_http, user, stopped)
    queue.work()
    assert (ended(left).status, ended(left).done, ended(left).user) == ("succeeded", 20, user)
    assert (ended(stopped).status, ended(stopped).done) == ("cancelled", 0)
    with over_http.user(str(user.pk)) as client:
        shown = {task["id"]: task["status"] for task in client.get("/v1/tasks").json()["tasks"]}
    assert shown == {stopped: "cancelled", left: "succeeded"}


def test_failures_and_links(queue: Queue, over_http: Service, user: User) -> None:
    queue.work()
    broken, export = queue.put("crunch", user.pk, 20, 8), queue.put("export", user.pk, "https://example.org/7/")
    row = ended(broken)
    assert (row.status, row.done, row.error) == ("failed", 8, "Something went wrong.")
    assert "LookupError: item 8" in str(row.traceback)
    assert (ended(export).status, ended(export).url, ended(export).name) == (
        "succeeded",
        "https://example.org/7/",
        "Export",
    )


def test_one_task_shows_all_attempts(queue: Queue, over_http: Service, user: User, tmp_path: Path) -> None:
    queue.work()
    row = ended(queue.put("stumble", user.pk, str(tmp_path / "once")))
    assert (row.status, row.state, TaskRecord.objects.count()) == ("succeeded", "On it", 1)


def test_the_user_of_the_request_owns_its_jobs(queue: Queue, over_http: Service, user: User) -> None:
    request = RequestFactory().get("/")
    request.user = user
    queue.work()
    task_id = current_user(lambda request: queue.put("export", None, "312 rows"))(request)
    assert (ended(str(task_id)).user, ended(str(task_id)).url) == (user, "")


@pytest.mark.parametrize("queue", ["redis-rq"], indirect=True)
def test_a_killed_process_of_rq_is_an_attempt(queue: Queue, over_http: Service, user: User, tmp_path: Path) -> None:
    queue.work()
    row = ended(queue.put("stumble", user.pk, str(tmp_path / "once"), True))
    assert (row.status, TaskRecord.objects.count()) == ("succeeded", 1)


@pytest.mark.parametrize("queue", ["redis-huey"], indirect=True)
def test_a_task_that_gives_up_is_cancelled(queue: Queue, over_http: Service, user: User) -> None:
    queue.work()
    assert ended(queue.put("give_up", user.pk)).status == "cancelled"


@pytest.mark.parametrize("queue", ["redis-rq"], indirect=True)
def test_a_job_that_rq_stops_is_cancelled(
    queue: Queue, over_http: Service, user: User, redis_server: RedisServer
) -> None:
    from rq.command import send_stop_job_command

    queue.work()
    task_id = queue.put("linger", user.pk)
    wait_for(lambda: TaskRecord.objects.filter(pk=task_id, state="On it").exists(), timeout_s=60, what="its begin")
    with redis.Redis.from_url(redis_server.url.removesuffix("/0") + "/1") as connection:
        send_stop_job_command(connection, task_id)
    assert ended(task_id).status == "cancelled"
