"""Programs whose output becomes a task's: their end, with all their children, and percentages in what they write.

Must not know: tasks, how text is sent.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

TERMINATE_S: Final = 5.0
"""How long a program that was asked to terminate, and its children, may take before they are killed."""
POLL_S: Final = 0.02
"""After SIGTERM: how often the end of the program and its children is looked for."""
READ_BYTES: Final = 16 * 1024
SIGTERM_CODE: Final = 143
"""The exit code of a program ended by SIGTERM; also after a user's cancel."""
PERCENT: Final = r"(?<![\d.])(\d{1,3}(?:\.\d+)?) ?%"
"""A percentage as programs write it: `42%`, `42.5 %`."""
MAX_LINE_CHARS: Final = 16 * 1024
"""Text without a percentage that is kept for the next search."""


class Percentages:
    """Searches text that comes in parts for a pattern whose first group is a percentage."""

    def __init__(self, pattern: str | re.Pattern[str]) -> None:
        self._pattern = re.compile(pattern)
        self._line = ""

    def newest(self, text: str) -> int | None:
        """The last percentage up to the end of this part, from 0 to 100; None if no new one came."""
        self._line = (self._line + text)[-MAX_LINE_CHARS:]
        matches = list(self._pattern.finditer(self._line))
        if not matches:
            return None
        self._line = self._line[matches[-1].end() :]
        return min(100, max(0, int(float(matches[-1][1]))))


def terminate(process: subprocess.Popen[bytes]) -> None:
    """End a program that leads its own process group, and its children: first asked to, then killed."""
    deadline = time.monotonic() + TERMINATE_S
    with suppress(ProcessLookupError):  # the group is empty
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()  # until then, a program that has ended is in the group
            os.killpg(process.pid, 0)
            time.sleep(POLL_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Terminated(SystemExit):
    """This process got SIGTERM."""

    def __str__(self) -> str:
        return "terminated by SIGTERM"


class _RaiseTerminated:
    """A handler of SIGTERM. While a program is being started, it only notes the signal."""

    def __init__(self) -> None:
        self.is_deferred = self.came = False

    def __call__(self, *_: object) -> None:
        if not self.is_deferred:
            raise Terminated(SIGTERM_CODE)
        self.came = True


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program that leads its own process group. An exception in the block ends it, with its children.

    In `raising_on_sigterm`, a SIGTERM that comes during the start ends it as well. Raises OSError.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not isinstance(handler, _RaiseTerminated) or threading.current_thread() is not threading.main_thread():
        handler = _RaiseTerminated()  # of no signal: this thread gets none that raises
    handler.is_deferred, handler.came = True, False
    try:
        with subprocess.Popen(command, start_new_session=True, **options) as process:  # noqa: S603  # the caller's, no shell
            try:
                handler.is_deferred = False
                if handler.came:
                    raise Terminated(SIGTERM_CODE)
                yield process
            except BaseException:
                terminate(process)
                raise
    except OSError:
        if handler.is_deferred and handler.came:  # the start failed
            raise Terminated(SIGTERM_CODE) from None
        raise
    finally:
        handler.is_deferred = False


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """In the block, SIGTERM raises `Terminated` in the main thread. Outside of the main thread it has no effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = signal.signal(signal.SIGTERM, _RaiseTerminated())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
