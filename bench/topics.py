"""What topics cost: `python -m bench.topics` prints the CPU of a join beside that of a connect, and the memory of a
stream with topics beside one without. Both of a pair are measured in one run, at one service on the memory broker.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import system
from notifier.auth import subscriber_token, topic_grant

SECRET = "a-secret-for-the-benchmark-of-topics"
SHARED = 50
"""Topics that many pages show."""


class Client:
    """A user with an open stream and a connection for calls."""

    def __init__(self, port: int, number: int, topics: Sequence[str], *, presence: bool = False) -> None:
        self.port = port
        user = f"user-{number}"
        self.token = subscriber_token(SECRET, user, ttl_s=86_400)
        self.grants = [topic_grant(SECRET, user, [topic], ttl_s=3600, presence=presence) for topic in topics]
        self.sockets: list[socket.socket] = []
        self.connection = ""

    def _new_socket(self) -> socket.socket:
        connected = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.sockets.append(connected)
        return connected

    def connect(self) -> None:
        """Open the stream, up to `hello`."""
        stream = self._new_socket()
        head = f"GET /v1/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        stream.sendall(head.encode())
        received = b""
        while not (begun := received.partition(b'data: {"v"')[2]).count(b"\n"):
            received += _some(stream)
        self.connection = json.loads(b'{"v"' + begun.partition(b"\n")[0])["connection"]

    def join(self, grant: str) -> None:
        """Add topics on a new TCP connection."""
        self.join_again(grant, self._new_socket())

    def join_again(self, grant: str, calls: socket.socket) -> None:
        """Add topics on an open TCP connection, as a browser does."""
        body = json.dumps({"connection": self.connection, "add": [grant]})
        calls.sendall(
            f"POST /v1/stream/topics HTTP/1.1\r\nHost: bench\r\nOrigin: http://bench\r\nContent-Length: {len(body)}\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: application/json\r\n\r\n{body}".encode()
        )
        answer = b""
        while b"}" not in answer:
            answer += _some(calls)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode(errors="replace"))

    def close(self) -> None:
        for each in self.sockets:
            each.close()


def _some(connected: socket.socket) -> bytes:
    if not (data := connected.recv(65536)):
        raise RuntimeError("the service closed a connection")
    return data


def cpu(port: int, service: system.Process, *, clients: int, rounds: int, presence: bool) -> dict[str, float]:
    """Microseconds of the service's CPU for a connect and for joins, and the ratios of each round's."""

    def measured(call: Callable[[Client], None], among: Sequence[Client]) -> float:
        before = service.cpu_s()
        for client in among:
            call(client)
        return (service.cpu_s() - before) / len(among) * 1e6

    connects, joins, again = [], [], []
    for number in range(rounds + 1):  # the first warms up
        topics = [f"page:{number}:{each}" for each in range(2)]
        among = [Client(port, number * clients + each, topics, presence=presence) for each in range(clients)]
        connects.append(measured(Client.connect, among))
        joins.append(measured(lambda client: client.join(client.grants[0]), among))
        again.append(measured(lambda client: client.join_again(client.grants[1], client.sockets[-1]), among))
        for client in among:
            client.close()
    ratios = [[each / connect for each, connect in zip(of, connects, strict=True)][1:] for of in (joins, again)]
    return {
        "connect, us": statistics.median(connects[1:]),
        "join on a new TCP connection, us": statistics.median(joins[1:]),
        "join on an open TCP connection, us": statistics.median(again[1:]),
        "join to connect, new TCP connection": statistics.median(ratios[0]),
        "join to connect, open TCP connection": statistics.median(ratios[1]),
    }


def memory(port: int, service: system.Process, *, streams: int, topics: int) -> dict[str, float]:
    """Bytes that the topics of a stream add to it: topics that many streams have, and topics of its own."""

    def opened(name: str, topics_of: Callable[[int], Sequence[str]]) -> tuple[float, list[Client]]:
        clients = [Client(port, number, topics_of(number)) for number in range(streams)]
        for client in clients:
            client.connect()
        before = service.memory_kib()
        for client in clients:
            calls = client._new_socket()
            for grant in client.grants:
                client.join_again(grant, calls)
            client.sockets.pop().close()
        return (service.memory_kib() - before) * 1024 / streams, clients

    # The first pass fills what all streams share: remembered tokens and grants.
    _, warm = opened("warm", lambda number: [f"warm:{number}:{each}" for each in range(topics)])
    shared, first = opened("shared", lambda number: [f"page:{(number + each) % SHARED}" for each in range(topics)])
    own, second = opened("own", lambda number: [f"order:{number}:{each}" for each in range(topics)])
    for client in [*warm, *first, *second]:
        client.close()
    return {f"bytes of {topics} topics of many streams": shared, f"bytes of {topics} topics of its own": own}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.topics", description=__doc__)
    parser.add_argument("--clients", type=int, default=500, help="of a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--streams", type=int, default=2000, help="whose memory is measured")
    parser.add_argument("--topics", type=int, default=5, help="of each")
    options = parser.parse_args()
    system.allow_many_files()
    port = system.free_port()
    with tempfile.TemporaryDirectory(prefix="topics-") as folder:
        env = {
            "NOTIFIER_JWT_SECRET": SECRET,
            "NOTIFIER_API_KEYS": "bench-key-0123456789abcdef",
            "NOTIFIER_MAX_STREAMS_PER_ADDRESS": "100000",
            "NOTIFIER_BROKER_URL": "",
        }
        command = [sys.executable, "-m", "notifier", "serve", "--port", str(port)]
        service = system.Process(command, Path(folder), env=env)
        try:
            service.wait_until(lambda: system.accepts(port))
            figures = cpu(port, service, clients=options.clients, rounds=options.rounds, presence=False)
            seen = cpu(port, service, clients=options.clients, rounds=max(1, options.rounds // 3), presence=True)
            figures |= {f"{name} (with presence)": value for name, value in seen.items() if name.startswith("join to")}
            figures |= memory(port, service, streams=options.streams, topics=options.topics)
        finally:
            service.stop()
    for name, value in figures.items():
        print(f"{name:56}{value:10.2f}")


if __name__ == "__main__":
    main()
