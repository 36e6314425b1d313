"""The tables of the file, and the changes and values that are stored in them.

    log      an event of a channel; where a channel has none, the row of its newest seq without a frame
    tasks    the newest state of each, in the order of the changes
    marks    what users have read and deleted
    outputs  the pieces of tasks' output
    answers  those under idempotency keys
    records  those of the users' last connections
    meta     the epoch, the number of transactions, and the newest seq of all removed logs, and of those of topics

An entry of `log` is text: `seq low appended_ms expires_ms message_id repeats`, perhaps more (`_more`), a line break,
the frame. Frames have no CR (`event.is_safe_frame`), so the entries of a channel can be joined by one, and are split
when the channel is used.

Must not know: connections, threads, files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, TypeAlias
from urllib.parse import quote, unquote

from notifier.broker.embedded.log import NO_USERS, Entry, Log
from notifier.broker.values import Receipt
from notifier.event import is_safe_frame, part_key
from notifier.exclusion import Exclusion
from notifier.json_text import to_json
from notifier.output import Appended
from notifier.task import Task
from notifier.task_record import from_record

Row: TypeAlias = tuple[str, tuple[object, ...]]
"""A statement and its parameters."""

APPLICATION_ID: Final = 0x6E746672
"""`PRAGMA application_id`: marks the file as notifier's."""
FORMAT: Final = 1
"""`PRAGMA user_version`: the version of these tables."""
SCHEMA: Final = (
    "CREATE TABLE log (channel TEXT NOT NULL, seq INTEGER NOT NULL, entry TEXT NOT NULL, PRIMARY KEY (channel, seq))"
    " WITHOUT ROWID",
    "CREATE TABLE tasks (place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, record TEXT NOT NULL)",
    "CREATE TABLE marks (place INTEGER PRIMARY KEY, user TEXT NOT NULL, action TEXT NOT NULL, id TEXT NOT NULL,"
    " UNIQUE (user, action, id))",
    "CREATE TABLE answers (place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL,"
    " answer TEXT NOT NULL, expires_ms INTEGER NOT NULL)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
ADDED: Final = (
    "CREATE TABLE IF NOT EXISTS outputs (task TEXT NOT NULL, n INTEGER NOT NULL, chars INTEGER NOT NULL,"
    " text TEXT NOT NULL, PRIMARY KEY (task, n)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS records (user TEXT NOT NULL, id TEXT NOT NULL, ends_s INTEGER NOT NULL,"
    " text TEXT NOT NULL, PRIMARY KEY (user, id)) WITHOUT ROWID",
    "DELETE FROM records WHERE ends_s < CAST(strftime('%s', 'now') AS INTEGER)",
)
"""Tables of later versions: an earlier version opens a file that has them, and leaves them alone. Records of
connections whose time is over go at the start."""

LOGS: Final = "SELECT channel, max(seq), group_concat(entry, '\r') FROM log GROUP BY channel ORDER BY channel"
"""The channels, each with its newest seq and its joined entries; with `DESC` in the opposite order, the entries too. A
literal separates them: of a function's value or a parameter, SQLite makes a copy for each row."""
SET_META: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
COUNT: Final = "UPDATE meta SET value = ? WHERE name = 'transactions'"
APPEND: Final = "INSERT INTO log VALUES (?, ?, ?)"
REPLACE_ENTRY: Final = "UPDATE log SET seq = ?, entry = ? WHERE channel = ? AND seq = ?"
REMOVE_LOG: Final = "DELETE FROM log WHERE channel = ?"
REMOVE_ENTRY: Final = "DELETE FROM log WHERE channel = ? AND seq = ?"
PUT_TASK: Final = "INSERT OR REPLACE INTO tasks (id, record) VALUES (?, ?)"
REMOVE_TASK: Final = "DELETE FROM tasks WHERE id = ?"
APPEND_OUTPUT: Final = "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?)"
REMOVE_PIECES: Final = "DELETE FROM outputs WHERE task = ? AND n <= ?"
REMOVE_OUTPUT: Final = "DELETE FROM outputs WHERE task = ?"
ADD_MARK: Final = "INSERT OR IGNORE INTO marks (user, action, id) VALUES (?, ?, ?)"
REMOVE_MARK: Final = "DELETE FROM marks WHERE user = ? AND action = ? AND id = ?"
REMOVE_READ: Final = "DELETE FROM marks WHERE user = ? AND action IN ('read', 'all')"
REMOVE_MARKS: Final = "DELETE FROM marks WHERE user = ?"
PUT_RECORD: Final = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)"
REMOVE_RECORD: Final = "DELETE FROM records WHERE user = ? AND id = ?"
REMOVE_RECORDS: Final = "DELETE FROM records WHERE user = ?"
PUT_ANSWER: Final = "INSERT OR REPLACE INTO answers (key, fingerprint, answer, expires_ms) VALUES (?, ?, ?, ?)"
REMOVE_ANSWER: Final = "DELETE FROM answers WHERE key = ?"

