"""A model Redis: sessions that speak its protocol, pub/sub, the real scripts in Lua, and ways to fail.

Must not know: processes, browsers, what an announcement means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import hiredis
from lupa import lua51

from tests.simulation.network import Link
from tests.simulation.redis_data import OK, Data, ReplyError, Status

Announced = Callable[[bytes, bytes, bool], None]
"""Called with each announcement: its topic, its payload, and True if it is lost."""


class ModelRedis:
    """One server. Its state is what a fault changes."""

    def __init__(self, data: Data, identities: Callable[[], str], announced: Announced) -> None:
        self.data = data
        self._identities = identities
        self._announced = announced
        self.run_id, self.replication_id = identities(), identities()
        self.role = "master"
        self.stopped = False
        """True while it executes nothing."""
        self.refusal = ""
        """The error reply to every script, if not empty."""
        self.accepts = True
        self.sessions: dict[RedisSession, None] = {}
        self.scripts: dict[bytes, bytes] = {}
        self.subscribers: dict[bytes, dict[RedisSession, None]] = {}
        self.lose_next = 0
        """Further events whose announcements reach no subscriber."""
        self.repeat_next = 0
        """Further events whose announcements are sent twice."""

    def accept(self, link: Link) -> RedisSession | None:
        if not self.accepts:
            return None
        session = RedisSession(self, link)
        self.sessions[session] = None
        return session

    def stop(self, stopped: bool) -> None:
        self.stopped = stopped
        if not stopped:
            for session in list(self.sessions):
                session.execute()

    def restart(self) -> None:
        """The process starts again with its data: another run id, no cached scripts."""
        self.run_id, self.replication_id = self._identities(), self._identities()
        self.scripts.clear()
        self.drop_links()

    def drop_links(self) -> None:
        for session in list(self.sessions):
            session.link.cut(ConnectionResetError("reset by Redis"))

    def demote(self) -> None:
        self.role = "slave"

    def promote(self, data: Data) -> None:
        """Primary again, with the data of another server; the connections stay open."""
        self.role, self.data, self.replication_id = "master", data, self._identities()

    # Commands

    def run(self, name: str, args: list[bytes], session: RedisSession | None = None) -> Any:
        """Run a command. Raises `ReplyError`."""
        own = getattr(self, "do_" + name.lower(), None)
        if own is not None:
            return own(session, *args)
        if not self.data.knows(name):
            raise ReplyError(f"ERR unknown command '{name}'")
        if self.role != "master" and name in Data.WRITES:
            raise ReplyError("READONLY You can't write against a read only replica.")
        return self.data.call(name, args)

    def do_hello(self, session: RedisSession, *args: bytes) -> Any:
        session.link.name = args[-1].decode()
        return [b"proto", 3]

    def do_ping(self, session: RedisSession) -> Status:
        return Status(b"PONG")

    def do_info(self, session: RedisSession, section: bytes) -> bytes:
        if section == b"server":
            return f"# Server\r\nrun_id:{self.run_id}\r\n".encode()
        return f"# Replication\r\nrole:{self.role}\r\nmaster_replid:{self.replication_id}\r\n".encode()

    def do_subscribe(self, session: RedisSession, *topics: bytes) -> None:
        for topic in topics:
            self.subscribers.setdefault(topic, {})[session] = None
            session.topics[topic] = None
            session.push([b"subscribe", topic, len(session.topics)])

    def do_unsubscribe(self, session: RedisSession, *topics: bytes) -> None:
        for topic in topics:
            self.forget_subscriber(session, topic)
            session.push([b"unsubscribe", topic, len(session.topics)])

    def forget_subscriber(self, session: RedisSession, topic: bytes) -> None:
        session.topics.pop(topic, None)
        sessions = self.subscribers.get(topic, {})
        sessions.pop(session, None)
        if not sessions:
            self.subscribers.pop(topic, None)

    def do_publish(self, session: RedisSession | None, topic: bytes, payload: bytes) -> int:
        receivers = list(self.subscribers.get(topic, ()))
        times, is_event = 1, b"\nid: " in payload
        if self.lose_next and receivers and is_event:
            self.lose_next, times = self.lose_next - 1, 0
        elif self.repeat_next and receivers and is_event:
            self.repeat_next, times = self.repeat_next - 1, 2
        self._announced(topic, payload, not times)
        for receiver in receivers * times:
            receiver.push([b"message", topic, payload])
        return len(receivers)

    def do_pubsub(self, session: RedisSession, _: bytes, topic: bytes) -> list[Any]:
        return [topic, len(self.subscribers.get(topic, ()))]

    def do_eval(self, session: RedisSession, source: bytes, *args: bytes) -> Any:
        self.scripts[hashlib.sha1(source).hexdigest().encode()] = source
        return self._script(source, args)

    def do_evalsha(self, session: RedisSession, sha: bytes, *args: bytes) -> Any:
        if sha not in self.scripts:
            raise ReplyError("NOSCRIPT No matching script. Please use EVAL.")
        return self._script(self.scripts[sha], args)

    def _script(self, source: bytes, args: tuple[bytes, ...]) -> Any:
        if self.refusal:
            raise ReplyError(self.refusal)
        count = int(args[0])
        return run_script(self, source, args[1 : 1 + count], args[1 + count :])


class RedisSession:
    """One connection at the server: commands in, replies and pushes out, in order."""

    def __init__(self, server: ModelRedis, link: Link) -> None:
        self._server = server
        self.link = link
        self.topics: dict[bytes, None] = {}
        self._reader = hiredis.Reader(notEnoughData=False)

    def receive(self, data: bytes) -> None:
        self._reader.feed(data)
        self.execute()

    def execute(self) -> None:
        while not self._server.stopped and self.link.open and (command := self._reader.gets()) is not False:
            name, *args = command
            try:
                reply = self._server.run(name.decode().upper(), args, self)
            except ReplyError as exc:
                reply = exc
            if name.upper() not in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
                self._send(encode(reply))

    def push(self, parts: list[Any]) -> None:
        self._send(b">" + encode(parts)[1:])

    def _send(self, data: bytes) -> None:
        if self.link.open:
            self.link.to_client.send(data)

    def end(self) -> None:
        self._server.sessions.pop(self, None)
        for topic in list(self.topics):
            self._server.forget_subscriber(self, topic)


def encode(reply: Any) -> bytes:
    """A reply in RESP3."""
    if reply is None:
        return b"_\r\n"
    if isinstance(reply, ReplyError):
        return f"-{reply}\r\n".encode()
    if isinstance(reply, Status):
        return b"+%b\r\n" % bytes(reply)
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))


# Scripts

_lua = lua51.LuaRuntime(encoding=None)
_functions: dict[bytes, Any] = {}
_server: ModelRedis


def run_script(server: ModelRedis, source: bytes, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
    """Run a script on a server's data, in one step. Raises `ReplyError`."""
    global _server
    _server = server
    if source not in _functions:
        _functions[source] = _lua.execute(b"return function(KEYS, ARGV) " + source + b"\nend")
    return _from_lua(_functions[source](_lua.table_from(keys), _lua.table_from(args)))


