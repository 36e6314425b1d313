"""`DELIVERY="background"`: callers do not wait for the service, and committed messages survive the process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings
from django.test.utils import setup_test_environment, teardown_test_environment
from django.utils import timezone

from django_bridge import Message, background, delivery, outbox, publisher
from django_bridge.models import OutboxMessage
from tests.django.answering import GOOD, AnsweringService, SilentServer, answering
from tests.django.conftest import FOLDER, http_settings
from tests.django.outbox_rows import MEMORY, requested, subjects
from tests.django.sample.models import SimpleModel
from tests.support import REPOSITORY, Process, Service, free_port, running, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test is a new process for the outbox and its thread."""
    monkeypatch.setattr(outbox, "_process", outbox._OutboxProcess())
    monkeypatch.setattr(background, "_worker", background.Worker("test", background.MAX_QUEUED))
    yield
    with override_settings(NOTIFIER=MEMORY):
        outbox._process.has_backlog.clear()
        assert background.current().wait(50)
    OutboxMessage.objects.all().delete()


@pytest.fixture(params=["absent", "slow", "stopped", "redis absent", "redis stopped"])
def trouble(request: pytest.FixtureRequest) -> Iterator[None]:
    """The project with an outbox, and a service that does not answer in time."""
    with running(SilentServer()) as silent:
        port = silent.port if "stopped" in request.param else free_port()
        if request.param == "slow":
            is_over = threading.Event()
            with answering(lambda body: is_over.wait(60) and GOOD, OUTBOX=True):
                yield
                is_over.set()
                return
        settings = http_settings(f"http://127.0.0.1:{port}", OUTBOX=True)
        if "redis" in request.param:
            settings |= {"TRANSPORT": "redis", "REDIS_URL": f"redis://127.0.0.1:{port}"}
        with override_settings(NOTIFIER=settings):
            yield


def seconds(call: Any, clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    call()
    return clock() - began


def test_a_send_costs_little_more_than_its_row(trouble: None) -> None:
    """Beside each message a plain row is written. Costs are processor time: a loaded machine and its disk change it
    little. A caller that waited for the service would wait for 5 to 10 s: the first ones, until the circuit is open."""
    first_s = seconds(Message(to_users=1, subject="first").send)
    sends_s, writes_s, waits_s = [], [], [first_s]
    for n in range(24):
        writes_s.append(seconds(SimpleModel(title=f"row {n}").save, time.thread_time))
        send = Message(to_users=1, subject=f"message {n}").send
        waits_s.append(seconds(lambda send=send: sends_s.append(seconds(send, time.thread_time))))  # type: ignore[misc]
        time.sleep(0.002)
    assert statistics.median(sends_s) < 2 * statistics.median(writes_s) + 0.003
    assert max(waits_s) < 4, "callers wait for the service"


def test_messages_are_delivered_in_order_once_and_not_after_a_rollback(over_http: Service, user: User) -> None:
    with override_settings(NOTIFIER=http_settings(over_http.url, OUTBOX=True)):
        ids = []
        for n in range(30):
            with transaction.atomic():
                ids.append(Message(to_users=user, subject=f"committed {n}").send())
            with transaction.atomic():
                Message(to_users=user, subject=f"rolled back {n}").send()
                transaction.set_rollback(True)
        wait_for(lambda: not OutboxMessage.objects.exists(), what="an empty outbox")
    with over_http.user(str(user.pk)) as client:
        page = client.get("/v1/inbox?limit=100").raise_for_status().json()
    assert [message["id"] for message in reversed(page["messages"])] == ids


def test_after_an_outage_the_process_delivers_its_messages_without_another_send(user: User) -> None:
    port = free_port()
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{port}", OUTBOX=True, TIMEOUT_S=0.1)):
        for n in range(20):
            Message(to_users=user, subject=f"message {n}").send()
        wait_for(lambda: publisher.current().breaker.open, what="an open circuit")
        Message(to_users=user, subject="message 20").send()
        with running(Service(port=port)) as service:
            wait_for(lambda: not OutboxMessage.objects.exists(), timeout_s=30, what="an empty outbox")
            with service.user(str(user.pk)) as client:
                page = client.get("/v1/inbox?limit=100").raise_for_status().json()
    assert [message["subject"] for message in reversed(page["messages"])] == [f"message {n}" for n in range(21)]


def test_a_message_that_finds_the_queue_full_waits_in_the_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_worker", background.Worker("test", 2))
    go_on = threading.Event()

    def paused(body: Any) -> Any:
        assert go_on.wait(10)
        return GOOD

    with answering(paused, OUTBOX=True) as server:
        for n in range(6):
            Message(to_users=1, subject=f"message {n}").send()
        assert OutboxMessage.objects.filter(state="waiting").exists()
        go_on.set()
        wait_for(lambda: not OutboxMessage.objects.exists(), what="an empty outbox")
        assert requested(server) == [f"message {n}" for n in range(6)]


def test_without_an_outbox_messages_are_delivered_by_the_thread_and_a_full_queue_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_worker", background.Worker("test", 2))
    go_on = threading.Event()

    def paused(body: Any) -> Any:
        assert go_on.wait(10)
        return GOOD

    with answering(paused, DELIVERY="background") as server:
        for n in range(6):
            Message(to_users=1, subject=f"message {n}").send()
        go_on.set()
        assert background.current().wait(50)
        dropped = publisher.current().counts.dropped
        assert len(server.requests) + dropped == 6
        assert dropped in (3, 4)  # two wait, and the thread may have begun with another
    assert "was dropped: too many calls wait" in caplog.text


def test_under_djangos_test_environment_delivery_is_inline() -> None:
    setup_test_environment()
    try:
        with override_settings(NOTIFIER=http_settings("http://127.0.0.1:9", OUTBOX=True, TEST_TRANSPORT="http")):
            assert not publisher.delivers_in_background()
    finally:
        teardown_test_environment()


# The end of a process


SENDING = """
import os, sys, time, django
django.setup()
from django_bridge import Message
for n in range(30):
    Message(to_users=1, subject=f"message {n}").send()
print("sent", flush=True)
"""


PATIENT = """
import django
django.setup()
from django.conf import settings
from django_bridge import background
settings.NOTIFIER = {**settings.NOTIFIER, "TIMEOUT_S": 20}
background.FLUSH_S = 30
"""
"""For a busy machine: neither a call nor the end of the process is too late."""


def run(code: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=env(url), capture_output=True, text=True, timeout=60
    )


def env(url: str) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.django.settings",
        "NOTIFIER_TEST_FOLDER": FOLDER,
        "NOTIFIER_TEST_OUTBOX": "1",
        "NOTIFIER_TEST_SERVICE_URL": url,
    }


