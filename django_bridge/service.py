"""The service as a child process: for `manage.py notifier` and for browser tests.

The child ends with its parent even if that is killed: it reads a pipe that only the parent holds open. A separate
process keeps FastAPI out of Django's. Must not know: runserver, tests.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import IO, Final

import httpx

from django_bridge.conf import Settings

NEEDED: Final = ("fastapi", "uvicorn", "click", "pydantic_settings", "sse_starlette")
"""Packages of the extra `server` whose presence is checked."""
START_S: Final = 60.0
"""How long the service may take until it is ready. One that ends before is noticed at once."""
STOP_S: Final = 15.0


class ServiceNotStarted(RuntimeError):
    """The service could not be started; the text gives the reason."""


def check_installed() -> None:
    """Raises `ServiceNotStarted` where the packages of the extra `server` are not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ServiceNotStarted(
            f"The service's packages are not installed in this Python ({', '.join(missing)}): "
            "pip install 'sse-notifier[server]'. Or run the service elsewhere, as a container, and set NOTIFIER['URL']."
        )


def environment(settings: Settings, *, origins: str) -> dict[str, str]:
    """The service's environment for a project's settings: the same key, secret and Redis."""
    return {
        # With the transport `redis` a project may have no API key, but the service requires one.
        "NOTIFIER_API_KEYS": settings.api_key or secrets.token_hex(16),
        "NOTIFIER_JWT_SECRET": settings.jwt_secret,
        "NOTIFIER_CORS_ORIGINS": origins,
        "NOTIFIER_REDIS_URL": "",
        **({"NOTIFIER_BROKER_URL": settings.redis_url} if settings.transport == "redis" else {}),
        "NOTIFIER_PREFIX": settings.prefix,
        "NOTIFIER_SHARDS": str(settings.shards),
        "NOTIFIER_HISTORY_SIZE": str(settings.history_size),
        "NOTIFIER_EVENT_HISTORY_SIZE": str(settings.event_history_size),
        "NOTIFIER_HISTORY_TTL_S": str(settings.history_ttl_s),
        "NOTIFIER_TOPIC_HISTORY_SIZE": str(settings.topic_history_size),
        "NOTIFIER_TOPIC_HISTORY_TTL_S": str(settings.topic_history_ttl_s),
        "NOTIFIER_TASK_OUTPUT_BYTES": str(settings.task_output_bytes),
        # Files of secrets that this process' environment names are those of another service.
        **{
            f"NOTIFIER_{name}_FILE": ""
            for name in ("API_KEYS", "JWT_SECRET", "JWT_PUBLIC_KEY", "REDIS_URL", "BROKER_URL")
        },
    }


def free_port() -> int:
    """A port of 127.0.0.1 that is unused at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServiceProcess:
    """A running `notifier serve`: the constructor returns when it is ready. `output` gets its stdout and stderr; None:
    those of this process.

    Raises `ServiceNotStarted`.
    """

    def __init__(
        self, env: Mapping[str, str], *, host: str = "127.0.0.1", port: int, output: IO[bytes] | None = None
    ) -> None:
        check_installed()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{port}"
        self.child = subprocess.Popen(  # noqa: S603  # this Python, with fixed options
            [sys.executable, "-m", __name__, "serve", "--host", host, "--port", str(port), "--log-level", "warning"],
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches only the parent, which stops the child
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int:
        """Stop the service; its streams get a `bye`. Returns the exit code."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        assert self.child.stdin is not None
        with contextlib.suppress(OSError):
            self.child.stdin.close()
        return self.child.returncode

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.child.poll() is not None:
                raise ServiceNotStarted(f"the service at {self.url} ended with {self.child.returncode} as it started")
            if time.monotonic() > deadline:
                raise ServiceNotStarted(f"the service at {self.url} did not answer within {START_S:.0f} s")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            # Another server on this port would answer too, while the child exits because the port is taken.
            return httpx.get(f"{self.url}/readyz", timeout=1).status_code == 200 and self.child.poll() is None
        return False


def main() -> None:
    """The child: the command `notifier`, until it is stopped or its parent has ended."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("notifier", run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    # os.read instead of sys.stdin: a thread blocked in a buffered read would keep the interpreter from exiting.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
