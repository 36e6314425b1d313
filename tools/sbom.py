"""Writes what an environment has installed as CycloneDX: `python -m tools.sbom build/image/bin/python build/sbom.json`.

The Makefile makes that environment as the Dockerfile makes that of the image. cyclonedx-py reads it, and checks the
document against CycloneDX' schema; without dates and random numbers, so that the same packages give the same file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

from tools.installed import packages

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def write(python: Path, target: Path, *options: str) -> int:
    """Write the file. Returns the number of its components, which are all that is installed beside the project."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--spec-version", "1.6"]
    files = ["--pyproject", str(PROJECT), "--output-file", str(target), str(python)]
    subprocess.run([*command, *options, *files], check=True)
    document = json.loads(target.read_text("utf-8"))
    listed = {canonicalize_name(each["name"]) for each in [*document["components"], document["metadata"]["component"]]}
    installed = {canonicalize_name(name) for name in packages(python)[1]}
    if listed != installed:
        target.unlink()
        raise SystemExit(f"the document differs from the environment: {', '.join(sorted(listed ^ installed))}")
    return len(document["components"])


if __name__ == "__main__":
    print(f"{sys.argv[2]}: {write(Path(sys.argv[1]), Path(sys.argv[2]))} packages")
