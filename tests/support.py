"""Real servers for the tests: Redis, the service, free ports, waiting for a condition.

Every server listens on 127.0.0.1 only, on a port of its own, and ends with the test that started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx
import jwt
import redis

from tests.credentials import ADMIN_KEY as ADMIN_KEY
from tests.credentials import API_KEY as API_KEY
from tests.credentials import JWT_SECRET as JWT_SECRET
from tests.credentials import REPOSITORY as REPOSITORY

FULL = os.environ.get("NOTIFIER_FAULTS") == "full"
"""Whether `make test-faults` runs: every case at full size, and the tests marked `full`."""
CHROMIUM = "/usr/bin/chromium-headless-shell"
"""Debian's Chromium without its windows: the same engine, for two thirds of the processor time. What it lacks,
notifications of the browser and the cache of pages to go back to, is tested in `/usr/bin/chromium`."""

T = TypeVar("T")


PORTS = range(12_000, 32_000, 500)
"""The first ports of blocks below those that the kernel gives to clients, and to servers that ask for any port."""


@functools.cache
def _own_ports() -> Iterator[int]:
    """The ports of blocks that no other process of the tests has while this one runs; after all of them, again."""
    own: list[range] = []
    for start in PORTS:
        try:
            lock = os.open(f"{tempfile.gettempdir()}/notifier-ports-{start}", os.O_CREAT | os.O_RDWR, 0o666)
        except PermissionError:
            continue  # another user's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        own.append(range(start, start + PORTS.step))
        yield from own[-1]
    while own:
        for block in own:
            yield from block


def free_port() -> int:
    """A port on 127.0.0.1 without a listener, given to nothing else for a long time: before its server starts, or while
    that is down."""
    for port in _own_ports():
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def wait_for(condition: Callable[[], T], *, timeout_s: float = 30, what: str = "the condition") -> T:
    """Poll `condition` until its result is true; return it. AssertionError after `timeout_s`."""
    deadline, pause_s = time.monotonic() + timeout_s, 0.02
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} was not met within {timeout_s} s")
        time.sleep(pause_s)
        pause_s = min(0.1, pause_s * 1.2)  # most conditions ask a server: the loop is to leave it the processor


def share_tls_context() -> None:
    """Read the machine's certificates once. httpx reads them for every client (30 ms of CPU), also for each
    `httpx.get` of a loop that waits. A context with settings of its own is created as ever."""
    create = httpx._config.create_ssl_context

    @functools.cache
    def shared(*places: str | None) -> ssl.SSLContext:
        return create()

    def create_ssl_context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is True and cert is None and trust_env:
            return shared(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        return create(verify, cert, trust_env)

    httpx._transports.default.create_ssl_context = create_ssl_context  # type: ignore[attr-defined]  # not exported


def subscriber_token(user: str, *, expires_in_s: float = 3600, **claims: Any) -> str:
    """A token with which `user` may open a stream of the service started here."""
    now = time.time()
    body = {"sub": user, "aud": "notifier:stream", "iat": int(now), "exp": int(now + expires_in_s), **claims}
    return jwt.encode(body, JWT_SECRET, algorithm="HS256")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Process:
    """A child process. Its output goes to a file and into the error when it fails."""

    def __init__(self, command: list[str], *, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in stop()
        self.child = subprocess.Popen(
            command, stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, cwd=cwd
        )

    def output(self) -> str:
        # pread: the child writes at the shared file offset, which a read would move.
        descriptor = self.log.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        """Wait for `ready`. AssertionError with the output if the process ends first, or after `timeout_s`."""
        deadline, pause_s = time.monotonic() + timeout_s, 0.02
        while not ready():
            if self.child.poll() is not None:
                raise AssertionError(f"{what} ended with {self.child.returncode}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} was not ready within {timeout_s} s:\n{self.output()}")
            time.sleep(pause_s)
            pause_s = min(0.1, pause_s * 1.2)

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def stop(self, timeout_s: float = 15) -> int:
        """End the process (SIGTERM, then SIGKILL). Returns its exit code."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.terminate()
            try:
                self.child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(5)
        if not self.log.closed:
            self.log.close()
        return self.child.returncode


