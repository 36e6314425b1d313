"""The SQLite file: opened by one process at a time, read once, written in transactions.

`FULL`: a committed transaction survives a loss of power; `NORMAL`: the end of the process, but the newest ones may be
lost with the power. Must not know: the event loop, streams, what a change means.
"""

from __future__ import annotations

import contextlib
import fcntl
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
        self._lock, self._noted = _locked(path)
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
            os.close(self._lock)
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
        changes: list[Row] = [(rows.SET_META, ("opened", f"{time.time():.0f}"))]
        if not tables:
            changes = [*((statement, ()) for statement in rows.SCHEMA), *changes]
            changes += [(rows.SET_META, ("epoch", events.new_epoch())), (rows.SET_META, ("swept_up_to", "0"))]
            changes += [
                (f"PRAGMA application_id = {rows.APPLICATION_ID}", ()),
                (f"PRAGMA user_version = {rows.FORMAT}", ()),
            ]
        changes += [(statement, ()) for statement in rows.ADDED]
        self.commit(changes)  # shows that it can be written

    def note(self, place: Cursor) -> None:
        """Write the newest event beside the file: a file that has less when it is opened is a copy, or lost writes."""
        os.pwrite(self._lock, f"{os.getpid()} {place.epoch} {place.seq:016d}\n".encode(), 0)

    def commit(self, changes: Sequence[Row]) -> None:
        """Make these changes, all or none. Returns once they are on the disk. Raises sqlite3.Error."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, group in groupby(changes, key=itemgetter(0)):
                parameters = [parameters for _, parameters in group]
                if len(parameters) > 1:
                    connection.executemany(statement, parameters)
                else:
                    connection.execute(statement, parameters[0])
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

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
        if start.seq and (self._noted is None or self._noted.epoch != epoch or self._noted.seq > start.seq):
            log.warning(
                "%s is a copy or lost its newest events: a new epoch begins, and clients get a reset", self._path
            )
            start = replace(start, epoch=events.new_epoch())
            with _as_os_error(self._path):
                self.commit([(rows.SET_META, ("epoch", start.epoch))])
        self.note(Cursor(start.epoch, start.seq))
        return start, logs

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
        os.close(self._lock)


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


def _locked(path: Path) -> tuple[int, Cursor | None]:
    """The open lock file beside the database, held until it is closed, and what `File.note` wrote into it last. Raises
    OSError if another process has it."""
    lock = path.with_name(f"{path.name}-lock")
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise OSError(f"{lock}: {exc.strerror}: the folder must exist and be writable by this user") from None
    try:
        noted = _note_of(file)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        noted = _note_of(file)
    except BlockingIOError:
        os.close(file)
        owner = noted[0] if noted else "?"
        raise OSError(f"{path} is in use by the process {owner}: one process at a time can have it") from None
    except OSError as exc:
        os.close(file)
        raise OSError(f"{lock}: {exc.strerror}") from None
    return file, Cursor(noted[1], int(noted[2])) if len(noted) == 3 and noted[2].isdecimal() else None


def _note_of(lock: int) -> list[str]:
    """The words of the first line: after it may be the end of an earlier note, by a process with a longer number."""
    return os.pread(lock, 100, 0).decode("ascii", "replace").partition("\n")[0].split()
