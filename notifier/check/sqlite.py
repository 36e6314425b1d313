"""The file of the embedded broker, read without opening it for writing: the service may have it open."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

from notifier.broker.sqlite import rows
from notifier.broker.sqlite.broker import path_of
from notifier.broker.sqlite.lock import require_one_name
from notifier.check.result import OK, WEAKENS, CannotAsk, Result
from notifier.errors import ConfigurationError
from notifier.settings import Settings

ROOM_MIB: Final = 256
"""Free space below which the check warns (MiB): calls answer 503 on a full disk."""


def check_file(settings: Settings) -> Iterator[Result]:
    """Raises `CannotAsk` if the folder does not exist, or the file is not the service's."""
    try:
        path = path_of(settings.broker_url)
    except ValueError as exc:
        raise ConfigurationError(f"{settings.broker_variable}: {exc}") from None
    result = partial(Result, str(path))
    path = Path(os.path.realpath(path))  # the service's other files are beside the target of a symbolic link
    if not path.parent.is_dir():
        raise CannotAsk(f"the folder {path.parent} does not exist")
    try:
        require_one_name(path)
    except OSError as exc:
        raise CannotAsk(str(exc)) from None
    if path.exists():
        yield result("file", OK, f"format {_format_of(path)}, {path.stat().st_size / 2**20:.0f} MiB")
    else:
        yield result("file", OK, "is created at the start of the service")
    files = (path.with_name(path.name + suffix) for suffix in ("", "-lock", "-wal", "-shm"))
    unwritable = [item for item in (path.parent, *files) if item.exists() and not os.access(item, os.W_OK)]
    if unwritable:
        text = f"{unwritable[0]} cannot be written by this user: the service refuses to start"
        yield result("writable", WEAKENS, text, "run this command as the service's user, or change the owner")
    else:
        yield result("writable", OK, "by this user")
    free_mib = shutil.disk_usage(path.parent).free / 2**20
    if free_mib < ROOM_MIB:
        yield result("space", WEAKENS, f"{free_mib:.0f} MiB are free: on a full disk calls answer 503", "make room")
    else:
        yield result("space", OK, f"{free_mib:.0f} MiB are free")
    if settings.sqlite_synchronous == "full":
        yield result("synchronous", OK, "full: an answered event survives a loss of power")
    else:
        text = "normal: a loss of power may lose the newest answered events; clients get a reset"
        yield result("synchronous", WEAKENS, text, "NOTIFIER_SQLITE_SYNCHRONOUS=full")


def _format_of(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=2)) as connection:
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as exc:
        raise CannotAsk(f"{path} cannot be read: {exc}") from None
    if application_id != rows.APPLICATION_ID:
        raise CannotAsk(f"{path} is the database of another program")
    if version != rows.FORMAT:
        raise CannotAsk(f"{path} has the format {version}; this version of notifier reads {rows.FORMAT}")
    return int(version)
