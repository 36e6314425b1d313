"""`@progress` and Django's tasks, with the package django-tasks-db and its worker, which need Django 5.2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import django
import pytest

from tests.support import REPOSITORY

if django.VERSION >= (5, 2):

    @pytest.mark.slow
    def test_the_decorators_work_in_both_orders(tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", "from tests.django import queued_tasks; queued_tasks.main()"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "DJANGO_SETTINGS_MODULE": ""},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert result == {
            "rows": {"Inside 4": ["succeeded", 4, True], "Outside 4": ["succeeded", 4, True]},
            "values": [4, 4],
            "priority": 5,
        }
