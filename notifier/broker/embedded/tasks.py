"""The tasks of the embedded broker: records with their expiry, an index per channel, and the tasks with a heartbeat.

Must not know: users' marks, streams, events.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from notifier.broker.embedded.journal import Journal
from notifier.broker.embedded.outputs import MemoryOutputs
from notifier.broker.values import MAX_STALLED
from notifier.task import MAX_SNAPSHOT, Task


class MemoryTasks:
    """The tasks of one process."""

    def __init__(self, journal: Journal, outputs: MemoryOutputs) -> None:
        self._journal = journal
        self._outputs = outputs
        self._tasks: dict[str, Task] = {}
        self._with_heartbeat: set[str] = set()
        """Ids of tasks from whose producers heartbeats are expected, and of those with an open question."""
        self._asking: set[str] = set()
        """Ids of tasks with an open question."""
        self._index: dict[str, dict[str, None]] = {}
        """Task ids by channel, the last changed at the end."""

    def find(self, task_id: str) -> Task | None:
        """A task that has not expired."""
        task = self._tasks.get(task_id)
        if task is not None and task.updated_at_ms / 1000 + task.keep_s < time.time():
            self._remove(task_id)
            return None
        return task

    def put(self, task: Task) -> None:
        """Store a task or its newer state."""
        self.restore(task)
        self._journal.put_task(task)

    def append_output(self, task: Task, text: str) -> Task:
        """Store the next piece of a task's output. Raises `Conflict` when it has ended."""
        changed = task.with_output(task.output_n + 1, task.output_chars + len(text))
        self._tasks[task.id] = changed
        self._outputs.append(task.id, changed.output_n, changed.output_chars, text)
        return changed

    def restore_output(self, task_id: str, n: int, chars: int, text: str) -> None:
        """Take a piece that was stored earlier, after the task. They come in order."""
        if (task := self._tasks.get(task_id)) is not None:
            self._tasks[task_id] = dataclasses.replace(task, output_n=n, output_chars=chars)
            self._outputs.restore(task_id, n, text)

    def restore(self, task: Task) -> None:
        """Take a task that was stored earlier. They come in the order of their changes."""
        self._tasks[task.id] = task
        if task.alive_at_ms is None:
            self._with_heartbeat.discard(task.id)
        else:
            self._with_heartbeat.add(task.id)
        if task.question is None:
            self._asking.discard(task.id)
        else:
            self._asking.add(task.id)
        for channel in task.to:
            ids = self._index.setdefault(channel, {})
            ids.pop(task.id, None)
            ids[task.id] = None

    def stalled(self, before_ms: int) -> Sequence[str]:
        """See `Broker.stalled_tasks`."""
        return self._oldest(self._with_heartbeat, before_ms)

    def due_questions(self, before_ms: int) -> Sequence[str]:
        """See `Broker.due_questions`."""
        return self._oldest(self._asking, before_ms)

    def _oldest(self, ids: Iterable[str], before_ms: int) -> list[str]:
        tasks = [task for task_id in list(ids) if (task := self.find(task_id)) is not None]
        times = [(task.alive_at_ms, task.id) for task in tasks if task.alive_at_ms is not None]
        return [task_id for _, task_id in sorted(item for item in times if item[0] < before_ms)[:MAX_STALLED]]

    def of(self, channels: Sequence[str]) -> list[Task]:
        """The tasks of these channels, last changed first."""
        tasks: dict[str, Task] = {}
        for channel in channels:
            kept = filter(None, map(self.find, reversed(self._index.get(channel, {}))))
            tasks.update((task.id, task) for task in islice(kept, MAX_SNAPSHOT))
        return sorted(tasks.values(), key=lambda task: task.updated_at_ms, reverse=True)

    def forget(self, channel: str) -> None:
        """Remove the channel's index and its tasks; those with other recipients stay for these."""
        for task_id in self._index.pop(channel, {}):
            task = self.find(task_id)
            if task is not None and (others := task.without(channel)).to:
                self._tasks[task_id] = others
                self._journal.put_task(others)
            elif task is not None:
                self._remove(task_id)

    def sweep(self) -> Iterator[None]:
        """Check every task and every index once, four per step, and remove what has expired."""
        for place, task_id in enumerate(list(self._tasks)):
            self.find(task_id)
            if place % 4 == 0:
                yield
        for place, channel in enumerate(list(self._index)):
            ids = {task_id: None for task_id in self._index.pop(channel, {}) if task_id in self._tasks}
            if ids:
                self._index[channel] = ids
            if place % 4 == 0:
                yield

    def _remove(self, task_id: str) -> None:
        del self._tasks[task_id]
        self._journal.remove_task(task_id)
        self._outputs.remove(task_id)
        self._with_heartbeat.discard(task_id)
        self._asking.discard(task_id)
