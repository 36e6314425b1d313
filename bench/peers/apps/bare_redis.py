"""The shortest path of an event from Redis pub/sub to a stream in Python: hiredis reads, the transport writes.

    python bare_redis.py PORT REDIS_PORT

A stream's path is its channel. Events are the announcements of the service's publish script: a line,
then the frame. It has no order, no gap check, no replay, no tokens, no bounds.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import hiredis

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHANNEL = b"notifier:{0}:ch:"

streams: dict[bytes, asyncio.Transport] = {}


class FromRedis(asyncio.Protocol):
    """The subscriptions' connection."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader(notEnoughData=False)
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while reply := self.reader.gets():
            if reply[0] == b"message" and (stream := streams.get(reply[1])) is not None:
                frame = reply[2].partition(b"\n")[2]
                stream.write(b"%x\r\n%b\r\n" % (len(frame), frame))


class Client(asyncio.Protocol):
    """One client and its stream."""

    def __init__(self, redis: FromRedis) -> None:
        self.redis = redis
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        channel = CHANNEL + data.split(b" ", 2)[1][1:]
        streams[channel] = self.transport
        assert self.redis.transport is not None
        self.redis.transport.write(b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(channel), channel))
        self.transport.write(HEAD)


async def main(port: int, redis_port: int) -> None:
    loop = asyncio.get_running_loop()
    _, redis = await loop.create_connection(FromRedis, "127.0.0.1", redis_port)
    # With the protocol named, asyncio sets TCP_NODELAY, as it does for the service.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = await loop.create_server(lambda: Client(redis), sock=listener, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
