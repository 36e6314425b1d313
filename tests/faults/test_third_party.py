"""Clients that others wrote lose nothing while the service is killed: four of Node, and curl in a loop."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.clients import until
from tests.faults.conftest import Scale
from tests.faults.publishers import Publisher
from tests.faults.test_sqlite_faults import on_file
from tests.support import Process, free_port, subscriber_token

FOLDER = Path(__file__).parent
PROGRAMS = {
    **{
        name: ["node", str(FOLDER / "third_party.js"), name]
        for name in ("eventsource", "undici", "eventsource-client", "fetch-event-source")
    },
    "curl": ["bash", str(FOLDER / "third_party.sh")],
}


class Program:
    """One client in a process of its own, which prints what it hears."""

    def __init__(self, name: str, url: str) -> None:
        environment = {"NOTIFIER_URL": url, "NOTIFIER_TOKEN": subscriber_token("walter")}
        self.name = name
        self.process = Process(PROGRAMS[name], env=environment)

    def heard(self, event: str) -> list[dict[str, Any]]:
        """The data of the events of a type, in the order in which they came."""
        whole = self.process.output().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.split("\n") if line.startswith("{")]
        return [line["data"] for line in lines if line["event"] == event]

    def stop(self) -> None:
        self.process.stop()


@pytest.mark.programs
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_clients_that_others_wrote_lose_nothing_while_the_service_is_killed(
    tmp_path: Path, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    kills, events = scale.whole(1, 5), scale.whole(100, 2000)
    port, path = free_port(), tmp_path / "notifier.db"
    service = await asyncio.to_thread(on_file, path, port)
    programs = [Program(name, service.url) for name in PROGRAMS]
    publisher = Publisher(service, ["user:walter"], seed)
    try:
        await until(lambda: all(program.heard("hello") for program in programs), 60, "a stream of every client")
        publishing = asyncio.create_task(publisher.publish_for(1e6, 100))
        for number in range(1, kills + 2):
            due = events * number // (kills + 1)
            await until(lambda due=due: len(publisher.acknowledged) >= due, 300, f"{due} messages")
            if number <= kills:
                service.process.child.kill()
                await asyncio.to_thread(service.process.stop)
                service = await asyncio.to_thread(on_file, path, port)
        publisher.stopping = True
        await publishing
        sent = publisher.ids_for("user:walter")
        for program in programs:
            await until(lambda program=program: len(program.heard("message")) >= len(sent), 60, program.name)
            ids = [message["id"] for message in program.heard("message")]
            assert ids == sent, program.name
            assert program.heard("reset") == [], program.name
            assert len(program.heard("hello")) > 1, program.name  # undici pauses for seconds: two kills may be one
    finally:
        for program in programs:
            program.stop()
        service.process.stop()
    figure(clients=len(programs), kills=kills, published=len(sent), lost=0, twice=0, resets=0)
