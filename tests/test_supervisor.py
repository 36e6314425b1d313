"""The supervisor of several workers waits for none of them: not for one that hangs, not for one that starts.

The processes here are real and do nothing; the answers are the test's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import SIGNALS

from notifier import server, supervisor
from notifier.supervisor import Supervisor, Worker


class Clock:
    """Time as the supervisor has it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Waiting:
    """A process that does nothing until it is killed or ends by a signal; what `multiprocessing` has of it."""

    def __init__(self, command: str = "import time; time.sleep(600)") -> None:
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._child = subprocess.Popen([sys.executable, "-I", "-S", "-c", self._command])

    @property
    def child(self) -> subprocess.Popen[bytes]:
        assert self._child is not None
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def exitcode(self) -> int | None:
        return self.child.poll()

    def is_alive(self) -> bool:
        return self.exitcode is None

    def kill(self) -> None:
        self.child.kill()

    def join(self, timeout: float | None = None) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(timeout)


class Idle(Supervisor):
    """Its workers are processes that wait."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__(server.config("notifier.app:create", workers=len(sockets), drain_s=1), sockets, "")
        self.created: list[Worker] = []

    def create(self, sock: socket.socket) -> Worker:
        worker = super().create(sock)
        worker.process = Waiting()  # type: ignore[assignment]
        self.created.append(worker)
        return worker

    def turn(self) -> None:
        """What `run` does twice a second."""
        self.handle_signals()
        self.keep_subprocess_alive()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(supervisor, "time", clock)
    return clock


@pytest.fixture
def workers(clock: Clock) -> Iterator[Idle]:
    """Two workers, which have not answered yet."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    sockets = [socket.socket(), socket.socket()]
    idle = Idle(sockets)
    try:
        idle.init_processes()
        idle.turn()
        yield idle
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for worker in idle.created:
            worker.end()
        for sock in sockets:
            sock.close()


def answer(worker: Any, serves: bool = True) -> None:
    """The worker's answer to the ping that it was sent."""
    assert worker.child_conn.poll(20)
    assert worker.child_conn.recv() == b"ping"
    worker.child_conn.send(serves)


def end(worker: Any) -> None:
    worker.process.kill()
    worker.process.join()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_that_ended_is_replaced_while_another_hangs_in_its_start(workers: Idle) -> None:
    hanging, ended = workers.processes
    end(ended)
    workers.turn()
    assert workers.processes[0] is hanging
    assert workers.processes[1] is not ended
    assert workers.processes[1].process.is_alive()
    assert workers.created[-1].sock is workers.sockets[1]


def test_a_worker_that_ended_is_replaced_while_another_one_that_served_hangs(workers: Idle) -> None:
    hanging, ended = workers.processes
    answer(hanging)
    workers.turn()
    end(ended)
    workers.turn()
    workers.turn()
    assert workers.processes[0] is hanging
    assert workers.processes[1].process.is_alive()


def test_a_worker_may_be_silent_until_its_first_answer_and_only_for_a_while_then(workers: Idle, clock: Clock) -> None:
    served, starting = workers.processes
    answer(served)
    workers.turn()
    clock.now_s += supervisor.SILENT_S + 1
    workers.turn()
    assert workers.processes[0] is not served
    assert workers.processes[1] is starting
    clock.now_s += supervisor.START_S
    workers.turn()
    assert workers.processes[1] is not starting


