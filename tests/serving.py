"""The service in this process: for tests that replace its parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from notifier import app, server
from notifier.api_key import ApiKey
from notifier.settings import Settings
from tests.support import JWT_SECRET

KEY = "only-for-this-test"


@contextlib.asynccontextmanager
async def serving(settings: Settings | None = None) -> AsyncIterator[int]:
    """A service on the embedded broker. Yields its port."""
    key = ApiKey(KEY, frozenset({"publish"}))
    own = settings or Settings(jwt_secret=JWT_SECRET, api_keys=(key,), publish_rate=0, drain_s=0)
    application = app.build(own)
    configuration = server.config("replaced below", workers=1, drain_s=0, log_config=None)
    configuration.app, configuration.factory = application, False  # type: ignore[assignment]  # built, not a factory's path
    sockets = server.listen("127.0.0.1", 0)
    running = server.Server(configuration)
    serving = asyncio.create_task(running.serve(sockets))
    while not running.started:
        await asyncio.sleep(0.01)
    yield int(sockets[0].getsockname()[1])
    running.should_exit = True
    await serving
