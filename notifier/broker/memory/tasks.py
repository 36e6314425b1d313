"""The tasks of the embedded broker: each until its time is over, which channels watch it, which producers give signs.

Must not know: users' marks, streams, events.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from notifier.broker import MAX_INDEXED_TASKS, MAX_STALLED
from notifier.task import MAX_SNAPSHOT, Task


class MemoryTasks:
    """The tasks of one process."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._with_heartbeat: set[str] = set()
        """Tasks whose producers say that they live."""
        self._watched: dict[str, dict[str, None]] = {}
        """By channel, the one that was changed last at the end."""

    def find(self, task_id: str) -> Task | None:
        """A task that is still kept."""
        task = self._tasks.get(task_id)
        if task is not None and task.updated_at_ms / 1000 + task.keep_s < time.time():
            self._remove(task_id)
            return None
        return task

    def keep(self, task: Task) -> None:
        """Keeps a task, or its newer state."""
        self._tasks[task.id] = task
        if task.alive_at_ms is None:
            self._with_heartbeat.discard(task.id)
        else:
            self._with_heartbeat.add(task.id)
        for channel in task.to:
            watched = self._watched.setdefault(channel, {})
            watched.pop(task.id, None)
            watched[task.id] = None
            while len(watched) > MAX_INDEXED_TASKS:
                del watched[next(iter(watched))]

    def stalled(self, before_ms: int) -> Sequence[str]:
        """Tasks whose producers gave their last sign before this time, the longest silent first."""
        kept = [task for task_id in list(self._with_heartbeat) if (task := self.find(task_id)) is not None]
        found = [(task.alive_at_ms, task.id) for task in kept if (task.alive_at_ms or before_ms) < before_ms]
        return [task_id for _, task_id in sorted(found)[:MAX_STALLED]]

    def watched(self, channels: Sequence[str]) -> list[Task]:
        """What these channels watch, the one that was changed last first."""
        found: dict[str, Task] = {}
        for channel in channels:
            for task_id in list(reversed(self._watched.get(channel, {})))[:MAX_SNAPSHOT]:
                task = self.find(task_id)
                if task is not None:
                    found[task_id] = task
        return sorted(found.values(), key=lambda one: one.updated_at_ms, reverse=True)

    def forget(self, channel: str) -> None:
        """Removes what only this channel watches."""
        for task_id in self._watched.pop(channel, {}):
            # Others may watch it too: then it is theirs.
            if task_id in self._tasks and self._tasks[task_id].to == (channel,):
                self._remove(task_id)

    def sweep(self) -> Iterator[None]:
        """Looks once at everything that is kept, one thing a step, and removes what has expired."""
        for task_id in list(self._tasks):
            self.find(task_id)
            yield
        for channel in list(self._watched):
            alive = {task_id: None for task_id in self._watched.pop(channel, {}) if task_id in self._tasks}
            if alive:
                self._watched[channel] = alive
            yield

    def _remove(self, task_id: str) -> None:
        del self._tasks[task_id]
        self._with_heartbeat.discard(task_id)