def test_the_end_of_a_process_waits_for_its_queue() -> None:
    with running(AnsweringService(lambda body: time.sleep(0.02) or GOOD)) as server:
        done = run(PATIENT + SENDING, server.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert requested(server) == [f"message {n}" for n in range(30)]
    assert not OutboxMessage.objects.exists()


def test_what_a_process_could_not_deliver_is_delivered_after_it_by_a_deliverer() -> None:
    done = run(SENDING, f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0
    assert set(OutboxMessage.objects.values_list("state", flat=True)) == {"waiting"}
    with override_settings(NOTIFIER=MEMORY):
        assert delivery.deliver_all().delivered == 30
    assert subjects() == [f"message {n}" for n in range(30)]


def test_a_killed_process_loses_nothing_that_was_committed() -> None:
    with running(SilentServer()) as silent:
        url = f"http://127.0.0.1:{silent.port}"
        process = Process([sys.executable, "-c", f"{SENDING}\ntime.sleep(60)"], cwd=REPOSITORY, env=env(url))
        try:
            process.wait_until(lambda: "sent" in process.output(), "its messages")
            process.child.kill()
            process.child.wait(5)
        finally:
            process.stop()
    OutboxMessage.objects.update(due_at=timezone.now())  # the leases end
    with override_settings(NOTIFIER=MEMORY):
        assert delivery.deliver_all().delivered == 30
    assert subjects() == [f"message {n}" for n in range(30)]


FORKING = """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # since Python 3.12: the deliverer is a thread
    child = os.fork()
for n in range(30, 40):
    Message(to_users=1, subject=f"message {n} of {'parent' if child else 'child'}").send()
if child:
    os.waitpid(child, 0)
else:
    from django_bridge import background
    background.at_exit()
    os._exit(0)
"""


def test_a_fork_delivers_each_message_once() -> None:
    with running(AnsweringService(lambda body: time.sleep(0.02) or GOOD)) as server:
        done = run(PATIENT + SENDING + FORKING, server.url)
        assert (done.returncode, done.stderr) == (0, "")
        of_each = [f"message {n} of {side}" for n in range(30, 40) for side in ("child", "parent")]
        assert sorted(requested(server)) == sorted([f"message {n}" for n in range(30)] + of_each)
    assert not OutboxMessage.objects.exists()
