"""The real service beside the tests: for tests of a page in a browser, or of the wire.

Must not know: what is tested.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_bridge.service import ServiceProcess


class LiveNotifierMixin:
    """Runs the service beside Django's live server, and makes the project use it.

        class BellTests(LiveNotifierMixin, StaticLiveServerTestCase):
            def test_the_bell_counts(self):
                browser.get(self.live_server_url)
                Message(to_users=self.user, subject="Paid").send()

    Each class has its own service process, with the embedded broker; `notifier_url` is its address. It needs the extra
    `server`. It also works without a live server, in a plain `TransactionTestCase`.
    """

    notifier_url: str

    @classmethod
    def setUpClass(cls) -> None:
        base: Any = super()
        base.setUpClass()
        live = live_notifier(origin=getattr(cls, "live_server_url", ""))
        cls.notifier_url = live.__enter__().url
        # Class cleanups run even if a later part of setUpClass fails.
        add: Callable[..., None] = getattr(cls, "addClassCleanup")  # noqa: B009  # a method of the other base class
        add(live.__exit__, None, None, None)


@contextmanager
def live_notifier(origin: str = "") -> Iterator[ServiceProcess]:
    """A service that the project uses inside the block. `origin`: the CORS origin whose pages may connect.

    Raises `ServiceNotStarted`, with the service's output.
    """
    from django.conf import settings
    from django.test import override_settings

    from django_bridge.service import ServiceNotStarted, ServiceProcess, free_port

    key, secret, port = secrets.token_hex(16), secrets.token_hex(32), free_port()
    env = {"NOTIFIER_API_KEYS": f"{key}:publish+admin", "NOTIFIER_JWT_SECRET": secret, "NOTIFIER_REDIS_URL": ""}
    with tempfile.TemporaryFile() as output:
        try:
            service = ServiceProcess(
                {**env, "NOTIFIER_CORS_ORIGINS": origin, "NOTIFIER_DRAIN_S": "0"}, port=port, output=output
            )
        except ServiceNotStarted as exc:
            output.seek(0)
            raise ServiceNotStarted(f"{exc}\n{output.read().decode(errors='replace')}") from None
        changed = {"TRANSPORT": "http", "TEST_TRANSPORT": "http", "URL": service.url, "PUBLIC_URL": service.url}
        before = getattr(settings, "NOTIFIER", None) or {}
        try:
            with override_settings(NOTIFIER={**before, **changed, "API_KEY": key, "JWT_SECRET": secret}):
                yield service
        finally:
            service.stop()
