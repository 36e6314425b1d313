"""A real Celery worker for the tests of the bridge: the test project in another process, with Redis as its broker."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.test import override_settings

from tests.django.conftest import FOLDER, http_settings
from tests.support import REPOSITORY, Process, RedisServer, Service, running


class Worker:
    """`celery -A tests.django.celery_app worker`, with the transport `http`."""

    def __init__(
        self,
        server: RedisServer,
        service: Service,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        queue: str = "celery",
        env: dict[str, str] | None = None,
    ) -> None:
        self.celery_url = server.url.removesuffix("/0") + "/1"
        command = [sys.executable, "-m", "celery", "-A", "tests.django.celery_app", "worker", "-n", queue, "-Q", queue]
        options = ["--pool", pool, "--concurrency", str(concurrency), "--loglevel", "INFO"]
        self.process = Process(
            [*command, *options, "--without-gossip", "--without-mingle"],
            cwd=REPOSITORY,
            env={
                "NOTIFIER_TEST_FOLDER": FOLDER,
                "NOTIFIER_TEST_SERVICE_URL": service.url,
                "NOTIFIER_TEST_CELERY_URL": self.celery_url,
                **(env or {}),
            },
        )
        self.process.wait_until(lambda: " ready." in self.process.output(), "the Celery worker", 60)

    def kill(self) -> None:
        """Send SIGKILL to the worker and to its pool processes."""
        pid = self.process.child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process_id in (pid, *map(int, children)):
            os.kill(process_id, signal.SIGKILL)

    def stop(self) -> None:
        self.process.stop()


@contextmanager
def project_on(server: RedisServer, service: Service) -> Iterator[Any]:
    """The Celery app of this process, with the worker's broker; the project uses the transport `http`."""
    from tests.django.celery_app import app

    url = server.url.removesuffix("/0") + "/1"
    app.conf.update(broker_url=url, result_backend=url)
    app.set_current()
    try:
        with override_settings(NOTIFIER=http_settings(service.url)):
            yield app
    finally:
        app.backend.result_consumer.stop()
        app.backend.client.close()
        app.close()


@contextmanager
def working(server: RedisServer, service: Service, **options: Any) -> Iterator[Worker]:
    """A worker, and this process configured to use it."""
    server.client().flushall()
    with running(Worker(server, service, **options)) as worker, project_on(server, service):
        yield worker
