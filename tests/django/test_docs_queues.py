"""Runs the examples of docs/queues.md."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils.module_loading import import_string

from django_bridge import Progress
from django_bridge.models import TaskRecord
from django_bridge.queues.owner import SEARCH
from tests.django import background_tasks
from tests.support import REPOSITORY, RedisServer

PAGE = (REPOSITORY / "docs" / "queues.md").read_text("utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SHOP = "tests.django.test_docs_queues"


def run(mark: str, **names: Any) -> dict[str, Any]:
    """Run the one example with this text in it, with the shop's modules being this one."""
    (code,) = [code for code in CODE if mark in code]
    exec(compile(code.replace("shop.tasks", SHOP), "docs/queues.md", "exec"), names)
    return names


def test_the_middleware() -> None:
    assert all(callable(import_string(path)) for path in run("MIDDLEWARE =")["MIDDLEWARE"])


def test_djangos_tasks(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = run("TASKS =", _=str)["TASKS"]
    settings["default"]["OPTIONS"]["BACKEND"] = f"{background_tasks.PACKAGE}.backends.immediate.ImmediateBackend"
    worked: list[int] = []
    with override_settings(TASKS=settings):
        names = {"background_task": background_tasks.background_task, "Progress": Progress, "_": str}
        shop = run("@background_task", work_on=worked.append, __name__=SHOP, **names)
        monkeypatch.setitem(globals(), "link_to_rows", shop["link_to_rows"])
        shop["import_rows"].enqueue(user.pk, 3)
    row = TaskRecord.objects.get()
    assert (row.name, row.status, row.done, worked) == ("Import of 3 rows", "succeeded", 3, [0, 1, 2])
    assert (row.url, row.url_text) == ("https://example.org/rows/?last=3", "Show them")


def test_celery(user: User) -> None:
    from django_bridge.queues import celery as reports

    try:
        run("from django_bridge.celery import report_tasks")
        assert (reports._Project.user, reports._Project.skip) == (
            SEARCH,
            {"shop.tasks.cleanup".replace("shop.tasks", SHOP)},
        )
    finally:
        reports._Project.user, reports._Project.skip = None, frozenset()


def export(user_id: int, path: str) -> str:
    return path


@pytest.mark.programs
def test_rq(redis_server: RedisServer, user: User) -> None:
    import rq

    redis_server.client().flushall()
    with redis.Redis.from_url(redis_server.url) as connection:
        names = run("job_class=ReportedJob", connection=connection, user=user)
        assert TaskRecord.objects.get().status == "pending"
        (command,) = re.findall(r"^rq worker --job-class (.*)$", PAGE, re.M)
        worker = rq.SimpleWorker([names["queue"]], connection=connection, job_class=import_string(command))
        worker.work(burst=True, logging_level="ERROR")
    row = TaskRecord.objects.get()
    assert (row.name, row.user, row.status) == ("Export of a.csv", user, "succeeded")


def test_dramatiq(user: User) -> None:
    import dramatiq
    from dramatiq.brokers.stub import StubBroker

    broker, worked = StubBroker(), []
    broker.emit_after("process_boot")
    names = {"broker": broker, "dramatiq": dramatiq, "Progress": Progress, "lines": len_of, "work_on": worked.append}
    run("ReportedMessages(", **names)["export"].send(user.pk, "a.csv")
    worker = dramatiq.Worker(broker, worker_timeout=100)
    worker.start()
    broker.join("default")
    worker.stop()
    broker.close()
    row = TaskRecord.objects.get()
    assert (row.name, row.status, row.done, worked) == ("Export of a.csv", "succeeded", 2, [0, 1])


def test_huey(user: User) -> None:
    from huey import MemoryHuey

    huey, worked = MemoryHuey(immediate=True), []
    run("report_tasks(huey", huey=huey, Progress=Progress, lines=len_of, work_on=worked.append, __name__=SHOP)[
        "export_later"
    ](user.pk, "a.csv")
    row = TaskRecord.objects.get()
    assert (row.name, row.status, row.done, worked) == ("Export of a.csv", "succeeded", 2, [0, 1])


def len_of(path: str) -> range:
    return range(2)
