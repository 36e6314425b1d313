"""The one subscription connection of a process: which topics it should hear, whether it hears them, what it hears.

    connect -> subscribe to all that is desired -> every acknowledgement -> canary back -> live -> lost -> connect ...

While it is not live, announcements are dropped: going live resyncs every stream, and streams then read the log.
The next announcement of a topic must follow on the last one; where it does not, that topic is resynced.

Must not know: streams, how the log is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from notifier.broker import Sink
from notifier.broker.redis.connection import Address, Connection, forget, open_connection
from notifier.errors import BrokerUnavailable
from notifier.event import is_safe_frame

log = logging.getLogger("notifier.broker")

CANARY_EVERY_S: Final = 2.0
DEAD_AFTER_S: Final = 6.0
"""A connection on which neither a PING nor the canary came back for so long is dropped."""
RECONNECT_S: Final = (0.05, 2.0)
_LEAD: Final = re.compile(
    rb"([a-z0-9]{1,32}|[-!]) ([0-9]{1,20}) (-?[0-9]{1,20}) ([!-~]{1,200})\n(id: \1-\2\n)?",
)
"""Epoch, seq, previous seq, key: what stands before the frame of an announcement; and an event's id, the same again."""
BATCH: Final = 1000
"""Topics of one SUBSCRIBE command."""


@dataclass(slots=True, eq=False)
class _Topic:
    name: str
    acknowledged: asyncio.Future[None] | None
    """None once the subscription is known to be active."""
    last: int | None = None
    noted: bool = False
    """`last` was read from the log: what is announced up to there is in the log, and may still be on its way here."""
    epoch: bytes = b""


