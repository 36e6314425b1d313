"""HTTP/1.1 as bytes on a connection, for what no HTTP client sends."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterable
from typing import Any

import httptools


class Answer:
    """One response."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        """Of a repeated header all values, joined by commas."""
        self.body = b""

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.body!r}>"


class Exchange(list[Answer]):
    """The responses on one connection. `ended`: the server has closed it."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        self._next = Answer()
        self._parser = httptools.HttpResponseParser(self)

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self]

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        headers, key = self._next.headers, name.decode().lower()
        headers[key] = f"{headers[key]}, {value.decode()}" if key in headers else value.decode()

    def on_headers_complete(self) -> None:
        self._next.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._next.body += body

    def on_message_complete(self) -> None:
        if self._next.status >= 200:
            self.append(self._next)
        self._next = Answer()


def exchange(port: int, packets: Iterable[bytes], *, until: int = 100, silence_s: float = 5) -> Exchange:
    """Send the packets, each as its own, and read until there are `until` responses, the server ends the connection, or
    it is silent for `silence_s`."""
    answers = Exchange()
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.settimeout(silence_s)
        try:
            for number, packet in enumerate(packets):
                if 0 < number < 5 and len(packet) > 20:
                    time.sleep(0.02)  # a chance for the server to read the packets one by one
                link.sendall(packet)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before
        with contextlib.suppress(TimeoutError):
            while len(answers) < until:
                try:
                    data = link.recv(1 << 16)
                except ConnectionResetError:
                    data = b""
                if not data:
                    answers.ended = True
                    break
                answers.feed(data)
    return answers


def request(method: str, path: str, *headers: str, body: bytes = b"", key: str = "", version: str = "1.1") -> bytes:
    """A request. `headers` are lines; `body` is sent as it is, with no header for it."""
    lines = [f"{method} {path} HTTP/{version}", "Host: service", *headers]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, size: int = 7) -> bytes:
    """The body in chunks."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
