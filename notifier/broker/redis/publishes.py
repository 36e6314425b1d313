"""Publishes on Redis: the calls of one event, the claims of idempotency keys over several shards.

Must not know: what streams and users read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import publish_calls, receipt
from notifier.broker.redis.shards import Shards
from notifier.broker.values import IDEMPOTENCY_TTL_S, History, Idempotency, Receipt, Submitted
from notifier.errors import BrokerUnavailable, IdempotencyMismatch, NotifierError
from notifier.event import Event
from notifier.sampling import Sampling

FLOOR_EVERY_S: Final = 60.0
"""How often this process brings a shard's floor up to date, or a hundredth of the history's ttl if that is shorter."""
CLAIM_S: Final = 0.25
"""How long a publish waits for the claim of its key, which most often is on a shard that it does not need."""


class RedisPublishes:
    """The publishes of this process."""

    def __init__(self, shards: Shards, keys: Keys, history: History) -> None:
        self._shards = shards
        self._keys = keys
        self._history = history
        self.sampling = Sampling()
        self._floors_due_at: dict[int, float] = {}
        """By shard, in monotonic seconds."""

    def submit(self, event: Event, idempotency: Idempotency | None) -> Awaitable[Receipt]:
        """See `Broker.submit`."""
        if idempotency is not None and self._keys.shards > 1:
            return self._claim_and_publish(event, idempotency)
        return self._publish(event, idempotency)

    def submit_claimed(self, events: Sequence[tuple[Event, Idempotency | None]]) -> list[Submitted] | None:
        """As `Broker.submit_all`, where keys must be claimed before; None where no event has a key to claim."""
        if self._keys.shards == 1 or not any(idempotency for _, idempotency in events):
            return None
        sending = asyncio.ensure_future(self._claim_and_send(events))
        return [_answer_of(sending, index) for index in range(len(events))]

    async def _claim_and_send(self, events: Sequence[tuple[Event, Idempotency | None]]) -> list[Submitted]:
        """Claim all keys before the first event is sent: the shards answer the claims in any order."""
        claims = (self._try_to_claim(idempotency) for _, idempotency in events)
        refusals = await asyncio.gather(*claims)
        return [
            self._sent(event, idempotency) if refusal is None else refusal
            for (event, idempotency), refusal in zip(events, refusals, strict=True)
        ]

    def _sent(self, event: Event, idempotency: Idempotency | None) -> Submitted:
        try:
            return self._publish(event, idempotency)
        except BrokerUnavailable as exc:
            return exc

    async def _try_to_claim(self, idempotency: Idempotency | None) -> IdempotencyMismatch | None:
        """The refusal of a key that was used with another body. Where the shard of the claim is away, moving, or silent
        for `CLAIM_S`, the claim is skipped: each shard still compares its own part of the publish."""
        if idempotency is not None:
            try:
                await self._claim(idempotency)
            except BrokerUnavailable:
                pass
            except IdempotencyMismatch as exc:
                return exc
        return None

    async def _claim_and_publish(self, event: Event, idempotency: Idempotency) -> Receipt:
        if refusal := await self._try_to_claim(idempotency):
            try:
                raise refusal
            finally:
                del refusal  # with it, the error and this function's frame would be a cycle
        return await self._publish(event, idempotency)

    def _publish(self, event: Event, idempotency: Idempotency | None) -> Awaitable[Receipt]:
        calls = list(
            publish_calls(
                event,
                self._keys,
                history=self._history,
                idempotency=idempotency,
                is_floor_due=self._is_floor_due,
                accepted_us=self.sampling.accepted_us(),
            )
        )
        if self._keys.shards > 1:
            self._shards.require(call.shard for call in calls)
        if len(calls) == 1:
            return self._shards.send(calls[0], receipt)
        # All are sent before the first answer: a later publish of the same batch must not overtake a part of this one.
        whole = _Whole(len(calls))
        for call in calls:
            self._shards.send(call, whole.read_first if call is calls[0] else receipt, whole)
        return whole

    def _is_floor_due(self, shard: int) -> bool:
        """True for the first publish to a shard, and then every `FLOOR_EVERY_S`. A floor that is brought up to date
        late is too high, never too low: a stream gets a reset that it could do without."""
        now = time.monotonic()
        is_due = now >= self._floors_due_at.get(shard, 0)
        if is_due:
            self._floors_due_at[shard] = now + min(FLOOR_EVERY_S, self._history.ttl_s / 100)
        return is_due

    async def _claim(self, idempotency: Idempotency) -> None:
        """Store the key's fingerprint on one shard. Raises `IdempotencyMismatch` if another is stored, and
        `BrokerUnavailable` if the claim is to be skipped.

        Each shard remembers only its own part of a publish. Another body may have recipients on other shards, where the
        key would be new.
        """
        shard = self._keys.shard_of_name(idempotency.key)
        key = self._keys.idempotency(shard, f"{idempotency.key}#all")
        fingerprint = await self._shards.commands[shard].try_once(
            ("HSETNX", key, "fingerprint", idempotency.fingerprint),
            ("EXPIRE", key, IDEMPOTENCY_TTL_S),
            ("HGET", key, "fingerprint"),
            within_s=CLAIM_S,
        )
        if fingerprint is not None and fingerprint != idempotency.fingerprint.encode():
            raise IdempotencyMismatch("was used with another body less than 5 minutes ago", field="Idempotency-Key")


async def _answer_of(sending: asyncio.Task[list[Submitted]], index: int) -> Receipt:
    """The receipt of one event of a batch. Raises its error."""
    submitted = (await asyncio.shield(sending))[index]
    if isinstance(submitted, NotifierError):
        raise submitted
    return submitted if isinstance(submitted, Receipt) else await submitted


class _Whole(asyncio.Future[Receipt]):
    """The receipt of a publish of several calls: that of the first call, once all are answered, or the first error.

    One future for all calls wakes its waiter once, not with each answer.
    """

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._left = calls
        self._first: Receipt | None = None
        self._watched = False

    def read_first(self, answer: Any) -> Receipt:
        self._first = receipt(answer)
        return self._first

    def set_result(self, part: Receipt, /) -> None:
        """Add the receipt of one call."""
        self._left -= 1
        self._watched = self._watched or part.watched
        if not self._left:
            assert self._first is not None
            super().set_result(Receipt(self._first.epoch, self._first.seq, self._watched))