def _call(name: bytes, *args: Any) -> Any:
    return _to_lua(_server.run(name.decode().upper(), [_argument(arg) for arg in args]))


def _pcall(name: bytes, *args: Any) -> Any:
    try:
        return _call(name, *args)
    except ReplyError as exc:
        return _error_reply(str(exc).encode())


def _error_reply(message: bytes) -> Any:
    return _lua.table_from({b"err": message})


def _argument(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"%.17g" % value


def _to_lua(reply: Any) -> Any:
    if reply is None:
        return False
    if isinstance(reply, Status):
        return _lua.table_from({b"ok": bytes(reply)})
    if isinstance(reply, list):
        return _lua.table_from([_to_lua(part) for part in reply])
    return reply


def _from_lua(value: Any) -> Any:
    if value is None or value is False:
        return None
    if value is True:
        return 1
    if isinstance(value, (int, float)):
        return int(value)
    if isinstance(value, bytes):
        return value
    if value[b"err"]:
        raise ReplyError(value[b"err"].decode())
    if value[b"ok"]:
        return OK
    parts: list[Any] = []
    while (part := value[len(parts) + 1]) is not None:
        parts.append(_from_lua(part))
    return parts


def _decoded(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return _lua.table_from([_decoded(part) for part in value])
    if isinstance(value, dict):
        return _lua.table_from({name.encode(): _decoded(part) for name, part in value.items()})
    return value


_lua.globals()[b"redis"] = _lua.table_from(
    {
        b"call": _call,
        b"pcall": _pcall,
        b"error_reply": _error_reply,
        b"status_reply": lambda text: _lua.table_from({b"ok": text}),
        b"log": lambda *_: None,
        b"LOG_WARNING": 3,
    }
)
_lua.globals()[b"cjson"] = _lua.table_from({b"decode": lambda text: _decoded(json.loads(text))})
