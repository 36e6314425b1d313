"""What became of a message for one user, from the history, the user's marks and the records of the user's connections.

A connection has a message if the message's place is after the cursor where the connection began, and not after the
place that it reached. A client asks for what it lacks: the cursor of the next connection says whether the client had
the message.

Must not know: brokers, HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from notifier.broker.afterwards import MAX_RECORDS, Stored, Trail
from notifier.polls import MAX_PAUSE_MS
from notifier.records import Connection

Verdict = Literal["written", "replayed", "waiting", "missed_reset", "excluded", "not_a_recipient", "expired", "read"]
Reason = Literal[
    "acknowledged",
    "unconfirmed",
    "retracted",
    "replaced",
    "offline",
    "behind",
    "unsent",
    "process_ended",
    "in_inbox",
    "without_messages",
    "between_polls",
    "before_records",
]
"""More of a verdict. `acknowledged`: a later cursor of the client has it. `unconfirmed`: it was written, and no later
cursor is known. `retracted`, `replaced`: why it ended before a client had it. `before_records`: connections that
opened after it was accepted are no longer recorded, and the verdict is from what is known. The others say what a
waiting message waits for. `between_polls`: a client that polls has just had an answer."""

ENDED: Final = "process_ended"
"""`closed_why` of a connection whose process ended without a word."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one connection did with the message."""

    connection: str
    verdict: Literal["written", "replayed", "missed_reset", "excluded", "behind", "unsent", "process_ended", "none"]
    at_ms: int | None = None
    """When, as far as the records say: of a replay and of a reset. A write has the time of the message."""
    is_correction: bool = False
    """The client has it from a correction, which moves no cursor."""


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict."""

    verdict: Verdict
    reason: Reason | Literal[""]
    at_ms: int | None
    steps: Sequence[Step]


def trace(trail: Trail, heard: Sequence[str], connections: Sequence[Connection], *, now_ms: int, ttl_ms: int) -> Result:
    """The verdict on a message that some history has. heard: the channels that the user's streams heard.
    connections: the one that opened first comes first; those whose process has ended are closed as `ENDED`. ttl_ms: how
    long records are kept."""
    places = [place for place in trail.places if place.channel in heard]
    if not places:
        return Result("not_a_recipient", "", None, ())
    if all(place.is_excluded for place in places):
        return Result("excluded", "", None, ())
    places = [place for place in places if not place.is_excluded]
    steps = _steps(trail.epoch, places, connections)
    if trail.is_read:
        return Result("read", "", None, steps)
    reason: Reason | Literal[""]
    deliveries = [step for step in steps if step.verdict in ("written", "replayed")]
    if deliveries:
        step, seq = deliveries[-1], min(place.seq for place in places)
        at = next(number for number, each in enumerate(connections) if each.id == step.connection)
        is_confirmed = not step.is_correction and _returned(connections, at, seq) == "with"
        reason = "acknowledged" if is_confirmed else "unconfirmed"
        return Result(step.verdict, reason, step.at_ms, steps)  # type: ignore[arg-type]  # one of these two
    resets = [step for step in steps if step.verdict == "missed_reset"]
    last = max(places, key=_end_ms)
    has_ended = _end_ms(last) <= now_ms
    recorded_ms = max(now_ms - ttl_ms, connections[0].opened_ms if len(connections) >= MAX_RECORDS else 0)
    is_recorded = not last.accepted_ms or last.accepted_ms >= recorded_ms
    if not (is_recorded or has_ended or resets) and _came_with_it(trail.epoch, places, connections):
        return Result("written", "before_records", None, steps)
    if resets and not (has_ended and (resets[0].at_ms or 0) >= _end_ms(last)):
        return Result("missed_reset", "", resets[0].at_ms, steps)
    if has_ended:
        reason = last.removed if last.removed_ms == _end_ms(last) else ""  # type: ignore[assignment]  # as brokers store it
        if any(step.verdict == "process_ended" for step in steps):
            reason = "process_ended"
        elif not is_recorded:
            reason = "before_records"
        return Result("expired", reason, int(_end_ms(last)) or None, steps)
    if steps and all(step.verdict == "excluded" for step in steps):
        return Result("excluded", "", None, steps)
    reason = _why_waiting(trail.epoch, places, steps, connections, is_recorded=is_recorded, now_ms=now_ms)
    return Result("waiting", reason, None, steps)


def _came_with_it(epoch: str, places: Sequence[Stored], connections: Sequence[Connection]) -> bool:
    """True if the first recorded connection of some client came with a cursor that has the message: the client got it
    from a connection that is no longer recorded, or listed it in the inbox there."""
    first = {each.agent: each for each in reversed(connections) if each.has_messages}
    return any(
        each.start is not None and place.seq <= each.start.seq and _can_have(epoch, place, each)
        for each in first.values()
        for place in places
    )


def _end_ms(place: Stored) -> float:
    """Until when the history had the message for new connections; infinite if it has it."""
    ends = [place.removed_ms] if place.removed else []
    if place.expires_at_ms:
        ends.append(place.expires_at_ms)
    return min(ends, default=math.inf)


def _steps(epoch: str, places: Sequence[Stored], connections: Sequence[Connection]) -> Sequence[Step]:
    steps = []
    for at, connection in enumerate(connections):
        own = [place for place in places if _can_have(epoch, place, connection)]
        if not own or not connection.has_messages:
            continue
        step = _step(own, connection)
        if step.verdict in ("written", "replayed", "process_ended"):
            returned = _returned(connections, at, min(place.seq for place in own))
            if step.verdict == "process_ended" and returned == "with":
                step = Step(connection.id, "written", _written_ms(own, connection))
            elif step.verdict != "process_ended" and returned == "without":
                step = Step(connection.id, "unsent", connection.closed_ms)
        if step.verdict in ("none", "excluded", "missed_reset") and (corrected_ms := _corrected_ms(own, connection)):
            step = Step(connection.id, "written", corrected_ms, is_correction=True)
        if step.verdict != "none":
            steps.append(step)
    return steps


def _can_have(epoch: str, place: Stored, connection: Connection) -> bool:
    """True if a place can be compared with the cursors of a connection. A restarted Redis begins a new epoch and goes
    on with its numbers, so they can where the message is older than the end of the connection."""
    if place.channel not in connection.channels:
        return False
    epochs = [cursor.epoch for cursor in (connection.started, connection.to) if cursor is not None]
    return epoch in epochs or 0 < place.accepted_ms <= connection.closed_ms


def _step(own: Sequence[Stored], connection: Connection) -> Step:
    place = min(own, key=lambda each: each.seq)
    for reset in connection.resets:
        if any(reset.before < each.seq <= reset.after for each in own):
            return Step(connection.id, "missed_reset", reset.at_ms)
    if place.seq <= connection.started.seq:
        return Step(connection.id, "none")
    if any(each.seq in connection.skipped for each in own):
        return Step(connection.id, "excluded")
    reached = connection.to.seq if connection.to is not None else 0
    if place.seq > reached:
        if connection.closed_why == ENDED:
            return Step(connection.id, "process_ended")
        return Step(connection.id, "none" if connection.closed_ms else "behind")
    if _end_ms(place) <= max([connection.opened_ms, *_readings(own, connection)]):
        return Step(connection.id, "none")
    if connection.closed_ms and connection.unsent_bytes:
        sent = connection.sent.seq if connection.sent is not None else connection.started.seq
        if place.seq > sent:
            return Step(connection.id, "unsent", connection.closed_ms)
    # The replay has no message that was accepted after the connection opened, by clocks that agree.
    top = connection.top.seq if connection.top is not None else reached
    if place.seq <= top:
        return Step(connection.id, "replayed", connection.opened_ms)
    return Step(connection.id, "written", _written_ms(own, connection))


def _corrected_ms(own: Sequence[Stored], connection: Connection) -> int:
    """When the connection was open at a correction, which its streams get as a message; 0 if it never was."""
    closed_ms = connection.closed_ms or (0 if connection.closed_why == ENDED else math.inf)
    times = [at for place in own for at in place.corrected_ms]
    return next((at for at in times if connection.opened_ms <= at <= closed_ms), 0)


def _written_ms(own: Sequence[Stored], connection: Connection) -> int:
    return max([own[0].accepted_ms, connection.opened_ms, *_readings(own, connection)])


def _readings(own: Sequence[Stored], connection: Connection) -> Sequence[int]:
    """When a connection read the message in the history after its replay: in ms, none or one."""
    seq = min(each.seq for each in own)
    return [each.at_ms for each in connection.resumed if each.before < seq <= each.after][:1]


def _returned(connections: Sequence[Connection], at: int, seq: int) -> Literal["", "with", "without"]:
    """What the next cursor says that the client of a connection sent after the connection's end: whether it has the
    message. Empty where there is none. A client is known by its user agent."""
    connection = connections[at]
    if connection.confirmed is not None and connection.confirmed.seq >= seq:
        return "with"  # a later poll of the same record
    for each in connections[at + 1 :]:
        if each.agent != connection.agent:
            continue
        if each.start is None:
            if each.started.seq >= seq:
                return ""  # a page that began anew: later cursors are from there
        elif each.start.seq >= seq:
            return "with"
        elif (
            connection.closed_ms and each.opened_ms >= connection.closed_ms and each.start.seq >= connection.started.seq
        ):
            return "without"
    return ""


def _why_waiting(
    epoch: str,
    places: Sequence[Stored],
    steps: Sequence[Step],
    connections: Sequence[Connection],
    *,
    is_recorded: bool,
    now_ms: int,
) -> Reason:
    last = [step.verdict for step in steps if step.verdict != "excluded"][-1:]
    for name in ("behind", "unsent", "process_ended"):
        if name in last:
            return name
    polling = [each for each in connections if each.polls and each.closed_ms >= now_ms - MAX_PAUSE_MS]
    if any(
        place.channel in each.channels and each.to is not None and each.to.seq < place.seq
        for each in polling
        for place in places
        if each.closed_why == "answered" and _can_have(epoch, place, each)
    ):
        return "between_polls"
    open_now = [*polling, *(each for each in connections if not each.closed_ms and each.closed_why != ENDED)]
    if open_now:
        return "in_inbox" if any(each.has_messages for each in open_now) else "without_messages"
    return "offline" if is_recorded else "before_records"
