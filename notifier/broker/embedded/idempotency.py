"""The answers given under idempotency keys, for as long as a repeated call must get the same answer.

Must not know: what the calls did.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from notifier.broker.embedded.journal import Journal
from notifier.broker.values import IDEMPOTENCY_TTL_S, Idempotency
from notifier.errors import IdempotencyMismatch

MAX_REMOVALS: Final = 4
"""Expired answers that one `add` removes at most: more than the one it adds, and few, so that no call takes long."""


@dataclass(slots=True)
class _Answer:
    fingerprint: str
    answer: object
    expires_s: float


class IdempotencyStore:
    """The answers of one process."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._answers: dict[str, _Answer] = {}
        self._by_age: deque[tuple[str, _Answer]] = deque()
        """(key, answer), oldest first."""

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, idempotency: Idempotency | None) -> object:
        """The answer given under this key; None for the first call. Raises `IdempotencyMismatch`."""
        if idempotency is None:
            return None
        earlier = self._answers.get(idempotency.key)
        if earlier is None or earlier.expires_s < time.time():
            return None
        if earlier.fingerprint != idempotency.fingerprint:
            raise IdempotencyMismatch("was used with another body less than 5 minutes ago", field="Idempotency-Key")
        return earlier.answer

    def add(self, idempotency: Idempotency | None, answer: object) -> None:
        """Store an answer and remove some expired ones."""
        if idempotency is None:
            return
        expires_s = time.time() + IDEMPOTENCY_TTL_S
        self.restore(idempotency, answer, expires_s)
        self._journal.put_answer(idempotency, answer, expires_s)
        for _ in range(MAX_REMOVALS):
            key, oldest = self._by_age[0]
            if oldest.expires_s >= time.time():
                break
            self._by_age.popleft()
            if self._answers.get(key) is oldest:  # and not a later answer under the same key
                del self._answers[key]
                self._journal.remove_answer(key)

    def restore(self, idempotency: Idempotency, answer: object, expires_s: float) -> None:
        """Take an answer that was given earlier. They come oldest first."""
        restored = _Answer(idempotency.fingerprint, answer, expires_s)
        self._answers[idempotency.key] = restored
        self._by_age.append((idempotency.key, restored))