def test_a_worker_that_answers_and_does_not_begin_to_serve_is_replaced(workers: Idle, clock: Clock) -> None:
    hanging, served = workers.processes
    answer(served)
    for _ in range(supervisor.START_S // 15 + 1):
        answer(hanging, serves=False)
        workers.turn()
        answer(served, serves=False)  # it drains
        workers.turn()
        assert workers.processes[1] is served
        clock.now_s += 15
    workers.turn()
    assert workers.processes[0] is not hanging
    assert not hanging.process.is_alive()


def test_a_worker_that_answers_stays(workers: Idle, clock: Clock) -> None:
    before = list(workers.processes)
    for _ in range(5):
        for worker in workers.processes:
            answer(worker)
        workers.turn()
        clock.now_s += supervisor.SILENT_S - 1
    assert workers.processes == before


def test_a_worker_that_cannot_start_ends_the_service(workers: Idle) -> None:
    failing, other = workers.processes
    end(failing)
    failing.process = Waiting(f"raise SystemExit({STARTUP_FAILURE})")  # type: ignore[assignment]
    failing.process.start()
    failing.process.join()
    workers.turn()
    assert workers.should_exit.is_set()
    assert workers.has_failed
    workers.terminate_all()
    workers.join_all()
    assert not other.process.is_alive()


def test_a_rolling_restart_replaces_one_worker_after_the_other_each_on_its_socket(workers: Idle, clock: Clock) -> None:
    first, second = workers.processes
    os.kill(os.getpid(), signal.SIGUSR2)
    workers.turn()
    workers.turn()
    *_, third = workers.created
    clock.now_s += supervisor.START_S - 1  # a start may be slow, and the old worker serves meanwhile
    answer(third, serves=False)
    answer(first)
    answer(second)
    workers.turn()
    assert workers.processes == [first, second]
    answer(third)
    workers.turn()
    assert workers.processes == [third, second]
    until(lambda: not first.process.is_alive())
    workers.turn()
    *_, fourth = workers.created
    workers.turn()
    answer(fourth)
    workers.turn()
    until(lambda: not second.process.is_alive())
    workers.turn()
    assert workers.processes == workers.created[2:] == [third, fourth]
    assert [worker.sock for worker in workers.created[2:]] == workers.sockets


def test_a_worker_that_ended_is_replaced_while_that_of_a_rolling_restart_hangs_in_its_start(workers: Idle) -> None:
    first, second = workers.processes
    workers.handle_usr2()
    workers.turn()
    assert len(workers.created) == 3
    end(second)
    workers.turn()
    assert workers.processes[0] is first
    assert workers.processes[1] is workers.created[3]
    assert workers.created[3].process.is_alive()


def test_a_second_rolling_restart_replaces_the_worker_that_was_starting_too(workers: Idle) -> None:
    first, second = workers.processes
    workers.handle_usr2()
    workers.turn()
    workers.handle_usr2()
    for number in range(2, 5):
        until(lambda: (workers.turn(), len(workers.created) > number)[1])  # noqa: B023
        workers.turn()
        answer(workers.created[number])
    starting, third, fourth = workers.created[2:]
    until(lambda: (workers.turn(), not starting.process.is_alive())[1])
    assert workers.processes == [fourth, third]
    assert not first.process.is_alive()
    assert not second.process.is_alive()


def test_the_starting_worker_takes_the_place_of_one_that_ends_before_it_is_replaced(workers: Idle) -> None:
    first, second = workers.processes
    workers.handle_usr2()
    workers.turn()
    end(first)
    workers.turn()
    assert workers.processes == [workers.created[2], second]
    workers.turn()
    assert [worker.sock for worker in workers.created[3:]] == [workers.sockets[1]], "the restart goes on"


@pytest.mark.parametrize("ends", [True, False])
def test_a_rolling_restart_whose_worker_does_not_serve_is_given_up(workers: Idle, clock: Clock, ends: bool) -> None:
    before = list(workers.processes)
    for worker in before:
        answer(worker)
    workers.handle_usr2()
    workers.turn()
    if ends:
        end(workers.created[2])
    else:
        clock.now_s += supervisor.START_S - 1
        for worker in before:
            answer(worker)
        workers.turn()
        clock.now_s += 2
    workers.turn()
    workers.turn()
    assert workers.processes == before
    assert not workers.created[2].process.is_alive()
    assert len(workers.created) == 3


def test_a_replaced_worker_that_hangs_in_its_end_is_killed(workers: Idle, clock: Clock) -> None:
    first, _ = workers.processes
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)
    workers.handle_usr2()
    workers.turn()
    workers.turn()
    answer(workers.created[2])
    workers.turn()
    assert workers.processes[0] is workers.created[2]
    assert first.process.is_alive()
    clock.now_s += 2 * 6 + supervisor.SILENT_S + 1
    workers.turn()
    until(lambda: not first.process.is_alive())


def test_a_signal_that_ends_the_service_waits_for_no_worker_that_starts(workers: Idle) -> None:
    workers.handle_usr2()
    workers.turn()
    os.kill(os.getpid(), signal.SIGTERM)
    workers.turn()
    assert workers.should_exit.is_set()
    workers.terminate_all()
    workers.join_all()
    assert not any(worker.process.is_alive() for worker in workers.created)


def test_a_worker_reads_its_credentials_again_once_it_serves(workers: Idle) -> None:
    """SIGHUP would end a process that has no handler yet, as these have none."""
    serving, starting = workers.processes
    answer(serving)
    workers.turn()
    os.kill(os.getpid(), signal.SIGHUP)
    workers.turn()
    until(lambda: not serving.process.is_alive())
    assert serving.exitcode == -signal.SIGHUP
    assert starting.process.is_alive()
    answer(starting)
    workers.turn()
    until(lambda: not starting.process.is_alive())
    assert starting.exitcode == -signal.SIGHUP
