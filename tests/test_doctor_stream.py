"""`notifier doctor`: how late, how long and how complete streams are, and who ended them, by streams of a script.

What a service says that ends, refuses or forgets streams is not blamed on a proxy. The time is the script's own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from notifier.check.result import OK, UNKNOWN, WEAKENS
from notifier.doctor import public as public_module
from notifier.doctor import stream
from notifier.doctor.public import EVENT, Cut, Listening, Public, Refused, Silent, Target

HELLO = ("hello", {"replayed": 0})
BYE = ("bye", {"reason": "drain"})
PING = ("ping", {})


TLS = httpx.create_ssl_context()
"""Of all: it reads every certificate of the system, which takes a quarter of a second."""
SILENCE = httpx.ReadTimeout("nothing comes")
"""In a script: the stream stays open, and nothing comes any more."""
LATE_S = 1.5
"""How late a hop delivers. Like every number in a script, the time that passes before the next event (s)."""


def own(number: int) -> tuple[str, Any]:
    """The event that the doctor publishes as this number."""
    return (EVENT, number)


class Clock:
    """The module `time` of the doctor: it goes on where a script or a pause says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Scripted(Public):
    """A service whose streams have these events, and then end; it accepts each publish."""

    clock: Clock

    def __init__(self, *streams: list[Any] | Exception) -> None:
        super().__init__(Target("http://service.example", "t", "ann", "k"))
        self.streams = list(streams)

    def publish(self, number: int) -> httpx.Response:
        return httpx.Response(200)

    @contextlib.contextmanager
    def listen(self, silence_s: float, **headers: str) -> Iterator[Listening]:
        script = self.streams.pop(0)
        if isinstance(script, Exception):
            raise script
        yield Listening(httpx.Response(200, content=self._text(script)))

    def _text(self, script: list[Any]) -> Iterator[bytes]:
        for step in script:
            if isinstance(step, float):
                self.clock.sleep(step)
                continue
            if isinstance(step, Exception):
                raise step
            name, data = step
            data = {"run": self.run, "n": data} if name == EVENT else data
            yield f"event: {name}\nid: {self.run}\ndata: {json.dumps(data)}\n\n".encode()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (stream, public_module):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Scripted, "clock", clock, raising=False)
    monkeypatch.setattr(httpx, "create_ssl_context", lambda: TLS)
    return clock


def test_a_service_that_ends_every_stream_after_a_first_heartbeat_is_asked_three_times_more() -> None:
    public = Scripted([HELLO, PING, BYE], *[[HELLO, BYE]] * 9)
    result = stream.check_quiet(public, 3, long=True)
    assert (result.verdict, result.seen) == (WEAKENS, "the service answers with bye drain")
    assert len(public.streams) == 10 - stream.ATTEMPTS


def test_a_stream_that_does_not_open_again_is_no_cut() -> None:
    public = Scripted([HELLO, BYE], *[Refused("the answer is 502")] * 2)
    result = stream.check_quiet(public, 3, long=False)
    assert (result.name, result.seen) == ("stream", "it opens once and not again: the answer is 502")


def test_a_cut_is_a_cut() -> None:
    result = stream.check_quiet(Scripted([HELLO, PING]), 3, long=False)
    assert result.name == "idle"
    assert result.seen.startswith("a hop cuts the stream")


@pytest.mark.parametrize(
    ("script", "name", "verdict", "seen"),
    [
        ([BYE], "stream", WEAKENS, "the service answers with bye drain"),
        ([("degraded", {"reason": "broker"})], "stream", WEAKENS, "the service answers with degraded broker"),
        ([("reset", {"reason": "history_trimmed"})], "replay", WEAKENS, "the service no longer has events"),
        ([("hello", None)], "stream", WEAKENS, "the service answers with hello"),
        ([("hello", {})], "replay", WEAKENS, "2 events after Last-Event-ID, 0 of them replayed: a hop drops"),
        ([("hello", {"replayed": 2}), BYE], "replay", UNKNOWN, "the stream ended: bye"),
        (Cut("reset by peer"), "replay", UNKNOWN, "the stream ended: reset by peer"),
    ],
)
def test_a_stream_that_resumes(script: Any, name: str, verdict: str, seen: str) -> None:
    result = stream._replay(Scripted(script), ["1", "2", "3"])
    assert (result.name, result.verdict) == (name, verdict)
    assert result.seen.startswith(seen)


def test_a_compressed_stream_that_does_not_open_leaves_it_unknown() -> None:
    assert stream._compression(Scripted(Refused("the answer is 429"))).verdict == UNKNOWN


# The first byte


