"""The output of a task that the service does not have yet: quick writes are joined, a piece in flight stays as it is.

Must not know: when pieces are sent, locks.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from typing import Final

from django_bridge import publisher
from notifier.errors import NotifierError
from notifier.event import new_id
from notifier.output import KEPT_BYTES, MAX_PIECE_BYTES

STEP_CHARS: Final = 16 * 1024
"""See `UnsentOutput._trim`."""
_UNSENDABLE: Final = re.compile("[\x00\ud800-\udfff]")


class _OutputDropped(NotifierError):
    """A kind of failure of its own for the log: that of the calls does not hide it."""

    def __init__(self) -> None:
        super().__init__("output of a task is dropped: the service cannot be reached, and keeps the newest only")


class UnsentOutput:
    """Text in order. Over `KEPT_BYTES` characters the oldest go: the service would not keep them either."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._in_flight: tuple[str, str] | None = None
        """Idempotency key and text of a piece that may have arrived."""
        self.chars = 0
        """Characters that are not in flight."""

    @property
    def pending(self) -> bool:
        return self._in_flight is not None or bool(self._texts)

    @property
    def unsent_chars(self) -> int:
        """Characters, with those in flight."""
        return self.chars + (len(self._in_flight[1]) if self._in_flight else 0)

    def add(self, text: str) -> None:
        """Append text. Characters that cannot be sent are replaced."""
        self._texts.append(text)
        self.chars += len(text)
        if self.chars > KEPT_BYTES:
            self._trim()
            publisher.current().failures.failed(_OutputDropped(), str(_OutputDropped()), level=logging.WARNING)

    def next_piece(self) -> tuple[str, str] | None:
        """The next piece to send, as key and text; the same until `sent`."""
        if self._in_flight is None and self._texts:
            text = _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", "".join(self._texts))
            piece = _beginning(text)
            self._in_flight = (new_id(), piece)
            rest = text[len(piece) :]
            self._texts, self.chars = deque([rest] if rest else ()), len(rest)
        return self._in_flight

    def sent(self) -> None:
        """The piece in flight has arrived, or was refused for good."""
        self._in_flight = None

    def clear(self) -> None:
        """Drop everything: the task takes no output."""
        self._texts.clear()
        self.chars, self._in_flight = 0, None

    def _trim(self) -> None:
        """Drop the oldest characters. Of a long text `STEP_CHARS` go at once: else each write would copy its rest."""
        while (excess := self.chars - KEPT_BYTES) > 0:
            oldest = self._texts.popleft()
            dropped = min(len(oldest), max(excess, STEP_CHARS))
            if dropped < len(oldest):
                self._texts.appendleft(oldest[dropped:])
            self.chars -= dropped


def _beginning(text: str) -> str:
    """As much of a text as one piece can have."""
    if len(text) <= MAX_PIECE_BYTES // 4:
        return text
    encoded = text.encode()
    return text if len(encoded) <= MAX_PIECE_BYTES else encoded[:MAX_PIECE_BYTES].decode(errors="ignore")
