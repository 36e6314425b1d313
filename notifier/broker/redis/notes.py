"""What an announcement says beside its repeat key: whom the event leaves out, when its publish was accepted, its trace.

    [["7","\\n@1764403200123456","\\n_trace=00-<trace id>-<span id>-01"],"<connection>"]

This is the form of an exclusion, so that processes of every version read it. A name that begins with a line feed is no
user's (`rules.name`): a note for newer versions.

Must not know: connections, what is published.
"""

from __future__ import annotations

from notifier.exclusion import Exclusion, exclusion_of
from notifier.json_text import to_json
from notifier.trace_context import TracedTime, is_context

_MARK = "\n"
_ACCEPTED = "\n@"
_TRACE = "\n_trace="


def notes(excluded: Exclusion | None, accepted_us: int) -> str:
    """One line of JSON. accepted_us: microseconds of Unix time, by the publisher's clock, perhaps a `TracedTime`; 0:
    none."""
    if excluded is None and not isinstance(accepted_us, TracedTime):
        return f'[["\\n@{accepted_us}"],""]'
    noted = [f"{_ACCEPTED}{accepted_us}"] if accepted_us else []
    if isinstance(accepted_us, TracedTime):
        noted.append(f"{_TRACE}{accepted_us.context}")
    users, connection = (sorted(excluded.users), excluded.connection) if excluded is not None else ([], "")
    return to_json([[*users, *noted], connection])


def notes_of(text: bytes) -> tuple[Exclusion | None, int]:
    """The exclusion, and the time of acceptance; 0 if it is not given. Raises ValueError."""
    excluded, accepted_us, context = exclusion_of(text), 0, ""
    noted = [name for name in excluded.users if name.startswith(_MARK)]
    for note in noted:
        if note.startswith(_ACCEPTED) and (digits := note[len(_ACCEPTED) :]).isascii() and digits.isdigit():
            accepted_us = int(digits[:20])
        elif note.startswith(_TRACE) and is_context(note[len(_TRACE) :]):
            context = note[len(_TRACE) :]
    if accepted_us and context:
        accepted_us = TracedTime(accepted_us, context)
    users = excluded.users.difference(noted)
    return Exclusion(users, excluded.connection) if users or excluded.connection else None, accepted_us
