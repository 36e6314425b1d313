"""Test support for your project: inspect what was sent, without a service; or run the real service for browser tests.

    class OrderTests(NotificationAssertions, TestCase):
        def test_the_buyer_is_notified(self):
            with self.assertNotified(buyer, subject="Paid"):
                pay(order)

    def test_the_buyer_is_notified(db, capture_notifications):
        with capture_notifications() as sent:
            pay(order)
        assert sent.messages[0]["subject"] == "Paid"

While Django's test environment is set up, everything goes to `outbox` and nothing leaves the process, unless
`NOTIFIER["TEST_TRANSPORT"]` names another transport. Values are checked by the same rules as with the other transports.
The fixtures are in `pytest_plugin`, which pytest loads by itself.
"""

from __future__ import annotations

from django_bridge.testing.assertions import NotificationAssertions, assert_not_notified, assert_notified, assert_task
from django_bridge.testing.captured import Outbox, capture_notifications, outbox
from django_bridge.testing.live import LiveNotifierMixin

__all__ = [
    "LiveNotifierMixin",
    "NotificationAssertions",
    "Outbox",
    "assert_not_notified",
    "assert_notified",
    "assert_task",
    "capture_notifications",
    "outbox",
]
