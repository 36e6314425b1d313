"""The output of tasks over a file: a restart has each piece that was answered; an earlier version's file is taken."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from notifier.broker.values import Idempotency
from notifier.output import Appended, Output
from tests.broker.support import new_task, step
from tests.broker.test_sqlite import running


async def test_a_restart_keeps_output_and_its_answers_and_numbers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "notifier.db"
    async with running(path) as broker:
        for name in ("one", "two"):
            await broker.create_task(new_task(task_id=name))
            await broker.append_output(name, f"{name} 😀 \u2028\r\n")
        first = await broker.append_output("one", "second", Idempotency("p:1", "a"))
    async with running(path) as broker:
        assert await broker.output("one", 0) == Output(2, "one 😀 \u2028\r\nsecond", truncated=False)
        assert await broker.append_output("one", "second", Idempotency("p:1", "a")) == first == Appended(2, 15)
        stored = await broker.task("one")
        assert stored is not None
        assert stored.public()["output"] == {"n": 2, "chars": 15}
        assert await broker.append_output("one", "3") == Appended(3, 16)
        changed = await broker.change_task("two", step(done=1))
        assert changed.output_n == 1


async def test_only_the_kept_pieces_are_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "notifier.db"
    async with running(path) as broker:
        await broker.create_task(new_task(task_id="long"))
        for _ in range(20):
            await broker.append_output("long", "x" * 20_000)
        await broker.create_task(new_task("user:bob", task_id="gone"))
        await broker.append_output("gone", "secret")
        await broker.forget("bob")
    with sqlite3.connect(path) as connection:
        stored = connection.execute("SELECT task, n FROM outputs").fetchall()
    connection.close()
    assert stored == [("long", n) for n in range(8, 21)]
    async with running(path) as broker:
        output = await broker.output("long", 0)
        assert (output.n, output.truncated, len(output.text)) == (20, True, 13 * 20_000)


async def test_a_file_of_an_earlier_version_gets_the_table(tmp_path: Path) -> None:
    path = tmp_path / "notifier.db"
    async with running(path) as broker:
        await broker.create_task(new_task(task_id="one"))
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE outputs")
    connection.close()
    async with running(path) as broker:
        assert (await broker.append_output("one", "text")).n == 1
