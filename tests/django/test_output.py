"""The output of a task in Django: `write`, `output`, `log_handler`, `run`."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_bridge import Task, TaskCancelled, publisher
from django_bridge.publisher.transport import Unreachable
from django_bridge.task import reporter
from django_bridge.testing import outbox
from notifier import programs
from notifier.errors import Conflict
from notifier.output import MAX_PIECE_BYTES
from tests.django.conftest import http_settings
from tests.support import Service, free_port, running, wait_for

FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}e\N{COMBINING ACUTE ACCENT}\r\n"


@pytest.fixture
def task(user: User) -> Task:
    return Task(from_user=user, task_name="Import")


def stored(service: Service, user: User, task: Task) -> Any:
    with service.user(str(user.pk)) as client:
        return client.get(f"/v1/tasks/{task.id}/output").json()


def test_what_is_written_is_the_output(task: Task) -> None:
    task.write("one\n")
    print("two", 3, file=task.output)
    task.write("")
    task.write("a\0b\ud800")
    task.end()
    assert outbox.output_of(task) == "one\ntwo 3\na\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    assert outbox.tasks[0]["output"]["chars"] == 14
    with pytest.raises(Conflict):
        task.write("late")


def test_all_of_a_quick_writer_s_text_is_stored_before_the_end(live: Service, user: User, task: Task) -> None:
    texts = [f"{number} {FAMILY}" for number in range(3000)]
    with task:
        for text in texts:
            task.write(text)
    whole = stored(live, user, task)
    assert whole["text"] == "".join(texts)
    assert whole["n"] < len(texts), "the writes were joined"
    assert task.status == "succeeded"


def test_the_last_of_joined_writes_is_sent_without_another(live: Service, user: User, task: Task) -> None:
    for number in range(10):
        task.write(f"{number}")
    wait_for(lambda: stored(live, user, task)["text"] == "0123456789", what="the last write")


def test_a_text_of_any_size_is_sent_in_pieces(live: Service, user: User, task: Task) -> None:
    text = "é" * MAX_PIECE_BYTES + FAMILY * 1000
    with task:
        task.write(text)
    assert stored(live, user, task)["text"] == text


def test_joined_writes_cost_no_call(
    over_http: Service, user: User, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.write("first")
    calls: list[str] = []
    real = publisher.Publisher.append_output

    def append_output(self: Any, task_id: str, text: str, key: str) -> Any:
        calls.append(text)
        return real(self, task_id, text, key)

    monkeypatch.setattr(publisher.Publisher, "append_output", append_output)
    task.write("a")
    for _ in range(500):
        task.write("b")
    task.end()
    assert stored(over_http, user, task)["text"] == "first" + "a" + 500 * "b"
    assert max(map(len, calls)) > 1, "the writes were joined"


async def test_tokens_of_an_async_generator_are_the_output(live: Service, user: User, task: Task) -> None:
    async with task:
        for number in range(200):
            await task.awrite(f"{number} ")
            await asyncio.sleep(0)
    assert stored(live, user, task)["text"] == "".join(f"{number} " for number in range(200))


def test_a_cancel_stops_the_producer_at_its_next_write(live: Service, user: User, task: Task) -> None:
    task.write("a")
    with live.user(str(user.pk)) as client:
        assert client.post(f"/v1/tasks/{task.id}/cancel").status_code == 200

    def produce() -> None:
        for _ in range(10_000):
            task.write("b")
            time.sleep(0.01)

    with pytest.raises(TaskCancelled):
        produce()
    assert task.status == "cancelled"
    # The piece that was answered with the cancel, text that came during that call, and the text of the last write.
    assert stored(live, user, task)["n"] <= 4


def test_text_of_an_outage_arrives_once_with_the_end_after_it(user: User) -> None:
    port = free_port()
    settings = http_settings(f"http://127.0.0.1:{port}", TIMEOUT_S=0.3)
    with override_settings(NOTIFIER=settings):
        task = Task(from_user=user, task_name="Import")
        for number in range(5):
            task.write(f"{number}")
        task.end()
        with running(Service(port=port)) as service:
            wait_for(lambda: task_of(service, user).get("status") == "succeeded", what="the end")
            assert stored(service, user, task)["text"] == "01234"


def test_text_after_a_longer_piece_in_flight_is_sent_before_the_end(
    live: Service, user: User, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.begin()
    transport = publisher.current().transport
    real, lost, away = transport.append_output, [], threading.Event()
    away.set()

    def append_output(task_id: str, text: str, key: str) -> Any:
        attempt = real(task_id, text, key)

        def losing(within_s: float) -> Any:
            if away.is_set():
                lost.append(text)
                raise Unreachable("the service is away")
            return attempt(within_s)

        return losing

    monkeypatch.setattr(transport, "append_output", append_output)
    texts = [60 * "a", "tail 1\n", "tail 2\n"]
    task.write(texts[0])
    wait_for(lambda: texts[0] in lost, what="the piece in flight")
    task.write(texts[1])
    task.write(texts[2])
    away.clear()
    task.end()
    wait_for(lambda: task_of(live, user)["status"] == "succeeded", what="the end")
    assert stored(live, user, task)["text"] == "".join(texts)


def test_text_of_another_thread_is_sent_before_an_end_that_came_during_the_call(
    live: Service, user: User, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.begin()
    monkeypatch.setattr(reporter, "OUTPUT_PACE_S", 60.0)
    monkeypatch.setattr(reporter, "SLOW_S", 60.0)  # else the scheduler sends what a busy service took long for
    real = publisher.Publisher.append_output

    def finish() -> None:
        task.write("last")
        task.end()

    thread = threading.Thread(target=finish)

    def append_output(self: Any, task_id: str, text: str, key: str) -> Any:
        try:
            return real(self, task_id, text, key)
        finally:  # also where a busy machine did not answer in time: the text is sent again then
            if text == "first " and thread.ident is None:
                thread.start()
                wait_for(lambda: task.ended, what="the end of the other thread")

    monkeypatch.setattr(publisher.Publisher, "append_output", append_output)
    task.write("first ")
    thread.join()
    assert stored(live, user, task)["text"] == "first last"
    assert task_of(live, user)["status"] == "succeeded"


def task_of(service: Service, user: User) -> dict[str, Any]:
    with service.user(str(user.pk)) as client:
        tasks = client.get("/v1/tasks").json()["tasks"]
    return dict(tasks[0]) if tasks else {}


def test_a_piece_whose_answer_was_lost_is_stored_once(
    live: Service, user: User, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.begin()
    transport = publisher.current().transport
    real, lost = transport.append_output, []

    def append_output(task_id: str, text: str, key: str) -> Any:
        attempt = real(task_id, text, key)

        def losing(within_s: float) -> Any:
            answer = attempt(within_s)
            if len(lost) < 3:
                lost.append(key)
                raise Unreachable("the answer was lost")
            return answer

        return losing

    monkeypatch.setattr(transport, "append_output", append_output)
    for text in ("a", "b", "c"):
        task.write(text)
    task.end()
    assert len(set(lost)) < len(lost) or len(lost) == 3
    assert stored(live, user, task)["text"] == "abc"


# Logging


def test_log_records_are_lines_of_the_output(task: Task) -> None:
    logger = logging.getLogger("import")
    handler = task.log_handler(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        logger.warning("row %d is empty", 7)
        logger.info("quiet")
        task.end()
        logger.error("after the end")
    finally:
        logger.removeHandler(handler)
    assert outbox.output_of(task) == "WARNING row 7 is empty\n"


def test_a_cancel_does_not_break_a_log_call(task: Task) -> None:
    logger = logging.getLogger("import")
    handler = task.log_handler()
    logger.addHandler(handler)
    try:
        logger.error("one")
        outbox.request_cancel(task)
        logger.error("two")
    finally:
        logger.removeHandler(handler)
    assert outbox.output_of(task) == "one\ntwo\n"


# Programs


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_program_s_output_and_percentages_are_the_task_s(task: Task) -> None:
    code = "import sys\nprint('10% done', flush=True); print('é 60.5%', file=sys.stderr, flush=True); print('end')"
    assert task.run(python(code), percent=r"([0-9.]+)%") == 0
    assert outbox.output_of(task) == "10% done\né 60.5%\nend\n"
    assert (task.status, task.done, task.total) == ("succeeded", 60, 100)


def test_an_exit_code_fails_the_task(task: Task) -> None:
    assert task.run(python("raise SystemExit(3)")) == 3
    assert task.status == "failed"
    assert "exit code 3" in outbox.tasks[0]["error"]


def test_a_program_may_be_a_part_of_the_task(task: Task) -> None:
    with task:
        for number in range(2):
            assert task.run(python(f"print({number})"), ends=False) == 0
    assert outbox.output_of(task) == "0\n1\n"
    assert task.status == "succeeded"


@pytest.mark.programs
def test_a_program_that_is_not_there_fails_as_any_exception(task: Task) -> None:
    with pytest.raises(FileNotFoundError), task:
        task.run(["/no/such/program"])
    assert task.status == "failed"


@pytest.mark.slow
def test_a_cancel_terminates_the_program_and_its_children(task: Task, tmp_path: Any) -> None:
    alive = tmp_path / "alive"
    child = f"import time\nwhile True:\n open({str(alive)!r}, 'a').write('x'); time.sleep(0.05)"
    code = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}])\nprint('started', flush=True)\n"
    )
    code += "import time; time.sleep(60)"

    def cancel() -> None:
        wait_for(lambda: outbox.output_of(task) == "started\n" and alive.exists(), what="the program")
        outbox.request_cancel(task)

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(TaskCancelled):
        task.run(python(code))
    thread.join()
    assert task.status == "cancelled"
    size = alive.stat().st_size
    time.sleep(0.3)
    assert alive.stat().st_size == size, "the child has ended too"


def runs(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.programs
@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        """sh -c 'echo $$; exec sleep 60' & exit 0""",
        """sh -c 'trap "" TERM; echo $$; exec sleep 60' & wait""",
    ],
    ids=["the program ended before the cancel", "the child ignores SIGTERM"],
)
def test_a_cancel_ends_children_that_outlive_their_program(
    task: Task, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "TERMINATE_S", 0.5)

    def cancel() -> None:
        wait_for(lambda: outbox.output_of(task).endswith("\n"), what="the child")
        outbox.request_cancel(task)

    task.begin()
    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(TaskCancelled):
        task.run(["sh", "-c", script])
    thread.join()
    child = int(outbox.output_of(task))
    wait_for(lambda: not runs(child), what="the end of the child")
