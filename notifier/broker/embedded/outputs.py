"""The output of the embedded broker's tasks: the newest pieces of each, within a bound.

Must not know: tasks' states, streams.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from notifier.broker.embedded.journal import Journal
from notifier.output import Output


@dataclass(slots=True)
class _Pieces:
    """The pieces of one task that are stored."""

    texts: deque[str] = field(default_factory=deque)
    n: int = 0
    """The number of the newest."""
    size: int = 0
    """Bytes of all."""


class MemoryOutputs:
    """The outputs of one process; `max_bytes` is the bound of each."""

    def __init__(self, journal: Journal, max_bytes: int) -> None:
        self._journal = journal
        self._max_bytes = max_bytes
        self._pieces: dict[str, _Pieces] = {}

    def append(self, task_id: str, n: int, chars: int, text: str) -> None:
        """Store piece `n`, and remove the oldest pieces over the bound. The newest piece stays in any case."""
        pieces = self.restore(task_id, n, text)
        self._journal.append_output(task_id, n, chars, text)
        before = len(pieces.texts)
        while pieces.size > self._max_bytes and len(pieces.texts) > 1:
            pieces.size -= len(pieces.texts.popleft().encode())
        if len(pieces.texts) < before:
            self._journal.remove_output(task_id, n - len(pieces.texts))

    def restore(self, task_id: str, n: int, text: str) -> _Pieces:
        """Take a piece that was stored earlier. They come in order."""
        pieces = self._pieces.setdefault(task_id, _Pieces())
        pieces.texts.append(text)
        pieces.n = n
        pieces.size += len(text.encode())
        return pieces

    def after(self, task_id: str, n: int) -> Output:
        """The pieces after the number `n`."""
        pieces = self._pieces.get(task_id) or _Pieces()
        wanted = max(0, pieces.n - n)
        texts = list(pieces.texts)[max(0, len(pieces.texts) - wanted) :] if wanted else []
        return Output(pieces.n, "".join(texts), truncated=wanted > len(pieces.texts))

    def remove(self, task_id: str) -> None:
        """Remove the output of a task."""
        if self._pieces.pop(task_id, None) is not None:
            self._journal.remove_output(task_id)
