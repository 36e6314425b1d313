"""The exposition: read by the reference parsers of both formats; histograms count what was observed."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter

import httpx
import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from notifier import loop_lag, metrics, process_numbers
from notifier.histogram import BOUNDS, Histogram, total
from notifier.sampling import ONE_IN, Sampling
from tests.faults.clients import until
from tests.support import Service

SCRAPE = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
SCRAPE += "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""What Prometheus sends."""


def cumulated(histogram: Histogram) -> dict[float, int]:
    counts = histogram.values()["counts"]
    return {bound: sum(counts[: place + 1]) for place, bound in enumerate((*BOUNDS, float("inf")))}


@pytest.mark.parametrize("us", [0, 1, 127, 129, 1000, 70_000, 16_777_215, 20_000_000, 10**13])
def test_an_observation_is_in_every_bucket_that_is_not_below_it(us: int) -> None:
    histogram = Histogram()
    histogram.observe(us)
    assert cumulated(histogram) == {bound: int(us <= bound * 1e6) for bound in cumulated(histogram)}
    assert histogram.values()["sum"] == us / 1e6


def test_the_clock_of_another_machine_may_be_ahead() -> None:
    histogram = Histogram()
    histogram.observe(-5_000_000)
    assert set(cumulated(histogram).values()) == {1}
    assert histogram.values()["sum"] == 0


def test_the_histograms_of_several_shards_are_added() -> None:
    first, second = Histogram(), Histogram()
    first.observe_s(0.001)
    second.observe_s(2)
    added = total([first, second])
    assert added.values()["sum"] == pytest.approx(2.001)
    assert sum(added.values()["counts"]) == 2
    assert sum(first.values()["counts"]) == 1


def test_the_first_publish_and_one_in_sixteen_at_random_is_timed() -> None:
    random.seed(18)
    sampling, count = Sampling(), 100_000
    before_us = time.time_ns() // 1000
    times_us = [sampling.accepted_us() for _ in range(count)]
    assert before_us <= times_us[0] <= time.time_ns() // 1000
    samples = [place for place, accepted_us in enumerate(times_us) if accepted_us]
    assert len(samples) == pytest.approx(count / ONE_IN, rel=0.05)
    for rhythm in (2, 10, ONE_IN):  # of each beat as many
        beats = Counter(place % rhythm for place in samples)
        assert min(beats.values()) > 0.7 * len(samples) / rhythm, rhythm
    assert max(later - place for place, later in itertools.pairwise(samples)) < 2 * ONE_IN


async def test_a_loop_that_is_held_up_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "EVERY_S", 0.01)
    lags = Histogram()
    measuring = asyncio.create_task(loop_lag.measure_forever(lags))
    await until(lambda: sum(lags.values()["counts"]) > 0, what="an observation")
    time.sleep(0.3)  # this is what holds it up
    await until(lambda: cumulated(lags)[float("inf")] > cumulated(lags)[0.131072], what="the lag")
    measuring.cancel()


def test_the_process_says_what_its_system_knows() -> None:
    numbers = process_numbers.read()
    assert 0 < time.time() - numbers["start_time_seconds"] < 86_400
    assert numbers["resident_memory_bytes"] > 1_000_000
    assert 3 <= numbers["open_fds"] <= numbers["max_fds"]
    assert numbers["cpu_seconds_total"] > 0


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        (SCRAPE, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.5", True),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("text/plain;version=0.0.4", False),
        ("text/html,*/*;q=0.8", False),
        ("", False),
        ("application/openmetrics-text;q=x", True),
    ],
)
def test_a_client_chooses_the_format(accept: str, is_open: bool) -> None:
    assert metrics.is_open_metrics(accept) is is_open


def scraped(service: Service, accept: str) -> httpx.Response:
    response = httpx.get(f"{service.url}/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    return response


def test_both_formats_say_the_same_to_the_parsers_of_prometheus(service: Service) -> None:
    plain, other = scraped(service, "*/*"), scraped(service, SCRAPE)
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert other.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert other.text.endswith("\n# EOF\n")
    families = list(parser.text_string_to_metric_families(plain.text))
    open_families = list(openmetrics_parser.text_string_to_metric_families(other.text))
    names = {sample.name for family in families for sample in family.samples}
    assert names == {sample.name for family in open_families for sample in family.samples}
    assert len(open_families) == len(metrics.FAMILIES) + 1
    assert all(family.documentation for family in open_families)
