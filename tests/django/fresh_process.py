"""A part of a test that needs Django set up by settings of its own: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import REPOSITORY


def last_json(folder: Path, *arguments: str) -> Any:
    """The JSON on the last line that `python ARGUMENTS` prints, run in a folder with the repository on its path."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "DJANGO_SETTINGS_MODULE": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
