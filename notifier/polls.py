"""Polls of one client that follow each other, as one record: a client that polls is one connection, as a page with a
stream is.

A poll follows another if it comes from the same user agent and address, hears the same channels, and sends the cursor
that the other's answer had. Any process can join records at any time, also those that were joined before.

Must not know: brokers, streams, when records are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from notifier.records import MAX_RESETS, MAX_RESUMED, Connection, Resumed, connection_of, is_of_polls, stored

MAX_PAUSE_MS: Final = 60_000
"""A poll that begins later after the end of the one before begins a record: the client was away."""
MAX_LIFE_MS: Final = 600_000
"""Polls of a longer time than this are in several records. Records that opened long ago are removed first, so that of a
client that polls must not be older than those of streams, which live five to ten minutes."""


def joined(connections: Iterable[Connection]) -> list[Connection]:
    """The connections of a user with polls that follow each other as one. Here and there, the one that opened first
    comes first."""
    known: list[Connection] = []
    for each in connections:
        place = next((at for at in reversed(range(len(known))) if _belongs(each, known[at])), None)
        if place is None:
            known.append(each)
        else:
            known[place] = _join(known[place], each)
    return known


def joined_texts(texts: Mapping[str, str]) -> Mapping[str, str]:
    """The records of a user by their ids, with polls that follow each other as one, which has the id of the first."""
    polls = sorted(record_id for record_id, text in texts.items() if is_of_polls(text))
    if len(polls) < 2:
        return texts
    read = [each for record_id in polls if (each := connection_of(texts[record_id])) is not None]
    others = {record_id: text for record_id, text in texts.items() if not is_of_polls(text)}
    return others | {each.id: stored(each) for each in joined(read)}


def _belongs(each: Connection, record: Connection) -> bool:
    if not (each.polls and record.polls and record.closed_ms and each.start is not None):
        return False
    return (
        (each.start == record.to or _is_within(each, record))
        and (each.agent, each.address, each.channels) == (record.agent, record.address, record.channels)
        and each.opened_ms - record.closed_ms <= MAX_PAUSE_MS
        and (each.closed_ms or each.opened_ms) - record.opened_ms <= MAX_LIFE_MS
        and len(record.resets) + len(each.resets) <= MAX_RESETS
    )


def _is_within(each: Connection, record: Connection) -> bool:
    """True of polls without an event between two others that were joined before: another process had them."""
    is_empty = each.start == each.to and each.closed_ms and not each.resets
    if not is_empty or each.start is None or record.to is None:
        return False
    return each.start.epoch == record.to.epoch and record.started.seq <= each.start.seq < record.to.seq


def _join(record: Connection, each: Connection) -> Connection:
    if each.start != record.to:
        return replace(record, polls=record.polls + each.polls)
    top = each.top or each.to or each.started
    reading = [Resumed(each.opened_ms, each.started.seq, top.seq)] if top.seq > each.started.seq else []
    return replace(
        record,
        closed_ms=each.closed_ms and max(record.closed_ms, each.closed_ms),
        closed_why=each.closed_why,
        process=each.process,
        top=record.top or record.to,
        to=each.to,
        replayed=record.replayed + each.replayed,
        resets=[*record.resets, *each.resets],
        resumed=[*record.resumed, *reading, *each.resumed][-MAX_RESUMED:],
        polls=record.polls + each.polls,
        confirmed=each.confirmed,
    )
