"""What a contributor meets first: CONTRIBUTING, CHANGELOG, the project's URLs, CI, hooks, the editor's settings."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from datetime import date
from itertools import product
from typing import Any

import pytest
import yaml

from tests.support import REPOSITORY
from tools import matrix

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text()
CI, IMAGE = (
    yaml.safe_load((REPOSITORY / ".github" / "workflows" / f"{name}.yml").read_text()) for name in ("ci", "image")
)
HOOKS = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
REPOSITORY_URL = "https://github.com/sse-notifier/notifier"


def recipe(target: str, *words: str) -> list[str]:
    """The commands of a target of the Makefile, without running them. AssertionError where there is no such target."""
    done = subprocess.run(["make", "-n", "-B", target, *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# The changelog and the URLs


def test_the_changelog_has_unreleased_first_and_a_date_for_each_version() -> None:
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    versions = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in headings[1:]]
    assert all(versions)
    dates = [date.fromisoformat(match[2]) for match in versions if match]
    assert dates == sorted(dates, reverse=True)
    assert next(match[1] for match in versions if match) == PROJECT["project"]["version"]


def test_the_changelog_uses_the_sections_of_keep_a_changelog_and_links_each_version() -> None:
    kinds = set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for name in re.findall(r"^## \[(.*?)\]", CHANGELOG, re.MULTILINE):
        assert re.search(rf"^\[{re.escape(name)}\]: {REPOSITORY_URL}/", CHANGELOG, re.MULTILINE), name


def test_the_project_has_its_urls_and_every_file_uses_the_same_repository() -> None:
    urls = PROJECT["project"]["urls"]
    assert list(urls) == ["Homepage", "Documentation", "Changelog", "Issues"]
    assert all(url.startswith(REPOSITORY_URL) for url in urls.values())
    listed = subprocess.run(["git", "ls-files", "-z", "*.md", "*.toml", "*.yml"], cwd=REPOSITORY, capture_output=True)
    for name in listed.stdout.decode().split("\0")[:-1]:
        for url in re.findall(r"https://github\.com/[\w.-]*notifier[\w.-]*/[\w.-]+", (REPOSITORY / name).read_text()):
            assert url == REPOSITORY_URL, name


# CI


def commands() -> list[tuple[str, str]]:
    """The commands of each job, once for each value of its matrix."""
    expanded: list[tuple[str, str]] = []
    for name, job in CI["jobs"].items():
        values: dict[str, list[str]] = job.get("strategy", {}).get("matrix", {})
        lines = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
        for choice in product(*values.values()):
            for line in lines:
                for key, value in zip(values, choice, strict=True):
                    line = line.replace(f"${{{{ matrix.{key} }}}}", value)
                expanded.append((name, line))
    return expanded


@pytest.mark.parametrize(("job", "command"), commands())
def test_ci_runs_targets_of_the_makefile(job: str, command: str) -> None:
    program, target, *words = shlex.split(command)
    assert program == "make"
    assert recipe(target, *words)


def test_ci_has_each_job_and_may_write_nothing() -> None:
    assert set(CI["jobs"]) == {"lint", "quick", "test", "matrix", "wheel"}
    assert set(IMAGE["jobs"]) == {"image"}
    assert CI["permissions"] == IMAGE["permissions"] == {"contents": "read"}
    assert set(CI[True]) == {"push", "pull_request"}, "`on` is true in YAML 1.1"


def test_ci_tries_every_pair_of_the_matrix_and_every_python_of_the_classifiers() -> None:
    words = [command.partition("PAIRS=")[2] for job, command in commands() if job == "matrix"]
    tried = {pair for word in words for pair in matrix.PAIRS if word in pair}
    assert tried == set(matrix.PAIRS)
    classifiers = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert CI["jobs"]["quick"]["strategy"]["matrix"]["python"] == classifiers


# CONTRIBUTING.md


def test_the_files_that_the_guide_names_exist() -> None:
    names = set(re.findall(r"`([\w./*-]+/[\w./*-]*|\w+\.(?:py|js|md))`", CONTRIBUTING))
    names.remove("build/site")  # `make docs` makes it
    invented = {name for name in names if "postgres" in name or "count" in name}
    assert invented
    for name in names - invented:
        places = (
            REPOSITORY,
            REPOSITORY / "notifier",
            REPOSITORY / "client" / "widgets",
            REPOSITORY / "tests" / "broker",
        )
        assert any(list(place.glob(name)) for place in places), name


def test_the_guides_targets_exist() -> None:
    for target in re.findall(r"`make ([\w-]+)`", CONTRIBUTING):
        assert recipe(target)


COLLECT = """
import sys
import pytest
for command in sys.argv[1:]:
    print(command)
    if code := pytest.main([*command.split("\\n"), "--collect-only", "-p", "no:cacheprovider"]):
        sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_guides_tests_can_be_run() -> None:
    commands = re.findall(r"^\.venv/bin/python -m pytest (.*)$", CONTRIBUTING, re.MULTILINE)
    assert len(commands) > 5
    # An invented broker has no tests.
    lines = ["\n".join(shlex.split(command.replace("postgres or ", ""))) for command in commands]
    done = subprocess.run([sys.executable, "-c", COLLECT, *lines], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# Hooks and editors


def test_the_hooks_run_what_make_lint_runs() -> None:
    def tool(command: str) -> str:
        return " ".join(word for word in command.split() if not word.startswith("-") and word != ".")

    linted = [line for line in recipe("lint") if line.startswith((".venv/bin/", "npm run"))]
    linted = [line for line in linted if "-m pip" not in line]
    assert {tool(hook["entry"]) for hook in HOOKS} == {tool(line) for line in linted}


def test_the_hooks_use_no_tools_but_the_projects_own() -> None:
    for hook in HOOKS:
        assert hook["language"] == "system"
        re.compile(hook.get("files", ""))


def test_the_editor_and_the_formatters_agree() -> None:
    settings = ConfigParser(strict=False)
    settings.read_string("[root]\n" + (REPOSITORY / ".editorconfig").read_text())
    ruff: dict[str, Any] = PROJECT["tool"]["ruff"]
    assert int(settings["*"]["max_line_length"]) == ruff["line-length"]
    assert settings["Makefile"]["indent_style"] == "tab"
