"""Runs the tests that depend on the database on PostgreSQL too, in a pytest process of their own."""

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
    "test_escalation_bounds.py",
    "test_history.py",
    "test_kept_end.py",
    "test_live_databases.py",
    "test_message.py",
    "test_original_samples.py",
    "test_outbox.py",
    "test_outbox_outage.py",
    "test_pace.py",
    "test_share.py",
    "test_task.py",
    "test_task_loop.py",
]
SMALL = "test_outbox_outage or not (redis or test_original_samples and (celery or link or worker))"
"""What of these `make test` runs: the transport `redis` and the links of Celery depend on no database."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running(PostgresServer()) as server:
        yield server


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("size", "options"),
    [
        ("small", ["-k", SMALL]),
        pytest.param("full", [], marks=pytest.mark.full),
    ],
)
def test_the_files_pass_on_postgresql(postgres: PostgresServer, size: str, options: list[str]) -> None:
    databases = [f"{size}_{alias}" for alias in ("default", "other")]
    postgres.create(*databases)
    files = [f"tests/django/{file}" for file in FILES]
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tools.no_skips", "-p", "no:cacheprovider", *files, *options],
        cwd=REPOSITORY,
        env={**os.environ, "NOTIFIER_TEST_POSTGRES": f"{postgres.folder}:{size}", "NOTIFIER_FAULTS": size},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-10_000:] + process.stderr
    assert re.search(r"\d+ passed", process.stdout)
    assert all(file in process.stdout for file in files)
    assert f"databases: postgresql {size}" in process.stdout