class Subscriptions:
    """Keeps the desired topics subscribed and hands on what is announced on them."""

    def __init__(
        self,
        target: Address,
        sink: Sink,
        *,
        canary: str,
        name: str,
        on_change: Callable[[], None],
    ) -> None:
        self._address = target
        self._sink = sink
        self._canary = canary.encode()
        self._name = name
        self._on_change = on_change
        self._topics: dict[bytes, _Topic] = {}
        self._unacknowledged: dict[bytes, int] = {}
        """SUBSCRIBE commands sent and not yet acknowledged, by topic; a topic that is left and taken again has two."""
        self._connection: Connection | None = None
        self._canary_back_at = 0.0
        self._canary_heard = asyncio.Event()
        self.live = False
        """Whether an event published now would be heard."""
        self.skipped = 0
        """Announcements that were not in our form and went to nobody."""
        self.keeper: asyncio.Task[None]

    async def start(self) -> None:
        """Begins to connect; returns when live, or when the first attempt failed."""
        first = asyncio.Event()
        self.keeper = asyncio.create_task(self._keep(first), name="redis-subscriptions")
        await first.wait()

    async def close(self) -> None:
        self.keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.keeper
        if self._connection is not None:
            self._connection.close()

    def __len__(self) -> int:
        return len(self._topics)

    async def add(self, names: Sequence[str]) -> None:
        """Subscribes; returns when all are acknowledged. Raises `BrokerUnavailable` where that cannot be now; they
        stay desired and are subscribed when the connection is back."""
        new = []
        waiting = []
        for name in names:
            key = name.encode()
            topic = self._topics.get(key)
            if topic is None:
                topic = self._topics[key] = _Topic(name, asyncio.get_running_loop().create_future())
                new.append(key)
            if topic.acknowledged is not None:
                waiting.append(topic.acknowledged)
        # Also while the connection is being opened: it goes live with what was asked for by then, all of it.
        if self._connection is not None and not self._connection.lost.done():
            self._send_subscribe(new)
        if not self.live:
            raise BrokerUnavailable("the subscriptions are down")
        for acknowledged in waiting:
            await asyncio.shield(acknowledged)

    def remove(self, names: Iterable[str]) -> None:
        """Unsubscribes."""
        gone = []
        for key in (name.encode() for name in names):
            if (topic := self._topics.pop(key, None)) is not None:
                gone.append(key)
                _give_up(topic, "nobody listens any more")
        if gone and self._connection is not None and not self._connection.lost.done():
            self._send("UNSUBSCRIBE", gone)

    def renew(self, why: str) -> None:
        """Gives the connection up and opens another: it may lead to a Redis that is not the primary any more."""
        self.live = False
        if self._connection is not None:
            self._connection.close(BrokerUnavailable(why))

    def note_lasts(self, epoch: bytes, lasts: Mapping[str, int]) -> None:
        """The newest seq of topics as the log has it: what the first announcement must follow on."""
        for name, last in lasts.items():
            topic = self._topics.get(name.encode())
            if topic is not None and topic.last is None:
                topic.epoch, topic.last, topic.noted = epoch, max(last, 0), True

    # The connection

    async def _keep(self, first: asyncio.Event) -> None:
        pause_s = RECONNECT_S[0]
        begun = False
        while True:
            try:
                connection = await self._open()
            except BrokerUnavailable as fault:
                log.warning("subscriptions: %s; trying again", fault)
                first.set()
                await asyncio.sleep(random.uniform(0, pause_s))
                pause_s = min(pause_s * 2, RECONNECT_S[1])
                continue
            pause_s = RECONNECT_S[0]
            # From here to the end of resync() nothing is awaited: no announcement can come between.
            self.live = True
            if begun or self._topics:
                self._sink.resync(None)
            begun = True
            self._on_change()
            first.set()
            await self._watch(connection)
            self.live = False
            self._forget_link()
            log.warning("subscriptions: the connection is lost: %s", connection.lost.result())
            self._on_change()

    def _forget_link(self) -> None:
        """Nothing is known of any topic any more; whoever waits for an acknowledgement is told."""
        for topic in self._topics.values():
            topic.last = None
            _give_up(topic, "the subscriptions are down")

    async def _open(self) -> Connection:
        connection = await open_connection(self._address, name=self._name, on_push=self._take)
        self._connection = connection
        try:
            async with asyncio.timeout(DEAD_AFTER_S + len(self._topics) / 10_000):
                loop = asyncio.get_running_loop()
                self._unacknowledged.clear()
                for topic in self._topics.values():
                    topic.acknowledged = topic.acknowledged or loop.create_future()
                self._send("SUBSCRIBE", [self._canary])
                self._send_subscribe(list(self._topics))
                while waiting := [one.acknowledged for one in self._topics.values() if one.acknowledged is not None]:
                    first_ones: list[asyncio.Future[Any]] = [*waiting[:BATCH], connection.lost]
                    await asyncio.wait(first_ones, return_when=asyncio.FIRST_COMPLETED)
                    if connection.lost.done():
                        raise BrokerUnavailable(str(connection.lost.result()))
                self._canary_heard.clear()
                while not self._canary_heard.is_set():
                    self._send_canary(connection, "ready?")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._canary_heard.wait(), 0.5)
                    if connection.lost.done():
                        raise BrokerUnavailable(str(connection.lost.result()))
        except TimeoutError:
            connection.close()
            self._forget_link()
            raise BrokerUnavailable(
                "the subscriptions were not acknowledged, or the canary did not come back"
            ) from None
        except BaseException:
            connection.close()
            self._forget_link()
            raise
        return connection

    async def _watch(self, connection: Connection) -> None:
        while not connection.lost.done():
            forget(connection.call("PING"))
            self._send_canary(connection, "alive?")
            await asyncio.wait((connection.lost,), timeout=CANARY_EVERY_S)
            silent_s = max(connection.oldest_wait_s, time.monotonic() - self._canary_back_at)
            if silent_s > DEAD_AFTER_S and not await self._canary_returns(connection):
                connection.close(BrokerUnavailable(f"no sign of life for {silent_s:.1f} s"))

    async def _canary_returns(self, connection: Connection) -> bool:
        """One more look before a connection is given up: it may be this loop that was held up."""
        self._canary_heard.clear()
        self._send_canary(connection, "still alive?")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._canary_heard.wait(), 0.5)
        return self._canary_heard.is_set()

    def _send_canary(self, connection: Connection, word: str) -> None:
        """Over this connection and not over that of the calls, where it would wait behind a storm of them."""
        forget(connection.call("PUBLISH", self._canary, word))

    def _send_subscribe(self, keys: list[bytes]) -> None:
        for key in keys:
            self._unacknowledged[key] = self._unacknowledged.get(key, 0) + 1
        self._send("SUBSCRIBE", keys)

    def _send(self, command: str, keys: list[bytes]) -> None:
        assert self._connection is not None
        for start in range(0, len(keys), BATCH):
            self._connection.push_only(command, *keys[start : start + BATCH])

    # What comes

    def _take(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == b"message":
            self._take_announcement(push[1], push[2])
        elif kind == b"subscribe":
            self._take_acknowledgement(push[1])

    def _take_acknowledgement(self, key: bytes) -> None:
        if key == self._canary:
            return
        left = self._unacknowledged.pop(key, 1) - 1
        if left > 0:
            self._unacknowledged[key] = left
            return
        topic = self._topics.get(key)
        if topic is not None and topic.acknowledged is not None:
            topic.acknowledged.set_result(None)
            topic.acknowledged = None

    def _take_announcement(self, key: bytes, payload: bytes) -> None:
        if key == self._canary:
            self._canary_back_at = time.monotonic()
            self._canary_heard.set()
            return
        topic = self._topics.get(key)
        if topic is None or not self.live:
            return
        lead = _LEAD.match(payload)
        if lead is None:
            self._skip(key, payload)
            return
        epoch, seq_text, prev, word, id_line = lead.groups()
        seq, repeat_key = int(seq_text), "" if word == b"-" else word.decode()
        if epoch == b"!":
            self._sink.disconnect(topic.name, repeat_key)
            return
        wire = payload[lead.end(4) + 1 :]
        if (id_line is not None) != (seq > 0) or not is_safe_frame(wire, len(id_line or b"")):
            self._skip(key, payload)
        elif seq:
            self._take_event(topic, epoch, seq, int(prev), repeat_key, wire)
        else:
            self._sink.deliver_state(topic.name, repeat_key, wire)

    def _take_event(self, topic: _Topic, epoch: bytes, seq: int, prev: int, repeat_key: str, wire: bytes) -> None:
        # What does not follow is not handed on: it is in the log if it is true, and the log is read now. So neither a
        # lost announcement nor a forged one can move a stream past events that it has not seen.
        if topic.epoch and topic.epoch != epoch:
            log.warning("a new order of events, %r, began on %s", epoch, topic.name)
            for other in self._topics.values():
                other.epoch, other.last = b"", None
            self._sink.resync(None)
            return
        if topic.last is not None and prev != topic.last:
            if topic.noted and seq <= topic.last:
                return
            log.warning("a hole on %s: %d follows %d, not %d; reading the log", topic.name, seq, prev, topic.last)
            after, topic.last = topic.last, None
            self._sink.resync([topic.name], after=after)
            return
        topic.epoch, topic.last, topic.noted = epoch, seq, False
        self._sink.deliver(topic.name, epoch.decode(), seq, repeat_key, wire)

    def _skip(self, key: bytes, payload: bytes) -> None:
        self.skipped += 1
        lead = payload.partition(b"\n")[0]
        log.error("skipped what is not an announcement of ours: topic %r, lead %r", key[:200], lead[:80])


def _give_up(topic: _Topic, why: str) -> None:
    """Tells whoever waits for the acknowledgement that it will not come."""
    if topic.acknowledged is not None:
        topic.acknowledged.set_exception(BrokerUnavailable(why))
        topic.acknowledged.exception()  # where nobody waits, that is no fault
        topic.acknowledged = None
