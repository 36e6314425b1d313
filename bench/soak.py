"""Hours of ordinary load: `python -m bench.soak` holds many streams and publishes steadily.

Half of the streams get events for one user each, the other half are a group that gets rounds. Each window of time
reports the service's memory, the latencies, the events that were lost and the event loop's longest delay; new users
connect and leave in each. Whatever the service keeps of past users (histories, tokens, connections, when each was last
seen) is full before the first window, which is for warming up and is not judged: memory has no reason to grow after it.

It exits with 1 if memory grows by more than 2 %, if the 99th percentile of the latencies does not stay flat, if the
service's own work holds the event loop for more than 5 ms, or if an event is lost, repeated or refused. Pauses of the
whole machine, which bench/pauses.py sees, are taken out of that work and shown in a column of their own.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from bench import system, works
from bench.load import Load, stamped
from bench.pauses import Interval, Witnesses, overlap_s
from bench.peers import SOME, user
from bench.peers.notifier import Notifier, NotifierOnRedis
from bench.works import Bench
from notifier.broker.embedded.people import MAX_SEEN

MOST_GROWTH = 0.02
"""Of the service's memory, from the end of the first window to the end of the last."""
FLAT = 1.5
"""The median 99th percentile of the second half of the windows, to that of the first half."""
LAG_MS = 5.0
"""The longest delay of the loop by the service's own work."""
KEPT = 8
"""Events of each user that the service keeps."""

Second = tuple[float, float, list[tuple[float, float, float]]]
"""A line of bench/peers/apps/watched.py."""


@dataclass(frozen=True)
class Soak:
    """How much load."""

    streams: int = 10_000
    per_s: float = 200
    """Publishes, of which `rounds_per_s` go to the group."""
    rounds_per_s: float = 1
    connects: int = 500
    """Users that connect and leave, in each window."""
    window_s: float = 60
    windows: int = 30
    past_users: int = MAX_SEEN
    """Users who come and go before the first window."""


@dataclass(frozen=True)
class Window:
    """What was measured in one window."""

    seconds: float
    """From the start of the first window to the end of this one."""
    memory_mib: float
    """Resident. The proportional size would change with the other Python processes of the machine."""
    redis_mib: float
    cpu_percent: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    round_p99_ms: float
    lag_ms: float
    """The loop's longest delay."""
    own_lag_ms: float
    """The longest one by the service's own work, without the machine's pauses."""
    pause_ms: float
    """The longest pause of the machine."""
    lost: int
    """Streams that lost or repeated an event, and publishes that were refused."""


def problems(windows: Sequence[Window]) -> list[str]:
    """The reasons for which a soak has failed; none, if it passed."""
    first, last = windows[0], windows[-1]
    reasons = []
    growth = last.memory_mib / first.memory_mib - 1
    if growth > MOST_GROWTH:
        reasons.append(f"memory grew by {growth:.1%}, from {first.memory_mib:.1f} to {last.memory_mib:.1f} MiB")
    half = len(windows) // 2
    if half:
        early, late = (
            statistics.median(window.p99_ms for window in part) for part in (windows[:half], windows[-half:])
        )
        if late > FLAT * early:
            reasons.append(f"the p99 rose from {early:.2f} to {late:.2f} ms (medians of the halves)")
    delayed = [window.own_lag_ms for window in windows if window.own_lag_ms > LAG_MS]
    if delayed:
        reasons.append(
            f"the loop's own delay was above {LAG_MS:g} ms in {len(delayed)} of {len(windows)} windows,"
            f" {max(delayed):.1f} at most"
        )
    if lost := sum(window.lost for window in windows):
        reasons.append(f"streams or publishes at fault: {lost}")
    return reasons


def own_lag_ms(seconds: Sequence[Second], pauses: Sequence[Interval]) -> float:
    """The longest delay by the service's own work. The pauses are taken out of the delay, and not out of the CPU time:
    it is not known whether the thread was on the processor then."""
    own_ms = [own_ms for _, own_ms, _ in seconds]
    for _, _, delays in seconds:
        own_ms += [1000 * min(came - due - overlap_s((due, came), pauses), cpu) for due, came, cpu in delays]
    return max(own_ms, default=0.0)


