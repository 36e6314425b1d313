"""The soak: a small one is run, and each of its reasons to fail can be seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.load import stamped
from bench.peers import SOME
from bench.soak import Running, Soak, Window, problems, run

SMALL = Soak(streams=20, per_s=60, rounds_per_s=4, connects=4, window_s=0.5, windows=2, past_users=20)
STEADY = Window(
    seconds=60, memory_mib=100, redis_mib=0, cpu_percent=10, p50_ms=0.3, p99_ms=4, max_ms=20, round_p99_ms=100,
    lag_ms=10, own_lag_ms=3, lost=0,
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


@pytest.mark.parametrize(
    ("windows", "reasons"),
    [
        ([STEADY] * 4, []),
        ([STEADY, replace(STEADY, memory_mib=101.9)], []),
        ([STEADY, replace(STEADY, memory_mib=102.1)], ["memory grew by 2.1%, from 100.0 to 102.1 MiB"]),
        ([STEADY, STEADY, replace(STEADY, p99_ms=50), STEADY, STEADY], []),
        ([STEADY] * 2 + [replace(STEADY, p99_ms=7)] * 2, ["the p99 rose from 4.00 to 7.00 ms (medians of the halves)"]),
        ([STEADY, replace(STEADY, lost=2), STEADY], ["streams or publishes at fault: 2"]),
        ([STEADY] * 29 + [replace(STEADY, own_lag_ms=7.8)], []),
        (
            [STEADY] * 2 + [replace(STEADY, own_lag_ms=lag_ms) for lag_ms in (26.8, 5.1)],
            ["the loop's own delay was above 5 ms in 2 of 4 windows, 26.8 at most"],
        ),
    ],
)
def test_a_soak_fails_by_memory_latency_delays_and_lost_events(windows: list[Window], reasons: list[str]) -> None:
    assert problems(windows) == reasons
