"""POST /v1/batch: one result for each item, in order, independent of the others."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, data_of, problem_of, unique


def message(user: User, subject: str = "Test", **fields: Any) -> dict[str, Any]:
    return {"kind": "message", "to": [user.channel], "subject": subject, **fields}


def as_array(client: httpx.Client, items: Sequence[Any], key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/v1/batch", content=json.dumps(items), headers=headers)


def as_ndjson(client: httpx.Client, items: Sequence[Any], key: str | None = None) -> httpx.Response:
    headers = {"Content-Type": "application/x-ndjson"} | ({} if key is None else {"Idempotency-Key": key})
    return client.post("/v1/batch", content="\n".join(map(json.dumps, items)), headers=headers)


@pytest.fixture(params=[as_array, pytest.param(as_ndjson, marks=ONE_BROKER)], ids=["array", "ndjson"])
def batch(request: pytest.FixtureRequest, publisher: httpx.Client) -> Any:
    """A function that publishes items in one of the two forms and returns the results."""

    def publish(items: Sequence[Any], key: str | None = None) -> list[dict[str, Any]]:
        response = request.param(publisher, items, key)
        assert response.status_code == 200, response.text
        results: list[dict[str, Any]] = response.json()["results"]
        assert len(results) == len(items)
        assert all(set(result) == {"status", "body"} for result in results)
        return results

    return publish


def test_items_of_every_kind_are_answered_as_by_their_own_calls(batch: Any, user: User) -> None:
    task_id = unique("t")
    results = batch(
        [
            message(user),
            {"kind": "event", "to": [user.channel], "type": "order.paid", "data": {"order": 7}},
            {"kind": "task", "to": [user.channel], "name": "Import", "id": task_id, "total": 4},
            {"kind": "patch", "id": task_id, "done": 1},
            {"kind": "patch", "id": task_id, "advance": 3, "status": "succeeded"},
        ]
    )
    assert [result["status"] for result in results] == [200] * 5
    bodies = [result["body"] for result in results]
    assert [message["id"] for message in user.messages()] == [bodies[0]["id"]]
    assert set(bodies[0]) == set(bodies[1]) == {"id", "cursor", "watched"}
    assert [task["percent"] for task in bodies[2:]] == [0, 25, 100]
    assert user.tasks()[0]["status"] == "succeeded"


def test_items_are_published_in_their_order(batch: Any, user: User) -> None:
    subjects = [str(i) for i in range(250)]
    with user.listen() as stream:
        stream.next("hello")
        results = batch([message(user, subject) for subject in subjects])
        assert [data_of(stream.next("message"))["subject"] for _ in subjects] == subjects
    places = [int(result["body"]["cursor"].rpartition("-")[2]) for result in results]
    assert places == sorted(places)


def test_an_item_that_fails_is_answered_with_its_problem_and_does_not_stop_the_others(batch: Any, user: User) -> None:
    results = batch(
        [
            message(user, "first"),
            message(user, text="\ud800"),
            message(user, text="x" * 17_000),
            {**message(user), "extra": 1},
            {**message(user), "to": []},
            {"kind": "patch", "id": unique("none"), "done": 1},
            {"kind": "patch", "done": 1},
            {"kind": "letter"},
            {"to": [user.channel], "subject": "no kind"},
            ["no object"],
            message(user, "last"),
        ]
    )
    assert [result["status"] for result in results] == [200, 422, 413, 422, 422, 404, 422, 422, 422, 400, 200]
    fields = [result["body"].get("field") for result in results[1:-1]]
    assert fields == ["text", "text", "extra", "to", "id", "id", "kind", "kind", "body"]
    for result in results[1:-1]:
        assert result["body"]["status"] == result["status"]
        assert result["body"]["title"]
    assert [message["subject"] for message in user.messages()] == ["last", "first"]


def test_an_item_may_be_as_deep_as_a_body_of_its_own(batch: Any, user: User) -> None:
    fits: Any = []
    for _ in range(29):
        fits = [fits]
    results = batch([message(user, data={"a": fits}), message(user, data={"a": [fits]})])
    assert [result["status"] for result in results] == [200, 422]
    assert results[1]["body"]["field"] == "data"


def test_a_batch_repeated_under_its_key_gives_the_same_answers_and_publishes_once(batch: Any, user: User) -> None:
    task_id, key = unique("t"), unique("key")
    items = [
        message(user, "one"),
        message(user, "two"),
        {"kind": "task", "to": [user.channel], "name": "Import", "id": task_id},
        {"kind": "patch", "id": task_id, "advance": 3},
    ]
    first = batch(items, key)
    with user.sees_no_change():
        assert batch(items, key) == first
    assert len(user.messages()) == 2
    assert user.tasks()[0]["done"] == 3


def test_a_repeated_batch_may_be_written_in_another_way(publisher: httpx.Client, user: User) -> None:
    items, key = [message(user, "one"), message(user, "two")], unique("key")
    first = as_array(publisher, items, key).json()
    assert as_ndjson(publisher, [dict(reversed(item.items())) for item in items], key).json() == first
    assert len(user.messages()) == 2


def test_another_batch_under_the_key_is_refused_item_by_item(batch: Any, user: User) -> None:
    key = unique("key")
    batch([message(user)], key)
    with user.sees_no_change():
        (result,) = batch([message(user, "other")], key)
    assert (result["status"], result["body"]["field"]) == (422, "Idempotency-Key")


def test_the_key_of_an_item_is_not_the_key_of_a_call(publisher: httpx.Client, batch: Any, user: User) -> None:
    key = unique("key")
    batch([message(user)], key)
    for suffix in ("/0", "#0", "\\n0"):
        body = {"to": [user.channel], "subject": "Test"}
        response = publisher.post("/v1/messages", json=body, headers={"Idempotency-Key": key + suffix})
        assert response.status_code == 200, response.text
    assert len(user.messages()) == 4


def test_ndjson_is_recognised_by_its_lines_too_and_blank_lines_are_skipped(publisher: httpx.Client, user: User) -> None:
    lines = f"\n{json.dumps(message(user))}\r\n\n{json.dumps(message(user))}\n"
    response = publisher.post("/v1/batch", content=lines)
    assert [result["status"] for result in response.json()["results"]] == [200, 200]


def test_a_line_that_is_not_json_gets_a_400_of_its_own(publisher: httpx.Client, user: User) -> None:
    lines = f"{json.dumps(message(user))}\n{{nonsense\n\xff\n{json.dumps(message(user))}".encode("latin-1")
    response = publisher.post("/v1/batch", content=lines)
    assert [result["status"] for result in response.json()["results"]] == [200, 400, 400, 200]


@ONE_BROKER
@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 422), (b"  \n ", 422), (b"[]", 422), (b"[", 400), (b"[NaN]", 400), (b"[\xff]", 400), (b"[" * 100_000, 422)],
    ids=["empty", "blank", "no items", "cut", "NaN", "not UTF-8", "too deep"],
)
def test_a_batch_without_items_or_that_is_not_json_is_refused_as_a_whole(
    publisher: httpx.Client, content: bytes, status: int
) -> None:
    problem_of(publisher.post("/v1/batch", content=content), status, "body")


@ONE_BROKER
def test_a_batch_over_its_limits_is_refused_as_a_whole(publisher: httpx.Client, user: User) -> None:
    with user.sees_no_change():
        problem_of(as_array(publisher, [message(user)] * 1001), 422, "body")
        problem_of(as_array(publisher, [message(user, text="x" * 10_000)] * 110), 413, "body")


@ONE_BROKER
def test_lines_are_counted_before_they_are_parsed(publisher: httpx.Client) -> None:
    began = time.monotonic()
    response = publisher.post("/v1/batch", content=b"x\n" * 500_000, headers={"Content-Type": "application/x-ndjson"})
    assert "500000 items" in problem_of(response, 422, "body")["detail"]
    assert time.monotonic() - began < 5  # a second at most; twelve where each line was parsed
