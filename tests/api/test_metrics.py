"""What the metrics count, over each broker: publishes by their answer, latencies where they arise."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import httpx
import pytest
from prometheus_client.openmetrics import parser

from notifier.sampling import ONE_IN
from tests.api.support import User, calling
from tests.support import API_KEY, Service, bearer, wait_for

SCRAPE: Final = {"Accept": "application/openmetrics-text"}
WRITES: Final = "notifier_publish_to_write_seconds_count"


def numbers_of(service: Service) -> Callable[..., float]:
    """The sum of the series with this name and these labels. Those of a worker that does not answer within a second are
    left out: asked again until all have answered."""

    def asked() -> Callable[..., float] | None:
        families = list(parser.text_string_to_metric_families(httpx.get(f"{service.url}/metrics", headers=SCRAPE).text))

        def number(name: str, **labels: Any) -> float:
            samples = [sample for family in families for sample in family.samples if sample.name == name]
            return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

        return number if number("notifier_workers", state="answering") == service.workers else None

    return wait_for(asked, what="the answers of all workers")


def test_publishes_are_counted_by_kind_and_answer(api: Service, user: User) -> None:
    before = numbers_of(api)
    with calling(api, API_KEY) as publisher:
        message = {"to": [user.channel], "subject": "Test"}
        assert publisher.post("/v1/messages", json=message).status_code == 200
        assert publisher.post("/v1/messages", json={"to": []}).status_code == 422
        assert publisher.post("/v1/events", json={"to": [user.channel], "type": "x", "data": 1}).status_code == 200
        task = publisher.post("/v1/tasks", json={"to": [user.channel], "name": "Import"}).json()["id"]
        assert publisher.patch(f"/v1/tasks/{task}", json={"done": 1}).status_code == 200
        assert publisher.patch("/v1/tasks/none", json={"done": 1}).status_code == 404
        assert publisher.post(f"/v1/tasks/{task}/output", json={"text": "a"}).status_code == 200
        items = [{"kind": "message", **message}, {"kind": "nothing"}, {"kind": "patch", "id": task, "done": 2}]
        assert publisher.post("/v1/batch", json=items).status_code == 200
        assert publisher.post("/v1/batch", json=[]).status_code == 422
        assert publisher.request("DELETE", "/v1/messages/m", json={"to": [user.channel]}).status_code == 204
    with calling(api) as stranger:
        assert stranger.post("/v1/messages", json=message).status_code == 401
        assert stranger.post("/v1/events", json=message, headers=bearer("no key")).status_code == 401
    after = numbers_of(api)
    counted = {
        (kind, status): after("notifier_publishes_total", kind=kind, status=status)
        - before("notifier_publishes_total", kind=kind, status=status)
        for kind in ("message", "event", "task", "patch", "output", "batch", "retraction", "unknown")
        for status in ("200", "401", "404", "422")
    }
    assert {key: number for key, number in counted.items() if number} == {
        ("message", "200"): 2,
        ("message", "401"): 1,
        ("message", "422"): 1,
        ("event", "200"): 1,
        ("event", "401"): 1,
        ("task", "200"): 1,
        ("patch", "200"): 2,
        ("patch", "404"): 1,
        ("output", "200"): 1,
        ("batch", "422"): 1,
        ("retraction", "200"): 1,
        ("unknown", "422"): 1,
    }


def test_the_brokers_round_trips_are_those_of_redis_and_of_the_file(
    api: Service, user: User, request: pytest.FixtureRequest
) -> None:
    with calling(api, API_KEY) as publisher:
        publisher.post("/v1/messages", json={"to": [user.channel], "subject": "Test"}).raise_for_status()
    name = "notifier_broker_round_trip_seconds_count"
    if request.node.callspec.params["api"] == "embedded":  # in memory there is no round trip
        assert numbers_of(api)("notifier_loop_lag_seconds_count") > 0
        assert f"{name}{{" not in httpx.get(f"{api.url}/metrics", headers=SCRAPE).text
        return
    for worker in range(api.workers):
        wait_for(lambda own=str(worker): numbers_of(api)(name, worker=own) > 0, what="a round trip")  # type: ignore[misc]
    assert numbers_of(api)("notifier_broker_round_trip_seconds_sum") > 0


def test_latencies_are_observed_where_they_arise(api: Service, user: User) -> None:
    before = numbers_of(api)
    with user.listen() as stream, calling(api, API_KEY) as publisher:
        stream.next("hello")
        publisher.post("/v1/messages", json={"to": [user.channel], "subject": "Test"})
        stream.next("message")
        count = 1
        while numbers_of(api)(WRITES) == before(WRITES):  # one publish in sixteen of each worker is timed
            publisher.post("/v1/events", json={"to": [user.channel], "type": "x", "durable": False})
            stream.next("x")
            count += 1
            assert count < 2 * ONE_IN * api.workers
        after = numbers_of(api)
    for name, most in (("opening", 1), ("publish_to_write", count)):
        grown = after(f"notifier_{name}_seconds_count") - before(f"notifier_{name}_seconds_count")
        assert 1 <= grown <= most, name
        spent_s = after(f"notifier_{name}_seconds_sum") - before(f"notifier_{name}_seconds_sum")
        assert 0 < spent_s < 60, name
    assert after("notifier_loop_lag_seconds_count") > 0
    assert after("process_open_fds") > 3
    assert after("notifier_build_info", version=version("sse-notifier")) == api.workers
    assert after("notifier_workers", state="answering") == api.workers
