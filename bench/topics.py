"""What topics cost: `python -m bench.topics` prints the CPU of a join beside that of a connect, and the memory of a
stream with topics beside one without. Both of a pair are measured in one run, at one service on the memory broker.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
from collections.abc import Callable, Sequence

from bench import system
from bench.peers.notifier import SECRET, Notifier, running
from notifier.auth import MAX_VERIFIED, subscriber_token, topic_grant

SHARED = 50
"""Topics that many pages show."""
OWN_ORIGIN, OTHER_ORIGIN = "http://bench", "https://shop.example"


class Client:
    """A user with an open stream and a connection for calls."""

    def __init__(
        self,
        port: int,
        number: int,
        grants: Sequence[Sequence[str]],
        *,
        presence: bool = False,
        origin: str = OWN_ORIGIN,
    ) -> None:
        self.port = port
        self.origin = origin
        self.user = f"user-{number}"
        self.token = subscriber_token(SECRET, self.user, ttl_s=86_400)
        self.grants = [
            topic_grant(SECRET, self.user, topics, ttl_s=3600, presence=presence) for topics in grants if topics
        ]
        self.sockets: list[socket.socket] = []
        self.connection = ""

    def new_socket(self) -> socket.socket:
        connected = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.sockets.append(connected)
        return connected

    def connect(self) -> None:
        """Open the stream, up to `hello`."""
        stream = self.new_socket()
        stream.sendall(
            f"GET /v1/stream HTTP/1.1\r\nHost: bench\r\nOrigin: {self.origin}\r\n"
            f"Authorization: Bearer {self.token}\r\n\r\n".encode()
        )
        received = b""
        while not (begun := received.partition(b'data: {"v"')[2]).count(b"\n"):
            received += _some(stream)
        self.connection = json.loads(b'{"v"' + begun.partition(b"\n")[0])["connection"]

    def join(self, grant: str, calls: socket.socket) -> None:
        """Add topics by a call on this TCP connection, as a page does; none without grant."""
        body = json.dumps({"connection": self.connection, "add": [grant] if grant else []})
        calls.sendall(
            f"POST /v1/stream/topics HTTP/1.1\r\nHost: bench\r\nOrigin: {self.origin}\r\n"
            f"Content-Length: {len(body)}\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\n\r\n{body}".encode()
        )
        _answer(calls, b"}")

    def ask_first(self, calls: socket.socket) -> None:
        """The preflight of a join."""
        calls.sendall(
            f"OPTIONS /v1/stream/topics HTTP/1.1\r\nHost: bench\r\nOrigin: {self.origin}\r\n"
            "Access-Control-Request-Method: POST\r\n"
            "Access-Control-Request-Headers: authorization,content-type\r\n\r\n".encode()
        )
        _answer(calls, b"\r\n\r\nOK")

    def close(self) -> None:
        for each in self.sockets:
            each.close()


def _some(connected: socket.socket) -> bytes:
    if not (data := connected.recv(65536)):
        raise RuntimeError("the service closed a connection")
    return data


def _answer(calls: socket.socket, end: bytes) -> None:
    answer = b""
    while end not in answer:
        answer += _some(calls)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer.decode(errors="replace"))


PREFLIGHT = "preflight, open connection"
CALLS: dict[str, Callable[[Client], None]] = {
    "connect": Client.connect,
    "join, new connection": lambda client: client.join(client.grants[0], client.new_socket()),
    "join, open connection": lambda client: client.join(client.grants[1], client.sockets[-1]),
    PREFLIGHT: lambda client: client.ask_first(client.sockets[-1]),
}


def cpu(service: Notifier, *, clients: int, rounds: int, presence: bool) -> dict[str, float]:
    """Microseconds of the service's CPU for a connect and what a page does then, of pages of the service and of another
    origin, and each round's ratios to a connect of the former."""
    times: dict[str, list[float]] = {}

    def measure(name: str, call: Callable[[Client], None], among: Sequence[Client]) -> None:
        before = service.cpu_s()
        for client in among:
            call(client)
        times.setdefault(name, []).append((service.cpu_s() - before) / len(among) * 1e6)

    for number in range(rounds + 1):  # the first warms up
        for origin, of in ((OWN_ORIGIN, ""), (OTHER_ORIGIN, ", other origin")):
            first = (2 * number + (origin == OTHER_ORIGIN)) * clients
            grants = [[f"page:{number}:{each}"] for each in range(2)]
            among = [
                Client(service.port, first + each, grants, presence=presence, origin=origin) for each in range(clients)
            ]
            for name, call in CALLS.items():
                if name != PREFLIGHT or origin == OTHER_ORIGIN:
                    measure(name + of, call, among)
            for client in among:
                client.close()
    figures = {}
    for name, measured in times.items():
        ratios = [each / connect for each, connect in zip(measured, times["connect"], strict=True)]
        figures[f"{name}: us"] = statistics.median(measured[1:])
        figures[f"{name}: to connect"] = statistics.median(ratios[1:])
    return figures


def memory(*, streams: int, topics: int) -> dict[str, float]:
    """Bytes that the topics of a stream add to it: topics that many streams have, and topics of its own. Each is the
    difference to a service with the same streams and calls, and without topics."""

    def opened(topics_of: Callable[[int], Sequence[str]]) -> float:
        with running() as service:
            filling = Client(service.port, streams, [])
            filling.connect()
            calls = filling.new_socket()
            for second in range(MAX_VERIFIED):
                filling.join(topic_grant(SECRET, filling.user, ["filling"], ttl_s=3600 + second), calls)
            clients = [Client(service.port, number, [topics_of(number)]) for number in range(streams)]
            for client in clients:
                client.connect()
                client.join(client.grants[0] if client.grants else "", client.new_socket())
                client.sockets.pop().close()
            used = service.memory_kib() * 1024 / streams
            for client in [filling, *clients]:
                client.close()
            return used

    none = opened(lambda number: [])
    return {
        f"bytes of {topics} topics of many streams": opened(
            lambda number: [f"page:{(number + each) % SHARED}" for each in range(topics)]
        )
        - none,
        f"bytes of {topics} topics of its own": opened(
            lambda number: [f"order:{number}:{each}" for each in range(topics)]
        )
        - none,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.topics", description=__doc__)
    parser.add_argument("--clients", type=int, default=500, help="of a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--streams", type=int, default=2000, help="whose memory is measured")
    parser.add_argument("--topics", type=int, default=5, help="of each")
    options = parser.parse_args()
    system.allow_many_files()
    with running(NOTIFIER_CORS_ORIGINS=OTHER_ORIGIN) as service:
        figures = cpu(service, clients=options.clients, rounds=options.rounds, presence=False)
        seen = cpu(service, clients=options.clients, rounds=max(1, options.rounds // 3), presence=True)
    figures |= {f"{name} (with presence)": value for name, value in seen.items() if name.endswith("to connect")}
    figures |= memory(streams=options.streams, topics=options.topics)
    for name, value in figures.items():
        print(f"{name:56}{value:10.2f}")


if __name__ == "__main__":
    main()
