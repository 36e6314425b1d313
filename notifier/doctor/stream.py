"""Checks of a stream: its first byte, each event at once, compression, clock, replay, the time without events.

Must not know: which proxies there are.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from notifier.check.result import OK, SKIPPED, UNKNOWN, WEAKENS, CannotAsk, Result
from notifier.doctor import fixes
from notifier.doctor.clock import check_clock
from notifier.doctor.public import BYE, EVENT, Cut, Event, Listening, Public, Refused, Silent

FIRST_S: Final = 1.0
"""The first byte, and each event, is there within this time (s)."""
ATTEMPTS: Final = 3
"""A slow machine delays some openings and events, a buffer delays all."""
SILENT_S: Final = 5.0
"""What has not come after this time (s) is buffered."""
GRACE_S: Final = 5.0
"""How late a heartbeat may be (s)."""
BEATS: Final = 2
HEARTBEAT_S: Final = 15.0
"""Where `hello` does not say it (s)."""
PAUSE_S: Final = 1.0
"""Between a stream that the service ended and the next (s)."""
LONG_S: Final = 330.0
"""How long a quiet stream is watched with `--long` (s): usual limits of a connection's whole life are 60 and 300."""
BROWSER_ENCODINGS: Final = "gzip, deflate, br, zstd"
LIMITS: Final = "see /readyz and the service's log; limits are NOTIFIER_MAX_STREAMS_PER_USER and ..._PER_ADDRESS"
GREETINGS: Final = ("hello", "reset", "degraded")


class Ended(Exception):
    """The service ended the stream, and says why."""

    def __init__(self, event: Event) -> None:
        super().__init__(f"{event.name} {event.data}")
        self.event = event


def check_stream(public: Public, *, long: bool) -> Iterator[Result]:
    """Every check of the stream. Those that need what an earlier check misses are skipped."""
    first = _first_byte(public)
    yield first
    if first.verdict != OK:
        yield from _skipped(public)
        return
    hello, ids, results = _events(public)
    yield from results
    if not hello:
        yield from _skipped(public)
        return
    yield _compression(public)
    if len(ids) < ATTEMPTS:
        yield public.result("replay", SKIPPED, "not tried, since the events did not come")
    else:
        yield _replay(public, ids)
    heartbeat_s = hello.get("heartbeat_s")
    yield check_quiet(public, heartbeat_s if isinstance(heartbeat_s, int | float) else HEARTBEAT_S, long=long)


def _skipped(public: Public) -> Iterator[Result]:
    for name in ("compression", "replay", "idle"):
        yield public.result(name, SKIPPED, "not tried, since no stream opens in time")


def _first_byte(public: Public) -> Result:
    fastest = SILENT_S
    for _ in range(ATTEMPTS):
        began = time.monotonic()
        try:
            with public.listen(SILENT_S) as stream:
                stream.next()
        except Silent:
            return _buffered(public, f"HEAD is answered, the stream sends nothing within {SILENT_S:g} s")
        except Cut as exc:
            return public.result("stream", WEAKENS, f"it does not open: {exc}", public.lines_for("idle"))
        fastest = min(fastest, time.monotonic() - began)
        if fastest <= FIRST_S:
            return public.result("first-byte", OK, f"after {fastest:.2f} s")
    seen = f"after {fastest:.2f} s, {ATTEMPTS} times in a row later than {FIRST_S:g} s"
    return _buffered(public, seen)


def _buffered(public: Public, seen: str) -> Result:
    text = f"{seen}: a hop keeps it back ({fixes.evidence(public.head)})"
    return public.result("buffering", WEAKENS, text, public.lines_for("buffering"))


def _events(public: Public) -> tuple[dict[str, Any], list[str], list[Result]]:
    """The data of `hello`, the ids of the events that came, and what was seen."""
    ids: list[str] = []
    hello: dict[str, Any] = {}
    latencies: list[float] = []
    began = time.time()
    try:
        with public.listen(SILENT_S) as stream:
            event = stream.until(*GREETINGS, within_s=SILENT_S)
            came = time.time()
            if event.name != "hello" or not isinstance(event.data, dict):
                return hello, ids, [_refused(public, event)]
            hello = event.data
            for number in range(1, ATTEMPTS + 1):
                if (answer := public.publish(number)).status_code != 200:
                    raise CannotAsk(f"event {number} of {ATTEMPTS} was not published: {answer.status_code}")
                sent = time.monotonic()
                event = _own(public, stream, number)
                latencies.append(time.monotonic() - sent)
                ids.append(event.id)
    except Silent:
        seen = f"event {len(ids) + 1} of {ATTEMPTS} has not come {SILENT_S:g} s after its publish"
        results = [_buffered(public, seen)]
    except Ended as exc:
        results = [_refused(public, exc.event)]
    except Cut as exc:
        results = [public.result("idle", WEAKENS, f"the stream was cut: {exc}", public.lines_for("idle"))]
    else:
        late = min(latencies)
        if late > FIRST_S:
            results = [_buffered(public, f"events come {late:.2f} s after their publish")]
        else:
            results = [public.result("buffering", OK, f"each event comes at once, {late * 1000:.0f} ms late")]
    return hello, ids, [*results, *_clock(public, hello, began, came)] if hello else results


