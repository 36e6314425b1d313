"""A file that lacks answered writes begins a new epoch, or is refused as damaged: clients that saw them are reset."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from notifier.broker.sqlite import lock
from notifier.broker.sqlite.broker import SqliteBroker
from notifier.broker.sqlite.file import File
from notifier.broker.values import History
from notifier.event import Cursor
from tests.broker.support import ANN, Recorder, note, opened

LIMITS = {"history": History(50, 50, 3600), "max_replay": 100}


@asynccontextmanager
async def running(path: Path, **options: Any) -> AsyncIterator[SqliteBroker]:
    broker = SqliteBroker(path, **{**LIMITS, **options})
    await broker.start(Recorder())
    try:
        yield broker
    finally:
        await broker.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "live").mkdir()
    return tmp_path / "live" / "notifier.db"


def killed(path: Path) -> Path:
    """The file as a kill of the process would leave it now."""
    folder = path.parent.with_name(f"killed{len(list(path.parent.parent.iterdir()))}")
    shutil.copytree(path.parent, folder)
    return folder / path.name


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


async def verdict(path: Path, cursor: Cursor, **options: Any) -> str:
    """The verdict on a client's cursor after a start."""
    async with running(path, **options) as broker:
        opening = await opened(broker, cursor)
        receipt = await broker.publish(note())
        assert (receipt.epoch == cursor.epoch) == (opening.verdict == "ok")
        return opening.verdict


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
async def test_a_torn_log_begins_a_new_epoch(path: Path, share: float, damage: str) -> None:
    """SQLite leaves out what follows the first wrong checksum, and says nothing."""
    async with running(path) as broker:
        for number in range(50):
            await broker.publish(note(f"user:u{number % 5}"))
        cursor = (await opened(broker)).cursor
        whole, torn = killed(path), killed(path)
    log = log_of(torn)
    place = int((log.stat().st_size - 1) * share)
    if damage == "cut":
        os.truncate(log, place)
    else:
        with log.open("r+b") as content:
            content.seek(place)
            (byte,) = content.read(1)
            content.seek(place)
            content.write(bytes([byte ^ 0xFF]))
    assert await verdict(torn, cursor) == "epoch_changed"
    assert await verdict(whole, cursor) == "ok"


async def test_lost_read_marks_begin_a_new_epoch_too(path: Path) -> None:
    async with running(path) as broker:
        await broker.publish(note(id="m-1"))
        cursor = (await opened(broker)).cursor
        length = log_of(path).stat().st_size
        await broker.mark("ann", ANN, "read", ["m-1"])
        torn = killed(path)
    os.truncate(log_of(torn), length)
    assert await verdict(torn, cursor) == "epoch_changed"


async def test_a_start_that_is_killed_hides_no_lost_write_from_the_next(path: Path) -> None:
    """Between opening the file and reading it, as where a supervisor ends a slow start."""
    async with running(path) as broker:
        await broker.publish(note(id="m-1"))
        cursor = (await opened(broker)).cursor
        length = log_of(path).stat().st_size
        await broker.mark("ann", ANN, "read", ["m-1"])
        whole, torn = killed(path), killed(path)
    os.truncate(log_of(torn), length)
    assert await verdict(_started_and_killed(torn), cursor) == "epoch_changed"
    assert await verdict(_started_and_killed(whole), cursor) == "ok"


def _started_and_killed(path: Path) -> Path:
    """The file after three starts, each killed before it has read it."""
    for _ in range(3):
        file = File(path, "full")
        left = killed(path)
        file.close()
        path = left
    return path


async def test_pages_of_different_ages_begin_a_new_epoch(path: Path) -> None:
    """A log whose pages are in the file already, and that is torn then, brings older ones of them back: the newest
    event is there, and earlier ones are not."""
    users = [f"u{number:02}" for number in range(60)]
    short = {"history": History(1, 1, 3600)}

    async def publish(broker: SqliteBroker, names: list[str]) -> None:
        for name in names:
            await broker.publish(note(f"user:{name}", text="x" * 500))

    async with running(path, **short) as broker:
        await publish(broker, users)
    async with running(path, **short) as broker:
        await publish(broker, users)
        length = log_of(path).stat().st_size // 2
        await publish(broker, [*users[:30], users[-1]])
        cursor = (await opened(broker)).cursor
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 0
        torn = killed(path)
    os.truncate(log_of(torn), length)
    async with running(torn, **short) as broker:
        opening = await opened(broker, cursor)
        assert opening.cursor.seq == cursor.seq
        assert opening.verdict == "epoch_changed"


