"""Which task a call may read: for a publisher those to its targets, for a user those that the user watches.

Must not know: what the calls do.
"""

from __future__ import annotations

import time

from starlette.requests import Request

from notifier.api.granted import granted_by_query
from notifier.api.http import publisher_or_subscriber
from notifier.auth import Publisher, Subscriber
from notifier.broker import Broker
from notifier.errors import no_task
from notifier.task import Task


async def known_task(broker: Broker, task_id: str) -> Task:
    """A stored task. Raises `NotFound`."""
    known = await broker.task(task_id)
    if known is None:
        raise no_task(task_id)
    return known


async def require_task(broker: Broker, who: Publisher, task_id: str) -> None:
    """Raises `NotAllowed` for a task sent to others than the publisher's targets, and `NotFound`. A task's recipients
    never change."""
    if who.targets:
        who.require_channels((await known_task(broker, task_id)).to, "id")


async def own_task(request: Request, broker: Broker, who: Subscriber, task_id: str) -> Task:
    """A task that this user watches, by token or by a grant in the query. Raises `NotFound` for other tasks too, so
    that their ids are not revealed; `NotAllowed` and `InvalidInput` for the grant."""
    granted, now = granted_by_query(request, who).ends, time.time()
    task = await broker.task(task_id)
    if task is None or not (who.hears(task.to) or any(granted.get(channel, 0) > now for channel in task.to)):
        raise no_task(task_id)
    return task


async def readable_task(request: Request, broker: Broker, task_id: str) -> tuple[Publisher | Subscriber, Task]:
    """The caller, and the task if the caller may read it. Raises `NotFound`, `NotAllowed`."""
    who = publisher_or_subscriber(request)
    if isinstance(who, Publisher):
        who.require("publish")
        task = await known_task(broker, task_id)
        who.require_channels(task.to, "id")
        return who, task
    return who, await own_task(request, broker, who, task_id)
