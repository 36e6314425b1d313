"""The output of a task: text, files, log records and the output of programs, shown live and after a reload.

Must not know: how text is sent.
"""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Final

from asgiref.sync import sync_to_async

from django_bridge.task.cancel import TaskCancelled
from django_bridge.task.context import SupportsTask, TaskContext
from notifier.programs import READ_BYTES, Percentages, started

LOOK_S: Final = 0.5
"""While a program is silent: how often a cancel is looked for."""
_OWN: Final = ("django_bridge", "notifier", "httpx", "httpcore", "redis")
"""Loggers whose records are left out: sending output would cause more of them."""


class TaskOutput(TaskContext):
    """What a task writes. Begins the task if needed.

    Quick writes are joined: 20 a second are sent, always the first and the last. Text that the service has not taken
    yet is sent with the next write, and before the end. After the end, a write raises `Conflict`; after a user's cancel
    it ends the task as cancelled and raises `TaskCancelled`.
    """

    def write(self: SupportsTask, text: Any) -> None:
        """Append text to the output; what cannot be shown (NUL, lone surrogates) is replaced."""
        text = str(text)
        if text and not self._join_output(text):
            self._append_output(text)

    async def awrite(self: SupportsTask, text: Any) -> None:
        """As `write`; for the tokens of a language model: `async for token in ...: await task.awrite(token)`."""
        text = str(text)
        if text and not self._join_output(text):
            await sync_to_async(self._append_output)(text)

    @property
    def output(self: SupportsTask) -> io.TextIOBase:
        """A file whose text becomes the output: `print("42 rows", file=task.output)`."""
        return _OutputFile(self)

    def log_handler(self: SupportsTask, level: int | str = logging.NOTSET) -> logging.Handler:
        """A handler that appends records to the output, one line each. Add it to a logger, and remove it at the end."""
        return _OutputHandler(self, level)

    def run(
        self: SupportsTask,
        command: Sequence[str | os.PathLike[str]],
        *,
        percent: str | re.Pattern[str] | None = None,
        ends: bool = True,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Run a program and append what it writes, to both pipes. Returns its exit code.

        percent: a pattern whose first group is a percentage; its last match is the task's progress. ends: the exit code
        ends the task, as failed unless it is 0. A user's cancel terminates the program with its children, and raises
        `TaskCancelled`. Raises OSError if it cannot be started.
        """
        self.begin()
        percentages = None if percent is None else Percentages(percent)
        with started(
            [os.fspath(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
        ) as process:
            _follow(self, process, percentages)
        code = process.returncode
        if ends and not self.ended:
            name = os.path.basename(os.fspath(command[0]))
            self.end() if code == 0 else self.fail(f"{name} ended with the exit code {code}")
        return code


def _follow(task: SupportsTask, process: subprocess.Popen[bytes], percentages: Percentages | None) -> None:
    """Append what a program writes, until it ends."""
    assert process.stdout is not None
    decoder = getincrementaldecoder("utf-8")("replace")
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        while True:
            task.raise_if_cancelled()
            if not selector.select(LOOK_S):
                continue
            data = os.read(process.stdout.fileno(), READ_BYTES)
            if text := decoder.decode(data, final=not data):
                task.write(text)
            if not data:
                process.wait()
                return
            if percentages is not None and (percent := percentages.newest(text)) is not None:
                task.set_state(done=percent, total=100)


class _OutputFile(io.TextIOBase):
    def __init__(self, task: SupportsTask) -> None:
        self._task = task

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._task.write(text)
        return len(text)


class _OutputHandler(logging.Handler):
    def __init__(self, task: SupportsTask, level: int | str) -> None:
        super().__init__(level)
        self._task = task

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] in _OWN or self._task.ended:
            return
        try:
            self._task.write(self.format(record) + "\n")
        except TaskCancelled:
            pass  # a log call is not where work stops: the next part of the loop raises
        except Exception:
            self.handleError(record)
