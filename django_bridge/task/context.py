"""A task as a context manager, and its asynchronous methods.

Must not know: what a change does.
"""

from __future__ import annotations

import logging
from collections import Counter
from types import TracebackType
from typing import Any, Protocol, TypeVar

from asgiref.sync import sync_to_async

log = logging.getLogger("django_bridge")


class SupportsTask(Protocol):
    """The methods of `Task` that its base classes call: this one, `TaskOutput` and `TaskQuestions`."""

    id: str
    cancelled_text: Any

    @property
    def ended(self) -> bool: ...

    def begin(self, state: Any = "", total: int | None = None) -> None: ...

    def works_here(self) -> None: ...

    def set_state(self, state: Any = None, *, done: int | None = None, total: int | None = None) -> None: ...

    def advance(self, n: int = 1) -> None: ...

    def write(self, text: Any) -> None: ...

    def end(self, state: Any = None, *, url: Any = None, url_text: Any = None) -> None: ...

    def fail(self, error: Any, state: Any = None) -> None: ...

    def cancelled(self, state: Any = None) -> None: ...

    def raise_if_cancelled(self) -> None: ...

    def _text(self, value: Any) -> Any: ...

    def _join_output(self, text: str) -> bool: ...

    def _append_output(self, text: str) -> None: ...

    def _prepare_question(self) -> Counter[str]: ...

    def _hand_over(self) -> None: ...

    def _write_row(self) -> None: ...


T = TypeVar("T", bound=SupportsTask)


class TaskContext:
    """`with task:` begins and ends the task; `abegin` and the like are the asynchronous forms of its methods.

    An exception fails the task with that error and propagates, as does `TaskCancelled`, which has ended the task
    already. A task that was ended inside the block stays as it is. The asynchronous methods run in a thread: they block
    on the database and the network.
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

    async def aend(self: SupportsTask, state: Any = None, *, url: Any = None, url_text: Any = None) -> None:
        await sync_to_async(self.end)(state, url=url, url_text=url_text)

    async def afail(self: SupportsTask, error: Any, state: Any = None) -> None:
        await sync_to_async(self.fail)(error, state)

    async def acancelled(self: SupportsTask, state: Any = None) -> None:
        await sync_to_async(self.cancelled)(state)

    async def araise_if_cancelled(self: SupportsTask) -> None:
        await sync_to_async(self.raise_if_cancelled)()


def fail_quietly(task: SupportsTask, exc: BaseException) -> None:
    """Fail the task with `exc`, which is being raised: errors of the report are logged, or they would replace it."""
    try:
        if task.ended:
            task._write_row()  # the exception may have rolled back the transaction of the end
        else:
            task.fail(exc)
    except Exception:
        log.exception("the failure of task %s could not be reported", task.id)
