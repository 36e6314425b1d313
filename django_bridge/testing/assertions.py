"""Assertions about the messages that a block sends, for unittest's classes and as plain context managers.

Must not know: transports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from django_bridge.testing.captured import Outbox, capture_notifications, outbox

if TYPE_CHECKING:
    from django_bridge.payload import EventBody, Payload


@contextmanager
def assert_notified(to: Any, **fields: Any) -> Iterator[Outbox]:
    """Fails unless the block sends a message to `to` (as for a `Message`) with these fields."""
    from django_bridge.recipients import channels

    expected = set(channels(to, "to"))
    with capture_notifications() as captured:
        yield captured
    if not any(expected <= set(message["to"]) and _has(message, fields) for message in captured.messages):
        raise AssertionError(f"no message to {sorted(expected)} with {fields}; sent: {captured.messages}")


@contextmanager
def assert_not_notified() -> Iterator[Outbox]:
    """Fails if the block sends a message."""
    with capture_notifications() as captured:
        yield captured
    if captured.messages:
        raise AssertionError(f"messages were sent: {captured.messages}")


def assert_task(
    name: str, *, sent: Outbox | None = None, progress: int | None = None, **fields: Any
) -> Mapping[str, Any]:
    """Fails unless a task of this name has these fields now, such as `status="succeeded"`; `progress` is in percent.

    Looks at what the innermost open capture received, else at `outbox`; or at `sent`. Returns the task.
    """
    if progress is not None:
        fields["percent"] = progress
    tasks = (sent or outbox.receiving).tasks
    matching = [task for task in tasks if _has(task, {"name": name, **fields})]
    if not matching:
        raise AssertionError(f"no task {name!r} with {fields}; the tasks are: {tasks}")
    return matching[-1]


class NotificationAssertions:
    """For a `TestCase`: `with self.assertNotified(user, subject="Paid"):`, `with self.assertNotNotified():` and
    `self.assertTask("Import", status="succeeded", progress=100)`.

    `outbox` is empty at the start of each test.
    """

    def setUp(self) -> None:
        outbox.clear()
        getattr(super(), "setUp", lambda: None)()

    def assertNotified(self, to: Any, **fields: Any) -> AbstractContextManager[Outbox]:  # noqa: N802  # as unittest
        """Fails unless the block sends a message to `to` (as for a `Message`) with these fields."""
        return assert_notified(to, **fields)

    def assertNotNotified(self) -> AbstractContextManager[Outbox]:  # noqa: N802  # as unittest spells it
        """Fails if the block sends a message."""
        return assert_not_notified()

    def assertTask(self, name: str, **fields: Any) -> Mapping[str, Any]:  # noqa: N802  # as unittest spells it
        """Fails unless a task of this name has these fields now; see `assert_task`."""
        return assert_task(name, **fields)


class Notifications:
    """What a test has sent, and assertions about it: the pytest fixture `notifier`."""

    @property
    def messages(self) -> list[Payload]:
        return outbox.receiving.messages

    @property
    def events(self) -> list[EventBody]:
        return outbox.receiving.events

    @property
    def tasks(self) -> list[Mapping[str, Any]]:
        """The latest state of each task, in the order of their begin."""
        return outbox.receiving.tasks

    def request_cancel(self, task: Any) -> None:
        """As a user's click on "cancel" of this task, a `Task` or its id."""
        outbox.receiving.request_cancel(task)

    capture = staticmethod(capture_notifications)
    assert_notified = staticmethod(assert_notified)
    assert_not_notified = staticmethod(assert_not_notified)
    assert_task = staticmethod(assert_task)


def _has(message: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return all(name in message and message[name] == value for name, value in fields.items())
