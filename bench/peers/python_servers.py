"""Peers in Python: plain services as the documentation of these libraries shows them, on uvicorn."""

from __future__ import annotations

import sys
from typing import ClassVar

from bench.peers import Peer, json_request


class _OnUvicorn(Peer):
    app: ClassVar[str]
    fast: ClassVar[bool] = False

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", f"bench.peers.apps.{self.app}:app", "--no-access-log"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--backlog", "4096"]
        server = self._run([*command])
        self.ready_s = server.wait_until(self._listens)

    def stream_path(self, number: int, channel: str) -> str:
        return f"/events/{channel}"

    def publish_request(self, channel: str, text: str) -> bytes:
        return json_request("/publish", {"channel": channel, "text": text})


class SseStarlette(_OnUvicorn):
    """sse-starlette's `EventSourceResponse`, one queue for each stream."""

    name: ClassVar[str] = "sse-starlette"
    app: ClassVar[str] = "sse_starlette_app"


class FastapiSse(_OnUvicorn):
    """FastAPI's own `fastapi.sse`, one queue for each stream."""

    name: ClassVar[str] = "fastapi.sse"
    app: ClassVar[str] = "fastapi_sse_app"


class DjangoEventstream(_OnUvicorn):
    """django-eventstream under ASGI."""

    name: ClassVar[str] = "django-eventstream"
    app: ClassVar[str] = "eventstream_project"