_JOINT: Final = b"\r"
_HEAD = re.compile(rb"([0-9]{1,15}) [0-9]{1,15} ([0-9]{1,15}) ")
_APPENDED = re.compile(r"output ([0-9]{1,15}) ([0-9]{1,15}) ([01])")


def entry_text(log: Log, entry: Entry) -> str:
    """An entry, with what its log has become by it."""
    return (
        f"{entry.seq} {log.low} {int(log.appended_s * 1000)} {entry.expires_at_ms} {entry.message_id} "
        f"{'r' if entry.key else ''}{_more(entry)}\n{entry.frame}"
    )


def _more(entry: Entry) -> str:
    """Of the few entries that have it, what is beside the six fields: JSON without spaces. A version that does not know
    it leaves the entry out, and thus delivers it to no excluded user."""
    more: dict[str, object] = {}
    if entry.excluded:
        more["except"] = sorted(entry.excluded)
    if entry.replace_key:
        more["key"] = entry.replace_key
    if entry.corrected_ms:
        more["corrected"] = list(entry.corrected_ms)
    return f" {quote(to_json(more))}" if more else ""


_NO_MORE: Final[tuple[frozenset[str], str, Sequence[int]]] = (NO_USERS, "", ())


def _more_of(text: str) -> tuple[frozenset[str], str, Sequence[int]]:
    """What `_more` made a text of: excluded users, replace key, times of corrections. Raises ValueError, TypeError or
    AttributeError."""
    more = json.loads(unquote(text))
    users = frozenset[str](map(str, more.get("except", ()))) or NO_USERS
    return users, str(more.get("key", "")), list(map(int, more.get("corrected", ())))


def empty_text(log: Log) -> str:
    """The entry of a log without events."""
    return f"{log.last} {log.low} {int(log.appended_s * 1000)} 0  \n"


def log_of(entries: bytes, top: int) -> tuple[Log, int]:
    """The log of which these are all entries, from the oldest or from the newest, and the number of those that were not
    in notifier's form.

    They are left out, and every cursor up to the seq `top` is reset on this channel.
    """
    log = Log()
    skipped = 0
    heads: list[tuple[int, int, int]] = []
    for text in entries.split(_JOINT):
        head, _, frame = text.partition(b"\n")
        try:
            seq, low, appended_ms, expires_at_ms, message_id, repeats, *rest = head.decode().split(" ")
            heads.append((int(seq), int(low), int(appended_ms)))
            if frame and not is_safe_frame(frame):
                raise ValueError
            expires = int(expires_at_ms)
            excluded, replace_key, corrected = _more_of(rest[0]) if rest else _NO_MORE
        except (ValueError, TypeError, AttributeError):
            skipped += 1
            continue
        if frame:
            key = part_key(message_id, expires, Exclusion(excluded)) if repeats else ""
            (log.messages if message_id else log.events).append(
                Entry(
                    int(seq),
                    frame.decode(),
                    message_id,
                    expires,
                    key,
                    excluded,
                    replace_key,
                    int(appended_ms),
                    corrected_ms=corrected,
                )
            )
        else:
            log.marker = int(seq)
    if heads and heads[0] > heads[-1]:
        log.messages.reverse()
        log.events.reverse()
    log.last, log.low, appended = max(heads, default=(top, top, 0))
    log.appended_s = appended / 1000
    if skipped:
        log.last = log.low = max(top, log.last)
    return log, skipped


def appended_s_of(entries: bytes) -> float:
    """The time of the newest of a channel's entries (s since 1970), which is their first or last; 0 if neither is in
    notifier's form."""
    heads = [head for at in (0, entries.rfind(_JOINT) + 1) if (head := _HEAD.match(entries, at))]
    _, appended_ms = max(((int(head[1]), int(head[2])) for head in heads), default=(0, 0))
    return appended_ms / 1000


def answer_text(answer: object) -> str:
    """A receipt, a task, or what a piece of output was answered, as text."""
    if isinstance(answer, Receipt):
        return f"{answer.seq} {answer.watched:d}"
    if isinstance(answer, Appended):
        return f"output {answer.n} {answer.chars} {answer.cancel_requested:d}"
    assert isinstance(answer, Task)
    return answer.record()


def answer_of(text: str, epoch: str) -> Receipt | Task | Appended | None:
    """The answer that `answer_text` made a text; None if it is not in notifier's form."""
    if text.startswith("{"):
        return from_record(text)
    if appended := _APPENDED.fullmatch(text):
        return Appended(int(appended[1]), int(appended[2]), appended[3] == "1")
    seq, _, watched = text.partition(" ")
    return Receipt(epoch, int(seq), watched == "1") if seq.isdecimal() else None
