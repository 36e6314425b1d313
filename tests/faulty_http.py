"""HTTP servers of tests that answer as a bad network does: refused, without an answer, cut short, or silent.

Each client has an address of its own, the server's with its name as the first part of the path.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REFUSAL = b'{"detail": "later"}'
HOP_BY_HOP = ("connection", "content-length", "transfer-encoding")


@dataclass(frozen=True)
class Call:
    """A request as it came, and when."""

    line: str
    """Method and path, without the client's name."""
    headers: Message
    at: float


class FaultyServer:
    """A server. Each handler receives the name of the client and the number of its call, beginning with 0."""

    def __init__(self, port: int = 0) -> None:
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.ended = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                _, client, rest = self.path.split("/", 2)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                calls = owner.calls[client]
                calls.append(Call(f"{self.command} /{rest}", self.headers, time.monotonic()))
                try:
                    owner.answer(self, client, len(calls) - 1, body)
                except OSError:
                    self.close_connection = True

            do_GET = do_POST = do_PATCH = answer  # names of the base class

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # a client that was killed
                    super().handle()

            def log_message(self, *arguments: Any) -> None:
                """Nothing: the calls are in `calls`."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = int(self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def url(self, client: str) -> str:
        return f"http://127.0.0.1:{self.port}/{client}"

    def answer(self, request: BaseHTTPRequestHandler, client: str, number: int, body: bytes) -> None:
        """Answer a call."""
        raise AssertionError("each server answers in its own way")

    def stop(self) -> None:
        """Refuse connections."""
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def send(request: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def refuse(request: BaseHTTPRequestHandler) -> None:
    send(request, 503, {"Content-Type": "application/problem+json", "Retry-After": "1"}, REFUSAL)


class Hop(FaultyServer):
    """A hop before the service. Of the calls of a client it refuses the first, and loses the answers of the next two.

    Of its changes of a task it refuses the second, and loses the answer of the third. Without `faults` it forwards all.
    """

    def __init__(self, service_port: int, port: int = 0, *, faults: bool = True) -> None:
        self.service_port = service_port
        self.faults = faults
        self.changes: Counter[str] = Counter()
        super().__init__(port)

    def answer(self, request: BaseHTTPRequestHandler, client: str, number: int, body: bytes) -> None:
        change = 0
        if request.command == "PATCH":
            self.changes[client] += 1
            change = self.changes[client]
        if self.faults and (number == 0 or change == 2):
            refuse(request)
            return
        status, headers, text = self._forward(request, client, body)
        if not self.faults:
            send(request, status, headers, text)
        elif number == 1 or change == 3:
            request.close_connection = True
        elif number == 2:
            request.send_response(status)
            request.send_header("Content-Length", str(len(text)))
            request.end_headers()
            request.wfile.write(text[:5])
            request.close_connection = True
        else:
            send(request, status, headers, text)

    def _forward(self, request: BaseHTTPRequestHandler, client: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        service = http.client.HTTPConnection("127.0.0.1", self.service_port, timeout=30)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            service.request(request.command, request.path.removeprefix(f"/{client}"), body, headers)
            answer = service.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
            return answer.status, kept, answer.read()
        except http.client.HTTPException as exc:
            raise ConnectionError("the service is gone") from exc
        finally:
            service.close()


class SilentStreams(FaultyServer):
    """Of the streams of a client, the first falls silent, the second never begins, and the third is refused.

    The fourth has a heartbeat every half second for `kept_s`, then another message, and stays.
    """

    def __init__(self, kept_s: float) -> None:
        self.kept_s = kept_s
        super().__init__()

    def answer(self, request: BaseHTTPRequestHandler, client: str, number: int, body: bytes) -> None:
        request.close_connection = True
        if number == 1:
            self.ended.wait()
        elif number == 2:
            refuse(request)
        else:
            request.send_response(200)
            request.send_header("Content-Type", "text/event-stream")
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            self._write(request, "hello", "{}", f"e-{number}0")
            if number == 0:
                self._write(request, "message", '{"subject": "before"}', "e-1")
                self.ended.wait()
            else:
                self._keep(request)

    def _keep(self, request: BaseHTTPRequestHandler) -> None:
        deadline = time.monotonic() + self.kept_s
        while time.monotonic() < deadline:
            self._write(request, "ping", "{}")
            self.ended.wait(0.5)
        self._write(request, "message", '{"subject": "after"}', "e-31")
        while not self.ended.wait(0.5):
            self._write(request, "ping", "{}")

    def _write(self, request: BaseHTTPRequestHandler, event: str, data: str, cursor: str = "") -> None:
        head = f"id: {cursor}\n" if cursor else ""
        frame = f"{head}event: {event}\ndata: {data}\n\n".encode()
        request.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
