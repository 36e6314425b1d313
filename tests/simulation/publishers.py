"""What producers and users do: events and messages to several channels, repeats, tasks, marks, disconnects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from notifier.broker.values import Idempotency
from notifier.errors import BrokerUnavailable, Conflict, NotFound
from notifier.event import Event, custom, new_id
from notifier.message import message_event
from notifier.task import begin
from tests.simulation.oracle import token_text
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

GIVE_UP_S = 40.0
"""A producer repeats a refused call for this long, with the same idempotency key."""
TEXT = "x" * 40


class Publisher:
    """One producer. Repeats refused calls, at any process, as the Django bridge does."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.chance = world.chance(f"publisher-{number}")
        self.number = number
        self._tasks: list[str] = []

    async def run(self) -> None:
        while not self.world.is_quiet:
            await asyncio.sleep(self.chance.expovariate(self.world.rate_per_s))
            with_state = self.chance.random()
            if with_state < 0.75:
                for _ in range(self.chance.choice((1, 1, 1, 2, 6))):
                    await self._publish()
            elif with_state < 0.95:
                await self._work_on_a_task()
            else:
                await self._act_as_a_user()

    def _process(self) -> Process | None:
        up = [process for process in self.world.processes if process.is_up]
        return self.chance.choice(up) if up else None

    def _recipients(self) -> list[str]:
        channels = self.world.channels
        return self.chance.sample(channels, self.chance.choice((1, 1, 1, 2, 3, len(channels))))

    async def _publish(self) -> None:
        kind = self.chance.random()
        if kind < 0.2:
            # The same message with two calls: a stream that has both recipients drops the second part.
            token, message_id = self.world.next_token(), new_id()
            for to in ([channel] for channel in self.chance.sample(self.world.channels, 2)):
                await self._store(self._message(to, token, message_id), token, None)
        elif kind < 0.5:
            token = self.world.next_token()
            await self._store(self._message(self._recipients(), token, new_id()), token, new_id())
        else:
            token = self.world.next_token()
            durable = self.chance.random() < 0.8
            size = self.chance.choice((0, 0, 1, 20))
            data = {"token": token_text(token), "text": TEXT * size}
            event = custom(to=self._recipients(), event_type="x", data=data, durable=durable)
            await self._store(event, token, new_id() if durable else None)

    def _message(self, to: list[str], token: int, message_id: str) -> Event:
        fields = {"id": message_id, "to": to, "subject": token_text(token)}
        return message_event(fields, may_repeat=True, now=self.world.now())

    async def _store(self, event: Event, token: int, key: str | None) -> None:
        """Publish; with a key, repeat until it is acknowledged."""
        until_s = self.world.loop.time() + (GIVE_UP_S if key else 0)
        idempotency = Idempotency(key, "same body") if key else None
        while True:
            if (process := self._process()) is not None:
                try:
                    receipt = await process.broker.publish(event, idempotency)
                except BrokerUnavailable:
                    self.world.counts["refused"] += 1
                else:
                    if event.durable:
                        self.world.note(f"published {token} to {event.to}: {receipt.cursor}")
                        self.world.acknowledge(token, event.to)
                    return
            if self.world.loop.time() >= until_s:
                return
            await asyncio.sleep(self.chance.uniform(0.1, 2))

    async def _work_on_a_task(self) -> None:
        process = self._process()
        if process is None:
            return
        now_ms = int(self.world.now().timestamp() * 1000)
        try:
            if not self._tasks or self.chance.random() < 0.1:
                task = begin(to=self.chance.sample(self.world.shared, 1), name="work", total=1000, now_ms=now_ms)
                await process.broker.create_task(task)
                self._tasks.append(task.id)
                return
            task_id = self.chance.choice(self._tasks[-5:])
            change = {"done": self.chance.randrange(1000)} if self.chance.random() < 0.95 else {"status": "succeeded"}
            await process.broker.change_task(task_id, lambda stored: stored.changed(change, now_ms=now_ms))
            self.world.counts["task changes"] += 1
        except (BrokerUnavailable, Conflict, NotFound):
            pass

    async def _act_as_a_user(self) -> None:
        process = self._process()
        if process is None:
            return
        user, channels = self.chance.choice(self.world.users)
        action = self.chance.random()
        try:
            if action < 0.2:
                await process.broker.disconnect(user)
            elif action < 0.3 and not self.world.is_gentle:
                await process.broker.forget(user)
            else:
                await process.broker.mark(user, channels, "all", [])
        except BrokerUnavailable:
            pass
