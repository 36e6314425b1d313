"""The embedded broker without a file: a restart forgets everything, and begins a new epoch, so that clients get a reset
and not a silent hole.

Must not know: how the embedded broker works.
"""

from __future__ import annotations

from typing import Self

from notifier.broker.embedded.broker import EmbeddedBroker
from notifier.broker.embedded.journal import Journal
from notifier.broker.values import History, Options
from notifier.output import KEPT_BYTES


class MemoryBroker(EmbeddedBroker):
    """Stores everything in the memory of this process."""

    def __init__(self, *, history: History, max_replay: int, output_bytes: int = KEPT_BYTES) -> None:
        super().__init__(history=history, max_replay=max_replay, output_bytes=output_bytes, journal=Journal())

    @classmethod
    def from_url(cls, url: str, options: Options) -> Self:
        return cls(history=options.history, max_replay=options.max_replay, output_bytes=options.output_bytes)
