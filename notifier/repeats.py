"""Recognises the parts of one publish: the same event under one repeat key, on several topics, with several seqs.

    note(part) -> Parts of its key -> `Stream.has_part`: an earlier part reached this stream

A publish has parts if it has more recipients than one script call takes, or if its publisher sends it with several
calls under one message id. A part is dropped only for a stream that has an earlier one for certain: the stream listens
to that part's topic, and has every event of its topics since before that part. Otherwise it comes again: a repeat is
better than a loss.

Must not know: connections, brokers.
"""

from __future__ import annotations

from typing import Final

MAX_KEYS: Final = 4096
"""Keys of which the parts are remembered. A part that comes after so many newer keys comes again."""
MAX_PARTS: Final = 50_000
"""Parts that are remembered of all keys together; the oldest keys go first."""


class Parts:
    """The parts of one publish so far."""

    __slots__ = ("first", "seqs")

    def __init__(self, first: int) -> None:
        self.first = first
        """The lowest seq."""
        self.seqs: dict[str, int] = {}
        """The lowest seq by topic."""


class Repeats:
    """The parts of one process: what it delivered, live or by replay."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], Parts] = {}
        self._size = 0

    def note(self, epoch: str, key: str, topic: str, seq: int) -> Parts:
        """Remember a part. Returns all parts of its key, to which later ones are added."""
        parts = self._keys.get((epoch, key))
        if parts is None:
            parts = self._keys[epoch, key] = Parts(seq)
            self._trim()
        known = parts.seqs.get(topic)
        if known is None:
            self._size += 1
        if known is None or seq < known:
            parts.seqs[topic] = seq
            parts.first = min(parts.first, seq)
        return parts

    def _trim(self) -> None:
        while len(self._keys) > MAX_KEYS or (self._size > MAX_PARTS and len(self._keys) > 1):
            oldest = next(iter(self._keys))
            self._size -= len(self._keys.pop(oldest).seqs)
