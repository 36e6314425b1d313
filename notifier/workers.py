"""The workers of one `serve`: each tells the others its numbers, so that any of them can show all.

    the supervisor makes a private folder -> each worker listens on a socket in it -> one asks all, when it is scraped

A worker that does not answer in time, or has ended, is left out and counted as missing. Its successor begins at zero
under the same number: Prometheus' `rate` and `increase` allow for that in each series. Must not know: what the numbers
mean, HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

log = logging.getLogger("notifier.workers")

VARIABLE: Final = "_NOTIFIER_WORKER"
"""The environment variable by which the supervisor tells a worker its number and the folder: `2:/tmp/notifier-x`."""
TIMEOUT_S: Final = 1.0
MAX_BYTES: Final = 1024 * 1024
"""Of one worker's numbers."""


class Workers:
    """This worker and its siblings. Alone, it is the worker 0."""

    def __init__(self, number: int, folder: Path | None, read: Callable[[], Any]) -> None:
        self._number = number
        self._folder = folder
        self._read = read
        self._server: asyncio.Server | None = None

    @classmethod
    def from_environment(cls, read: Callable[[], Any]) -> Self:
        """The worker that the supervisor started this process as. `read` returns its numbers, as JSON has them."""
        number, _, folder = os.environ.get(VARIABLE, "").partition(":")
        return cls(int(number), Path(folder), read) if folder else cls(0, None, read)

    async def start(self) -> None:
        """Answer the siblings. Where the system does not allow it, each worker shows its own numbers only."""
        if self._folder is None:
            return
        path = self._folder / str(self._number)
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # of the worker that had this number before
            self._server = await asyncio.start_unix_server(self._answer, path)
        except OSError as exc:
            log.warning("the metrics of this worker are not shown by the others: %s: %s", path, exc)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(json.dumps(self._read()).encode())
            await writer.drain()
        writer.close()

    async def all(self) -> tuple[Mapping[str, Any], int]:
        """The numbers of every worker that answers, by its number; and how many did not answer."""
        numbers, paths = {str(self._number): self._read()}, list[Path]()
        if self._folder is not None:
            paths = [path for path in self._folder.iterdir() if path.name != str(self._number)]
            answers = await asyncio.gather(*map(_ask, paths))
            numbers |= {path.name: answer for path, answer in zip(paths, answers, strict=True) if answer is not None}
        missing = 1 + len(paths) - len(numbers)
        return dict(sorted(numbers.items(), key=lambda item: int(item[0]))), missing


async def _ask(path: Path) -> Any:
    """A sibling's numbers; None if it has ended or does not answer in time."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=MAX_BYTES)
            try:
                return json.loads(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None
