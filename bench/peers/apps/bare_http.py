"""The shortest publish and connect in Python over HTTP: asyncio's Protocol, httptools and json.

    python bare_http.py PORT

`GET /CHANNEL` opens a stream. `POST` takes the service's body of a custom event and writes a frame to the streams of
its channels. Nothing is checked: it has no keys, tokens, rules, history or bounds.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import httptools

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n"
    b"transfer-encoding: chunked\r\n\r\n18\r\nevent: hello\ndata: {}\n\n\n\r\n"
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"

streams: dict[str, set[asyncio.Transport]] = {}
published: dict[str, int] = {}


class Connection(asyncio.Protocol):
    """One connection: publishes, or a stream."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.transport: Any = None
        self.headers: dict[bytes, bytes] = {}
        self.url = self.body = b""
        self.channel = ""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.channel:
            streams[self.channel].discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url, self.body = url, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.body:
            self.publish()
        else:
            self.open()

    def open(self) -> None:
        self.channel = self.url[1:].decode()
        streams.setdefault(self.channel, set()).add(self.transport)
        self.transport.write(HEAD)

    def publish(self) -> None:
        event = json.loads(self.body)
        number = 0
        for channel in event["to"]:
            number = published[channel] = published.get(channel, 0) + 1
            data = json.dumps(event["data"]).encode()
            frame = b"id: %d\nevent: %b\ndata: %b\n\n" % (number, event["type"].encode(), data)
            chunk = b"%x\r\n%b\r\n" % (len(frame), frame)
            for stream in streams.get(channel, ()):
                stream.write(chunk)
        answer = json.dumps({"id": number, "cursor": f"x-{number}"}).encode()
        self.transport.write(ANSWER % (len(answer), answer))


async def main(port: int) -> None:
    # With the protocol named, asyncio sets TCP_NODELAY, as it does for the service.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = await asyncio.get_running_loop().create_server(Connection, sock=listener, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
