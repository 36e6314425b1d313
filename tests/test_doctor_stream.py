"""`notifier doctor`: what a service says that ends, refuses or forgets streams is not blamed on a proxy."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from notifier.check.result import UNKNOWN, WEAKENS
from notifier.doctor import stream
from notifier.doctor.public import Cut, Listening, Public, Refused, Target

HELLO = ("hello", {"replayed": 0})
BYE = ("bye", {"reason": "drain"})
PING = ("ping", {})


class Scripted(Public):
    """A service whose streams have these events, and then end."""

    def __init__(self, *streams: list[tuple[str, Any]] | Exception) -> None:
        super().__init__(Target("http://service.example", "t", "ann", "k"))
        self.streams = list(streams)

    @contextlib.contextmanager
    def listen(self, silence_s: float, **headers: str) -> Iterator[Listening]:
        script = self.streams.pop(0)
        if isinstance(script, Exception):
            raise script
        text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in script)
        yield Listening(httpx.Response(200, text=text))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PAUSE_S", 0)


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
