"""Runs the tests that depend on the database on PostgreSQL too, each file in its own pytest process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer
from tests.support import REPOSITORY, running

FILES = [
    "test_cancel.py",
    "test_concurrency.py",
    "test_decorator.py",
    "test_delivery.py",
    "test_history.py",
    "test_kept_end.py",
    "test_message.py",
    "test_original_samples.py",
    "test_outbox.py",
    "test_outbox_outage.py",
    "test_pace.py",
    "test_share.py",
    "test_task.py",
    "test_task_loop.py",
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running(PostgresServer()) as server:
        yield server


@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", FILES)
def test_the_file_passes_on_postgresql(postgres: PostgresServer, file: str) -> None:
    name = file.removesuffix(".py")
    postgres.create(f"{name}_default", f"{name}_other")
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tools.no_skips", "-p", "no:cacheprovider", f"tests/django/{file}"],
        cwd=REPOSITORY,
        env={**os.environ, "NOTIFIER_TEST_POSTGRES": f"{postgres.folder}:{name}"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-10_000:] + process.stderr
    assert re.search(r"\d+ passed", process.stdout)
    assert f"databases: postgresql {name}" in process.stdout
