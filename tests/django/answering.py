"""Stand-ins for the service: one gives prepared answers, one never answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.test import override_settings

from tests.django.conftest import http_settings
from tests.support import running

GOOD = (200, {}, b'{"id": "x", "cursor": "a-1", "watched": false}')
BUSY = (503, {"Retry-After": "0"}, b'{"detail": "the broker is away"}')
CUT = (0, {}, b"")
"""Answers: status, headers and body. Status 0 closes the connection without an answer."""


class AnsweringService(ThreadingHTTPServer):
    """Gives its answers in order, the last one for ever. An answer may be a function of the request's body, which is
    None for a GET."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        """Method, path, headers and body of each request."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AnsweringService

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(content) if content else None
        self.server.requests.append(
            (self.command, self.path, {name: ", ".join(self.headers.get_all(name)) for name in self.headers}, body)
        )
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        status, headers, content = answer(body) if callable(answer) else answer
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer

    def log_message(self, *args: Any) -> None: ...


@contextmanager
def answering(*answers: Any, **settings: Any) -> Iterator[AnsweringService]:
    """The project on the transport `http`, with a stand-in that gives these answers."""
    with (
        running(AnsweringService(*answers)) as server,
        override_settings(NOTIFIER=http_settings(server.url, **settings)),
    ):
        yield server


class SilentServer:
    """Accepts connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def stop(self) -> None:
        self._socket.close()
