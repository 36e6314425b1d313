"""Group commit: a thread writes the changes to the file; all that came during one transaction form the next.

    a call changes the state -> its rows and announcements join the group -> the group is committed
        -> its announcements go out, then its calls are answered

What a call read or changed is answered, and announced, once it is on the disk. An event that a client saw and that is
lost at a crash would have its id used again by another event, which that client would then miss.

While a transaction, or the note of its newest event, fails, that alone is repeated until it succeeds. Its calls, and
all that come meanwhile, raise `BrokerUnavailable`, so that the group does not grow. Must not know: what rows mean.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from notifier.broker.sqlite.file import File, explained
from notifier.broker.sqlite.rows import Row
from notifier.errors import BrokerUnavailable
from notifier.event import Cursor
from notifier.histogram import Histogram

log = logging.getLogger("notifier.broker.sqlite")

TIMEOUT_S: Final = 5.0
"""A transaction that takes longer counts as failed, until it has ended. What arrives in this time bounds a group."""
RETRY_S: Final = 0.5

Value = TypeVar("Value")


@dataclass(slots=True)
class _Group:
    """What one transaction writes, and what waits for it."""

    rows: list[Row] = field(default_factory=list)
    announcements: list[Callable[[], object]] = field(default_factory=list)
    waiters: list[tuple[asyncio.Future[Any], object]] = field(default_factory=list)
    """Futures, and what each is answered with."""
    place: Cursor | None = None
    """The newest event of the state that it leads to."""


class Writer:
    """Writes to one file. `changed_away` is called with True when the file cannot be written, with False afterwards;
    `newest` gives the newest event of the state."""

    def __init__(self, file: File, changed_away: Callable[[bool], object], newest: Callable[[], Cursor]) -> None:
        self._file = file
        self._newest = newest
        self._changed_away = changed_away
        self._group = _Group()
        """Changes of the state that no transaction has taken yet."""
        self._committing: _Group | None = None
        self.joining: Callable[[], AbstractContextManager[object]] = nullcontext
        """Within it, a group's announcements are made (see `Sink.joining`)."""
        self.commit_times = Histogram()
        """From the end of a group to its place on the disk."""
        self._began_at = 0.0
        """When the group that is being committed ended, in monotonic seconds."""
        self._overdue: asyncio.TimerHandle | None = None
        self._problem = "it is not open"
        """Why calls are refused; empty if they are not."""
        self._queue: SimpleQueue[_Group | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def away(self) -> bool:
        """True while calls are refused."""
        return self._problem != ""

    def start(self) -> None:
        """Begin to write, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="notifier-sqlite", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what is left, if the file can be written, and close the file."""
        if self._thread is not None:
            if not self.away:
                await asyncio.wait([self.written(None)], timeout=TIMEOUT_S)
            self._problem = "it is closed"
            self._stopping.set()
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._file.close()

    async def failed(self) -> None:
        """Never returns. Raises the unexpected error that ended the thread."""
        await self._failure

    def check(self) -> None:
        """Raises `BrokerUnavailable` while the file cannot be written."""
        if self._problem:
            raise BrokerUnavailable(f"the file cannot be written: {self._problem}")

    @property
    def pending(self) -> bool:
        """True if the state has changes that are not on the disk."""
        return self._committing is not None or bool(self._group.rows)

    def write(self, row: Row) -> None:
        """Write a row with the next group."""
        self._group.rows.append(row)
        if self._committing is None and len(self._group.rows) == 1 and self._thread is not None:
            self._loop.call_soon(self._commit)  # with the changes of other calls of this turn of the loop

    def announce(self, announcement: Callable[[], object]) -> None:
        """Call it after all changes so far are on the disk."""
        if self.pending:
            (self._group if self._group.rows else self._committing or self._group).announcements.append(announcement)
        else:
            announcement()

    def written(self, value: Value) -> asyncio.Future[Value]:
        """Gets the value when all changes so far are on the disk. Raises `BrokerUnavailable`."""
        waiter: asyncio.Future[Value] = self._loop.create_future()
        group = self._group if self._group.rows else self._committing
        if group is None:
            waiter.set_result(value)
        else:
            group.waiters.append((waiter, value))
        return waiter

    # On the event loop

    def _commit(self) -> None:
        if self._committing is None and self._group.rows:
            self._committing, self._group = self._group, _Group()
            self._committing.place = self._newest()
            self._began_at = time.monotonic()
            self._overdue = self._loop.call_later(TIMEOUT_S, self._give_up)
            self._queue.put(self._committing)

    def _committed(self) -> None:
        self.commit_times.observe_s(time.monotonic() - self._began_at)
        group, self._committing = self._committing, None
        assert group is not None
        assert self._overdue is not None
        self._overdue.cancel()
        self._commit()
        with self.joining():
            for announcement in group.announcements:
                announcement()
        for waiter, value in group.waiters:
            if not waiter.done():
                waiter.set_result(value)
        if self._problem and self._committing is None and not self._stopping.is_set():
            self._problem = ""
            log.info("the file can be written again")
            self._changed_away(False)

    def _give_up(self) -> None:
        if not self._problem:
            self._refuse(f"it did not answer in {TIMEOUT_S:.0f} s")

    def _refuse(self, problem: str) -> None:
        is_new = not self._problem
        self._problem = problem
        for group in filter(None, (self._committing, self._group)):
            for waiter, _ in group.waiters:
                if not waiter.done():
                    waiter.set_exception(BrokerUnavailable(f"the file cannot be written: {problem}"))
            group.waiters.clear()
        if is_new:
            log.error("the file cannot be written, calls are refused until it can: %s", problem)
            self._changed_away(True)

    def _fail(self, exc: BaseException) -> None:
        self._refuse(f"{type(exc).__name__}: {exc}")
        if not self._failure.done():
            self._failure.set_exception(exc)

    # In the thread

    def _run(self) -> None:
        try:
            while (group := self._queue.get()) is not None:
                self._write(group)
        except BaseException as exc:
            self._call(self._fail, exc)

    def _write(self, group: _Group) -> None:
        steps: list[Callable[[], None]] = [partial(self._file.commit, group.rows)]
        if group.place is not None:
            steps.append(partial(self._file.note, group.place))
        while steps and not self._stopping.is_set():
            try:
                steps[0]()
            except (sqlite3.DatabaseError, OSError) as exc:
                if isinstance(exc, sqlite3.ProgrammingError | sqlite3.IntegrityError):
                    raise  # an error of this program, which repeating does not repair
                self._call(self._refuse, explained(exc))
                self._stopping.wait(RETRY_S)
            else:
                del steps[0]
        if not steps:
            self._call(self._committed)

    def _call(self, function: Callable[..., object], *args: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)
