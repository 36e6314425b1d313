"""For the tests of your own project: what was sent, without a service.

    @override_settings(NOTIFIER={"TRANSPORT": "memory"})
    class OrderTests(TestCase):
        def setUp(self):
            outbox.clear()

        def test_the_buyer_is_told(self):
            with self.captureOnCommitCallbacks(execute=True):   # TestCase never commits
                pay(order)
            self.assertEqual(outbox.messages[0]["subject"], "Paid")

Values are checked by the same rules as with the other transports.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from notifier.errors import NotFound
from notifier.task import Task

if TYPE_CHECKING:
    from django_bridge.payload import Payload

__all__ = ["Outbox", "outbox"]


class Outbox:
    """What the transport `memory` was given, in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self.messages: list[Payload] = []
        """Messages with `id to subject text from level url data sent_at expires_at`."""
        self.task_updates: list[Mapping[str, Any]] = []
        """Each state of each task as browsers would have got it."""

    @property
    def tasks(self) -> list[Mapping[str, Any]]:
        """The latest state of each task, the first that began first."""
        return [task.public() for task in self._tasks.values()]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self.messages.clear()
            self.task_updates.clear()
            self._tasks.clear()

    def request_cancel(self, task_id: str) -> None:
        """Does what a user's click on "cancel" does. Raises `NotFound`, and `Conflict` where the task has ended."""
        self.put_task(self.kept_task(task_id).cancelled_by_user(now_ms=int(time.time() * 1000)))

    # For the transport

    def put_message(self, payload: Payload) -> bool:
        with self._lock:
            if all(kept["id"] != payload["id"] for kept in self.messages):
                self.messages.append(payload)
        return True

    def put_task(self, task: Task) -> Task:
        with self._lock:
            self._tasks[task.id] = task
            self.task_updates.append(task.public())
        return task

    def kept_task(self, task_id: str) -> Task:
        if task_id not in self._tasks:
            raise NotFound(f"there is no task {task_id!r}", field="id")
        return self._tasks[task_id]


outbox: Final = Outbox()
