"""The shortest event for all over the shards of a cluster: the calls are packed before, and nothing is checked.

    python bare_shards.py PORT URL SHARDS

A publish writes one EVALSHA to each shard, over a connection of its own, and is answered when all have answered. Each
shard has a connection for subscriptions too; its streams get what is announced there. Only the event's text is new in
each call.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from functools import partial
from typing import Any

import hiredis
import httptools

from bench.load import stamped
from bench.peers.apps.redis_calls import resp
from notifier.broker.redis.addresses import keys_of, parse_target
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import open_places
from notifier.broker.redis.scripts import publish_calls, script
from notifier.broker.values import History
from notifier.event import custom

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
TEXT = stamped(0)


class Shard:
    """The two connections to one shard's primary, its streams, and the parts of its call around the text."""

    def __init__(self, address: Address, keys: Keys, number: int, around: tuple[bytes, bytes]) -> None:
        self.address = address
        self.keys = keys
        self.number = number
        self.before, self.after = around
        self.streams: list[asyncio.Transport] = []
        self.calls = Link(lambda reply: None)
        self.subscriptions = Link(self.announce)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for link in (self.calls, self.subscriptions):
            await loop.create_connection(partial(_same, link), self.address.host, self.address.port)
        self.calls.transport.write(resp([b"SCRIPT", b"LOAD", script("publish").source.encode()]))
        self.subscriptions.transport.write(resp([b"SSUBSCRIBE", self.keys.announcements(self.number, "all").encode()]))

    def announce(self, reply: Any) -> None:
        if reply[0] == b"smessage":
            frame = reply[2].partition(b"\n")[2]
            for stream in self.streams:
                stream.write(b"%x\r\n%b\r\n" % (len(frame), frame))


class Link(asyncio.Protocol):
    """One connection to a shard."""

    def __init__(self, receive: Any) -> None:
        self.receive = receive
        self.reader = hiredis.Reader(notEnoughData=False)
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.receive(reply)


def _same(link: Link) -> Link:
    return link


class Client(asyncio.Protocol):
    """A publisher, whose requests come one after the other, or a stream."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards
        self.parser = httptools.HttpRequestParser(self)
        self.transport: Any = None
        self.body, self.left = b"", 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if not self.body:
            self.transport.write(HEAD)
            min(self.shards, key=lambda shard: len(shard.streams)).streams.append(self.transport)
            return
        text, self.body, self.left = json.loads(self.body)["data"].encode(), b"", len(self.shards)
        for shard in self.shards:
            shard.calls.receive = self.answered
            shard.calls.transport.write(b"".join((shard.before, text, shard.after)))

    def answered(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            raise reply
        self.left -= 1
        if not self.left:
            self.transport.write(ANSWER)


async def main(port: int, url: str, number: int) -> None:
    target = parse_target(url)
    keys = keys_of(target, "bare:", number)
    places = open_places(target, keys)
    shards = []
    event = custom(to=["all"], event_type="bench", data=TEXT)
    for call in publish_calls(event, keys, history=History(256, 256, 7 * 86_400)):
        words = ["EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args]
        command = resp([word if isinstance(word, bytes) else str(word).encode() for word in words])
        before, _, after = command.partition(TEXT.encode())
        shards.append(Shard(await places.of(call.shard), keys, call.shard, (before, after)))
        await shards[-1].open()
    # With the protocol named, asyncio sets TCP_NODELAY, as it does for the service.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = await asyncio.get_running_loop().create_server(lambda: Client(shards), sock=listener, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
