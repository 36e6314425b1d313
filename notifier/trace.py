"""What became of a message for one user, from the history, the user's marks and the records of the user's connections.

A connection has a message if the message's place is after the cursor where the connection began, and not after the
place that it reached. A client asks for what it lacks: the cursor of the next connection says whether the client had
the message.

Must not know: brokers, HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from notifier.broker.afterwards import Stored, Trail
from notifier.records import Connection

Verdict = Literal["written", "replayed", "waiting", "missed_reset", "excluded", "not_a_recipient", "expired", "read"]
Reason = Literal[
    "", "acknowledged", "unconfirmed", "offline", "behind", "unsent", "process_ended", "in_inbox", "without_messages"
]
"""More of a verdict. `acknowledged`: a later cursor of the client has it. `unconfirmed`: it was written, and no later
cursor is known. The others say what a waiting message waits for."""

ENDED: Final = "process_ended"
"""`closed_why` of a connection whose process ended without a word."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one connection did with the message."""

    connection: str
    verdict: Literal["written", "replayed", "missed_reset", "behind", "unsent", "process_ended", "none"]
    at_ms: int | None
    """When, as far as the records say: of a replay and of a reset. A write has the time of the message."""


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict."""

    verdict: Verdict
    reason: Reason
    at_ms: int | None
    steps: Sequence[Step]


def trace(trail: Trail, heard: Sequence[str], connections: Sequence[Connection], *, now_ms: int) -> Result:
    """The verdict on a message that some history has. heard: the channels that the user's streams heard.
    connections: the one that opened first comes first; those whose process has ended are closed as `ENDED`."""
    places = [place for place in trail.places if place.channel in heard]
    if not places:
        return Result("not_a_recipient", "", None, ())
    if all(place.is_excluded for place in places):
        return Result("excluded", "", None, ())
    places = [place for place in places if not place.is_excluded]
    steps = [step for each in connections if (step := _step(trail.epoch, places, each)).verdict != "none"]
    if trail.is_read:
        return Result("read", "", None, steps)
    first = min(place.seq for place in places)
    deliveries = [step for step in steps if step.verdict in ("written", "replayed")]
    if deliveries and steps[-1].verdict in ("written", "replayed"):
        step = deliveries[-1]
        return Result(step.verdict, _confirmation(step, first, trail.epoch, connections), step.at_ms, steps)  # type: ignore[arg-type]  # the two that it can be
    resets = [step for step in steps if step.verdict == "missed_reset"]
    expires_at_ms = max(place.expires_at_ms for place in places)
    is_expired = 0 < expires_at_ms <= now_ms
    if resets and not (is_expired and (resets[0].at_ms or 0) >= expires_at_ms):
        return Result("missed_reset", "", resets[0].at_ms, steps)
    if is_expired:
        return Result("expired", "", expires_at_ms, steps)
    return Result("waiting", _why_waiting(steps, connections), None, steps)


def _step(epoch: str, places: Sequence[Stored], connection: Connection) -> Step:
    own = [place for place in places if place.channel in connection.channels]
    if not own or not connection.has_messages:
        return Step(connection.id, "none", None)
    for reset in connection.resets:
        if connection.started.epoch == epoch and any(reset.before < place.seq <= reset.after for place in own):
            return Step(connection.id, "missed_reset", reset.at_ms)
    if connection.started.epoch != epoch:
        return Step(connection.id, "none", None)
    place = min(own, key=lambda each: each.seq)
    if place.seq <= connection.started.seq:
        return Step(connection.id, "none", None)
    reached = connection.to.seq if connection.to is not None and connection.to.epoch == epoch else 0
    if place.seq > reached:
        if connection.closed_why == ENDED:
            return Step(connection.id, "process_ended", None)
        return Step(connection.id, "none" if connection.closed_ms else "behind", None)
    if 0 < place.expires_at_ms <= connection.opened_ms:
        return Step(connection.id, "none", None)
    if connection.closed_ms and connection.unsent_bytes:
        sent = connection.sent.seq if connection.sent is not None else connection.started.seq
        if place.seq > sent:
            return Step(connection.id, "unsent", connection.closed_ms)
    # The replay has no message that was accepted after the connection opened, by clocks that agree.
    top = connection.top.seq if connection.top is not None else reached
    if place.seq <= top:
        return Step(connection.id, "replayed", connection.opened_ms)
    return Step(connection.id, "written", max(place.accepted_ms, connection.opened_ms))


def _confirmation(step: Step, seq: int, epoch: str, connections: Sequence[Connection]) -> Reason:
    """`acknowledged` if a connection after that of the step began with a cursor that has the message."""
    later = [each for each in connections if each.id > step.connection]
    cursors = [each.start for each in later if each.start is not None]
    has_cursor = any(cursor.epoch == epoch and cursor.seq >= seq for cursor in cursors)
    return "acknowledged" if has_cursor else "unconfirmed"


def _why_waiting(steps: Sequence[Step], connections: Sequence[Connection]) -> Reason:
    for name in ("behind", "unsent", "process_ended"):
        if any(step.verdict == name for step in steps[-1:]):
            return name
    if any(not each.closed_ms and each.closed_why != ENDED for each in connections):
        open_now = [each for each in connections if not each.closed_ms and each.closed_why != ENDED]
        return "in_inbox" if any(each.has_messages for each in open_now) else "without_messages"
    return "offline"
