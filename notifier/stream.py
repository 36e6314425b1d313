"""One open stream: its position and state, and the frames and states that are queued for it within bounds.

How they are written is the part of `transport.py` and `queued.py`.

Must not know: brokers, authentication, who publishes, sockets.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

from notifier.event import Cursor
from notifier.frames import OPENING, EncodedFrame, Item, after_waiting
from notifier.records import Record
from notifier.repeats import Parts

MAX_REPEAT_KEYS: Final = 16
"""Repeat keys of frames without id that a stream remembers. Their copies follow each other closely."""
MAX_STATES: Final = 1000
"""Tasks whose newest state waits behind a slow reader. Further tasks are dropped: the next snapshot has them."""


class Stream(ABC):
    """An open stream of one user. The hub sets its position and state; the connection is the subclass's part."""

    polls: ClassVar[int] = 0
    """1 of a stream that is one poll."""

    __slots__ = (
        "_out",
        "_repeats",
        "_states",
        "address",
        "agent",
        "attached_at",
        "begun",
        "cancels_all",
        "channels",
        "continued",
        "cursor",
        "ends_at",
        "ends_why",
        "epoch",
        "form",
        "greeted",
        "opening",
        "pending",
        "pending_bytes",
        "reading",
        "record",
        "revoked",
        "send",
        "seq",
        "since",
        "slot",
        "topics",
        "user",
    )  # fmt: skip

    def __init__(
        self,
        *,
        user: str,
        address: str,
        channels: tuple[str, ...],
        topics: tuple[str, ...],
        cursor: Cursor | str | None,
        ends_at: float,
        ends_why: str,
        cancels_all: bool = False,
        form: str = "",
        requested_at: float | None = None,
        agent: str = "",
    ) -> None:
        self.attached_at = time.monotonic() if requested_at is None else requested_at
        """When its request came, in monotonic seconds."""
        self.user = user
        self.address = address
        self.channels = channels
        self.topics = topics
        self.cursor = cursor
        """Where the next opening starts: the client's cursor, the place that its replay has reached, or the last event
        delivered before a resync. A string is a cursor that could not be parsed."""
        self.continued = False
        """True if a portion of its replay was written, and more follows."""
        self.ends_at = ends_at
        """End of its life, in monotonic seconds."""
        self.ends_why = ends_why
        """The reason of the `bye` at that time."""
        self.cancels_all = cancels_all
        """True if its user may cancel every task that it shows."""
        self.form = form
        """`text` or `turbo`, of a `TextStream`."""
        self.epoch = ""
        self.seq = OPENING
        """The last event delivered to a live stream; `OPENING` while it is not live."""
        self.since = 0
        """The stream has every event of its topics, up to the last one delivered, that came after this seq. At least
        `OPENING` while topics are added."""
        self.agent = agent
        """The client's `User-Agent`."""
        self.record: Record | None = None
        """What is kept of it for a day, once it was opened."""
        self.send: Callable[[bytes], int] | None = None
        """The socket's own `send`. None when writes must not go straight to the kernel: the reader is slow, the stream
        has ended, or the transport is not that of a plain socket."""
        self.opening = 1
        """0 when live, else the number of the current attempt to open it."""
        self.reading = False
        """True once the broker is read in this attempt: later frames may not be in the opening."""
        self.pending: list[Item] = []
        """Frames that arrived during the opening and will not be in it."""
        self.pending_bytes = 0
        """The size of those that are in no history."""
        self.begun = False
        """True once its first event was written."""
        self.greeted = False
        """True once `hello` was written."""
        self.revoked: str | None = None
        """`Opening.revoked` of the last opening; None before the first."""
        self.slot = 0
        """Its heartbeat slot, see `timers`."""
        self._out: list[EncodedFrame] = []
        self._states: dict[str, EncodedFrame] | None = None
        self._repeats: dict[str, None] | None = None

    def may_cancel(self, channels: tuple[str, ...]) -> bool:
        """True if its user may cancel a task sent to these channels."""
        return self.cancels_all or f"user:{self.user}" in channels

    @property
    @abstractmethod
    def backlog_bytes(self) -> int:
        """Bytes written but not yet accepted by the reader's socket."""

    @property
    @abstractmethod
    def accepted_bytes(self) -> int:
        """A counter that grows whenever the reader accepts something."""

    @property
    def acknowledged_bytes(self) -> int:
        """The same as `accepted_bytes`, less what the kernel still holds. A system call."""
        return self.accepted_bytes

    @abstractmethod
    def call_when_drained(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the reader's socket has accepted everything written: now, if it has. Replaces an earlier
        callback."""

    @abstractmethod
    def flush(self) -> None:
        """Write the queued frames."""

    @abstractmethod
    def write_remainder(self, data: bytes) -> None:
        """Write the end of a frame of which `send` accepted only the beginning."""

    @abstractmethod
    def end(self, farewell: EncodedFrame | None) -> None:
        """End the stream: write `farewell` (a `bye` frame) and close. A transport with a backlog is aborted without it.
        A second call does nothing."""

    def offer(self, frame: EncodedFrame) -> None:
        """Queue a frame for the next flush."""
        self._out.append(frame)

    def offer_state(self, key: str, frame: EncodedFrame) -> None:
        """Queue a state: behind a slow reader it replaces the waiting state with the same key, or is joined to it."""
        if key and (self._states or self.backlog_bytes):
            if self._states is None:
                self._states = {}
            if (waiting := self._states.get(key)) is not None:
                self._states[key] = after_waiting(key, waiting, frame)
            elif len(self._states) < MAX_STATES:
                self._states[key] = frame
        else:
            self.offer(frame)

    def release_states(self) -> None:
        """Queue the waiting states, after the reader has caught up."""
        if self._states:
            self._out.extend(self._states.values())
            self._states = None

    def forget_states(self) -> None:
        """Drop the waiting states: newer ones are about to be written."""
        self._states = None

    def has_part(self, parts: Parts | None, seq: int) -> bool:
        """True if the stream has for certain an earlier part of the publish that the event with this seq is a part of.
        The epoch is the stream's."""
        if parts is None or parts.first >= seq:
            return False
        return any(self.since < parts.seqs.get(topic, 0) < seq for topic in self.topics)

    def is_repeat(self, key: str) -> bool:
        """True if this key of a frame without id was passed before. Remembers the last `MAX_REPEAT_KEYS` keys."""
        if self._repeats is None:
            self._repeats = {}
        if key in self._repeats:
            return True
        self._repeats[key] = None
        if len(self._repeats) > MAX_REPEAT_KEYS:
            del self._repeats[next(iter(self._repeats))]
        return False


class TextStream(Stream):
    """A stream that has JSON strings as text, for clients that insert the data of an event unread (`format=text`).
    With `format=turbo` it has no messages: Turbo inserts the data of each event with that name, or without a name."""

    __slots__ = ()

    def flush(self) -> None:
        if self.form == "turbo":
            self._out = [frame for frame in self._out if b"event: message\n" not in frame.plain]
        self._out = [frame.text for frame in self._out]
        self._write_out()

    @abstractmethod
    def _write_out(self) -> None:
        """Write the queued frames as they are."""
