"""The works that each server is measured at.

    D  open the streams    A  one event to all of them    B  events each for one user    C  idle streams
    E  all reconnect       F  latency at a fixed rate     G  an event to all shards

Each work returns a dict of figures. Every event's number is checked at every stream: `faults` counts the streams that
lost, repeated or reordered an event, and the publishes that were refused.
"""

from __future__ import annotations

import json
import random
import socket
import time
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any

from bench.load import Load, stamped
from bench.peers import ALL, SOME, Peer, request, user
from bench.peers.floor import BareRedis
from bench.peers.notifier import Notifier, NotifierOnRedis
from bench.system import REPOSITORY

Figures = dict[str, Any]


@dataclass
class Bench:
    """One server, the load program that holds its streams, and the one that publishes."""

    peer: Peer
    streams: Load
    publisher: Load
    _numbers: int = field(default=0)

    def numbers(self, count: int) -> range:
        """Numbers for new events."""
        start, self._numbers = self._numbers + 1, self._numbers + count
        return range(start, self._numbers + 1)


def connect(bench: Bench, count: int, channel: str | None, *, at_once: int = 100, first: int = 0) -> Figures:
    """D: open streams as fast as possible, on `channel`; None: each on the channel of its own user.

    `first` is the number of the first user.
    """
    peer = bench.peer
    requests = [peer.stream_request(number, channel or user(number)) for number in range(first, first + count)]
    memory, cpu, redis_cpu = peer.memory_kib(), peer.cpu_s(), _redis_cpu_s(peer)
    answer = bench.streams.open(requests, peer.port, marker=peer.marker, at_once=at_once)
    time.sleep(0.3)
    opened = max(1, answer["opened"])
    return {
        "streams": answer["opened"],
        "seconds": answer["seconds"],
        "cpu_us": 1e6 * (peer.cpu_s() - cpu) / opened,
        "redis_cpu_us": 1e6 * (_redis_cpu_s(peer) - redis_cpu) / opened,
        "memory_kib": (peer.memory_kib() - memory) / opened,
        "faults": count - answer["opened"],
    }


def channels(bench: Bench, count: int, groups: int) -> Figures:
    """The cost of further channels: each stream listens to so many groups, beside its user's channel and `all`."""
    peer = bench.peer
    assert isinstance(peer, Notifier)
    memory, cpu, redis_cpu = peer.memory_kib(), peer.cpu_s(), _redis_cpu_s(peer)
    requests = [peer.request_with_groups(number, groups) for number in range(count)]
    opened = max(1, bench.streams.open(requests, peer.port, marker=peer.marker)["opened"])
    time.sleep(0.3)
    return {
        "streams": opened,
        "groups": groups,
        "memory_kib": (peer.memory_kib() - memory) / opened,
        "cpu_us": 1e6 * (peer.cpu_s() - cpu) / opened,
        "redis_cpu_us": 1e6 * (_redis_cpu_s(peer) - redis_cpu) / opened,
        "faults": count - opened,
    }


def broadcast(bench: Bench, streams: int, per_s: float, seconds: float, *, to: str = ALL) -> Figures:
    """A: events to all streams at a rate."""
    peer = bench.peer
    numbers = bench.numbers(max(3, round(per_s * seconds)))
    requests = [peer.publish_request(to, stamped(number)) for number in numbers]
    bench.streams.zero()
    cpu = peer.cpu_s()
    sent = bench.publisher.send(requests, peer.publish_port, per_s=per_s, connections=1)
    got = bench.streams.expect(len(numbers) * streams, 60)
    time.sleep(0.3)
    used = max(1e-6, peer.cpu_s() - cpu)
    right = (len(numbers), sum(numbers), 0)
    return {
        "events": len(numbers),
        "asked_per_s": per_s,
        "deliveries": got["events"],
        "cpu_us": 1e6 * used / max(1, got["events"]),
        "deliveries_per_s": got["events"] / max(1e-9, got["span_s"]),
        "deliveries_per_cpu_s": got["events"] / used,
        **_latencies(got),
        "faults": sent["refused"] + sum(row != right for row in bench.streams.counts()),
    }


