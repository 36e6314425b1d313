"""`python -m bench.restart`: how long the service takes to start on a full SQLite file, and its memory then.

--channels N --events N   what the file has (100,000 channels of 50 messages)
--memory   instead: what these messages, published in batches, add to the memory of a service with and without a file

It exits with 1 if the median of three starts takes more than 5 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from bench.peers.notifier import KEY, Notifier
from notifier.broker.embedded.log import Entry, Log
from notifier.broker.sqlite import rows
from notifier.broker.sqlite.file import File
from notifier.event import Cursor
from notifier.message import message_event

READY_S = 5.0
ROWS = 100_000
"""Rows of one transaction."""
BATCH = 100
"""Messages of one call."""
MESSAGE = {"subject": "Your order has been shipped", "text": "It comes today."}


def fill(path: Path, channels: int, events: int) -> None:
    """Write a file as the service would after so many messages, each to one user."""
    file = File(path, "normal")
    start, _ = file.read()
    changes: list[rows.Row] = []
    for row in _entries(channels, events):
        changes.append(row)
        if len(changes) == ROWS:
            file.commit(changes)
            changes.clear()
    file.commit(changes)
    file.note(Cursor(start.epoch, channels * events))
    file.close()
    os.sync()  # else the first start waits for the disk, which writes all of it


def _entries(channels: int, events: int) -> Iterator[rows.Row]:
    for number, channel in enumerate(sorted(f"user:{number}" for number in range(channels))):
        log = Log(appended_s=time.time())
        for turn in range(events):
            event = message_event({"to": [channel], **MESSAGE})
            entry = Entry(turn * channels + number + 1, event.frame_for(channel), event.message_id, 0, "")
            yield rows.APPEND, (channel, entry.seq, rows.entry_text(log, entry))


def measure(channels: int, events: int) -> float:
    """Print the size of the file and, of three starts, how long each took, and the memory after it. Returns the median
    in seconds."""
    starts = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notifier.db"
        fill(path, channels, events)
        print(f"{path.stat().st_size / 2**20:.0f} MiB", flush=True)
        for _ in range(3):
            server = Notifier(Path(folder), settings={"NOTIFIER_BROKER_URL": f"sqlite://{path}"})
            try:
                server.start()
                starts.append(server.ready_s)
                print(f"ready after {server.ready_s:.2f} s, {server.memory_kib() / 1024:.0f} MiB", flush=True)
            finally:
                server.stop()
    return statistics.median(starts)


def grown_mib(broker: str, folder: Path, channels: int, events: int) -> float:
    """What messages that are published to a new service add to its memory."""
    server = Notifier(folder, settings={"NOTIFIER_BROKER_URL": broker})
    try:
        server.start()
        before_kib = server.memory_kib()
        url, headers = f"http://127.0.0.1:{server.port}", {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=url, headers=headers) as api:
            for first in range(0, channels, BATCH):
                users = range(first, min(first + BATCH, channels))
                items = [{"kind": "message", "to": [f"user:{user}"], **MESSAGE} for user in users]
                for _ in range(events):
                    api.post("/v1/batch", json=items, timeout=60).raise_for_status()
        return (server.memory_kib() - before_kib) / 1024
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description=__doc__)
    parser.add_argument("--channels", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=50)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    if options.memory:
        with tempfile.TemporaryDirectory() as folder:
            for url in ("memory:", f"sqlite://{folder}/notifier.db"):
                grown = grown_mib(url, Path(folder), options.channels, options.events)
                print(f"{url.partition(':')[0]}: {grown:.1f} MiB", flush=True)
        return
    if (median_s := measure(options.channels, options.events)) > READY_S:
        sys.exit(f"ready after {median_s:.2f} s (median), not {READY_S:g}")


if __name__ == "__main__":
    main()
