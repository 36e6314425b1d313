"""A page of the documentation whose examples are pasted into files and shells, as a reader would do it.

Only the ports differ: those of the page may be taken on this machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support import REPOSITORY, Process

BIN = Path(sys.executable).parent
PASSWORD = "a long password"


def blocks(text: str, language: str) -> list[str]:
    """The code of all fences of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def titled(path: str) -> dict[str, str]:
    """The code of a page's fences that have a title, by title."""
    pattern = r'^```\w+ title="([^"]*)"\n(.*?)^```$'
    return dict(re.findall(pattern, (REPOSITORY / path).read_text("utf-8"), re.DOTALL | re.MULTILINE))


class Document:
    """A Markdown file of the repository. It remembers which of its examples a test has taken."""

    def __init__(self, path: str) -> None:
        self.path = path
        """From the repository's root."""
        self.text = (REPOSITORY / path).read_text("utf-8")
        self._taken: set[str] = set()

    def blocks(self, language: str) -> list[str]:
        return blocks(self.text, language)

    def take(self, code: str) -> str:
        self._taken.add(code)
        return code

    def block(self, language: str, words: str) -> str:
        """The one block that contains these words."""
        matches = [code for code in self.blocks(language) if words in code]
        assert len(matches) == 1, f"{len(matches)} blocks of {self.path} contain {words!r}"
        return self.take(matches[0])

    def file(self, title: str) -> str:
        """The one block whose first line is a comment with this title: the name of a file."""
        every = self.blocks("python") + self.blocks("html")
        matches = [code for code in every if code.partition("\n")[0].strip("#<!-> ") == title]
        assert len(matches) == 1, f"{len(matches)} blocks of {self.path} have the title {title!r}"
        return self.take(matches[0])

    def left_out(self) -> list[str]:
        """The examples that no test has taken."""
        every = re.findall(r"^```\w+\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)
        return [code for code in every if code not in self._taken]


@dataclass
class Shell:
    """A reader's shell: the folder it is in, its variables, and the addresses that stand for those of the page."""

    folder: Path
    env: dict[str, str]
    addresses: Mapping[str, str]

    def here(self, text: str) -> str:
        """An example with the addresses in use here."""
        for written, real in self.addresses.items():
            text = text.replace(written, real)
        return text

    def run(self, script: str, timeout_s: float = 60) -> str:
        """Run a script of the page, which must succeed. Returns its output."""
        command = ["bash", "-euo", "pipefail", "-c", self.here(script)]
        done = subprocess.run(command, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, script: str) -> Process:
        """Start a command of the page that does not end by itself, with the variables of this shell and no others."""
        pairs = [f"{name}={value}" for name, value in self.env.items()]
        return Process(["env", "-i", *pairs, "bash", "-euc", self.here(script)], cwd=self.folder)


class Project(Shell):
    """A shell in a Django project that runs."""

    server: Process
    commands_s: float
    """CPU seconds of the commands before the server."""

    def cpu_s(self) -> float:
        """CPU seconds of the project until now: of its commands, its server and the service beside it."""
        return self.commands_s + _cpu_s(self.server.child.pid)


def ended_s() -> float:
    """CPU seconds of all ended children of this process."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has ended
    children = [int(child) for text in threads for child in text.split()]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") + sum(map(_cpu_s, children))


def clean_environment() -> dict[str, str]:
    """This environment with the virtual environment's commands, without settings of the service or of Django."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFIER_", "DJANGO_"))}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}


def answers(url: str) -> bool:
    """True if this address answers with 200."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url).status_code == 200
    return False
