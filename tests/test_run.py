"""`notifier run`: a program as a task, with its output, percentages and exit code; a cancel terminates it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notifier.programs import PERCENT, Percentages, Terminated, raising_on_sigterm, started
from tests.commands import run, running
from tests.support import API_KEY, Service, wait_for
from tests.support import running as until_the_end

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with until_the_end(Service()) as started:
        yield started


def arguments(service: Service, name: str, script: str) -> list[str]:
    return ["run", "--to", "user:7", "--name", name, "--url", service.url, "--", sys.executable, "-u", "-c", script]


def seen(service: Service, name: str) -> dict[str, Any]:
    """The task of this name, as its user sees it; empty while there is none."""
    with service.user("7") as reader:
        tasks = reader.get("/v1/tasks").json()["tasks"]
        task: dict[str, Any] = next((task for task in tasks if task["name"] == name), {})
        if task:
            task["text"] = reader.get(f"/v1/tasks/{task['id']}/output").json()["text"]
    return task


SCRIPT = """
import sys
print("Zeile \\N{LATIN SMALL LETTER E WITH ACUTE}")
print("40 %% done", file=sys.stderr)
sys.exit(%d)
"""


@pytest.mark.parametrize(("code", "status"), [(0, "succeeded"), (3, "failed")])
def test_a_programs_output_percentages_and_exit_code_are_those_of_the_task(
    service: Service, code: int, status: str
) -> None:
    done = run(*arguments(service, f"Import {code}", SCRIPT % code), NOTIFIER_API_KEY=API_KEY)
    assert (done.returncode, done.stdout) == (code, "Zeile é\n40 % done\n"), done
    task = seen(service, f"Import {code}")
    assert (task["status"], task["text"]) == (status, "Zeile é\n40 % done\n")
    assert (task["done"], task["total"]) == (40, 100)
    assert task["error"] == (None if code == 0 else f"{Path(sys.executable).name} ended with exit code 3")


def test_a_cancel_terminates_the_program(service: Service) -> None:
    script = "import time; print('begun'); time.sleep(600)"
    with running(*arguments(service, "Long", script), NOTIFIER_API_KEY=API_KEY) as process:
        wait_for(lambda: seen(service, "Long").get("text") == "begun\n", what="the output")
        with service.user("7") as reader:
            assert reader.post(f"/v1/tasks/{seen(service, 'Long')['id']}/cancel").status_code == 200
        wait_for(lambda: process.child.poll() == 143, what="the end of the program")
    assert seen(service, "Long")["status"] == "cancelled"


def test_sigterm_while_a_program_is_started_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            processes.append(self)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    program = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(Terminated), raising_on_sigterm(), started(program):
        raise AssertionError("the program runs on")
    (process,) = processes
    assert process.returncode == -signal.SIGTERM


def test_sigterm_ends_the_program_too(service: Service) -> None:
    script = "import os, time; print(os.getpid()); time.sleep(600)"
    with running(*arguments(service, "Stopped", script), NOTIFIER_API_KEY=API_KEY) as process:
        wait_for(lambda: seen(service, "Stopped").get("text"), what="the output")
        program = int(seen(service, "Stopped")["text"])
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(20) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(program, 0)
    task = seen(service, "Stopped")
    assert (task["status"], task["error"]) == ("failed", "terminated by SIGTERM")


def test_what_the_service_refuses_is_an_error_before_the_program_runs(service: Service, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    done = run(*arguments(service, "", f"open({str(mark)!r}, 'w')"), NOTIFIER_API_KEY=API_KEY)
    assert (done.returncode, mark.exists()) == (2, False)
    assert done.stderr.startswith("notifier: the service answered 422: ")


def test_a_program_runs_without_the_service_and_keeps_its_exit_code() -> None:
    args = ["run", "--to", "user:7", "--name", "x", "--url", "http://127.0.0.1:9", "--", "sh", "-c", "echo out; exit 5"]
    begun = time.monotonic()
    done = run(*args, NOTIFIER_API_KEY=API_KEY)
    assert (done.returncode, done.stdout) == (5, "out\n")
    assert "the service is away" in done.stderr
    assert time.monotonic() - begun < 30


def test_percentages_are_found_across_parts() -> None:
    percentages = Percentages(PERCENT)
    parts = ["10% 2", "5.5 % of 1000", "%", " 300%", "no"]
    assert [percentages.newest(part) for part in parts] == [10, 25, None, 100, None]
