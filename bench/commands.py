"""What Redis spends on a publish, command by command: `python -m bench.commands`.

Redis runs the publish script for events of one user each, first for users without a history, then for the same again.
Its own statistics (`INFO commandstats`) say what the script's commands took, without reading the call from the socket.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import redis

from bench.peers.notifier import Redis

USERS = 5_000
ROUNDS = 5
"""Events to each user that has a history."""
SCRIPT = "cmdstat_evalsha"


def spent_us(client: redis.Redis, calls: Sequence[bytes], port: int) -> dict[str, float]:
    """µs of a publish in each command, and in the script as a whole."""
    client.config_resetstat()
    connection = redis.Connection(port=port)
    for start in range(0, len(calls), 100):
        portion = calls[start : start + 100]
        connection.send_packed_command(portion)
        for _ in portion:
            connection.read_response()
    connection.disconnect()
    stats = client.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): figures["usec"] / len(calls)
        for name, figures in stats.items()
        if name == SCRIPT or figures["calls"] >= len(calls)
    }


def measure(users: int = USERS) -> tuple[dict[str, float], dict[str, float]]:
    """The first event of a user, and a later one."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = Redis(Path(folder))
        server.start()
        try:
            calls = server.publish_requests([(str(user), "x" * 200) for user in range(users)])
            with redis.Redis(port=server.port) as client:
                first = spent_us(client, calls, server.port)
                return first, spent_us(client, calls * ROUNDS, server.port)
        finally:
            server.stop()


def text(first: dict[str, float], later: dict[str, float]) -> str:
    """The table, the dearest first."""
    names = sorted({*first, *later}, key=lambda name: -later.get(name, 0.0))
    rows = [f"| {name} | {first.get(name, 0.0):.2f} | {later.get(name, 0.0):.2f} |" for name in names]
    return "\n".join(["| command | first event of a user, µs | a later one, µs |", "| --- | ---: | ---: |", *rows])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(text(*measure()))
