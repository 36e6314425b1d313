"""The file beside the database: which process has it, and what the database must have at least.

    <process> <epoch> <newest seq> <number of the newest transaction> <boot>

The line is written after each transaction, and synchronised only at the start and at the end: it survives the end
of the process, and mostly a loss of power. Must not know: SQLite, what a transaction is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

SAFE: Final = "-"
"""In place of the boot: a loss of power takes no transaction."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Note:
    """What a database had."""

    epoch: str
    seq: int
    """The newest event's."""
    transactions: int
    """How many there were. 0: an earlier version did not count them."""
    boot: str = SAFE
    """If a loss of power may take transactions: since which start of the machine."""


class Lock:
    """The lock of a database, until it is closed. Raises OSError if another process has it, or another name."""

    def __init__(self, database: Path) -> None:
        require_one_name(database)
        path = database.with_name(f"{database.name}-lock")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise OSError(f"{path}: {exc.strerror}: the folder must exist and be writable by this user") from None
        try:
            words = self._words()
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            words = self._words()
        except BlockingIOError:
            os.close(self._file)
            owner = words[0] if words else "?"
            raise OSError(f"{database} is in use by the process {owner}: one process at a time can have it") from None
        except OSError as exc:
            os.close(self._file)
            raise OSError(f"{path}: {exc.strerror}") from None
        self.note = _note_of(words)
        """What was written last, by this process or an earlier one; None if that cannot be read."""

    def _words(self) -> list[str]:
        """Of the first line: after it may be the end of an earlier one, by a process with a longer number."""
        return os.pread(self._file, 200, 0).decode("ascii", "replace").partition("\n")[0].split()

    def write(self, note: Note) -> None:
        line = f"{os.getpid()} {note.epoch} {note.seq:016d} {note.transactions:016d} {note.boot}\n"
        os.pwrite(self._file, line.encode(), 0)
        self.note = note

    def sync(self) -> None:
        """Returns once the note is on the disk."""
        os.fsync(self._file)

    def close(self, *, is_safe: bool = False) -> None:
        """is_safe: a loss of power takes no transaction any more. The note of an earlier start of the machine stays: a
        loss of power may have taken some since."""
        if is_safe and self.note is not None and self.note.boot == this_boot() != SAFE:
            with contextlib.suppress(OSError):
                self.write(replace(self.note, boot=SAFE))
                self.sync()
        os.close(self._file)


def _note_of(words: list[str]) -> Note | None:
    match words:
        case [_, epoch, seq] if seq.isdecimal():
            return Note(epoch, int(seq), 0)
        case [_, epoch, seq, transactions, boot] if seq.isdecimal() and transactions.isdecimal():
            return Note(epoch, int(seq), int(transactions), boot)
    return None


def require_one_name(database: Path) -> None:
    """Raises OSError if the file has another name by a hard link: each name would have a lock and a log of its own, and
    what is written under one changes what another was kept for."""
    try:
        status = database.stat()
    except OSError:
        return  # there is none yet, or opening it says what is wrong
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        name, own = shlex.quote(str(database)), shlex.quote(f"{database}.own")
        raise OSError(
            f"{database} has {status.st_nlink} names (hard links): what is written under one changes all. "
            f"Remove the others, or, while no process has it: cp -p {name} {own} && mv {own} {name}"
        )


def this_boot() -> str:
    """Another word after each start of the machine; `SAFE` where the system does not tell."""
    try:
        return _BOOT_ID.read_text("ascii").strip() or SAFE
    except (OSError, ValueError):
        return SAFE