async def test_a_file_whose_pages_do_not_fit_together_is_refused(path: Path) -> None:
    """Reading finds some of them."""
    async with running(path) as broker:
        for number in range(100):
            await broker.publish(note(f"user:u{number:03}", text="x" * 1500))
    async with running(path) as broker:
        for number in range(100):
            await broker.publish(note(f"user:u{number * 7 % 100:03}", text="short"))
        cursor = (await opened(broker)).cursor
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
        torn = [killed(path) for _ in range(20)]
    reasons: list[str] = []
    for number, each in enumerate(torn, 1):
        os.truncate(log_of(each), log_of(each).stat().st_size * number // (len(torn) + 1))
        try:
            assert await verdict(each, cursor) == "epoch_changed"
        except OSError as exc:
            reasons.append(str(exc))
            continue
        with closing(sqlite3.connect(each)) as connection:
            assert connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    assert reasons
    assert all("it is damaged: restore a copy" in reason for reason in reasons)


async def test_a_copy_without_any_event_begins_a_new_epoch(path: Path) -> None:
    async with running(path):
        pass
    copy = shutil.copy(path, path.with_name("copy.db"))
    async with running(path) as broker:
        await broker.publish(note())
        cursor = (await opened(broker)).cursor
    shutil.move(copy, path)
    assert await verdict(path, cursor) == "epoch_changed"


async def test_the_lock_file_of_an_earlier_version_keeps_the_epoch(path: Path) -> None:
    async with running(path) as broker:
        await broker.publish(note())
        cursor = (await opened(broker)).cursor
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'transactions'")
        connection.commit()
    noted = path.with_name(f"{path.name}-lock")
    noted.write_text(f"123 {cursor.epoch} {cursor.seq:016d}\n")
    older = shutil.copytree(path.parent, path.parent.with_name("older")) / path.name
    assert await verdict(path, cursor) == "ok"
    older.with_name(noted.name).write_text(f"123 {cursor.epoch} {cursor.seq + 1:016d}\n")
    assert await verdict(older, cursor) == "epoch_changed"


@pytest.mark.parametrize(
    ("synchronous", "ends", "boots", "expected"),
    [
        ("normal", "by a kill", "again", "epoch_changed"),
        ("normal", "by a kill", "not", "ok"),
        ("normal", "cleanly", "again", "ok"),
        ("full", "by a kill", "again", "ok"),
    ],
)
async def test_after_a_loss_of_power_a_file_that_may_lack_writes_begins_a_new_epoch(
    path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str, ends: str, boots: str, expected: str
) -> None:
    boot_id = _boots(path, monkeypatch)
    async with running(path, synchronous=synchronous) as broker:
        await broker.publish(note())
        cursor = (await opened(broker)).cursor
        left = killed(path)
    if boots == "again":
        boot_id.write_text("second\n")
    assert await verdict(path if ends == "cleanly" else left, cursor, synchronous=synchronous) == expected


async def test_a_start_that_fails_hides_no_loss_of_power_from_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not write its new epoch. Closing the file makes safe what it has, not what the power took."""
    boot_id = _boots(path, monkeypatch)
    async with running(path, synchronous="normal") as broker:
        await broker.publish(note())
        cursor = (await opened(broker)).cursor
        left = killed(path)
    boot_id.write_text("second\n")
    with closing(sqlite3.connect(left)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON meta WHEN NEW.name = 'epoch' BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    with pytest.raises(OSError, match="full"):
        SqliteBroker(left, **LIMITS, synchronous="normal")
    with closing(sqlite3.connect(left)) as connection:
        connection.execute("DROP TRIGGER full")
    assert await verdict(left, cursor, synchronous="normal") == "epoch_changed"


def _boots(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that names the start of the machine, now `first`."""
    boot_id = path.with_name("boot_id")
    boot_id.write_text("first\n")
    monkeypatch.setattr(lock, "_BOOT_ID", boot_id)
    return boot_id


def test_the_system_tells_when_it_was_started() -> None:
    assert lock.this_boot() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