def run(soak: Soak, *, on_redis: bool, say: Callable[[str], None]) -> list[Window]:
    """Run it. `say` gets a line for each window; the first one is for warming up, and is not returned."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        running = Running(soak, Path(name), on_redis=on_redis)
        try:
            running.start()
            say(" ".join(f"{field.name:>12}" for field in fields(Window)))
            windows = []
            for _ in range(1 + soak.windows):
                windows.append(running.window())
                say(" ".join(f"{value:12.2f}" for value in vars(windows[-1]).values()))
            return windows[1:]
        finally:
            running.stop()


class Running:
    """The service under load, and the programs that make it."""

    def __init__(self, soak: Soak, folder: Path, *, on_redis: bool) -> None:
        self._soak = soak
        self._lags = folder / "lags"
        self._lags.touch()
        self._random = random.Random(0)
        self._connected = soak.streams
        """Numbers of users that are given away."""
        watched = system.HERE / "peers" / "apps" / "watched.py"
        settings = {"NOTIFIER_EVENT_HISTORY_SIZE": str(KEPT), "NOTIFIER_STREAM_LIFE_S": str(7 * 86_400)}
        kind = NotifierOnRedis if on_redis else Notifier
        self.peer = kind(folder, program=(watched, self._lags), settings=settings)
        program = system.build("load", folder)
        loads = [Load(program, folder) for _ in range(5)]
        self.single, self.crowd = Bench(self.peer, loads[0], loads[1]), Bench(self.peer, loads[2], loads[3])
        self._passers_by = loads[4]
        self._loads = loads
        self._seconds = 0.0
        self._witnesses = Witnesses(folder)

    def start(self) -> None:
        """Open the streams; fill the histories, and by users who come and go what is kept of past users."""
        self._witnesses.start()
        self.peer.start()
        singles = self._soak.streams // 2
        works.connect(self.single, singles, None)
        works.connect(self.crowd, self._soak.streams - singles, SOME, first=singles)
        events = [(user(number), stamped(0)) for number in range(singles)] * KEPT
        batches = [self.peer.batch_request(events[at : at + 100]) for at in range(0, len(events), 100)]
        batches += [self.peer.publish_request(SOME, stamped(0))] * KEPT
        self.single.publisher.send(batches, self.peer.port, connections=4)
        self.single.streams.expect(len(events), 60)
        self.crowd.streams.expect(KEPT * (self._soak.streams - singles), 60)
        for at in range(0, self._soak.past_users, 500):
            self.come_and_go(min(500, self._soak.past_users - at))

    def window(self) -> Window:
        soak, peer, single, crowd = self._soak, self.peer, self.single, self.crowd
        singles, crowded = soak.streams // 2, soak.streams - soak.streams // 2
        rounds_count = round(soak.rounds_per_s * soak.window_s)
        events_count = round((soak.per_s - soak.rounds_per_s) * soak.window_s)
        rounds = crowd.numbers(rounds_count)
        items = [(self._random.randrange(singles), number) for number in single.numbers(events_count)]
        requests = [peer.publish_request(user(recipient), stamped(number)) for recipient, number in items]
        round_requests = [peer.publish_request(SOME, stamped(number)) for number in rounds]
        for bench in (single, crowd):
            bench.streams.zero()
        began_s, cpu, lags = time.monotonic(), peer.cpu_s(), self._lags.stat().st_size
        single.publisher.send_begin(requests, peer.port, per_s=events_count / soak.window_s, connections=16)
        crowd.publisher.send_begin(round_requests, peer.port, per_s=soak.rounds_per_s, connections=1)
        lost = self.come_and_go(soak.connects)
        sent = [single.publisher.send_end(), crowd.publisher.send_end()]
        got, round_got = single.streams.expect(events_count, 30), crowd.streams.expect(rounds_count * crowded, 30)
        right = (rounds_count, sum(rounds), 0)
        lost += sum(answer["refused"] for answer in sent) + works.wrong(single.streams, items)
        lost += sum(row != right for row in crowd.streams.counts())
        self._seconds += sent[0]["seconds"]
        seconds: list[Second] = [json.loads(line) for line in self._lags.read_text()[lags:].splitlines()]
        pauses = self._witnesses.pauses()
        return Window(
            seconds=self._seconds,
            memory_mib=sum(process.resident_kib() for process in peer.processes) / 1024,
            redis_mib=peer.redis.memory_bytes() / 2**20 if peer.redis else 0.0,
            cpu_percent=100 * (peer.cpu_s() - cpu) / sent[0]["seconds"],
            p50_ms=got["p50_ms"],
            p99_ms=got["p99_ms"],
            max_ms=got["max_ms"],
            round_p99_ms=round_got["p99_ms"],
            lag_ms=max((lag_ms for lag_ms, _, _ in seconds), default=0.0),
            own_lag_ms=own_lag_ms(seconds, pauses),
            pause_ms=max((1000 * (end_s - begin_s) for begin_s, end_s in pauses if end_s > began_s), default=0.0),
            lost=lost,
        )

    def come_and_go(self, count: int) -> int:
        """New users connect and leave. Returns the number of those that could not."""
        numbers = range(self._connected, self._connected + count)
        self._connected += count
        requests = [self.peer.stream_request(number, user(number)) for number in numbers]
        opened = int(self._passers_by.open(requests, self.peer.port, marker=self.peer.marker, at_once=10)["opened"])
        self._passers_by.cut()
        return count - opened

    def stop(self) -> None:
        self._witnesses.stop()
        self.peer.stop()
        for load in self._loads:
            load.stop()


def arguments() -> argparse.ArgumentParser:
    """The options."""
    defaults = Soak()
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=defaults.streams)
    parser.add_argument("--per-s", type=float, default=defaults.per_s, help="publishes a second")
    parser.add_argument("--rounds-per-s", type=float, default=defaults.rounds_per_s, help="of these, to the group")
    parser.add_argument(
        "--connects", type=int, default=defaults.connects, help="users that come and go, in each window"
    )
    parser.add_argument("--window-s", type=float, default=defaults.window_s, help="seconds of a window")
    parser.add_argument("--minutes", type=float, default=defaults.windows * defaults.window_s / 60)
    parser.add_argument("--redis", action="store_true", help="on a Redis")
    return parser


def main() -> None:
    given = arguments().parse_args()
    if system.allow_many_files() < given.streams + 1000:
        sys.exit(f"{given.streams} streams need as many open files in one process (ulimit -Hn)")
    soak = Soak(
        given.streams, given.per_s, given.rounds_per_s, given.connects, given.window_s,
        max(1, round(60 * given.minutes / given.window_s)),
    )  # fmt: skip
    windows = run(soak, on_redis=given.redis, say=lambda line: print(line, flush=True))
    reasons = problems(windows)
    first, last = windows[0].memory_mib, windows[-1].memory_mib
    print(f"memory {first:.1f} to {last:.1f} MiB ({last / first - 1:+.2%}); longest delay of the loop "
          f"{max(window.lag_ms for window in windows):.1f} ms, {max(window.own_lag_ms for window in windows):.1f} ms "
          f"by its own work; longest pause of the machine {max(window.pause_ms for window in windows):.1f} ms; "
          f"{sum(window.lost for window in windows)} lost")  # fmt: skip
    print("\n".join(reasons) or "passed")
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
