"""The output of a task: appended by its publisher, read by its users, live and afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, calling, data_of, problem_of
from tests.api.test_tasks import begin, patched
from tests.support import API_KEY, Service

FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}e\N{COMBINING ACUTE ACCENT}\r\n\x1b[1m"


def write(client: httpx.Client, task: dict[str, Any], text: object, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(f"/v1/tasks/{task['id']}/output", json={"text": text}, headers=headers)


def read(client: httpx.Client, task: dict[str, Any], after: int | None = None) -> Any:
    params = {} if after is None else {"after": after}
    response = client.get(f"/v1/tasks/{task['id']}/output", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_text_that_was_written_is_read_by_publisher_and_user(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    assert task["output"] is None
    assert read(user.client, task) == {"n": 0, "text": "", "truncated": False}
    assert write(publisher, task, "one\n").json() == {"n": 1, "chars": 4, "cancel_requested": False}
    assert write(publisher, task, FAMILY).json() == {"n": 2, "chars": 4 + len(FAMILY), "cancel_requested": False}
    for client in (publisher, user.client):
        assert read(client, task) == {"n": 2, "text": "one\n" + FAMILY, "truncated": False}
        assert read(client, task, 1) == {"n": 2, "text": FAMILY, "truncated": False}
    counts = {"n": 2, "chars": 4 + len(FAMILY)}
    assert user.tasks()[0]["output"] == counts
    assert patched(publisher, task, done=1)["output"] == counts


def test_the_stream_has_each_piece_and_the_snapshot_the_count(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    write(publisher, task, "before")
    with user.listen() as stream:
        (seen,) = data_of(stream.next("hello"))["tasks"]
        assert seen["output"] == {"n": 1, "chars": 6}
        write(publisher, task, FAMILY)
        assert data_of(stream.next("task.output")) == {"id": task["id"], "n": 2, "text": FAMILY}
    polled = user.client.get("/v1/poll").json()
    assert [seen["output"]["n"] for seen in polled["tasks"]] == [2]


def test_output_by_a_batch(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    items = [{"kind": "output", "id": task["id"], "text": text} for text in ("a", "", "b")]
    items.append({"kind": "patch", "id": task["id"], "status": "succeeded"})
    items.append({"kind": "output", "id": task["id"], "text": "late"})
    results = publisher.post("/v1/batch", json=items).json()["results"]
    assert [result["status"] for result in results] == [200, 422, 200, 200, 409]
    assert results[2]["body"] == {"n": 2, "chars": 2, "cancel_requested": False}
    assert read(publisher, task)["text"] == "ab"


def test_a_repeated_piece_is_kept_once(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    key = f"{task['id']}-1"
    assert write(publisher, task, "a", key).json() == write(publisher, task, "a", key).json()
    problem_of(write(publisher, task, "b", key), 422, "Idempotency-Key")
    assert read(publisher, task)["text"] == "a"


def test_a_cancel_is_in_the_answer_to_the_next_piece(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    assert user.client.post(f"/v1/tasks/{task['id']}/cancel").status_code == 200
    assert write(publisher, task, "a").json()["cancel_requested"] is True


@ONE_BROKER
@pytest.mark.parametrize(
    ("text", "status"), [(None, 422), ("", 422), (7, 422), ("\0", 422), ("x" * 16_385, 413), ("é" * 8193, 413)]
)
def test_what_is_no_piece_is_refused(publisher: httpx.Client, user: User, text: object, status: int) -> None:
    task = begin(publisher, user)
    problem_of(write(publisher, task, text), status, "text")
    assert read(publisher, task)["n"] == 0


@ONE_BROKER
@pytest.mark.parametrize("after", ["-1", "x", "1.5", "", "9" * 17])
def test_after_is_a_whole_number(publisher: httpx.Client, user: User, after: str) -> None:
    task = begin(publisher, user)
    problem_of(publisher.get(f"/v1/tasks/{task['id']}/output", params={"after": after}), 422, "after")


def test_the_oldest_output_goes_and_the_answer_says_so(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    for number in range(17):
        assert write(publisher, task, f"{number % 10}" * 16_384).status_code == 200
    whole = read(user.client, task)
    assert (whole["n"], whole["truncated"], len(whole["text"])) == (17, True, 256 * 1024)
    assert whole["text"].startswith("1")
    assert read(user.client, task, 16) == {"n": 17, "text": "6" * 16_384, "truncated": False}


def test_only_who_may_see_the_task_reads_it_and_only_publishers_write(
    api: Service, publisher: httpx.Client, user: User, someone: Callable[..., User], anyone: httpx.Client
) -> None:
    task = begin(publisher, user)
    write(publisher, task, "secret")
    path = f"/v1/tasks/{task['id']}/output"
    problem_of(someone().client.get(path), 404, "id")
    problem_of(anyone.get(path), 401)
    problem_of(anyone.post(path, json={"text": "x"}), 401)
    problem_of(user.client.post(path, json={"text": "x"}), 401)
    with calling(api, API_KEY) as other:
        problem_of(other.post("/v1/tasks/none/output", json={"text": "x"}), 404, "id")
        problem_of(other.get("/v1/tasks/none/output"), 404, "id")