class RedisServer:
    """A real redis-server with a data folder of its own.

    `append_only`: its data survives a kill. `guarded`: only the users and rights of deploy/redis-users.acl, plus
    `admin`, who may do everything; each password is the user's name.
    """

    def __init__(self, *, append_only: bool = False, guarded: bool = False) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="notifier-redis-"))
        self.append_only = append_only
        self.guarded = guarded
        if guarded:
            (self.folder / "users.acl").write_text(users_with_passwords())
        self.process: Process | None = None
        self.start()

    @property
    def url(self) -> str:
        """The service's address of it."""
        return self.url_of("notifier")

    def url_of(self, user: str) -> str:
        login = f"{user}:{user}@" if self.guarded else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A client with all rights."""
        login = {"username": "admin", "password": "admin"} if self.guarded else {}
        return redis.Redis(port=self.port, host="127.0.0.1", **login)

    def start(self) -> None:
        self.process = Process(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
            + (["--appendonly", "yes", "--appendfsync", "always"] if self.append_only else [])
            + (["--aclfile", str(self.folder / "users.acl")] if self.guarded else [])
        )
        self.process.wait_until(self._answers, "redis-server")

    def _answers(self) -> bool:
        with contextlib.closing(self.client()) as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.child.kill()
        self.process.stop()

    def stop(self) -> None:
        assert self.process is not None
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def users_with_passwords() -> str:
    """deploy/redis-users.acl with each user's name as the password, and `admin`, who may do everything."""
    lines = []
    for line in (REPOSITORY / "deploy" / "redis-users.acl").read_text().splitlines():
        name = line.split()[1]
        digest = hashlib.sha256(name.encode()).hexdigest()
        lines.append(line if name == "default" else f"{line} #{digest}")
    return "\n".join([*lines, "user admin on >admin ~* &* +@all"]) + "\n"


class Service:
    """The real service: `notifier serve` in a process of its own. No `redis_url`: the embedded broker."""

    def __init__(
        self,
        *,
        redis_url: str = "",
        workers: int = 1,
        dev: bool = False,
        port: int | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.workers = workers
        command = [sys.executable, "-m", "notifier", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", str(workers)] + (["--dev"] if dev else [])
        self.process = Process(
            command,
            cwd=REPOSITORY,
            env={
                "NOTIFIER_REDIS_URL": redis_url,
                "NOTIFIER_JWT_SECRET": JWT_SECRET,
                "NOTIFIER_API_KEYS": f"{API_KEY},{ADMIN_KEY}:publish+admin",
                "NOTIFIER_DRAIN_S": "0.3",
                **(env or {}),
            },
        )
        try:
            self.process.wait_until(self._ready, "the service")
        except BaseException:
            self.process.stop()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = API_KEY) -> httpx.Client:
        """A client that may publish."""
        return httpx.Client(base_url=self.url, headers=bearer(key), timeout=10)

    def user(self, user: str, **claims: Any) -> httpx.Client:
        """A client with the token of `user`."""
        return httpx.Client(base_url=self.url, headers=bearer(subscriber_token(user, **claims)), timeout=10)

    def open_streams(self) -> int:
        """Open streams of a service with one process."""
        text = httpx.get(f"{self.url}/metrics", timeout=5).text
        return int(re.findall(r'^notifier_streams\{worker="0"\} (\d+)$', text, re.MULTILINE)[0])

    def used(self) -> tuple[float, float]:
        """Resident memory (MiB) and CPU time so far (s) of a service with one process."""
        folder = Path("/proc") / str(self.process.child.pid)
        resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        return resident / 2**20, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _ready(self) -> bool:
        if self.process.output().count("Application startup complete") < self.workers:
            return False
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=1).status_code == 200
        return False

    def stop(self) -> int:
        return self.process.stop()


@contextlib.contextmanager
def running(server: T) -> Iterator[T]:
    """Stops a server at the end: `with running(RedisServer()) as redis_server:`."""
    try:
        yield server
    finally:
        server.stop()  # type: ignore[attr-defined]  # RedisServer and Service
