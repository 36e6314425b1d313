"""Files that cannot be used are refused with the reason; of files with damaged rows, only these rows are lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from notifier.broker.registry import open_broker
from notifier.broker.sqlite import rows, writer
from notifier.broker.sqlite.broker import SqliteBroker
from notifier.broker.values import History, Idempotency
from notifier.errors import BrokerUnavailable, ConfigurationError
from notifier.settings import load
from tests.broker.support import ANN, Recorder, listed, new_task, note, opened, subjects, until
from tests.pasted import Document

LIMITS = {"history": History(50, 50, 3600), "max_replay": 100}
PAGE = 4096


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A file with some hundred events, closed."""
    path = tmp_path / "notifier.db"
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    for number in range(200):
        await broker.publish(note(f"user:u{number % 20}", text="x" * 500))
    await broker.close()
    return path


def refusal(path: Path) -> str:
    """Why the file is refused. It can be opened afterwards, if the reason is gone: nothing is left locked."""
    for _ in range(2):
        with pytest.raises(ConfigurationError) as refused:
            open_broker(load(broker_url=f"sqlite://{path}"))
    return str(refused.value)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def keep(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share) // PAGE * PAGE)


async def test_reads_make_no_query(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state in memory answers them, also of what was stored before the start."""
    statements, connect = [], sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    try:
        before = await opened(broker, user="u1")
        statements.clear()
        task = await broker.create_task(new_task("user:u1"))
        await broker.publish(note("user:u1", subject="Last"))
        assert [statement for statement in statements if statement.startswith("INSERT")]
        statements.clear()
        for number in range(20):
            user = f"u{number}"
            channels = (f"user:{user}", "all")
            assert (await opened(broker, user=user)).verdict == "new"
            assert len(await listed(broker, user)) == 10 + (user == "u1")
            assert await broker.unread(user, channels) == 10 + (user == "u1")
        assert subjects(await opened(broker, before.cursor, user="u1")) == ["Last"]
        assert await broker.tasks("u1", ["user:u1"]) == [task] == [await broker.task(task.id)]
        await broker.output(task.id, 0)
        assert statements == []
    finally:
        await broker.close()


TORN: dict[str, Callable[[Path], None]] = {
    "half is missing": lambda path: keep(path, 0.5),
    "the last page is missing": lambda path: os.truncate(path, path.stat().st_size - PAGE),
    "the first page is text": lambda path: overwrite(path, 0, b"x" * PAGE),
    "a page in the middle is empty": lambda path: overwrite(path, path.stat().st_size // 2 // PAGE * PAGE, bytes(PAGE)),
    "a page in the middle is noise": lambda path: overwrite(path, 12 * PAGE, bytes(range(256)) * 16),
}


@pytest.mark.parametrize("tear", TORN)
async def test_a_torn_file_is_refused_with_what_to_do(path: Path, tear: str) -> None:
    TORN[tear](path)
    reason = refusal(path)
    assert str(path) in reason
    assert "damaged" in reason
    assert "restore a copy" in reason


async def test_a_file_in_use_is_refused_with_the_process_that_has_it(path: Path) -> None:
    broker = SqliteBroker(path, **LIMITS)
    reason = refusal(path)
    assert f"is in use by the process {os.getpid()}" in reason
    await broker.start(Recorder())
    assert "is in use" in refusal(path)
    await broker.publish(note())
    await broker.close()
    await SqliteBroker(path, **LIMITS).close()


async def test_two_names_of_a_file_are_the_same_file(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path.name)
    folder = path.parent / "folder"
    folder.symlink_to(path.parent)
    for name, other in [(path, link), (link, path), (link, folder / "link.db")]:
        broker = SqliteBroker(name, **LIMITS)
        assert f"is in use by the process {os.getpid()}" in refusal(other)
        await broker.close()


@pytest.mark.programs  # cp and mv
async def test_a_file_with_a_hard_link_is_refused_with_what_to_do(path: Path) -> None:
    """Its names would have a lock and a write-ahead log each."""
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    (path.parent / "copy it").mkdir()
    link = path.parent / "copy it" / path.name
    link.hardlink_to(path)
    assert "has 2 names" in refusal(link)
    assert [item.name for item in link.parent.iterdir()] == [path.name]
    receipt = await broker.publish(note())
    cursor = (await opened(broker)).cursor
    await broker.close()
    kept = link.read_bytes()
    for name in (link, path):
        reason = refusal(name)
        assert f"{name} has 2 names (hard links" in reason
    command = reason.rpartition("has it: ")[2].partition("\n")[0]
    subprocess.run(["bash", "-ec", command], check=True)
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    assert (await broker.publish(note())).seq == receipt.seq + 1
    assert (await opened(broker)).cursor.epoch == cursor.epoch
    await broker.close()
    assert link.read_bytes() == kept
    await SqliteBroker(link, **LIMITS).close()


async def test_a_process_number_with_fewer_digits_keeps_the_epoch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = set()
    for number in (1234567, 8, 8):
        monkeypatch.setattr(os, "getpid", lambda number=number: number)
        broker = SqliteBroker(path, **LIMITS)
        await broker.start(Recorder())
        epochs.add((await opened(broker)).cursor.epoch)
        assert f"is in use by the process {number}:" in refusal(path)
        await broker.close()
    assert len(epochs) == 1


def test_a_file_of_another_program_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE log (a)")
        other.commit()
    before = path.read_bytes()
    assert "is the database of another program" in refusal(path)
    assert path.read_bytes() == before


async def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {rows.FORMAT + 1}")
    assert f"has the format {rows.FORMAT + 1}" in refusal(path)


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    reason = refusal(tmp_path / folder / "notifier.db")
    assert str(tmp_path / folder) in reason
    assert "the folder must exist" in reason


@pytest.mark.parametrize(
    "url", ["sqlite://notifier.db", "sqlite:///", "sqlite:///a/", "sqlite:///a?mode=ro", "sqlite://h/a"]
)
def test_an_address_without_an_absolute_path_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="absolute path"):
        open_broker(load(broker_url=url))


@pytest.mark.parametrize(("synchronous", "pragma"), [({}, 2), ({"sqlite_synchronous": "normal"}, 1)])
def test_the_settings_reach_the_file(tmp_path: Path, synchronous: dict[str, Any], pragma: int) -> None:
    broker = open_broker(load(broker_url=f"sqlite://{tmp_path}/a%20b.db", **synchronous))
    assert isinstance(broker, SqliteBroker)
    assert (tmp_path / "a b.db").stat().st_mode & 0o777 == 0o600
    assert broker._writer._file._connection.execute("PRAGMA synchronous").fetchone() == (pragma,)
    broker._writer._file.close()


async def test_a_file_that_turns_read_only_refuses_calls_while_it_lasts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own error, as of a file system that a failing disk made read-only."""
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    sink = Recorder()
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(sink)
    connection = broker._writer._file._connection
    connection.execute("PRAGMA query_only = ON")
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="cannot be written by this user"):
            await broker.publish(note(), Idempotency("k", "body"))
    with pytest.raises(BrokerUnavailable):
        await opened(broker)
    assert (broker.ready, sink.away) == (False, [True])
    connection.execute("PRAGMA query_only = OFF")
    await until(lambda: broker.ready)
    assert (await broker.publish(note(), Idempotency("k", "body"))).seq == 201
    assert sink.away == [True, False]
    await broker.close()


