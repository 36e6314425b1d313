"""What the histogram of `notifier_publish_to_write_seconds` costs: `python -m bench.metrics`.

In one process, announcements of Redis are read and written to streams on real sockets: with a time of acceptance and
without one, in turns, so that both meet the same machine. It prints the median of the difference for an event that
carries the time, and its sixteenth: one event in sixteen does.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import socket
import time
from statistics import median
from typing import Any

from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.redis.announcements import Topics
from notifier.broker.redis.notes import notes
from notifier.broker.values import History
from notifier.hub import Hub
from notifier.sampling import ONE_IN
from notifier.transport import TransportStream

FRAME = b'event: message\ndata: {"id":"%032d","to":"all","subject":"Hello","text":"%b","level":"info"}\n\n'
TOPIC = "all"


class Discarding(asyncio.Protocol):
    """Reads what the streams send."""

    def data_received(self, data: bytes) -> None: ...


async def attach(hub: Hub, number: int) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    await loop.create_connection(Discarding, sock=theirs)
    fields: dict[str, Any] = {
        "user": f"u{number}",
        "address": "",
        "channels": (TOPIC,),
        "topics": (TOPIC,),
        "cursor": None,
        "ends_at": time.monotonic() + 3600,
        "ends_why": "expired",
    }
    await hub.attach(TransportStream(transport, b"", **fields))


def announcement(epoch: str, seq: int, *, is_timed: bool) -> bytes:
    key = f"- {notes(None, time.time_ns() // 1000)}" if is_timed else "-"
    return f"{epoch} {seq} {seq - 1} {key}\nid: {epoch}-{seq}\n".encode() + FRAME % (seq, b"x" * 100)


async def measure(streams: int, turns: int, events: int) -> tuple[float, float]:
    """Median cost of an event without a time, and median difference of an event with one; in µs."""
    broker = MemoryBroker(history=History(10, 10, 60), max_replay=10)
    limits = {"max_streams_per_user": 1, "max_streams_per_address": streams, "max_backlog_bytes": 1 << 20}
    hub = Hub(broker, heartbeat_s=60, **limits)
    await broker.start(hub)
    for number in range(streams):
        await attach(hub, number)
    epoch = next(iter(hub._streams)).epoch
    topics = Topics(hub)
    topics.add([TOPIC])
    seq, plain, differences = 0, [], []
    gc.disable()
    for turn in range(turns):
        spent = {}
        for is_timed in (True, False) if turn % 2 else (False, True):
            payloads = [announcement(epoch, seq + place, is_timed=is_timed) for place in range(1, events + 1)]
            seq += events
            begun = time.perf_counter()
            for payload in payloads:
                topics.receive(TOPIC.encode(), payload)
                while len(hub._rounds):
                    hub._rounds._run_slice()
            spent[is_timed] = (time.perf_counter() - begun) / events * 1e6
            await asyncio.sleep(0)  # the readers read
        plain.append(spent[False])
        differences.append(spent[True] - spent[False])
    assert hub.deliveries == seq * streams, (hub.deliveries, seq * streams)
    assert sum(hub.write_times.values()["counts"]) == turns * events
    return median(plain), median(differences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--events", type=int, default=20, help="of one turn")
    options = parser.parse_args()
    print("streams | an event, µs | its time, µs | of each, µs | part")
    for streams in (1, 10, 64, 1000):
        turns = max(20, options.turns // streams)
        events_us, more_us = asyncio.run(measure(streams, turns, options.events))
        of_each_us = more_us / ONE_IN
        print(f"{streams:7} | {events_us:12.2f} | {more_us:12.2f} | {of_each_us:11.3f} | {of_each_us / events_us:.2%}")


if __name__ == "__main__":
    main()
