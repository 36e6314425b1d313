"""django-eventstream's `send_event`.

    from django_bridge.compat.eventstream import send_event

Must not know: who may read a channel (`NOTIFIER["GROUPS"]` says which channels are in a user's token).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from django_bridge.event import Event
from django_bridge.recipients import NamedGroup, channels
from notifier import rules

MESSAGE: Final = "channel.message"
"""Replaces the event type `message`, django-eventstream's usual one: here that type is a `Message`."""


def send_event(
    channel: str,
    event_type: str,
    data: Any,
    skip_user_ids: Iterable[Any] | None = None,
    async_publish: bool = True,
    json_encode: bool = True,
) -> None:
    """Send an event on commit to all users whose token contains the group `channel`.

    `json_encode=False`: `data` is text, and is not encoded again if it is JSON. `async_publish` has no effect: the
    caller never waits longer than `TIMEOUT_S`. `skip_user_ids`: at most 50 users, who do not get the event. Raises
    `InvalidInput` or `PayloadTooLarge` at the call.
    """
    to_users = NamedGroup(rules.name(channel, "channel"))
    skipped = list(skip_user_ids or ())
    rules.excluded(channels(skipped, "skip_user_ids"), "skip_user_ids")  # its errors name this argument
    Event(
        type=MESSAGE if event_type == "message" else event_type,
        to_users=to_users,
        data=data if json_encode else _parsed(data),
        except_=skipped or None,
    ).send()


def _parsed(data: Any) -> Any:
    """JSON text is parsed, to be the same JSON on the wire; other text becomes a JSON string."""
    try:
        return json.loads(data)
    except ValueError:
        return data