# Damaged rows


@pytest.mark.parametrize(
    ("damage", "skipped"),
    [
        ("UPDATE log SET entry = 'x' WHERE channel = 'user:u1' AND seq = 102", 1),
        ("UPDATE log SET entry = replace(entry, 'data: ', 'id: ') WHERE channel = 'user:u1' AND seq = 102", 1),
        ("UPDATE log SET entry = 'x' WHERE channel = 'user:u1'", 10),
        ("UPDATE log SET entry = '' WHERE channel = 'user:u1' AND seq = 182", 1),
    ],
)
async def test_a_damaged_entry_is_left_out_and_resets_cursors_on_its_channel_alone(
    path: Path, damage: str, skipped: int
) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute(damage).rowcount == skipped
        connection.commit()
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    newest = (await opened(broker, user="u2")).cursor
    start = type(newest)(newest.epoch, 90)
    assert len(await listed(broker, "u1")) == 10 - skipped
    assert (await opened(broker, start, user="u2")).verdict == "ok"
    assert (await opened(broker, newest, user="u1")).verdict == "ok"
    assert (await opened(broker, start, user="u1")).verdict == "history_trimmed"
    assert broker.skipped == skipped
    receipt = await broker.publish(note("user:u1", subject="next"))
    assert receipt.seq == newest.seq + 1
    assert subjects(await opened(broker, newest, user="u1")) == ["next"]
    await broker.close()


async def test_a_file_without_its_last_bytes_loses_the_events_there_alone(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    kept = [len(await listed(broker, f"u{number}")) for number in range(20)]
    assert sum(kept) in (198, 199, 200)
    assert (sum(kept) < 200) == (broker.skipped > 0), "rarely, nothing is stored in the last bytes"
    await broker.close()


async def test_damaged_tasks_marks_and_answers_are_left_out_and_counted(path: Path) -> None:
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    task = await broker.create_task(new_task())
    await broker.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO tasks (id, record) VALUES ('t', '{}')")
        connection.execute("INSERT INTO marks (user, action, id) VALUES ('ann', 'all', 'x')")
        connection.execute("INSERT INTO answers (key, fingerprint, answer, expires_ms) VALUES ('k', '', 'x', 1)")
        connection.commit()
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    assert broker.skipped == 3
    assert await broker.tasks("ann", ANN) == [task]
    await broker.close()


async def test_a_copy_taken_while_the_service_runs_is_complete(path: Path) -> None:
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    receipt = await broker.publish(note(subject="newest"))
    command = Document("docs/deploy.md").block("sh", ".backup(")
    subprocess.run(["bash", "-ec", command], cwd=path.parent, check=True)
    await broker.close()
    copy = path.parent / "copy.db"
    restored = SqliteBroker(copy, **LIMITS)
    await restored.start(Recorder())
    assert (await opened(restored)).cursor.seq == receipt.seq
    assert [subject for subject, _ in await listed(restored)] == ["newest"]
    await restored.close()


@pytest.mark.parametrize("lock", ["kept", "removed"])
async def test_a_restored_copy_begins_a_new_epoch_once(path: Path, tmp_path: Path, lock: str) -> None:
    """The ids of the events that it lacks are used again, so earlier cursors must not be taken for valid."""
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(Recorder())
    before = (await opened(broker)).cursor
    await broker.publish(note(subject="not in the copy"))
    cursor = (await opened(broker)).cursor
    await broker.close()
    assert before.epoch == cursor.epoch
    shutil.copy(copy, path)
    if lock == "removed":
        path.with_name("notifier.db-lock").unlink()
    epochs = set()
    for _ in range(2):
        restored = SqliteBroker(path, **LIMITS)
        await restored.start(Recorder())
        epochs.add((await opened(restored)).cursor.epoch)
        assert (await opened(restored, before)).verdict == "epoch_changed"
        assert len(await listed(restored, "u1")) == 10
        await restored.close()
    assert len(epochs) == 1
    assert epochs != {cursor.epoch}