def _own(public: Public, stream: Listening, number: int) -> Event:
    while True:
        event = stream.until(EVENT, within_s=SILENT_S)
        if event.name == BYE:
            raise Ended(event)
        if event.data == {"run": public.run, "n": number}:
            return event


def _refused(public: Public, event: Event) -> Result:
    reason = event.data.get("reason", "") if isinstance(event.data, dict) else ""
    return public.result("stream", WEAKENS, f"the service answers with {event.name} {reason}".rstrip(), LIMITS)


def _clock(public: Public, hello: dict[str, Any], began: float, came: float) -> list[Result]:
    with contextlib.suppress(ValueError):
        there = datetime.fromisoformat(str(hello.get("time", ""))).timestamp()
        return [check_clock(public, there, began, came)]
    return []


def _compression(public: Public) -> Result:
    """The header is enough: how much a compressor keeps back depends on what it is sent. All other streams are read
    without compression, so that each mistake has its own name."""
    try:
        with public.listen(SILENT_S, **{"Accept-Encoding": BROWSER_ENCODINGS}) as stream:
            encoding = stream.headers.get("content-encoding", "identity")
    except Silent:
        seen = f"nothing comes within {SILENT_S:g} s with a browser's Accept-Encoding: a hop compresses the stream"
        fix = f"{public.lines_for('compression')}\n{public.lines_for('buffering')}"
        return public.result("compression", WEAKENS, f"{seen}, and keeps it back", fix)
    except Cut as exc:
        return public.result("compression", UNKNOWN, f"the stream does not open: {exc}")
    if encoding == "identity":
        return public.result("compression", OK, "none on the stream")
    seen = f"a hop compresses the stream with {encoding}, and keeps events back in the compressor"
    return public.result("compression", WEAKENS, seen, public.lines_for("compression"))


def _replay(public: Public, ids: list[str]) -> Result:
    """A stream that resumes at the first event begins with the others."""
    replayed: list[str] = []
    try:
        with public.listen(SILENT_S, **{"Last-Event-ID": ids[0]}) as stream:
            event = stream.until(*GREETINGS, within_s=SILENT_S)
            if event.name == "reset":
                fix = "service   NOTIFIER_EVENT_HISTORY_SIZE and NOTIFIER_HISTORY_TTL_S above an outage"
                return public.result("replay", WEAKENS, "the service no longer has events of a moment ago", fix)
            if event.name != "hello" or not isinstance(event.data, dict):
                return _refused(public, event)
            # Without a replay the events would never come.
            while event.data.get("replayed") and len(replayed) < len(ids) - 1:
                replayed.append(_own(public, stream, len(replayed) + 2).id)
    except Silent:
        pass
    except (Cut, Ended) as exc:
        return public.result("replay", UNKNOWN, f"the stream ended: {exc}")
    if replayed == ids[1:]:
        return public.result("replay", OK, f"Last-Event-ID is honoured: {len(replayed)} missed events came again")
    seen = f"{len(ids) - 1} events after Last-Event-ID, {len(replayed)} of them replayed: a hop drops the header"
    return public.result("replay", WEAKENS, seen, public.lines_for("replay"))


def check_quiet(public: Public, heartbeat_s: float, *, long: bool) -> Result:
    """A stream without events until its second heartbeat, or for `LONG_S`. After a `bye` comes the next stream, but
    not for ever without a heartbeat."""
    deadline = time.monotonic() + (LONG_S if long else 0)
    beats = ends = 0
    while True:
        began = time.monotonic()
        last = began
        try:
            with public.listen(heartbeat_s + GRACE_S) as stream:
                while (event := stream.next()).name != BYE:
                    last = time.monotonic()
                    if event.name == "ping":
                        beats, ends = beats + 1, 0
                    # The first may come at any time of the service's beat, the second closes a whole gap.
                    if beats >= BEATS and last >= deadline:
                        return public.result("idle", OK, f"{beats} heartbeats, each within {heartbeat_s:g} s")
            ended = _refused(public, event)
        except Silent:
            seen = f"no heartbeat within {heartbeat_s + GRACE_S:g} s; the service's are {heartbeat_s:g} s apart"
            return _buffered(public, seen)
        except Refused as exc:
            ended = public.result("stream", WEAKENS, f"it opens once and not again: {exc}", LIMITS)
        except Cut:
            now = time.monotonic()
            seen = f"a hop cuts the stream {now - last:.1f} s after its last byte, {now - began:.1f} s after its begin"
            fix = f"{public.lines_for('idle')}\nservice   NOTIFIER_HEARTBEAT_S below the time of the cut"
            return public.result("idle", WEAKENS, f"{seen}; the heartbeat is {heartbeat_s:g} s", fix)
        if (ends := ends + 1) == ATTEMPTS:
            return ended
        time.sleep(PAUSE_S)
