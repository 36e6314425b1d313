"""The real service beside the tests: for those that look at a page, or at what the wire carries.

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
    """Runs the service beside Django's live server, and points the project at it.

        class BellTests(LiveNotifierMixin, StaticLiveServerTestCase):
            def test_the_bell_counts(self):
                browser.get(self.live_server_url)
                Message(to_users=self.user, subject="Paid").send()

    The service is a process of its own on the embedded broker, one for each class; `notifier_url` is its address. It
    needs the extra `server`. Without a live server, in a plain `TransactionTestCase`, it works as well.
    """

    notifier_url: str

    @classmethod
    def setUpClass(cls) -> None:
        base: Any = super()
        base.setUpClass()
        live = live_notifier(origin=getattr(cls, "live_server_url", ""))
        cls.notifier_url = live.__enter__().url
        # Cleanups of the class run also where its set-up fails later on.
        add: Callable[..., None] = getattr(cls, "addClassCleanup")  # noqa: B009  # unittest's, of the other base
        add(live.__exit__, None, None, None)


@contextmanager
def live_notifier(origin: str = "") -> Iterator[ServiceProcess]:
    """The service, for a block in which the project uses it. `origin`: whose pages may listen.

    Raises `ServiceNotStarted`, with what the service said.
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
        except ServiceNotStarted as fault:
            output.seek(0)
            raise ServiceNotStarted(f"{fault}\n{output.read().decode(errors='replace')}") from None
        ours = {"TRANSPORT": "http", "TEST_TRANSPORT": "http", "URL": service.url, "PUBLIC_URL": service.url}
        before = getattr(settings, "NOTIFIER", None) or {}
        try:
            with override_settings(NOTIFIER={**before, **ours, "API_KEY": key, "JWT_SECRET": secret}):
                yield service
        finally:
            service.stop()
