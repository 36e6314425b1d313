"""Several processes on one Redis: an event published through any of them reaches every stream."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
from collections.abc import Iterator
from itertools import groupby

import httpx
import pytest

from tests.faults.clients import Listener, listening, until
from tests.faults.test_nothing_lost import worker_pids
from tests.support import API_KEY, RedisServer, Service, bearer, running


async def test_an_event_published_at_any_worker_reaches_the_streams_of_all(redis_service: Service) -> None:
    listeners = [Listener(redis_service.port, f"w{i}") for i in range(30)]
    async with listening(*listeners):
        for number in range(20):
            # A new connection for each: the kernel spreads them over the workers.
            async with httpx.AsyncClient(base_url=redis_service.url, headers=bearer(API_KEY)) as client:
                body = {"to": [f"user:{listener.user}" for listener in listeners], "subject": str(number)}
                assert (await client.post("/v1/messages", json=body)).json()["watched"] is True
        await until(lambda: all(len(listener.messages) == 20 for listener in listeners))
    for listener in listeners:
        assert [event.data["subject"] for event in listener.messages] == [str(number) for number in range(20)]


async def test_streams_are_spread_over_the_workers(redis_service: Service) -> None:
    await _streams(redis_service, 0)  # those of other tests have ended
    listeners = [Listener(redis_service.port, f"s{i}") for i in range(60)]
    async with listening(*listeners):
        streams = await _streams(redis_service, 60)
    assert min(streams.values()) >= 10, streams


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Service]:
    """Two workers, which the tests make hang and kill."""
    with running(Service(redis_url=redis_server.url, workers=2)) as service:
        yield service


async def test_one_scrape_shows_all_workers_and_a_worker_that_died_is_replaced(service: Service) -> None:
    listeners = [Listener(service.port, f"m{i}") for i in range(20)]
    async with listening(*listeners):
        for _ in range(5):  # whichever worker answers
            with httpx.Client(base_url=service.url, timeout=30) as connection:  # it stays at its worker
                text = ""
                while text.count("\nnotifier_streams{") < 2:  # a worker that stands still for 1 s is not shown
                    text = connection.get("/metrics").text
            streams = _streams_in(text)
            assert set(streams) == {"0", "1"}
            assert sum(streams.values()) == 20
            lines = [line.partition("{")[0] for line in text.splitlines() if not line.startswith("#")]
            names = [re.sub(r"_seconds_(bucket|sum|count)$", "", name) for name in lines]
            assert [name for name, _ in groupby(names)] == list(dict.fromkeys(names)), "a family in two places"
    await _a_hung_worker_is_missing(service)
    await until(lambda: _workers_shown(service) == 2, 60, what="both workers' series")
    await _begins_at_zero_when_replaced(service, worker_pids(service)[0])
    listeners = [Listener(service.port, f"d{i}") for i in range(20)]
    async with listening(*listeners):
        assert all(listener.live for listener in listeners)


async def test_a_worker_that_died_is_replaced_while_another_hangs_in_its_start(service: Service) -> None:
    hanging, died = worker_pids(service)
    os.kill(hanging, signal.SIGKILL)
    await until(lambda: set(worker_pids(service)) - {hanging, died}, 60, what="the successor")
    (successor,) = set(worker_pids(service)) - {hanging, died}
    os.kill(successor, signal.SIGSTOP)  # it has not answered the supervisor yet
    try:
        os.kill(died, signal.SIGKILL)
        await until(lambda: len(set(worker_pids(service)) - {successor, died}) == 1, 60, what="the other successor")
    finally:
        os.kill(successor, signal.SIGCONT)
    await until(lambda: _workers_shown(service) == 2, 60, what="both workers' series")


async def _a_hung_worker_is_missing(service: Service) -> None:
    hung: list[int] = []

    def is_shown() -> bool:
        pids = worker_pids(service)
        if len(pids) == 2 and not (hung and hung[-1] in pids):  # the supervisor replaces one that hangs too long
            hung.append(pids[0])
            os.kill(pids[0], signal.SIGSTOP)
        text = _scrape(service)
        return text.count("\nnotifier_streams{") == 1 and '\nnotifier_workers{state="missing"} 1\n' in text

    try:
        await until(is_shown, 60, what="one worker's series, and that one is missing")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(hung[-1], signal.SIGCONT)


async def _begins_at_zero_when_replaced(service: Service, killed: int) -> None:
    """What Prometheus' `rate` takes for the reset of a counter, and a start that says why."""
    before = await _starts(service)
    os.kill(killed, signal.SIGKILL)
    await until(lambda: killed not in worker_pids(service) and _workers_shown(service) == 2, 60, what="the new worker")
    after = await _starts(service)
    (new,) = [worker for worker in "01" if after[worker] > before[worker]]
    await until(lambda: _series(service, f'notifier_streams_opened_total{{worker="{new}"}}') == 0, 60, "no stream")
    await until(lambda: _series(service, 'notifier_workers{state="missing"}') == 0, 60, "no missing worker")


async def _starts(service: Service) -> dict[str, float]:
    """When each worker started; from an answer that has both."""
    starts: dict[str, float] = {}

    def are_known() -> bool:
        for worker in "01":
            starts[worker] = _series(service, f'process_start_time_seconds{{worker="{worker}"}}')
        return not any(map(math.isnan, starts.values()))

    await until(are_known, 60, what="the starts of both workers")
    return starts


def _series(service: Service, name: str) -> float:
    """Not a number if the connection is that of a worker that does not answer, or if the other one is not heard."""
    text = _scrape(service)
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), math.nan)


def _workers_shown(service: Service) -> int:
    """How many workers a scrape shows; 0 if the connection is that of a worker that does not answer."""
    return _scrape(service).count("\nnotifier_streams{")


def _scrape(service: Service) -> str:
    """Empty if the connection is that of a worker that does not answer."""
    try:
        # A second more than the answering worker waits for the other. A hung one is replaced after some seconds.
        return httpx.get(f"{service.url}/metrics", timeout=2).text
    except httpx.HTTPError:
        return ""


def _streams_in(scrape: str) -> dict[str, int]:
    """The open streams, by worker."""
    series = re.findall(r'^notifier_streams{worker="(\d)"} (\d+)', scrape, re.MULTILINE)
    return {worker: int(streams) for worker, streams in series}


async def _streams(service: Service, total: int) -> dict[str, int]:
    """The open streams by worker, once both have so many."""
    streams: dict[str, int] = {}

    def are_open() -> bool:
        nonlocal streams
        streams = _streams_in(_scrape(service))
        return len(streams) == 2 and sum(streams.values()) == total

    await until(are_open, 60, what=f"{total} streams at two workers")
    return streams


def test_workers_that_cannot_be_built_end_the_service(redis_server: RedisServer) -> None:
    url = f"rediss://127.0.0.1:{redis_server.port}/0?ssl_ca_certs=/no/such/file.pem"
    with pytest.raises(AssertionError, match=r"ended with") as error:
        Service(redis_url=url, workers=2)
    assert "NOTIFIER_REDIS_URL" in str(error.value)
