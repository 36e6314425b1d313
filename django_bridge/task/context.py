"""Two other ways to work with a task: as a context manager, and from asynchronous code.

Must not know: what a change does.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Protocol, TypeVar

from asgiref.sync import sync_to_async

log = logging.getLogger("django_bridge")


class SupportsTask(Protocol):
    """A task, as far as it is needed here."""

    id: str

    @property
    def ended(self) -> bool: ...

    def begin(self, state: Any = "", total: int | None = None) -> None: ...

    def works_here(self) -> None: ...

    def set_state(self, state: Any = None, *, done: int | None = None, total: int | None = None) -> None: ...

    def advance(self, n: int = 1) -> None: ...

    def end(self, state: Any = None) -> None: ...

    def fail(self, error: Any, state: Any = None) -> None: ...

    def cancelled(self, state: Any = None) -> None: ...

    def raise_if_cancelled(self) -> None: ...


T = TypeVar("T", bound=SupportsTask)


class TaskContext:
    """`with task:` begins the task and ends it; `abegin` and the others are the calls of the same names, awaited.

    An exception fails the task with that error and goes on; a user's cancel has ended it already, and goes on too. What
    was ended inside stays as it is. The asynchronous calls run in a thread: they may wait for the database and the
    network.
    """

    def __enter__(self: T) -> T:
        self.begin()
        self.works_here()
        return self

    def __exit__(
        self: SupportsTask, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None:
            fail_quietly(self, exc)
        elif not self.ended:
            self.end()

    async def __aenter__(self: T) -> T:
        await sync_to_async(self.begin)()
        self.works_here()
        return self

    async def __aexit__(
        self: SupportsTask, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None:
            await sync_to_async(fail_quietly)(self, exc)
        elif not self.ended:
            await sync_to_async(self.end)()

    async def abegin(self: SupportsTask, state: Any = "", total: int | None = None) -> None:
        await sync_to_async(self.begin)(state, total)

    async def aset_state(
        self: SupportsTask, state: Any = None, *, done: int | None = None, total: int | None = None
    ) -> None:
        await sync_to_async(self.set_state)(state, done=done, total=total)

    async def aadvance(self: SupportsTask, n: int = 1) -> None:
        await sync_to_async(self.advance)(n)

    async def aend(self: SupportsTask, state: Any = None) -> None:
        await sync_to_async(self.end)(state)

    async def afail(self: SupportsTask, error: Any, state: Any = None) -> None:
        await sync_to_async(self.fail)(error, state)

    async def acancelled(self: SupportsTask, state: Any = None) -> None:
        await sync_to_async(self.cancelled)(state)

    async def araise_if_cancelled(self: SupportsTask) -> None:
        await sync_to_async(self.raise_if_cancelled)()


def fail_quietly(task: SupportsTask, exc: BaseException) -> None:
    """What ends the work is on its way and must arrive: nothing may be raised here."""
    try:
        if not task.ended:
            task.fail(exc)
    except Exception:
        log.exception("the failure of task %s could not be told", task.id)
