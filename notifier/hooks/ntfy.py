"""A post in the form of ntfy becomes a message: the body is the text, or JSON; headers or the query have the rest.

The names are those of ntfy's documentation (https://docs.ntfy.sh/publish/). A field that would change when or whether
the message is delivered is refused; one that only decorates it (`markdown`, `attach`, `actions`) is ignored. Must not
know: HTTP frameworks, who receives the message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from notifier import rules
from notifier.errors import InvalidInput

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "title": ("x-title", "title", "ti", "t"),
    "message": ("x-message", "message", "m"),
    "priority": ("x-priority", "priority", "prio", "p"),
    "tags": ("x-tags", "tags", "tag", "ta"),
    "click": ("x-click", "click"),
    "icon": ("x-icon", "icon"),
    "sequence_id": ("x-sequence-id", "sequence-id", "sid"),
    "delay": ("x-delay", "delay", "x-at", "at", "x-in", "in"),
}
"""Headers, and members of the query, by what they mean; the first that is given counts."""
LEVELS: Final = {1: "debug", 2: "info", 3: "info", 4: "warning", 5: "error"}
"""By priority."""
PRIORITIES: Final = {"min": 1, "low": 2, "default": 3, "high": 4, "urgent": 5, "max": 5}
MAX_TAGS: Final = 20
TRIGGERED: Final = "triggered"
"""ntfy's text of a post without any."""


class NtfyPost(BaseModel):
    """A post as JSON. The topic is ignored: the hook has its recipients."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    message: str | None = None
    title: str | None = None
    tags: list[str] = Field(default_factory=list, max_length=MAX_TAGS)
    priority: int | str | None = None
    click: str | None = None
    icon: str | None = None
    sequence_id: str | None = None
    delay: str | None = None


def from_text(body: bytes, header: Callable[[str], bytes | None], query: Callable[[str], str | None]) -> NtfyPost:
    """The post of a body that is text, with its headers and its query. Raises `InvalidInput`."""
    given = {name: value for name in NAMES if (value := _given(name, header, query)) is not None}
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidInput("must be text in UTF-8: attachments are not supported", field="body") from None
    tags = [tag for word in given.pop("tags", "").split(",") if (tag := word.strip())]
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"must have at most {MAX_TAGS} items, not {len(tags)}", field="tags")
    message = given.pop("message", "").replace("\\n", "\n")
    return NtfyPost(message=message or text, tags=tags, **given)


def message(post: NtfyPost, hook: str) -> dict[str, Any]:
    """The fields of the message of a post, without recipients. Raises `InvalidInput`."""
    if post.delay:
        raise InvalidInput("is not supported: the message would be delivered at once", field="delay")
    text = (post.message or "").strip()
    title = " ".join((post.title or "").split())
    if not title:
        title = (text.splitlines() or [TRIGGERED])[0].strip()
        text = "" if text == title and len(title) <= rules.MAX_TITLE_CHARS else text
    fields: dict[str, Any] = {
        "subject": title if len(title) <= rules.MAX_TITLE_CHARS else title[: rules.MAX_TITLE_CHARS - 3] + "...",
        "text": text,
        "level": LEVELS[_priority(post.priority)],
        "url": rules.url(post.click or None, "click"),
        "data": {"hook": hook, "tags": [rules.text(tag, "tags", max_chars=100) for tag in post.tags]},
    }
    if post.icon:
        fields["icon"] = rules.url(post.icon, "icon")
    if post.sequence_id:
        fields["key"] = f"hook:{hook}:{hashlib.sha256(post.sequence_id.encode()).hexdigest()[:32]}"
    return fields


def _priority(value: int | str | None) -> int:
    if value is None or value == "":
        return 3
    word = str(value).strip().lower()
    priority = PRIORITIES.get(word) or (int(word) if word in ("1", "2", "3", "4", "5") else 0)
    if not priority:
        names = ", ".join(PRIORITIES)
        raise InvalidInput(f"must be 1 to 5 or one of {names}, not {rules.shown(value)}", field="priority")
    return priority


def _given(name: str, header: Callable[[str], bytes | None], query: Callable[[str], str | None]) -> str | None:
    for alias in NAMES[name]:
        raw = header(alias)
        if raw is not None:
            return _decoded(raw, name)
        if (value := query(alias)) is not None:
            return value
    return None


def _decoded(raw: bytes, name: str) -> str:
    """A header's text: UTF-8, or encoded words (RFC 2047), as ntfy takes them."""
    try:
        text = raw.decode()
        if "=?" not in text:
            return text
        return "".join(
            part.decode(charset or "ascii") if isinstance(part, bytes) else part
            for part, charset in decode_header(text)
        )
    except (UnicodeDecodeError, LookupError, HeaderParseError, ValueError):
        raise InvalidInput("must be UTF-8, or encoded words of RFC 2047", field=name) from None
