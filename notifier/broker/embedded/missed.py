"""What a client has missed since its cursor, by the logs of its channels.

Must not know: how logs are bounded and stored, who is subscribed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from notifier.broker.embedded.history import MemoryHistory
from notifier.broker.embedded.log import Entry
from notifier.event import Cursor


def missed_by(
    history: MemoryHistory,
    user: str,
    channels: Sequence[str],
    cursor: Cursor | str | None,
    newest: Cursor,
    *,
    most: int | None,
    joined: Mapping[str, int],
) -> tuple[str, Sequence[tuple[Entry, str]]]:
    """The verdict on a cursor, and the events after it with their channels, in order, without repeats.

    newest: the cursor of now. most: with more events, the verdict is a reset; None: no bound. joined: the seqs at which
    channels were added to the stream, whose earlier events it does not miss.
    """
    if cursor is None:
        return "new", ()
    if isinstance(cursor, str) or (cursor.epoch == newest.epoch and cursor.seq > newest.seq):
        return "cursor_unknown", ()
    if cursor.epoch != newest.epoch:
        return "epoch_changed", ()
    logs = [(name, history.log(name), max(cursor.seq, joined.get(name, 0))) for name in channels]
    if any(log.low > after for _, log, after in logs):
        return "history_trimmed", ()
    now_ms = time.time() * 1000
    missed: dict[int, tuple[Entry, str]] = {}
    for channel, log, after in logs:
        for entry in log.after(after):
            if not 0 < entry.expires_at_ms <= now_ms and user not in entry.excluded:
                missed.setdefault(entry.seq, (entry, channel))
    if most is not None and len(missed) > most:
        return "too_many_missed", ()
    # A part of a publish follows an earlier one: the first is kept.
    first_of: dict[str, int] = {}
    in_order = sorted(missed.items())
    return "ok", [pair for seq, pair in in_order if first_of.setdefault(pair[0].key or f"{seq}", seq) == seq]
