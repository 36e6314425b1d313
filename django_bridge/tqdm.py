"""`tqdm`, whose bar is that of the task: for loops of other packages, which take a class of this interface.

    from django_bridge.tqdm import tqdm

Must not know: how a task reports.
"""

from __future__ import annotations

import io
from typing import Any

import tqdm as packages

from django_bridge.loop.current import current_task


class tqdm(packages.tqdm):  # type: ignore[misc]  # noqa: N801  # tqdm has no types; the name that callers import
    """As `tqdm.tqdm`, which must be installed. Inside a `@progress` function, or with `task`, it reports to the task
    whenever it would draw itself, ten times a second at most; `desc` is the state's text. Nothing is drawn then, unless
    `file` is given. Elsewhere it is `tqdm.tqdm`.

    Of nested bars, also of a `Progress`, the task shows the outermost. After a report, a user's cancel raises
    `TaskCancelled`, in `update` or in the loop.
    """

    def __init__(self, *args: Any, task: Any = None, **kwargs: Any) -> None:
        self._task = current_task() if task is None else task
        if self._task is not None:
            kwargs.setdefault("file", _Nowhere())
        super().__init__(*args, **kwargs)
        if self._task is not None and not self.disable:
            if not self._task.begun:
                self._task.begin()
            self._task.works_here()
            if self._task.active_loop is None:
                self._task.active_loop = self
            self._show()

    def update(self, n: float | None = 1) -> bool | None:
        """As in `tqdm.tqdm`. Raises `TaskCancelled`."""
        is_drawn: bool | None = super().update(n)
        if is_drawn and self._task is not None:
            self._show()
            self._task.raise_if_cancelled()
        return is_drawn

    def close(self) -> None:
        """As in `tqdm.tqdm`. Raises nothing."""
        task = getattr(self, "_task", None)  # also called for an object whose construction failed
        if task is not None and not self.disable:
            self._show()
            if task.active_loop is self:
                task.active_loop = None
        super().close()

    def _show(self) -> None:
        if self._task.active_loop is not self or self._task.ended:
            return
        done = int(self.n)
        total = None if self.total is None else max(int(self.total), done)
        self._task.set_state(self.desc.removesuffix(": ") or None if self.desc else None, done=done, total=total)


def trange(*args: Any, **kwargs: Any) -> tqdm:
    """`tqdm(range(*args), **kwargs)`."""
    return tqdm(range(*args), **kwargs)


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)
