"""Questions of a task: asked by its publisher, answered by a user on any device."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, data_of, problem_of, unique
from tests.api.test_tasks import begin, patched

YES_NO = [{"value": "yes", "text": "Yes"}, {"value": "no", "text": "No"}]


def ask(client: httpx.Client, task: dict[str, Any], **fields: Any) -> httpx.Response:
    body = {"text": "Overwrite 312 rows?", "choices": YES_NO, "default": "no", **fields}
    return client.post(f"/v1/tasks/{task['id']}/question", json={name: body[name] for name in body if body[name]})


def asked(client: httpx.Client, task: dict[str, Any], **fields: Any) -> str:
    response = ask(client, task, **fields)
    assert response.status_code == 200, response.text
    assert response.json()["status"] == "waiting"
    return str(response.json()["question"]["id"])


def answer(client: httpx.Client, task: dict[str, Any], question: str, value: object) -> httpx.Response:
    return client.post(f"/v1/tasks/{task['id']}/answer", json={"question": question, "value": value})


def wait(client: httpx.Client, task: dict[str, Any], question: str, wait_s: int = 0) -> httpx.Response:
    return client.get(f"/v1/tasks/{task['id']}/answer", params={"question": question, "wait_s": wait_s})


def test_a_question_is_seen_by_all_devices_answered_by_one_and_closed_on_all(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    user = someone()
    with user.listen() as first, user.listen() as second:
        for stream in (first, second):
            stream.next("hello")
        task = begin(publisher, user)
        for stream in (first, second):
            stream.next("task")  # before the next: states that arrive together are one
        question = asked(publisher, task)
        for stream in (first, second):
            seen = data_of(stream.next("task"))
            assert seen["status"] == "waiting"
            assert seen["question"]["choices"] == YES_NO
            assert set(seen["question"]) == {"id", "text", "choices", "input", "asked_at", "expires_at"}
        assert wait(publisher, task, question).status_code == 204
        assert answer(user.client, task, question, "yes").json()["status"] == "running"
        for stream in (first, second):
            closed = data_of(stream.next("task"))
            assert (closed["status"], closed["question"]) == ("running", None)
            assert (closed["answer"]["question"], closed["answer"]["value"]) == (question, "yes")
            assert closed["answer"]["by"] == {"id": user.name, "name": None}
            assert set(closed["answer"]) == {"question", "value", "by", "answered_at"}
    given = wait(publisher, task, question).json()
    assert (given["value"], given["by"]) == ("yes", {"id": user.name, "name": None})


def test_the_first_answer_wins_and_later_ones_see_who(publisher: httpx.Client, someone: Callable[..., User]) -> None:
    ann, bob = someone(), someone()
    task = publisher.post("/v1/tasks", json={"to": [ann.channel, bob.channel], "name": "Import"}).json()
    question = asked(publisher, task)
    with ThreadPoolExecutor() as pool:
        given = list(pool.map(lambda user: answer(user.client, task, question, "yes"), [ann, bob]))
    assert sorted(response.status_code for response in given) == [200, 409]
    winner = wait(publisher, task, question).json()["by"]
    problem = next(response for response in given if response.status_code == 409).json()
    assert (problem["value"], problem["by"]) == ("yes", winner)


def test_a_waiting_publisher_gets_the_answer_when_it_is_given(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    question = asked(publisher, task)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait, publisher, task, question, 9)
        answer(user.client, task, question, "no")
        assert waiting.result().json()["value"] == "no"


def test_after_the_timeout_the_default_is_the_answer(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    question = asked(publisher, task, timeout_s=1)
    given = wait(publisher, task, question, 9).json()
    assert (given["value"], given["by"]) == ("no", None)
    assert publisher.get(f"/v1/tasks/{task['id']}").json()["status"] == "running"
    assert problem_of(answer(user.client, task, question, "yes"), 409)["value"] == "no"


def test_any_text_is_an_answer_where_text_is_asked_for(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    question = asked(publisher, task, choices=None, input="text", default=None)
    assert answer(user.client, task, question, "Zürich 😀").status_code == 200
    assert wait(publisher, task, question).json()["value"] == "Zürich 😀"


def test_one_at_a_time_and_the_same_question_again_has_its_answer(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    question = asked(publisher, task, id="rows")
    assert question == "rows"
    assert ask(publisher, task, id="rows").json()["question"]["id"] == "rows"
    problem_of(ask(publisher, task), 409)
    answer(user.client, task, "rows", "yes")
    again = ask(publisher, task, id="rows").json()
    assert (again["status"], again["question"]) == ("running", None)
    assert wait(publisher, task, "rows").json()["value"] == "yes"


def test_an_end_or_a_cancel_withdraws_the_question(publisher: httpx.Client, user: User) -> None:
    for status, act in (
        ("cancelling", lambda task: user.client.post(f"/v1/tasks/{task['id']}/cancel")),
        ("failed", lambda task: patched(publisher, task, status="failed")),
    ):
        task = begin(publisher, user)
        question = asked(publisher, task)
        act(task)
        refused = (wait(publisher, task, question, 5), answer(user.client, task, question, "yes"), ask(publisher, task))
        assert [problem_of(response, 409)["task_status"] for response in refused] == [status] * 3


@ONE_BROKER
@pytest.mark.parametrize("value", ["maybe", "", None, 7])
def test_a_value_that_is_no_choice_is_refused(publisher: httpx.Client, user: User, value: object) -> None:
    task = begin(publisher, user)
    question = asked(publisher, task)
    problem_of(answer(user.client, task, question, value), 422, "value")
    assert wait(publisher, task, question).status_code == 204


@ONE_BROKER
def test_what_is_no_question_is_refused(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    problem_of(ask(publisher, task, choices=None), 422, "choices")
    problem_of(ask(publisher, task, default="maybe"), 422, "default")
    problem_of(ask(publisher, task, timeout_s=10**9), 422, "timeout_s")
    problem_of(ask(publisher, task, choices=[{"value": "a"}]), 422, "choices[0].text")
    problem_of(ask(publisher, task, surprise=1), 422, "surprise")
    problem_of(publisher.get(f"/v1/tasks/{task['id']}/answer"), 422, "question")
    problem_of(wait(publisher, task, "none"), 404, "question")
    problem_of(wait(publisher, {"id": "none"}, "none"), 404, "id")
    problem_of(ask(publisher, {"id": "none"}), 404, "id")
    problem_of(publisher.get(f"/v1/tasks/{task['id']}/answer?question=a&wait_s=x"), 422, "wait_s")


def test_only_who_watches_the_task_answers_and_only_publishers_ask(
    publisher: httpx.Client, user: User, someone: Callable[..., User], anyone: httpx.Client
) -> None:
    task = begin(publisher, user)
    question = asked(publisher, task)
    problem_of(answer(someone().client, task, question, "yes"), 404, "id")
    problem_of(answer(anyone, task, question, "yes"), 401)
    problem_of(answer(publisher, task, question, "yes"), 401)
    problem_of(ask(user.client, task), 401)
    problem_of(wait(user.client, task, question), 401)


def test_a_token_without_answers_watches_the_questions_of_a_group_and_answers_its_own(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    group = unique("group")
    owner, viewer = someone(), someone(groups=[group], answers=False)
    task = publisher.post("/v1/tasks", json={"to": [owner.channel, f"group:{group}"], "name": "Import"}).json()
    question = asked(publisher, task)
    assert viewer.client.get(f"/v1/tasks/{task['id']}").json()["question"]["id"] == question
    problem_of(answer(viewer.client, task, question, "yes"), 403)
    assert answer(owner.client, task, question, "yes").status_code == 200
    own = begin(publisher, viewer)
    assert answer(viewer.client, own, asked(publisher, own), "yes").status_code == 200