def targeted(bench: Bench, users: int, events: int, *, per_s: float = 0, how: str = "http") -> Figures:
    """B and F: events each for one user. `how`: `http` one by one, `batch`, or `redis` (straight to the script)."""
    peer = bench.peer
    chooser = random.Random(events)
    items = [(chooser.randrange(users), number) for number in bench.numbers(events)]
    requests, port, kind = _requests(peer, items, how)
    bench.streams.zero()
    cpu, redis_cpu, kept = peer.cpu_s(), _redis_cpu_s(peer), _redis_bytes(peer)
    rate = per_s * len(requests) / events
    sent = bench.publisher.send(requests, port, per_s=rate, connections=16, kind=kind)
    got = bench.streams.expect(events, 30)
    time.sleep(0.3)
    used, redis_used = peer.cpu_s() - cpu, _redis_cpu_s(peer) - redis_cpu
    return {
        "events": events,
        "asked_per_s": per_s,
        "per_s": events / sent["seconds"],
        "cpu_us": 1e6 * used / max(1, got["events"]),
        "redis_cpu_us": 1e6 * redis_used / max(1, got["events"]),
        "redis_bytes": (_redis_bytes(peer) - kept) / max(1, got["events"]),
        **_latencies(got),
        "faults": sent["refused"] + wrong(bench.streams, items),
    }


def for_all(bench: Bench, events: int) -> Figures:
    """G: events for all, one by one: the time from the request to the answer, which is that of the slowest shard."""
    peer = bench.peer
    numbers = bench.numbers(events)
    requests = [peer.publish_request(ALL, stamped(number)) for number in numbers]
    bench.streams.zero()
    cpu, redis_cpu = peer.cpu_s(), _redis_cpu_s(peer)
    sent = bench.publisher.send(requests, peer.publish_port, connections=1)
    counts = bench.streams.counts()
    bench.streams.expect(events * len(counts), 30)
    used, redis_used = peer.cpu_s() - cpu, _redis_cpu_s(peer) - redis_cpu
    right = (events, sum(numbers), 0)
    return {
        "events": events,
        "p50_ms": sent["p50_ms"],
        "p99_ms": sent["p99_ms"],
        "cpu_us": 1e6 * used / events,
        "redis_cpu_us": 1e6 * redis_used / events,
        "faults": sent["refused"] + sum(row != right for row in bench.streams.counts()),
    }


