"""What calls under an idempotency key were answered, for as long as a repeat must get the same answer.

Must not know: what the calls did.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from notifier.broker import IDEMPOTENCY_TTL_S, Idempotency
from notifier.errors import IdempotencyMismatch

MAX_FORGOTTEN: Final = 4
"""Expired answers that one call removes at most: more than the one it adds, and few, so that no call takes long."""


@dataclass(slots=True)
class _Answer:
    fingerprint: str
    answer: object
    expires_s: float


class IdempotencyStore:
    """The answers of one process."""

    def __init__(self) -> None:
        self._kept: dict[str, _Answer] = {}
        self._by_age: deque[tuple[str, _Answer]] = deque()
        """With their keys, the oldest first."""

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, idempotency: Idempotency | None) -> object:
        """What a call under this key was answered; None: it is the first. Raises `IdempotencyMismatch`."""
        known = self._kept.get(idempotency.key) if idempotency else None
        if known is None or idempotency is None or known.expires_s < time.time():
            return None
        if known.fingerprint != idempotency.fingerprint:
            raise IdempotencyMismatch("was used with another body less than 5 minutes ago", field="Idempotency-Key")
        return known.answer

    def keep(self, idempotency: Idempotency | None, answer: object) -> None:
        """Remembers an answer, and forgets some that have expired."""
        if idempotency is None:
            return
        made = _Answer(idempotency.fingerprint, answer, time.time() + IDEMPOTENCY_TTL_S)
        self._kept[idempotency.key] = made
        self._by_age.append((idempotency.key, made))
        for _ in range(MAX_FORGOTTEN):
            key, oldest = self._by_age[0]
            if oldest.expires_s >= time.time():
                break
            self._by_age.popleft()
            if self._kept.get(key) is oldest:  # and not a later one under the same key
                del self._kept[key]
