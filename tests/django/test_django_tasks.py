"""`@progress` and Django's tasks, with the package django-tasks-db and its worker, which need Django 5.2."""

from __future__ import annotations

from pathlib import Path

import django
import pytest

from tests.django.fresh_process import last_json

if django.VERSION >= (5, 2):

    @pytest.mark.slow
    def test_the_decorators_work_in_both_orders(tmp_path: Path) -> None:
        result = last_json(tmp_path, "-c", "from tests.django import queued_tasks; queued_tasks.main()")
        assert result == {
            "rows": {"Inside 4": ["succeeded", 4, True], "Outside 4": ["succeeded", 4, True]},
            "values": [4, 4],
            "priority": 5,
        }
