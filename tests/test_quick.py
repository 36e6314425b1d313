"""What keeps `make test-quick` free of programs that are not Python's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import quick
from tests.support import CHROMIUM, REPOSITORY
from tools.quick import OPTIONS


@pytest.mark.parametrize(
    "program", ["/usr/bin/redis-server", CHROMIUM, "/usr/bin/firefox-esr", "curl", "node", "/usr/sbin/nginx"]
)
def test_a_quick_test_that_starts_a_program_fails(program: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="mark the test"):
        subprocess.run([program, "--version"])


def test_a_child_process_of_a_quick_test_finds_no_program_either() -> None:
    script = (
        "for name in redis-server chromium-headless-shell firefox-esr nginx node curl; do command -v $name; done; true"
    )
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout == ""


def test_a_quick_test_may_start_python_and_the_shell() -> None:
    for command in ([sys.executable, "--version"], ["bash", "-c", "python --version"], ["make", "--version"]):
        assert subprocess.run(command, capture_output=True).returncode == 0


def test_a_test_on_redis_is_no_quick_test(request: pytest.FixtureRequest) -> None:
    collected = {item.name: item for item in request.session.items}
    assert collected[request.node.name].get_closest_marker("programs") is None
    for item in request.session.items:
        if "redis_server" in getattr(item, "fixturenames", ()):
            assert item.get_closest_marker("programs"), item.nodeid


def test_make_test_quick_runs_what_is_not_marked() -> None:
    recipe = subprocess.run(["make", "-n", "test-quick"], cwd=REPOSITORY, capture_output=True, text=True).stdout
    assert "-m tools.quick" in recipe
    assert "not programs and not slow" in OPTIONS
    assert {name for names in quick.FOLDERS.values() for name in names} <= {"programs", "slow"}
