"""Assertions about the messages that a block sends, for unittest's classes and as plain context managers.

Must not know: transports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django_bridge.testing.captured import Outbox, capture_notifications, outbox


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


class NotificationAssertions:
    """For a `TestCase`: `with self.assertNotified(user, subject="Paid"):` and `with self.assertNotNotified():`.

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


def _has(message: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return all(name in message and message[name] == value for name, value in fields.items())
