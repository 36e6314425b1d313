"""Which tests `make test-quick` runs: those that need Python and nothing else. `conftest` installs these hooks.

A test is quick unless it is marked `programs` (it starts a program that is not Python's: Redis, PostgreSQL, a browser,
nginx, node, curl) or `slow`. `mark` sets most of these marks: by fixture, by a parameter that begins with "redis", by
folder. While any other test runs, also in `make test`, starting such a program fails the test. So a test without the
mark that it needs fails everywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FIXTURES = {
    *("redis_server", "guarded_redis", "small_redis", "redis_cluster", "valkey_cluster", "sentinels"),
    *("postgres", "browser", "nginx", "diagnoses"),
}
"""Fixtures that start such programs."""
FOLDERS = {"browser": ("programs",), "faults": ("programs", "slow")}
"""Folders of `tests`, and the marks of every test in them."""
SHELL = ("bash", "env", "git", "make", "sh")
"""What a checkout on any system has."""

_active = False


def mark(item: pytest.Item) -> None:
    """Mark a test that needs a server or a browser by its fixtures, parameters or folder."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    on_redis = any(isinstance(value, str) and value.startswith("redis") for value in parameters)
    if on_redis or FIXTURES.intersection(getattr(item, "fixturenames", ())):
        item.add_marker("programs")
    for name in FOLDERS.get(item.path.parent.name, ()):
        item.add_marker(name)


@contextlib.contextmanager
def guard(item: pytest.Item) -> Iterator[None]:
    """While a test runs without the mark `programs`: refuse programs, and hide them from child processes."""
    global _active
    if item.get_closest_marker("programs"):
        yield
        return
    path, os.environ["PATH"] = os.environ["PATH"], f"{Path(sys.executable).parent}{os.pathsep}{_folder()}"
    _active = True
    try:
        yield
    finally:
        _active = False
        os.environ["PATH"] = path


_links: tempfile.TemporaryDirectory[str] | None = None


def _folder() -> str:
    """A folder with links to `SHELL` and to nothing else."""
    global _links
    if _links is None:
        _links = tempfile.TemporaryDirectory(prefix="notifier-path-")
        for name in SHELL:
            if program := shutil.which(name):
                Path(_links.name, name).symlink_to(program)
    return _links.name


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active or event not in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        return
    program = Path(os.fsdecode(arguments[0]))
    is_python = program.name.startswith("python") or program.parent == Path(sys.executable).parent
    if not is_python and program.name not in SHELL:
        pytest.fail(f"{program} is no part of Python: mark the test `@pytest.mark.programs`, see tests/quick.py")


sys.addaudithook(_audit)
