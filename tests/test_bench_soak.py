"""The soak: a small one is run, each of its reasons to fail can be seen, and a pause of the machine is no work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.load import stamped
from bench.pauses import Interval, Witnesses, common, overlap_s
from bench.peers import SOME
from bench.soak import Running, Second, Soak, Window, own_lag_ms, problems, run
from bench.system import Process, tree
from tests.support import wait_for

SMALL = Soak(streams=20, per_s=60, rounds_per_s=4, connects=4, window_s=0.5, windows=2, past_users=20)
STEADY = Window(
    seconds=60, memory_mib=100, redis_mib=0, cpu_percent=10, p50_ms=0.3, p99_ms=4, max_ms=20, round_p99_ms=100,
    lag_ms=10, own_lag_ms=3, pause_ms=0, lost=0,
)  # fmt: skip


@pytest.mark.programs
@pytest.mark.parametrize("on_redis", [pytest.param(False, marks=pytest.mark.full), True])
def test_a_small_soak_loses_nothing_and_shows_its_figures(on_redis: bool) -> None:
    lines: list[str] = []
    windows = run(SMALL, on_redis=on_redis, say=lines.append)
    assert [window.lost for window in windows] == [0, 0]
    assert windows[0].seconds < windows[1].seconds
    for window in windows:
        assert 0 < window.p50_ms <= 1.1 * window.max_ms
        assert min(window.memory_mib, window.cpu_percent, window.round_p99_ms) > 0
        assert (window.redis_mib > 0) == on_redis
        assert 0 <= window.own_lag_ms <= window.lag_ms
    assert len(lines) == 1 + 1 + len(windows)


@pytest.mark.programs
def test_an_event_that_is_not_due_is_counted_at_every_stream(tmp_path: Path) -> None:
    class Disturbed(Running):
        def come_and_go(self, count: int) -> int:
            if count == SMALL.connects:
                self.crowd.publisher.send_end()
                self.crowd.publisher.send_begin([self.peer.publish_request(SOME, stamped(1))], self.peer.port)
            return super().come_and_go(count)

    running = Disturbed(SMALL, tmp_path, on_redis=False)
    try:
        running.start()
        assert running.window().lost == SMALL.streams // 2
    finally:
        running.stop()


@pytest.mark.programs
def test_a_soak_without_witnesses_leaves_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(witnesses: Witnesses, *args: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(Witnesses, "_start", fail)
    before = tree(os.getpid())
    with pytest.raises(OSError, match="no more processes"):
        run(SMALL, on_redis=False, say=lambda line: None)
    assert set(tree(os.getpid())) <= set(before)


@pytest.mark.parametrize(
    ("windows", "reasons"),
    [
        ([STEADY] * 4, []),
        ([STEADY, replace(STEADY, memory_mib=101.9)], []),
        ([STEADY, replace(STEADY, memory_mib=102.1)], ["memory grew by 2.1%, from 100.0 to 102.1 MiB"]),
        ([STEADY, STEADY, replace(STEADY, p99_ms=50), STEADY, STEADY], []),
        ([STEADY] * 2 + [replace(STEADY, p99_ms=7)] * 2, ["the p99 rose from 4.00 to 7.00 ms (medians of the halves)"]),
        ([STEADY, replace(STEADY, lost=2), STEADY], ["streams or publishes at fault: 2"]),
        ([STEADY, replace(STEADY, lag_ms=20, pause_ms=15)], []),
        (
            [STEADY] * 29 + [replace(STEADY, own_lag_ms=5.1)],
            ["the loop's own delay was above 5 ms in 1 of 30 windows, 5.1 at most"],
        ),
        (
            [STEADY] * 2 + [replace(STEADY, own_lag_ms=lag_ms) for lag_ms in (26.8, 5.1)],
            ["the loop's own delay was above 5 ms in 2 of 4 windows, 26.8 at most"],
        ),
    ],
)
def test_a_soak_fails_by_memory_latency_delays_and_lost_events(windows: list[Window], reasons: list[str]) -> None:
    assert problems(windows) == reasons


@pytest.mark.parametrize(
    ("late", "pauses"),
    [
        ([[(1, 3), (5, 9)], [(2, 4), (6, 7), (8, 12)]], [(2, 3), (6, 7), (8, 9)]),
        ([[(1, 3), (5, 9)], []], []),
        ([[(1, 3)], [(3, 5)]], []),
        ([[(1, 9)], [(2, 8)], [(0, 3), (7, 10)]], [(2, 3), (7, 8)]),
    ],
)
def test_the_machine_stood_still_while_every_witness_was_late(
    late: list[list[Interval]], pauses: list[Interval]
) -> None:
    assert common(late) == pauses


LONG: Second = (9.0, 1.5, [(10.0, 10.009, 0.0085)])
"""A second with a delay of 9 ms, in which the thread had 8.5 ms of CPU; the other delays had at most 1.5."""


@pytest.mark.parametrize(
    ("seconds", "pauses", "own_ms"),
    [
        ([], [], 0),
        ([LONG], [], 8.5),
        ([LONG], [(10.001, 10.007)], 3),
        ([LONG], [(9.9, 9.99), (10.009, 10.02)], 8.5),
        ([LONG], [(9.9, 10.004), (10.005, 10.02)], 1.5),  # 1 ms is left: another delay was longer
        (
            [(14.0, 0.5, [(10.0, 10.014, 0.006)])],
            [(10.0, 10.008)],
            6,
        ),  # the thread waited while the machine stood still
    ],
)
def test_pauses_are_taken_out_of_the_loops_delays(
    seconds: Sequence[Second], pauses: Sequence[Interval], own_ms: float
) -> None:
    assert own_lag_ms(seconds, pauses) == pytest.approx(own_ms)


@pytest.fixture
def witnesses(tmp_path: Path) -> Iterator[Witnesses]:
    witnesses = Witnesses(tmp_path)
    try:
        witnesses.start()
        yield witnesses
    finally:
        witnesses.stop()


@pytest.mark.programs
def test_only_a_stop_of_every_witness_is_a_pause(witnesses: Witnesses) -> None:
    alone = _stopped(witnesses.processes[:1])
    _wait_for_a_pause(witnesses)
    assert len(witnesses.processes) == 1 or _share(alone, witnesses) < 0.5


BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


@pytest.mark.programs
def test_busy_processors_are_no_pause(witnesses: Witnesses) -> None:
    """The witnesses hardly run, since they come after the programs that keep their processors busy."""
    for witness in witnesses.processes:
        os.sched_setscheduler(witness.pid, os.SCHED_IDLE, os.sched_param(0))
    commands = [[sys.executable, "-c", BUSY, str(processor)] for processor in os.sched_getaffinity(0)]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    try:
        for program in programs:
            assert program.stdout is not None
            program.stdout.readline()
        begin_s = time.monotonic()
        time.sleep(0.5)
        busy = begin_s, time.monotonic()
    finally:
        for program in programs:
            program.kill()
            program.communicate()
    _wait_for_a_pause(witnesses)
    assert _share(busy, witnesses) < 0.5


def _wait_for_a_pause(witnesses: Witnesses) -> None:
    """Stop all of them until they show one of the stops, and with it all that came before. A witness that waited for
    its processor just before a stop places the beginning of that stop too early."""
    stops: list[Interval] = []

    def is_seen() -> bool:
        stops.append(_stopped(witnesses.processes))
        return any(_share(stop, witnesses) > 0.5 for stop in stops)

    wait_for(is_seen)


def _share(interval: Interval, witnesses: Witnesses) -> float:
    """The share of pauses of an interval. A witness has written what came before the last pause that it shows."""
    return overlap_s(interval, witnesses.pauses()) / (interval[1] - interval[0])


def _stopped(witnesses: Sequence[Process]) -> Interval:
    """These do not run for half a second: from when to when."""
    for witness in witnesses:
        os.kill(witness.pid, signal.SIGSTOP)
        wait_for(lambda pid=witness.pid: _state(pid) == "T")  # type: ignore[misc]
    begin_s = time.monotonic()
    time.sleep(0.5)
    end_s = time.monotonic()
    for witness in witnesses:
        os.kill(witness.pid, signal.SIGCONT)
    return begin_s, end_s


def _state(pid: int) -> str:
    """As the kernel names it: T for a stopped process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
