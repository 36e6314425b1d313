"""What presence costs: `python -m bench.presence` opens the streams of people who are seen on one topic, and lets some
come and go each second. It prints how much of a core the service uses, and the CPU of a join and of a connect.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from bench import system
from bench.peers.notifier import SECRET, Notifier, running
from notifier.auth import subscriber_token, topic_grant

TOPIC = "order:42"
SETTLING_S = 8.0
"""After the streams have opened, and longer than a connection that has ended stays present."""


class Visitor:
    """One person with an open stream, whose events are counted."""

    def __init__(self, port: int, number: int) -> None:
        self.port = port
        self.user = f"user-{number}"
        self.token = subscriber_token(SECRET, self.user, ttl_s=86_400)
        self.grant = topic_grant(SECRET, self.user, [TOPIC], ttl_s=86_400, presence=True)
        self.connection = ""
        self.events = 0
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self, *, seen: bool) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        query = f"?grant={self.grant}" if seen else ""
        head = f"GET /v1/stream{query} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        self._writer.write(head.encode())
        while not self.connection:
            line = await reader.readline()
            if line.startswith(b'data: {"v"'):
                self.connection = json.loads(line[len("data: ") :])["connection"]
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self.events += line.startswith(b"event: presence")

    async def change(self, **body: object) -> None:
        """Join or leave the topic, on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = json.dumps({"connection": self.connection, **body}).encode()
        head = (
            f"POST /v1/stream/topics HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        answer = await reader.readuntil(b"}")
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode(errors="replace"))

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()


async def measure(service: Notifier, *, people: int, changes_per_s: int, seconds: int) -> dict[str, float]:
    """The figures of one run."""
    plain = [Visitor(service.port, number) for number in range(people)]
    cpu_s = service.cpu_s()
    for visitor in plain:
        await visitor.open(seen=False)
    connect_ms = (service.cpu_s() - cpu_s) / people * 1000
    await asyncio.sleep(1)
    cpu_s = service.cpu_s()
    for visitor in plain:
        await visitor.change(add=[visitor.grant])
    join_ms = (service.cpu_s() - cpu_s) / people * 1000
    await asyncio.sleep(SETTLING_S)
    idle_s, began = service.cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    idle = (service.cpu_s() - idle_s) / (time.monotonic() - began)
    # They leave in one second and come back in the next.
    events, cpu_s, began = plain[-1].events, service.cpu_s(), time.monotonic()
    for second in range(seconds):
        for number in range(changes_per_s):
            visitor = plain[(second // 2 * changes_per_s + number) % (people - 1)]
            await (visitor.change(add=[visitor.grant]) if second % 2 else visitor.change(remove=[TOPIC]))
        await asyncio.sleep(max(0.0, began + second + 1 - time.monotonic()))
    busy = (service.cpu_s() - cpu_s) / (time.monotonic() - began)
    for visitor in plain:
        visitor.close()
    return {
        "connect_cpu_ms": connect_ms,
        "join_cpu_ms": join_ms,
        "join_to_connect": join_ms / connect_ms,
        "idle_percent_of_a_core": 100 * idle,
        "busy_percent_of_a_core": 100 * busy,
        "calls_percent_of_a_core": 100 * changes_per_s * join_ms / 1000,
        "events_per_s": (plain[-1].events - events) / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.presence", description=__doc__)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=10, help="people who come or go in a second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--broker", default="", help="the broker's address; in memory by default")
    options = parser.parse_args()
    system.allow_many_files()
    with running(NOTIFIER_BROKER_URL=options.broker) as service:
        figures = asyncio.run(
            measure(service, people=options.people, changes_per_s=options.changes, seconds=options.seconds)
        )
    for name, value in figures.items():
        print(f"{name:26}{value:10.2f}")


if __name__ == "__main__":
    main()
