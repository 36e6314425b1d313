"""Asks whether replicas of Redis have what was written: `REDIS_WAIT_REPLICAS`, as the service's
`NOTIFIER_REDIS_WAIT_REPLICAS`.

A repeated call writes nothing, and `WAIT` covers what its own connection has written: a small write goes before it, on
the same connection. Must not know: what is written, when a call is repeated.
"""

from __future__ import annotations

from typing import Any, Final

from redis.client import Pipeline

from django_bridge.publisher.redis_connection import Deadline
from django_bridge.publisher.transport import Unreachable
from notifier.broker.redis.keys import Keys

LONGEST_S: Final = 1.0
"""The longest `WAIT`, as that of the service."""
MARGIN_S: Final = 0.15
"""Between the end of a `WAIT` and that of the command: Redis looks only ten times a second whether one has ended."""


class Confirmations:
    """Of calls that are sent as a pipeline. Thread-safe."""

    def __init__(self, keys: Keys, replicas: int, deadline: Deadline, timeout_s: float) -> None:
        """replicas: how many must confirm. timeout_s: for one command."""
        self.replicas: Final = replicas
        self._keys = keys
        self._deadline = deadline
        self._timeout_s = timeout_s

    def execute(self, calls: Pipeline, shard: int) -> tuple[list[Any], Exception | None]:
        """Run the calls on one connection, and ask. Their answers, where a refused call has an exception, and why the
        replicas do not confirm them. Raises `RedisError` if Redis does not answer."""
        within_s = min(LONGEST_S, self._deadline.limit(self._timeout_s) - MARGIN_S)
        within_ms = max(1, int(within_s * 1000))
        calls.set(self._keys.replicated(shard), "")
        # As a command: `Pipeline.wait` is typed as if it were not in a pipeline.
        calls.execute_command("WAIT", self.replicas, within_ms)  # type: ignore[no-untyped-call]  # redis-py's
        *answers, stored, count = calls.execute(raise_on_error=False)
        for answer in (stored, count):
            if isinstance(answer, Exception):
                return answers, answer
        if count < self.replicas:
            reason = f"{count} of {self.replicas} replicas confirmed the write within {within_ms} ms"
            return answers, Unreachable(f"{reason}: it may be lost at a failover")
        return answers, None
