"""For the tests of your own project: what was sent, without a service; and with the real one, for tests in a browser.

    class OrderTests(NotificationAssertions, TestCase):
        def test_the_buyer_is_told(self):
            with self.assertNotified(buyer, subject="Paid"):
                pay(order)

    def test_the_buyer_is_told(db, capture_notifications):
        with capture_notifications() as sent:
            pay(order)
        assert sent.messages[0]["subject"] == "Paid"

While Django's test environment is set up, everything goes to `outbox` and nothing leaves the process, unless
`NOTIFIER["TEST_TRANSPORT"]` says otherwise. Values are checked by the same rules as with the other transports. The
fixtures are in `pytest_plugin`, which pytest finds by itself.
"""

from __future__ import annotations

from django_bridge.testing.assertions import NotificationAssertions, assert_not_notified, assert_notified
from django_bridge.testing.captured import Outbox, capture_notifications, outbox
from django_bridge.testing.live import LiveNotifierMixin

__all__ = [
    "LiveNotifierMixin",
    "NotificationAssertions",
    "Outbox",
    "assert_not_notified",
    "assert_notified",
    "capture_notifications",
    "outbox",
]
