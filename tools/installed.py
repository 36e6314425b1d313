"""What an environment of Python has installed, for `tools.sbom` and `tools.audit`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

_CODE = """
import importlib.metadata, json, sysconfig
names = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
print(json.dumps([sysconfig.get_path("purelib"), names]))
"""


def packages(python: Path) -> tuple[str, dict[str, str]]:
    """The folder of its packages, and the version of each by its name."""
    done = subprocess.run([str(python), "-I", "-c", _CODE], check=True, capture_output=True, text=True)
    folder, versions = json.loads(done.stdout)
    return folder, versions
