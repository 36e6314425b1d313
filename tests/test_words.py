"""The field's terms, one per thing: names that were given up do not come back, and sentences name their subject."""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import REPOSITORY

RETIRED = {
    "_hand": "deliver_to",
    "_by_hand": "_write_each",
    "owes": "is_pending_for",
    "takes": "can_join",
    "pass_by": "send",
    "doubt": "resync",
    "held": "pending",
    "is_kept_nowhere": "is_ephemeral",
    "ONCE": "EPHEMERAL_PREFIX",
    "Telling": "TaskReporter",
    "_unsaid": "_dirty_fields",
    "_owed": "_unsent",
    "Beats": "Heartbeat",
    "Ticker": "Scheduler",
    "Silence": "stalled in the service, reconcile in the bridge",
    "silence": "stalled in the service, reconcile in the bridge",
    "Lane": "FastPath",
    "Answers": "IdempotencyStore",
    "mend": "repair",
    "put_aside": "quarantine",
    "spoken": "per_language",
    "built": "to_event",
    "Worked": "SupportsTask",
    "follows": "active_loop",
    "Wire": "EncodedFrame",
    "PINGING": "PING_FRAME",
    "HEALED": "RECOVERED_FRAME",
    "fault": "exc",
    "one": "the noun",
    "found": "the noun",
    "made": "the noun",
    "said": "the noun",
    "mine": "the noun",
}
"""Identifiers that are used nowhere, and what stands in their place."""

RIDDLES = re.compile(
    r"\b(nobody|somebody|whoever|whom it concerns|is told|are told|in hand|heard by|put aside)\b",
    re.IGNORECASE,
)
"""Words that leave the subject of a sentence open: the client, the worker, the stream is meant, and is named."""

_JS_NOISE = re.compile(r"/\*.*?\*/|//[^\n]*|`(?:\\.|[^`\\])*`|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_LUA_NOISE = re.compile(r"--[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_JS_COMMENT = re.compile(r"/\*.*?\*/|(?<!:)//[^\n]*", re.DOTALL)
_LUA_COMMENT = re.compile(r"--[^\n]*")


def tracked(*patterns: str) -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in listing.stdout.split() if (REPOSITORY / name).is_file()]
    assert names, f"no files match {patterns}"
    return [name for name in names if name != Path(__file__).relative_to(REPOSITORY).as_posix()]


def python_tokens(source: str, *kinds: int) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield token.start[0], token.string


def identifiers(name: str) -> Iterator[tuple[int, str]]:
    source = (REPOSITORY / name).read_text("utf-8")
    if name.endswith(".py"):
        yield from python_tokens(source, tokenize.NAME)
        return
    noise = _LUA_NOISE if name.endswith(".lua") else _JS_NOISE
    source = noise.sub(lambda match: "\n" * match.group().count("\n"), source)
    for number, line in enumerate(source.splitlines(), 1):
        # Not the keys of objects: `one` is a plural form of Intl.PluralRules, `held` belongs to navigator.locks.
        yield from ((number, word) for word in re.findall(r"[A-Za-z_$][\w$]*(?![\w$]*:)", line))


def prose(name: str) -> Iterator[tuple[int, str]]:
    """What people read: all of a page, the comments and docstrings of a program."""
    source = (REPOSITORY / name).read_text("utf-8")
    if name.endswith(".md"):
        yield from enumerate(source.splitlines(), 1)
    elif name.endswith(".py"):
        for number, text in python_tokens(source, tokenize.COMMENT, tokenize.STRING):
            if text.startswith(("#", '"""', 'r"""')):
                yield from enumerate(text.splitlines(), number)
    else:
        for comment in (_LUA_COMMENT if name.endswith(".lua") else _JS_COMMENT).finditer(source):
            yield from enumerate(comment.group().splitlines(), source.count("\n", 0, comment.start()) + 1)


@pytest.mark.parametrize("pattern", ["*.py", "*.js", "*.lua"])
def test_no_identifier_uses_a_retired_word(pattern: str) -> None:
    uses = [
        f"{name}:{number} {word}: {RETIRED[word]}"
        for name in tracked(pattern)
        for number, word in identifiers(name)
        if word in RETIRED
    ]
    assert not uses, "\n".join(uses)


@pytest.mark.parametrize("pattern", ["*.py", "*.js", "*.lua", "*.md"])
def test_every_sentence_names_its_subject(pattern: str) -> None:
    uses = [
        f"{name}:{number} {line.strip()}"
        for name in tracked(pattern)
        for number, line in prose(name)
        if RIDDLES.search(line) and not line.startswith('| "')  # a table of examples
    ]
    assert not uses, "\n".join(uses)
