"""How long the supervisor waits for a worker: it starts slowly on a busy machine."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from socket import socket

import pytest

from notifier import server

SHORT_S = 0.2


@pytest.fixture
def signals() -> list[int]:
    """Those that the supervisor has received."""
    return []


@pytest.fixture
def worker(signals: list[int]) -> Iterator[server._Worker]:
    """One whose process lives; its answers are the test's."""
    with socket() as sock:
        worker = server._Worker(server.config("notifier.app:create_app", workers=2, drain_s=1), sock, 0, "", signals)
        worker.process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
        worker.start()
        yield worker
        worker.kill()
        worker.process.join()


def test_a_rolling_restart_waits_for_a_worker_that_starts_slowly(worker: server._Worker) -> None:
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(worker.wait_until_ready, SHORT_S)
        for _ in range(2):  # it has asked again: longer than a running worker may be silent
            assert worker.child_conn.recv() == b"ping"
        worker.child_conn.send(False)
        worker.child_conn.send(True)
        assert waiting.result(timeout=20)


def test_a_signal_that_ends_the_service_is_not_held_up_by_a_worker_that_starts(
    worker: server._Worker, signals: list[int]
) -> None:
    with ThreadPoolExecutor() as threads:
        for wait, answer in ((worker.wait_until_ready, False), (worker.ping, True)):
            signals.clear()
            waiting = threads.submit(wait, SHORT_S)
            assert worker.child_conn.recv() == b"ping"
            signals.append(signal.SIGTERM)
            # Of a ping: a worker that is counted as dead would be killed and replaced before the signal is handled.
            assert waiting.result(timeout=20) is answer


def test_a_worker_may_be_silent_until_its_first_answer_and_only_for_a_while_then(worker: server._Worker) -> None:
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(worker.ping, SHORT_S)
        assert worker.child_conn.recv() == b"ping"
        with pytest.raises(TimeoutError):
            waiting.result(timeout=3 * SHORT_S)
        worker.child_conn.send(False)
        assert waiting.result(timeout=20)
        assert not worker.ping(SHORT_S)


def test_a_worker_that_has_ended_is_not_waited_for(worker: server._Worker) -> None:
    worker.process.kill()
    worker.process.join()
    assert not worker.ping()
    assert not worker.wait_until_ready(SHORT_S)
