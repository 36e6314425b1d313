"""One run against a service: it asks whether it may, opens the streams, publishes, waits, and cleans up.

Must not know: how the result is printed.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import httpx

from notifier.address import problem, reason
from notifier.check.result import CannotAsk
from notifier.load.connection import Address
from notifier.load.plan import EVENT, NAME, Plan
from notifier.load.publisher import Calls, Publisher
from notifier.load.streams import Streams
from notifier.load.tally import Tally

QUIET_S: Final = 5.0
"""After so long without a delivery, what did not come is lost."""
SETTLE_S: Final = 30.0
"""The same while streams are about to open again."""
SPARE_FILES: Final = 100
BUSY: Final = 0.85
"""With a larger part of a processor in use, this program's own speed is what is measured."""
LATE_S: Final = 0.1
"""The same where it woke up later than this."""

Progress = Callable[[str, float], None]
"""Is given what is done, and the part of it that is done."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has measured. Its members are those of the JSON."""

    url: str
    ok: bool
    interrupted: bool
    seconds: float
    streams: dict[str, Any]
    events: dict[str, Any]
    deliveries: dict[str, int]
    latency_ms: dict[str, float | None]
    program: dict[str, Any]
    remains: str
    hints: list[str] = field(default_factory=list)

    def members(self) -> dict[str, Any]:
        return asdict(self)


def raise_file_limit(streams: int) -> None:
    """Raise the number of open files as far as it may go. Raises `CannotAsk` where that is too low."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    needed = streams + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CannotAsk(
            f"{streams} streams need {needed} open files, and this machine allows {hard}: raise `ulimit -Hn`, or use "
            "fewer --streams on several machines"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def ask(plan: Plan) -> None:
    """One event and the head of a stream. Raises `CannotAsk` where a run would be in vain."""
    try:
        with httpx.Client(timeout=10, headers={"Accept-Encoding": "identity"}) as client:
            bearer = {"Authorization": f"Bearer {plan.tokens[0]}"}
            head = client.head(f"{plan.url}/v1/stream", headers=bearer)
            kind = head.headers.get("content-type", "")
            if head.status_code in (401, 403):
                raise CannotAsk(
                    f"{head.status_code} at {plan.url}/v1/stream: sign with the service's NOTIFIER_JWT_SECRET"
                )
            if head.status_code != 200 or not kind.startswith("text/event-stream"):
                raise CannotAsk(
                    f"{head.status_code} with {kind or 'no content type'} at {plan.url}/v1/stream: no notifier is there"
                )
            body = {"to": [plan.channel(0)], "type": EVENT, "data": {"run": plan.run, "n": -1}, "durable": False}
            answer = client.post(f"{plan.url}/v1/events", json=body, headers={"Authorization": f"Bearer {plan.key}"})
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise CannotAsk(f"no answer at {plan.url}: {reason(exc)}") from None
    if answer.status_code != 200:
        raise CannotAsk(f"POST {plan.url}/v1/events: {problem(answer)}")


async def measure(plan: Plan, progress: Progress) -> Result:
    """Raises `CannotAsk` where no stream opens."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)  # a second Ctrl-C ends the program at once

    for number in signals:
        loop.add_signal_handler(number, interrupt)
    address, tally = Address(plan.url), Tally(plan)
    try:
        async with Calls(address) as calls:
            publisher = Publisher(plan, address, tally, calls)
            async with Streams(plan, address, tally) as streams:
                await _opened(plan, streams, stop, progress)
                cpu_s, began = time.process_time(), loop.time()
                await _published(plan, publisher, tally, stop, progress)
                seconds = max(loop.time() - began, 1e-3)
                cpu = (time.process_time() - cpu_s) / seconds
                interrupted = stop.is_set()
                await _delivered(streams, tally, progress)
                lost = tally.lost()  # before the streams end
            remains = await _forgotten(plan, calls, address, progress)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
    if not publisher.sent:
        raise CannotAsk("interrupted before the first event")
    return _result(plan, streams, publisher, tally, remains, lost, interrupted, seconds, cpu)


async def _opened(plan: Plan, streams: Streams, stop: asyncio.Event, progress: Progress) -> None:
    while streams.settled < plan.streams and not stop.is_set():
        progress("opening", streams.settled / plan.streams)
        await asyncio.sleep(0.05)
    if not streams.open and not stop.is_set():
        reasons = ", ".join(streams.refused) or "all ended"
        raise CannotAsk(f"no stream opened at {plan.url}: {reasons}")


