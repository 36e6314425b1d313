"""The SQLite file: opened by one process at a time, read once, written in transactions.

`FULL`: a committed transaction survives a loss of power; `NORMAL`: the end of the process, but the newest ones may be
lost with the power. Must not know: the event loop, streams, what a change means.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from threading import Event
from typing import Any, Final, Literal

from notifier import event as events
from notifier.broker.embedded.journal import Start
from notifier.broker.sqlite import rows
from notifier.broker.sqlite.lock import SAFE, Lock, Note, this_boot
from notifier.broker.sqlite.rows import Row
from notifier.event import Cursor

log = logging.getLogger("notifier.broker.sqlite")

Synchronous = Literal["full", "normal"]

BUSY_S: Final = 2.0
"""How long a transaction waits for another program that has the file locked, such as a backup."""
CHECKPOINT_PAGES: Final = 4000
"""Pages (4 KiB) in the write-ahead log before they are copied into the file, which takes some milliseconds."""


class File:
    """One open file. Raises OSError where it cannot be used: locked, damaged, full, read-only, not notifier's."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        path = Path(os.path.realpath(path))  # the lock is beside the file itself, not beside a symbolic link to it
        self._path = path
        self._lock = Lock(path)
        self._boot = this_boot() if synchronous == "normal" else SAFE
        self._transactions = 0
        """How many the file has."""
        self._is_new = False
        try:
            with _as_os_error(path):
                _create(path)
                # One thread opens and reads it; from then on, another one alone writes.
                self._connection = sqlite3.connect(path, BUSY_S, isolation_level=None, check_same_thread=False)
                try:
                    self._prepare(synchronous)
                except BaseException:
                    self._connection.close()
                    raise
        except BaseException:
            self._lock.close()
            raise

    def _prepare(self, synchronous: Synchronous) -> None:
        execute = self._connection.execute
        (application_id,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application_id != rows.APPLICATION_ID:
            raise OSError(f"{self._path} is the database of another program")
        if tables and version != rows.FORMAT:
            raise OSError(f"{self._path} has the format {version}; this version of notifier reads {rows.FORMAT}")
        (mode,) = execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise OSError(f"{self._path} is on a file system without write-ahead logs")
        execute(f"PRAGMA synchronous = {synchronous}")
        execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._is_new = not tables
        count = 0 if self._is_new else self._counted()
        changes: list[Row] = [
            (rows.SET_META, ("opened", f"{time.time():.0f}")),
            (rows.SET_META, ("transactions", str(count))),  # the row that `commit` updates
        ]
        if self._is_new:
            changes = [*((statement, ()) for statement in rows.SCHEMA), *changes]
            changes += [(rows.SET_META, ("epoch", events.new_epoch())), (rows.SET_META, ("swept_up_to", "0"))]
            changes += [
                (f"PRAGMA application_id = {rows.APPLICATION_ID}", ()),
                (f"PRAGMA user_version = {rows.FORMAT}", ()),
            ]
        changes += [(statement, ()) for statement in rows.ADDED]
        # A file with fewer transactions than were noted keeps its number here: raised by starts that end before `read`,
        # it would reach the noted number, and the loss would be hidden.
        note = self._lock.note
        self._transactions = count - 1 if note is not None and note.transactions > count else count
        self.commit(changes)  # shows that it can be written

    def _counted(self) -> int:
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'transactions'").fetchone()
        return int(row[0]) if row and str(row[0]).isdecimal() else 0

    def note(self, place: Cursor) -> None:
        """Write beside the file what it has now: one that has less when it is opened is a copy, or lost writes."""
        self._lock.write(Note(place.epoch, place.seq, self._transactions, self._boot))

    def commit(self, changes: Sequence[Row]) -> None:
        """Make these changes, all or none. Returns once they are on the disk. Raises sqlite3.Error.

        Each transaction writes its number, so that a file without the newest ones has an older number: also where pages
        of later transactions had reached it already.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, group in groupby(changes, key=itemgetter(0)):
                parameters = [parameters for _, parameters in group]
                if len(parameters) > 1:
                    connection.executemany(statement, parameters)
                else:
                    connection.execute(statement, parameters[0])
            connection.execute(rows.COUNT, (str(self._transactions + 1),))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._transactions += 1

    # Reading, at the start

    def read(self) -> tuple[Start, dict[str, bytes]]:
        """Where the broker goes on, and the joined entries of each channel. Begins a new epoch if the file is not the
        newest that clients have seen."""
        meta = dict(self.select("SELECT name, value FROM meta"))
        logs, newest = self._logs()
        try:
            swept_up_to, epoch = int(meta["swept_up_to"]), str(meta["epoch"])
            topics_up_to = int(meta.get("topics_up_to", "0"))
        except (KeyError, ValueError):
            raise OSError(f"{self._path} is damaged: its epoch is missing") from None
        start = Start(epoch, max(swept_up_to, topics_up_to, newest), swept_up_to, topics_up_to)
        if self._may_lack_writes(start):
            log.warning(
                "%s is a copy or lost its newest writes: a new epoch begins, and clients get a reset", self._path
            )
            with _as_os_error(self._path):
                self._check()
                start = replace(start, epoch=events.new_epoch())
                self.commit([(rows.SET_META, ("epoch", start.epoch))])
        self.note(Cursor(start.epoch, start.seq))
        self._lock.sync()
        return start, logs

    def _may_lack_writes(self, start: Start) -> bool:
        """Whether clients may have seen more than the file has."""
        note = self._lock.note
        return not self._is_new and (
            note is None
            or note.epoch != start.epoch
            or note.seq > start.seq
            or note.transactions > self._transactions
            or note.boot not in (SAFE, this_boot())
        )

    def _check(self) -> None:
        """Raises OSError where pages of different ages do not fit together: reading does not always notice."""
        (report,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if report != "ok":
            raise OSError(f"{self._path}: {' '.join(report.split())} ({_MEANINGS['SQLITE_CORRUPT']})")

    def _logs(self) -> tuple[dict[str, bytes], int]:
        """The joined entries of each channel, and the newest seq. This thread and another read from both ends
        until they meet: in SQLite they run at the same time."""
        logs: dict[str, bytes] = {}
        is_over = Event()  # also after an error: the other thread would read all the rest

        def read(order: str) -> int:
            newest = 0
            try:
                with contextlib.closing(sqlite3.connect(self._path, BUSY_S)) as connection:
                    connection.text_factory = bytes
                    for name, seq, entries in connection.execute(f"{rows.LOGS} {order}"):
                        channel = name.decode()
                        if channel in logs or is_over.is_set():
                            break
                        logs[channel] = entries
                        newest = max(newest, seq)
            finally:
                is_over.set()
            return newest

        with _as_os_error(self._path), ThreadPoolExecutor(1, "notifier-sqlite-read") as thread:
            other = thread.submit(read, "DESC")
            return logs, max(read("ASC"), other.result())

    def select(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query."""
        with _as_os_error(self._path):
            yield from self._connection.execute(query)

    def close(self) -> None:
        """Copy the write-ahead log into the file, and let another process open it."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._lock.close(is_safe=not self._path.with_name(f"{self._path.name}-wal").exists())


@contextlib.contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as exc:
        raise OSError(f"{path}: {explained(exc)}") from None


def explained(exc: Exception) -> str:
    """What SQLite says, and what it means for the operator."""
    name = getattr(exc, "sqlite_errorname", "")
    for prefix, meaning in _MEANINGS.items():
        if name.startswith(prefix):
            return f"{exc} ({meaning})"
    return str(exc)


_MEANINGS: Final = {
    "SQLITE_CORRUPT": "it is damaged: restore a copy, or move it away to start without its events",
    "SQLITE_NOTADB": "it is damaged or was written by another program: restore a copy, or move it away",
    "SQLITE_FULL": "the disk is full: make room",
    "SQLITE_READONLY": "the file, its folder or the file system cannot be written by this user",
    "SQLITE_CANTOPEN": "the folder must exist and be writable by this user",
    "SQLITE_IOERR": "the disk failed or is full",
    "SQLITE_BUSY": "another program has locked it",
}


def _create(path: Path) -> None:
    """Make the file if it is not there, for this user alone: messages are in it."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as exc:
        raise OSError(f"{path}: {exc.strerror}: {_MEANINGS['SQLITE_READONLY']}") from None
