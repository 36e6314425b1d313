"""A real PostgreSQL server for the tests, from Debian's package: on a Unix socket in a folder of its own, no port.

PostgreSQL refuses to run as root; then the user `postgres`, which the package makes, runs it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

USER = "notifier"


def programs() -> Path:
    """Where `initdb` and `postgres` are; Debian keeps them off the path, by version."""
    initdb = shutil.which("initdb")
    folders = [Path(initdb).resolve().parent] if initdb else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert folders, "PostgreSQL is not installed: run tools/install-test-packages"
    return folders[-1]


class PostgresServer:
    """Databases are made by `create`; every process that can read the folder may do everything."""

    def __init__(self) -> None:
        # Not below TMPDIR: that may be closed to the other user, and a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="notifier-pg-", dir="/tmp"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.folder, "postgres", "postgres")
        data = self.folder / "data"
        how = ["-U", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        self._run("initdb", "-D", str(data), *how).wait(60)
        # Nothing of it outlives the run: what makes it durable would only cost time.
        fast = ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        self.process = self._run("postgres", "-D", str(data), "-k", str(self.folder), "-c", "listen_addresses=", *fast)
        self._wait_until_ready()

    def _run(self, program: str, *args: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{program}.log").open("wb") as log:
            command = [str(programs() / program), *args]
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, **self._as)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(psycopg.OperationalError), self.connection():
                return
            output = "".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))
            assert self.process.poll() is None, f"postgres ended:\n{output}"
            assert time.monotonic() < deadline, f"postgres was not ready:\n{output}"
            time.sleep(0.05)

    def connection(self) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self.folder), user=USER, dbname="postgres", autocommit=True)

    def create(self, *names: str) -> None:
        """Empty databases of these names."""
        with self.connection() as connection:
            for name in names:
                connection.execute(f'CREATE DATABASE "{name}"')

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # SIGTERM would wait for those who are connected
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        shutil.rmtree(self.folder, ignore_errors=True)
