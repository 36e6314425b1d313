"""SIGHUP: the service reads its secrets again from their files, and no stream ends."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from tests.faults.clients import Listener, listening, until
from tests.support import API_KEY, JWT_SECRET, RedisServer, Service, bearer, running
from tests.tokens import signed

NEW = "new-secret-" + "n" * 32
NEW_KEY = "new-key-0123456789abcdef"


@pytest.mark.programs
@pytest.mark.parametrize("workers", [1, 2])
async def test_secrets_are_read_again_and_no_stream_ends(
    redis_server: RedisServer, tmp_path: Path, workers: int
) -> None:
    secrets, keys = tmp_path / "secrets", tmp_path / "keys"
    secrets.write_text(JWT_SECRET)
    keys.write_text(API_KEY)
    env = {"NOTIFIER_JWT_SECRET": "", "NOTIFIER_API_KEYS": ""}
    env |= {"NOTIFIER_JWT_SECRET_FILE": str(secrets), "NOTIFIER_API_KEYS_FILE": str(keys)}
    with running(Service(redis_url=redis_server.url, workers=workers, env=env)) as service:
        listeners = [Listener(service.port, f"h{i}") for i in range(6)]
        async with listening(*listeners):
            secrets.write_text(f"{NEW},{JWT_SECRET}\n")
            keys.write_text(f"{API_KEY}\n{NEW_KEY}\n")
            await _reloaded(service, "the credentials were read again: 2 API keys")
            for key, token in ((API_KEY, JWT_SECRET), (NEW_KEY, NEW)):
                assert _publishes(service, key) == _unread(service, token) == 200

            secrets.write_text(NEW)
            keys.write_text(f"{NEW_KEY}\n")
            await _reloaded(service, "the credentials were read again: 1 API keys")
            assert _publishes(service, API_KEY) == _unread(service, JWT_SECRET) == 401

            secrets.write_text("short")
            await _reloaded(service, "the credentials stay as they were: NOTIFIER_JWT_SECRET")
            assert _publishes(service, NEW_KEY) == _unread(service, NEW) == 200

            await until(lambda: all(len(listener.messages) == 3 for listener in listeners))
        assert [listener.connects for listener in listeners] == [1] * 6


async def _reloaded(service: Service, line: str) -> None:
    service.process.signal(signal.SIGHUP)
    await until(lambda: service.process.output().count(line) == service.workers, what=line)


def _publishes(service: Service, key: str) -> int:
    body = {"to": ["all"], "subject": "Hello"}
    return httpx.post(f"{service.url}/v1/messages", json=body, headers=bearer(key), timeout=10).status_code


def _unread(service: Service, secret: str) -> int:
    headers = bearer(signed(secret, sub="other"))
    return httpx.get(f"{service.url}/v1/inbox/unread", headers=headers, timeout=10).status_code
