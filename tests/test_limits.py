"""The publish rate: a bucket for each publisher, shown in headers, enforced by a 429. Users' calls: one at a time."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from notifier.errors import RateLimited
from notifier.limits import MAX_PUBLISHERS, MAX_USER_CALLS, MAX_WAITING_CALLS, RateLimit, UserCalls
from tests.support import API_KEY, Service, bearer, running, wait_for


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_of_twice_the_rate_then_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(10, clock=clock)
    for _ in range(20):
        limit.take("a")
    with pytest.raises(RateLimited) as error:
        limit.take("a")
    assert error.value.retry_after_s == pytest.approx(0.1)
    clock.now += 0.5
    for _ in range(5):
        limit.take("a")
    with pytest.raises(RateLimited):
        limit.take("a")


def test_a_refusal_takes_nothing() -> None:
    clock = Clock()
    limit = RateLimit(10, clock=clock)
    limit.take("a", 15)
    for _ in range(3):
        with pytest.raises(RateLimited):
            limit.take("a", 10)
    limit.take("a", 5)


def test_publishers_do_not_share() -> None:
    limit = RateLimit(1, clock=Clock())
    limit.take("a", 2)
    limit.take("b", 2)
    with pytest.raises(RateLimited):
        limit.take("a")


def test_a_batch_larger_than_the_burst_passes_with_a_full_bucket_and_leaves_a_debt() -> None:
    clock = Clock()
    limit = RateLimit(10, clock=clock)
    limit.take("a", 100)
    clock.now += 7.9
    with pytest.raises(RateLimited):
        limit.take("a")
    clock.now += 0.3
    limit.take("a")


def test_the_headers_show_what_is_left() -> None:
    limit = RateLimit(10, clock=Clock())
    assert limit.take("a", 5) == ((b"ratelimit-policy", b'"publish";q=20;w=2'), (b"ratelimit", b'"publish";r=15;t=1'))


def test_no_rate_is_no_limit_and_no_headers() -> None:
    limit = RateLimit(0)
    assert limit.take("a", 10**9) == ()


def test_buckets_are_bounded() -> None:
    limit = RateLimit(1, clock=Clock())
    limit.take("busy", 2)
    for number in range(MAX_PUBLISHERS + 10):
        limit.take(f"p{number}")
    assert len(limit._buckets) <= MAX_PUBLISHERS
    with pytest.raises(RateLimited):
        limit.take("busy")


@pytest.mark.slow
def test_the_api_answers_429_with_the_time_to_retry() -> None:
    with running(Service(env={"NOTIFIER_PUBLISH_RATE": "2"})) as service, service.client() as client:
        answers: list[httpx.Response] = []
        while not answers or (answers[-1].status_code == 200 and len(answers) < 100):  # more than two a second
            answers.append(client.post("/v1/messages", json={"to": ["user:a"], "subject": "x"}))
        assert [answer.status_code for answer in answers[:4]] == [200] * 4
        assert answers[0].headers["ratelimit"].startswith('"publish";r=3')
        refused = answers[-1]
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["ratelimit-policy"] == '"publish";q=4;w=2'
        # Another key is another publisher. Every item of a batch counts.
        headers = bearer("test-admin-0123456789abcdef")
        lines = b"\n".join([b'{"kind":"message","to":["user:a"],"subject":"x"}'] * 4)
        other = httpx.post(f"{service.url}/v1/batch", content=lines, headers=headers)
        assert other.status_code == 200
        # Two seconds later, the next is allowed too.
        wait_for(lambda: httpx.post(f"{service.url}/v1/batch", content=lines, headers=headers).status_code == 429)
        wait_for(
            lambda: (
                httpx.post(
                    f"{service.url}/v1/events", json={"to": ["all"], "type": "x"}, headers=bearer(API_KEY)
                ).status_code
                == 200
            )
        )


# Users' calls


class Served:
    """Calls that are being served now, and what there was at most."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most_of_one = self.most_of_all = 0
        self.order: list[int] = []

    async def call(self, calls: UserCalls, user: str, number: int = 0) -> None:
        async with calls.turn(user):
            self.now[user] += 1
            self.most_of_one = max(self.most_of_one, *self.now.values())
            self.most_of_all = max(self.most_of_all, self.now.total())
            self.order.append(number)
            for _ in range(3):
                await asyncio.sleep(0)
            self.now[user] -= 1


async def test_a_user_s_calls_are_served_one_at_a_time_in_their_order() -> None:
    calls, served = UserCalls(), Served()
    await asyncio.gather(*(served.call(calls, "ann", number) for number in range(30)))
    assert (served.most_of_all, served.order) == (1, list(range(30)))


async def test_the_calls_of_all_users_are_bounded() -> None:
    calls, served = UserCalls(), Served()
    await asyncio.gather(*(served.call(calls, f"u{number % 20}") for number in range(100)))
    assert (served.most_of_one, served.most_of_all, len(served.order)) == (1, MAX_USER_CALLS, 100)


async def test_a_user_with_too_many_waiting_calls_is_refused_and_the_others_are_not() -> None:
    calls, served = UserCalls(), Served()
    waiting = [asyncio.create_task(served.call(calls, "ann", number)) for number in range(1 + MAX_WAITING_CALLS)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited) as error:
        await served.call(calls, "ann")
    assert error.value.retry_after_s == 1
    await served.call(calls, "bob")
    waiting[-1].cancel()
    await asyncio.gather(waiting[-1], return_exceptions=True)
    await served.call(calls, "ann", -1)
    await asyncio.gather(*waiting[:-1])
    assert served.order.count(-1) == 1
    assert calls._turns == {}