def processes(peer: Notifier, loads: list[Load], publisher: Load, each: int, events: int) -> Figures:
    """D, A and B at several worker processes: so many streams in each load program; 5 events to all; others for one."""
    benches = [Bench(peer, load, publisher) for load in loads]
    opened = [connect(bench, each, ALL, first=place * each) for place, bench in enumerate(benches)]
    figures = {
        name: sum(row[name] for row in opened) / len(opened) for name in ("cpu_us", "redis_cpu_us", "memory_kib")
    }
    cpu = peer.cpu_s()
    publisher.send([peer.publish_request(ALL, stamped(number)) for number in range(1, 6)], peer.port, per_s=2)
    deliveries = sum(load.expect(5 * each, 60)["events"] for load in loads)
    time.sleep(0.3)
    figures["delivery_us"] = 1e6 * (peer.cpu_s() - cpu) / deliveries
    faults = sum(row != (5, 15, 0) for load in loads for row in load.counts())
    chooser = random.Random(events)
    items = [(chooser.randrange(each * len(loads)), number) for number in range(1, events + 1)]
    requests, port, kind = _requests(peer, items, "redis")
    for load in loads:
        load.zero()
    cpu, redis_cpu = peer.cpu_s(), _redis_cpu_s(peer)
    publisher.send(requests, port, per_s=2000, connections=16, kind=kind)
    for place, load in enumerate(loads):
        own = [(recipient - place * each, number) for recipient, number in items if recipient // each == place]
        load.expect(len(own), 30)
        faults += wrong(load, own)
    time.sleep(0.3)
    figures["event_us"] = 1e6 * (peer.cpu_s() - cpu) / events
    figures["redis_event_us"] = 1e6 * (_redis_cpu_s(peer) - redis_cpu) / events
    return {"streams": sum(row["streams"] for row in opened), **figures, "faults": faults}


def idle(bench: Bench, seconds: float) -> Figures:
    """C: nothing happens but heartbeats."""
    cpu, started = bench.peer.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return {"percent_of_a_core": 100 * (bench.peer.cpu_s() - cpu) / (time.monotonic() - started)}


def storm(bench: Bench, count: int, missed: int) -> Figures:
    """E: all streams are cut, events are published, and all streams are opened again at once, with their cursors."""
    peer = bench.peer
    cursor = _cursor_of(peer.publish_request(ALL, "before"), peer.port)
    bench.streams.cut()
    time.sleep(1)
    numbers = bench.numbers(missed)
    bench.publisher.send(
        [peer.publish_request(ALL, stamped(number)) for number in numbers], peer.publish_port, connections=1
    )
    requests = [peer.stream_request(number, ALL, **{"Last-Event-ID": cursor}) for number in range(count)]
    bench.streams.zero()
    cpu = peer.cpu_s()
    answer = bench.streams.open(requests, peer.port, marker=peer.marker, at_once=count)
    bench.streams.expect(count * missed, 30)
    right = (missed, sum(numbers), 0)
    return {
        "streams": answer["opened"],
        "missed_each": missed,
        "seconds": answer["seconds"],
        "cpu_us": 1e6 * (peer.cpu_s() - cpu) / max(1, answer["opened"]),
        "faults": sum(row != right for row in bench.streams.counts()),
    }


def pause(bench: Bench, others_load: Load, spare: Load, *, rate: float, seconds: float) -> Figures:
    """The effect of rounds to many streams on others: events to 200 single users and /healthz, with and without rounds.

    `bench.streams` holds the crowd, which listens to `SOME`.
    """
    peer, users = bench.peer, 200
    others = Bench(peer, others_load, bench.publisher, _numbers=10**6)
    connect(others, users, None)
    health = [request("GET", "/healthz")] * int(200 * seconds)
    figures: Figures = {}
    for name in ("quiet", "busy"):
        if name == "busy":
            rounds = [peer.publish_request(SOME, stamped(number)) for number in bench.numbers(int(rate * seconds * 2))]
            spare.send_begin(rounds, peer.port, per_s=rate, connections=1)
        answered = bench.publisher.send(health, peer.port, per_s=200, connections=1)
        received = targeted(others, users, int(100 * seconds), per_s=100)
        figures |= {f"{name}_{key}": received[key] for key in ("p50_ms", "p99_ms", "max_ms")}
        figures |= {f"{name}_healthz_{key}": answered[key] for key in ("p50_ms", "p99_ms", "max_ms")}
    spare.send_end()
    return figures


def _requests(peer: Peer, items: list[tuple[int, int]], how: str) -> tuple[list[bytes], int, str]:
    texts = [(user(recipient), stamped(number)) for recipient, number in items]
    if how == "redis":
        assert isinstance(peer, NotifierOnRedis | BareRedis)
        assert peer.redis is not None
        checkout = peer.checkout if isinstance(peer, NotifierOnRedis) else REPOSITORY
        return peer.redis.publish_requests(texts, checkout), peer.redis.port, "resp"
    if how == "batch":
        assert isinstance(peer, Notifier)
        return [peer.batch_request(texts[at : at + 100]) for at in range(0, len(texts), 100)], peer.port, "http"
    return [peer.publish_request(*event) for event in texts], peer.publish_port, "http"


def wrong(streams: Load, items: list[tuple[int, int]]) -> int:
    """Users who did not get each of their events once. The order is not checked: 16 connections publish."""
    due: dict[int, list[int]] = {}
    for recipient, number in items:
        due.setdefault(recipient, []).append(number)
    counts = streams.counts()
    return sum(counts[recipient][:2] != (len(numbers), sum(numbers)) for recipient, numbers in due.items())


def _cursor_of(publish: bytes, port: int) -> str:
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(publish)
        with HTTPResponse(link) as answer:
            answer.begin()
            return str(json.load(answer)["cursor"])


def _redis_cpu_s(peer: Peer) -> float:
    redis = getattr(peer, "redis", None)
    return float(redis.cpu_s()) if redis else 0.0


def _redis_bytes(peer: Peer) -> int:
    redis = getattr(peer, "redis", None)
    return int(redis.memory_bytes()) if redis else 0


def _latencies(got: Figures) -> Figures:
    return {name: got[name] for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")}