async def _published(plan: Plan, publisher: Publisher, tally: Tally, stop: asyncio.Event, progress: Progress) -> None:
    task = asyncio.create_task(publisher.publish(stop))
    while not task.done():
        progress("publishing", publisher.sent / plan.events)
        await asyncio.wait([task], timeout=0.1)
    task.result()


async def _delivered(streams: Streams, tally: Tally, progress: Progress) -> None:
    """Wait for what was published, until nothing more comes."""
    loop = asyncio.get_running_loop()
    began = changed = loop.time()
    delivered = tally.delivered
    opened = sum(heard.opened for heard in tally.heard)
    while (lost := tally.lost()) and loop.time() - began < SETTLE_S:
        progress("waiting", 1 - lost / max(1, tally.expected()))
        await asyncio.sleep(0.1)
        if tally.delivered != delivered:
            delivered, changed = tally.delivered, loop.time()
        if loop.time() - changed > (QUIET_S if streams.open >= opened else 2 * QUIET_S):
            return


async def _forgotten(plan: Plan, calls: Calls, address: Address, progress: Progress) -> str:
    """Delete what the service keeps of the run's users. Returns what remains, or an empty string."""
    group = f"the history of group:{NAME}, until NOTIFIER_HISTORY_TTL_S" if plan.to == "group" else ""
    headers = {"Authorization": f"Bearer {plan.key}"}
    for number in range(plan.users):
        progress("forgetting", number / plan.users)
        try:
            answer = await calls.send(address.request("DELETE", f"/v1/users/{plan.user(number)}", headers))
        except OSError as exc:
            return f"the users {NAME}-{number} to {plan.users - 1}: {type(exc).__name__} at DELETE /v1/users"
        if answer.status == 403:
            users = (
                f"the history of {plan.users} users {NAME}-*, until NOTIFIER_HISTORY_TTL_S: the key has no scope admin"
            )
            return group or users
        if answer.status != 204:
            return f"the users {NAME}-{number} to {plan.users - 1}: status {answer.status} at DELETE /v1/users"
    return group


def _result(
    plan: Plan, streams: Streams, publisher: Publisher, tally: Tally, remains: str,
    lost: int, interrupted: bool, seconds: float, cpu: float,
) -> Result:  # fmt: skip
    refused, given_up = sum(streams.refused.values()), sum(publisher.refused.values())
    duplicates = sum(heard.duplicates for heard in tally.heard)
    misplaced = sum(heard.misplaced for heard in tally.heard)
    limited = cpu > BUSY or publisher.behind_s > LATE_S
    return Result(
        url=plan.url,
        ok=not (lost or duplicates or misplaced or refused or given_up),
        interrupted=interrupted,
        seconds=round(seconds, 2),
        streams={
            "asked": plan.streams,
            "opened": sum(heard.opened for heard in tally.heard),
            "refused": dict(streams.refused),
            "ended": dict(streams.ends),
            "resets": streams.resets,
            "users": plan.users,
        },
        events={
            "planned": plan.events,
            "sent": publisher.sent,
            "accepted": tally.accepted,
            "refused": dict(publisher.refused),
            "repeated": dict(publisher.repeated),
            "per_s": round(tally.accepted / seconds, 1),
        },
        deliveries={
            "expected": tally.expected(),
            "delivered": tally.delivered,
            "lost": lost,
            "duplicates": duplicates,
            "out_of_order": misplaced,
        },
        latency_ms=tally.latencies.percentiles(),
        program={"cpu": round(cpu, 2), "behind_ms": round(publisher.behind_s * 1000, 1), "limited": limited},
        remains=remains,
        hints=list(_hints(streams, publisher, limited)),
    )


def _hints(streams: Streams, publisher: Publisher, limited: bool) -> list[str]:
    hints = []
    if limited:
        hints.append(
            "this program or its machine was too busy, and latencies contain its own: run it on another machine"
        )
    if any("evicted" in reason for reason in streams.refused):
        hints.append(
            "bye evicted: a limit. NOTIFIER_MAX_STREAMS_PER_ADDRESS holds for this machine, "
            "NOTIFIER_MAX_STREAMS_PER_USER for a user: more --users"
        )
    if "status 429" in [*publisher.repeated, *publisher.refused]:
        hints.append("status 429: NOTIFIER_PUBLISH_RATE is below --events-per-s; events waited as Retry-After asks")
    if streams.resets:
        hints.append(
            "resets: the broker kept too little, or forgot. NOTIFIER_EVENT_HISTORY_SIZE, and the broker's safety"
        )
    return hints
