"""POST /v1/batch while the broker is away: the status tells it, and the same call completes the batch later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from notifier import problems
from notifier.api.batch import _passing
from notifier.errors import BrokerUnavailable, InvalidInput, RateLimited
from tests.api.support import calling, problem_of, unique
from tests.support import API_KEY, RedisServer, Service, running, wait_for


@pytest.fixture
def store() -> Iterator[RedisServer]:
    """A Redis that is killed and started again with its data."""
    with running(RedisServer(append_only=True)) as server:
        yield server


def post(client: httpx.Client, items: list[dict[str, Any]], key: str) -> httpx.Response:
    return client.post("/v1/batch", content=json.dumps(items), headers={"Idempotency-Key": key})


@pytest.mark.programs
def test_a_batch_is_refused_as_a_whole_while_the_broker_is_away_and_completed_by_a_repeat(store: RedisServer) -> None:
    user, key = unique("user"), unique("key")
    items = [{"kind": "message", "to": [f"user:{user}"], "subject": str(number)} for number in range(3)]
    with running(Service(redis_url=store.url)) as service, calling(service, API_KEY) as publisher:
        first = post(publisher, items, key).json()["results"]
        store.kill()
        response = post(publisher, items, key)
        problem = problem_of(response, 503)
        assert int(response.headers["Retry-After"]) >= 1
        assert [result["status"] for result in problem["results"]] == [503] * 3
        assert all(result["body"]["title"] == problem["title"] for result in problem["results"])
        store.start()
        wait_for(lambda: publisher.get("/readyz").status_code == 200)
        assert post(publisher, items, key).json()["results"] == first
        more = post(publisher, [*items, {"kind": "letter"}], unique("key"))
        assert [result["status"] for result in more.json()["results"]] == [200, 200, 200, 422]


def test_the_status_of_a_batch_is_that_of_its_items_only_if_all_failed_for_one_passing_reason() -> None:
    away, other = BrokerUnavailable("Redis is away"), BrokerUnavailable("Redis is busy")
    soon, later = RateLimited("too many", retry_after_s=1), RateLimited("too many", retry_after_s=9)
    assert _passing([away, other]) is away
    assert _passing([soon, later, soon]) is later
    for answers in ([away, {"id": "m1"}], [away, soon], [InvalidInput("no")], [away, InvalidInput("no")]):
        assert _passing(answers) is None
    assert (problems.retry_after_s(away), problems.retry_after_s(later)) == (2, 9)