@pytest.mark.parametrize(
    ("streams", "name", "verdict", "seen"),
    [
        ([[0.2, HELLO]], "first-byte", OK, "after 0.20 s"),
        ([[LATE_S, HELLO], [LATE_S, HELLO], [0.2, HELLO]], "first-byte", OK, "after 0.20 s"),
        ([[LATE_S, HELLO]] * 3, "buffering", WEAKENS, "after 1.50 s, 3 times in a row later than 1 s: a hop keeps it"),
        ([[SILENCE]], "buffering", WEAKENS, "HEAD is answered, the stream sends nothing within 5 s: a hop keeps it"),
        ([Silent()], "buffering", WEAKENS, "HEAD is answered, the stream sends nothing within 5 s: a hop keeps it"),
        ([Refused("the answer is 502")], "stream", WEAKENS, "it does not open: the answer is 502"),
        ([[]], "stream", WEAKENS, "it does not open: the connection ended"),
    ],
)
def test_the_first_byte(streams: Any, name: str, verdict: str, seen: str) -> None:
    public = Scripted(*streams)
    result = stream._first_byte(public)
    assert (result.name, result.verdict, public.streams) == (name, verdict, [])
    assert result.seen.startswith(seen)
    assert bool(result.fix) == (verdict == WEAKENS)


# Each event at once


@pytest.mark.parametrize(
    ("script", "name", "verdict", "seen", "came"),
    [
        ([HELLO, 0.2, own(1), own(2), own(3)], "buffering", OK, "each event comes at once, 0 ms late", 3),
        ([HELLO, LATE_S, own(1), LATE_S, own(2), 0.2, own(3)], "buffering", OK, "each event comes at once, 200 ms", 3),
        (
            [HELLO, *[LATE_S, own(1), LATE_S, own(2), LATE_S, own(3)]],
            "buffering",
            WEAKENS,
            "events come 1.50 s after",
            3,
        ),
        ([HELLO, own(1), SILENCE], "buffering", WEAKENS, "event 2 of 3 has not come 5 s after its publish: a hop", 1),
        # Heartbeats alone are no events: the time is up although the stream never was silent for long.
        ([HELLO, *[2.0, PING] * 9], "buffering", WEAKENS, "event 1 of 3 has not come 5 s after its publish: a hop", 0),
        ([HELLO, own(1), BYE], "stream", WEAKENS, "the service answers with bye drain", 1),
        ([HELLO, own(1)], "idle", WEAKENS, "the stream was cut: the connection ended", 1),
        ([BYE], "stream", WEAKENS, "the service answers with bye drain", 0),
    ],
)
def test_each_event_is_to_come_at_once(script: Any, name: str, verdict: str, seen: str, came: int) -> None:
    hello, ids, results = stream._events(Scripted(script))
    assert (results[0].name, results[0].verdict, len(ids)) == (name, verdict, came)
    assert results[0].seen.startswith(seen)
    assert bool(hello) == (script[0] == HELLO)


# The time without events


def beats(number: int, gap_s: float = 15.0) -> list[Any]:
    return [gap_s, PING] * number


@pytest.mark.parametrize("script", [[HELLO, SILENCE], [HELLO, PING, SILENCE]])
def test_a_heartbeat_that_does_not_come_is_kept_back(script: Any) -> None:
    result = stream.check_quiet(Scripted(script), 15, long=False)
    assert (result.name, result.verdict) == ("buffering", WEAKENS)
    assert result.seen.startswith("no heartbeat within 20 s; the service's are 15 s apart: a hop keeps it back")


def test_a_cut_after_the_second_heartbeat_shows_only_in_the_long_watch() -> None:
    script = [HELLO, PING, PING]
    short = stream.check_quiet(Scripted(script), 15, long=False)
    long = stream.check_quiet(Scripted(script), 15, long=True)
    assert (short.name, short.verdict) == ("idle", OK)
    assert (long.name, long.verdict) == ("idle", WEAKENS)
    assert long.seen.startswith("a hop cuts the stream")


def test_the_long_watch_outlasts_the_usual_limits_of_a_connection(clock: Clock) -> None:
    cut = stream.check_quiet(Scripted([HELLO, *beats(19), 14.0]), 15, long=True)
    assert cut.seen.startswith("a hop cuts the stream 14.0 s after its last byte, 299.0 s after its begin")
    assert "NOTIFIER_HEARTBEAT_S below" in cut.fix
    began = clock.now
    result = stream.check_quiet(Scripted([HELLO, *beats(60)]), 15, long=True)
    assert (result.verdict, result.seen) == (OK, "22 heartbeats, each within 15 s")
    assert clock.now - began == stream.LONG_S
