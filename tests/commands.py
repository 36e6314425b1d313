"""The command `notifier`: in this process, where that shows the same, or in one of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from click.testing import CliRunner

from notifier.cli import main
from tests.support import API_KEY, JWT_SECRET, REPOSITORY, Process

CREDENTIALS = {"NOTIFIER_JWT_SECRET": JWT_SECRET, "NOTIFIER_API_KEYS": API_KEY}
USER = "cli-user"


def clean_environment(**settings: str) -> dict[str, str]:
    """This environment without settings of the service, plus `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    return {**kept, **settings}


def call(*args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in this process, which saves the half second of a new interpreter."""
    env = {**dict.fromkeys(name for name in os.environ if name.startswith("NOTIFIER_")), **settings}
    done = CliRunner().invoke(main, args, env=env, prog_name="python -m notifier", catch_exceptions=False)
    return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)


def run(*args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in a process of its own."""
    command = [sys.executable, "-m", "notifier", *args]
    return subprocess.run(
        command, env=clean_environment(**settings), cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )


def refused(*args: str, **settings: str) -> str:
    """Call the command, which must refuse. Returns its single line of error output."""
    done = call(*args, **settings)
    assert done.returncode == 2, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("notifier: ")
    return line


def printed(*args: str, **settings: str) -> str:
    """Call the command, which must succeed. Returns its output."""
    done = call(*args, **settings)
    assert done.returncode == 0, done
    assert done.stderr == ""
    return done.stdout


@contextlib.contextmanager
def running(*args: str, **settings: str) -> Iterator[Process]:
    """Run the command until the end of the block."""
    process = Process([sys.executable, "-m", "notifier", *args], env=settings, cwd=REPOSITORY)
    try:
        yield process
    finally:
        process.stop()
