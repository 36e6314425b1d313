"""Fixtures for pytest, with or without pytest-django. pytest loads this module in every run where the package is
installed, so it imports Django only when a fixture is used, and does nothing in projects without Django."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from django_bridge.testing.captured import outbox

if TYPE_CHECKING:
    from django_bridge.service import ServiceProcess
    from django_bridge.testing import Outbox
    from django_bridge.testing.assertions import Notifications


@pytest.fixture
def capture_notifications() -> Callable[[], AbstractContextManager[Outbox]]:
    """`with capture_notifications() as sent:` captures what the block sends; nothing of it leaves the process."""
    from django_bridge import testing

    return testing.capture_notifications


@pytest.fixture
def assert_notified() -> Callable[..., AbstractContextManager[Outbox]]:
    """`with assert_notified(user, subject="Paid"):` fails unless the block sends such a message."""
    from django_bridge import testing

    return testing.assert_notified


@pytest.fixture
def assert_not_notified() -> Callable[[], AbstractContextManager[Outbox]]:
    """`with assert_not_notified():` fails if the block sends a message."""
    from django_bridge import testing

    return testing.assert_not_notified


@pytest.fixture
def notifier() -> Notifications:
    """What this test sends (`messages`, `events`, `tasks`), `capture()`, and the assertions `assert_notified`,
    `assert_not_notified` and `assert_task`."""
    from django_bridge.testing.assertions import Notifications

    return Notifications()


@pytest.fixture
def notification_outbox() -> Outbox:
    """What this test has sent so far. Messages are sent on commit: use `transactional_db`, or no database."""
    from django_bridge import testing

    return testing.outbox


@pytest.fixture
def live_notifier(request: pytest.FixtureRequest) -> Iterator[ServiceProcess]:
    """The real service, used by the project. Pages of pytest-django's `live_server` may connect to it."""
    from django_bridge.testing.live import live_notifier as running

    with running(origin=_live_server_url(request)) as service:
        yield service


@pytest.fixture(autouse=True)
def _empty_notification_outbox() -> None:
    outbox.clear()


def _live_server_url(request: pytest.FixtureRequest) -> str:
    if "live_server" not in request.fixturenames:
        return ""
    return str(request.getfixturevalue("live_server").url)
