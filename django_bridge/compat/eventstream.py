"""django-eventstream's `send_event`.

    from django_bridge.compat.eventstream import send_event

Must not know: who may read a channel (`NOTIFIER["GROUPS"]` says which channels are in a user's token).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from django.core.serializers.json import DjangoJSONEncoder

from django_bridge import publisher
from django_bridge.commit import after_commit
from django_bridge.payload import EventBody, to_custom_event
from notifier import rules

MESSAGE: Final = "channel.message"
"""What the type `message`, django-eventstream's usual one, is called here: that name belongs to `Message`."""


def send_event(
    channel: str,
    event_type: str,
    data: Any,
    skip_user_ids: Iterable[Any] | None = None,
    async_publish: bool = True,
    json_encode: bool = True,
) -> None:
    """Sends an event to everybody whose token carries the group `channel`, when the transaction is through.

    `json_encode=False`: `data` is text that may be JSON already. `async_publish` changes nothing: the caller never
    waits for longer than `TIMEOUT_S`. Raises `InvalidInput` or `PayloadTooLarge`, at the call, and `TypeError` for
    `skip_user_ids`: an event goes to all who listen to its channel.
    """
    if skip_user_ids:
        raise TypeError("skip_user_ids is not supported: put the ids into the data, and let the page skip them")
    body: EventBody = {
        "to": [f"group:{rules.name(channel, 'channel')}"],
        "type": MESSAGE if event_type == "message" else event_type,
        "data": _encoded(data) if json_encode else _parsed(data),
    }
    to_custom_event(body)
    after_commit(lambda: publisher.current().send_event(body))


def _encoded(data: Any) -> Any:
    return json.loads(json.dumps(data, cls=DjangoJSONEncoder))


def _parsed(data: Any) -> Any:
    """JSON stays what it is on the wire; any other text becomes a JSON text."""
    try:
        return json.loads(data)
    except ValueError:
        return data
