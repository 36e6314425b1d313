"""A hook: where another system posts its own JSON, who receives it as a message, and which keys may post.

    name:kind:recipients:key         as an entry of `NOTIFIER_HOOKS`; several recipients are separated by '|'

Must not know: HTTP, what the bodies of each kind mean.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from notifier import rules
from notifier.api_key import MIN_KEY_CHARS, is_key
from notifier.errors import InvalidInput

log = logging.getLogger("notifier.hooks")

KINDS: Final = ("alertmanager", "grafana", "ntfy")
MAX_RECIPIENTS: Final = 20
SIGNATURE_AGE_S: Final = 300
"""How far the time of a signature may be from now. A recorded request is of no use afterwards."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Hook:
    """An entry of `NOTIFIER_HOOKS`."""

    name: str
    kind: str
    to: tuple[str, ...]
    keys: tuple[str, ...] = field(repr=False)
    """Each may post: while a key is replaced there are two."""

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Raises ValueError, which names the part and quotes nothing of the entry: with its parts in a wrong order, any
        may be the key."""
        words = entry.split(":")
        if len(words) < 4:
            raise ValueError("a hook is 'name:kind:recipients:key'")
        name, kind, *channels, key = words
        if not _NAME.fullmatch(name):
            raise ValueError("name: must be 1 to 64 of A-Z a-z 0-9 . _ -")
        if kind not in KINDS:
            raise ValueError(f"kind: must be one of {', '.join(KINDS)}")
        if len(key) < MIN_KEY_CHARS:
            raise ValueError(f"key: must have at least {MIN_KEY_CHARS} characters, but one has {len(key)}")
        if not is_key(key):
            raise ValueError("key: must be printable ASCII, without spaces at its edges, but one is not")
        return cls(name, kind, _recipients(":".join(channels)), (key,))

    def has_key(self, given: str) -> bool:
        """True for a key of this hook. Compared in constant time."""
        wanted = _digest(given)
        return any(hmac.compare_digest(_digest(key), wanted) for key in self.keys)

    def has_signed(self, body: bytes, signature: str, sent_at: str, now: float) -> bool:
        """True if `signature` is the HMAC-SHA256 of the body by a key of this hook, in hexadecimal digits.

        `sent_at` is the time that the signature covers, in seconds since 1970; empty if it covers none. The form is
        that of Grafana's webhook contact point.
        """
        if sent_at:
            if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 12):
                return False
            if abs(now - int(sent_at)) > SIGNATURE_AGE_S:
                return False
            body = sent_at.encode() + b":" + body
        given = signature.strip().lower().encode("utf-8", "replace")
        signatures = (hmac.new(key.encode(), body, hashlib.sha256).hexdigest().encode() for key in self.keys)
        return any(hmac.compare_digest(expected, given) for expected in signatures)


def joined(entries: Iterable[Hook]) -> tuple[Hook, ...]:
    """The hooks of entries; those with one name are one hook with several keys. Raises ValueError."""
    hooks: dict[str, Hook] = {}
    for entry in entries:
        known = hooks.get(entry.name)
        if known is not None and (known.kind, known.to) != (entry.kind, entry.to):
            raise ValueError(f"the entries named {entry.name!r} differ in more than their key")
        hooks[entry.name] = entry if known is None else Hook(entry.name, entry.kind, entry.to, known.keys + entry.keys)
    return tuple(hooks.values())


class Hooks:
    """The hooks of the service, by name."""

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self._untimed: set[str] = set()
        """Those that the log has named, at most as many as there are hooks."""
        self.replace(hooks)

    def replace(self, hooks: Iterable[Hook]) -> None:
        """Take other hooks from now on."""
        self._hooks: Mapping[str, Hook] = {hook.name: hook for hook in hooks}

    def find(self, name: str) -> Hook | None:
        return self._hooks.get(name)

    def note_untimed(self, hook: Hook) -> None:
        """A valid signature of this hook covered no time. Logged once for each hook; deprecated, see docs/hooks.md."""
        if hook.name not in self._untimed:
            self._untimed.add(hook.name)
            log.warning(
                "hook %s: the signature covers no time, so a recorded request is accepted forever. Set timestampHeader "
                "of Grafana's contact point to X-Grafana-Alerting-Timestamp; a later version refuses other signatures.",
                hook.name,
            )


def _recipients(text: str) -> tuple[str, ...]:
    channels = text.split("|")
    if len(channels) > MAX_RECIPIENTS:
        raise ValueError(f"recipients: must be at most {MAX_RECIPIENTS}, not {len(channels)}")
    try:
        return rules.recipients(channels)
    except InvalidInput:
        raise ValueError(
            "recipients: each must be 'user:<id>', 'group:<name>', 'topic:<name>' or 'all', separated by '|'"
        ) from None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
