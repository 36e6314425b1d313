"""The API key of a publisher, with what it may do.

    key                              a publisher with it reaches every channel
    key:publish+admin                a publisher with these scopes
    name:scopes:targets:key          a publisher with a name for logs and limits, that reaches these channels

Must not know: how a key is compared.
"""

from __future__ import annotations

import re
from typing import Final, Self

MIN_KEY_CHARS: Final = 16
SCOPES: Final = frozenset(("publish", "admin"))
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TARGET = re.compile(r"all|\*|(user|group|topic):.+")


def is_key(word: str) -> bool:
    """Whether every client can send this key in a header, and the service reads it there as it was.

    Printable ASCII, not too short, without spaces at its edges. "," and ":" end a key in `NOTIFIER_API_KEYS`.
    """
    plain = word.isascii() and word.isprintable() and word == word.strip()
    return plain and len(word) >= MIN_KEY_CHARS and not {",", ":"} & set(word)


class ApiKey(str):
    """A key, with its scopes, name and targets as attributes."""

    scopes: frozenset[str]
    name: str
    """Empty for a key without one."""
    targets: tuple[str, ...]
    """Channels: `user:42`, `topic:order:*` (all that begin so), `all`. Empty: every channel."""

    def __new__(cls, word: str, scopes: frozenset[str], name: str = "", targets: tuple[str, ...] = ()) -> Self:
        key = super().__new__(cls, word)
        key.scopes = scopes
        key.name = name
        key.targets = targets
        return key

    @classmethod
    def parse(cls, entry: str) -> Self:
        """The key of an entry of `NOTIFIER_API_KEYS`. Raises ValueError, whose text quotes nothing of the entry: with
        its parts in a wrong order, any may be the key."""
        words = entry.split(":")
        if len(words) == 3:
            raise ValueError("a key is 'key', 'key:scopes' or 'name:scopes:targets:key', but one has three parts")
        if len(words) < 3:
            return cls(_word(words[0]), _scopes(words[1] if len(words) == 2 else ""))
        name, scopes, *targets, word = words
        if not _NAME.fullmatch(name):
            raise ValueError("the name of a key must be 1 to 64 of A-Z a-z 0-9 . _ -")
        key = cls(_word(word), _scopes(scopes), name, _targets(":".join(targets)))
        if key.targets and "admin" in key.scopes:
            raise ValueError("a key with targets cannot have the scope admin")
        return key

    @property
    def entry(self) -> str:
        """The entry that this key was read from."""
        scopes = "+".join(sorted(self.scopes))
        return f"{self.name}:{scopes}:{'|'.join(self.targets)}:{self!s}" if self.name else f"{self!s}:{scopes}"

    def __repr__(self) -> str:
        return f"ApiKey(...{self[-4:]}, {'+'.join(sorted(self.scopes))})"


def _word(word: str) -> str:
    if len(word) < MIN_KEY_CHARS:
        raise ValueError(f"a key must have at least {MIN_KEY_CHARS} characters, but one has {len(word)}")
    if not is_key(word):
        raise ValueError("a key must be printable ASCII, without ',' and without spaces at its edges, but one is not")
    return word


def _scopes(text: str) -> frozenset[str]:
    scopes = frozenset(text.split("+")) if text else frozenset(("publish",))
    if scopes - SCOPES:
        raise ValueError("a key has a scope that does not exist; the scopes are publish and admin, joined by '+'")
    return scopes


def _targets(text: str) -> tuple[str, ...]:
    targets = tuple(dict.fromkeys(text.split("|"))) if text else ()
    for target in targets:
        if not _TARGET.fullmatch(target):
            raise ValueError(
                "a target is 'user:<id>', 'group:<name>', 'topic:<name>', 'all', or the beginning of such with '*', "
                "separated by '|'; a key has one that is not"
            )
    return () if "*" in targets else targets
