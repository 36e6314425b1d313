"""`Event`: one event of the project's own type, for the scripts of pages.

Builds the payload and gives it to `sending`. Must not know: transports, messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder

from django_bridge.event_loop import outside_loop
from django_bridge.payload import EVENT, Payload, to_custom_event
from django_bridge.recipients import channels, is_anonymous
from django_bridge.sending import send_payload
from notifier import rules
from notifier.errors import InvalidInput
from notifier.event import new_id


class Event:
    """An event for the scripts of pages, where `document` dispatches it as `notifier:<type>`.

        Event(type="order.paid", to_users=order.buyer, data={"order": order.pk, "sum": order.sum}).send()
        Event(type="order.paid", to_users=topic(f"order:{order.pk}")).send()

    - `type`: letters, digits, `.`, `_` and `-`, without the service's own types.
    - `to_users`: as for a `Message`; with at most one `topic(...)`, whose name goes into the data as `topic` unless
      these are no object.
    - `data`: what `DjangoJSONEncoder` makes JSON of: also dates, decimals, UUIDs and lazy translations.
    - `except_`: a user, or an iterable of users (at most 50), who do not get it, on none of their tabs and devices.
    - `except_connection`: the id of an open stream, from its `hello`, that does not get it.
    - `durable=False`: only streams that are open now get it; it has no place in the history.
    """

    def __init__(
        self,
        *,
        type: str,  # noqa: A002  # the wire's name
        to_users: Any,
        data: Any = None,
        durable: bool = True,
        except_: Any = None,
        except_connection: str | None = None,
    ) -> None:
        self.type = type
        self.except_ = except_
        self.except_connection = except_connection
        self.to_users = to_users
        self.data = data
        self.durable = durable

    @outside_loop
    def send(self) -> str:
        """Send the event on commit, and not at all after a rollback. Returns its id; every call sends a new event.

        Raises `InvalidInput` or `PayloadTooLarge` for values that break a rule, before anything is sent. With
        `NOTIFIER["OUTBOX"]` the event is first written as a row of the same transaction, as a message is.
        """
        return send_payload(self.payload())

    async def asend(self) -> str:
        """As `send()`, for asynchronous code: waits for the database and the service in a thread."""
        return await sync_to_async(self.send)()

    @outside_loop
    def payload(self) -> Payload:
        """The checked payload, under a new id. Raises `InvalidInput` or `PayloadTooLarge`."""
        to = list(rules.recipients(channels(self.to_users), "to_users"))
        payload: Payload = {
            "id": new_id(),
            "kind": EVENT,
            "to": to,
            "type": self.type,
            "data": _with_topic(_json(self.data), [channel for channel in to if rules.is_topic(channel)]),
            "durable": rules.flag(self.durable, "durable"),
        }
        if self.except_ is not None and not is_anonymous(self.except_):
            payload["except"] = list(channels(self.except_, "except_"))
        if self.except_connection is not None:
            payload["except_connection"] = self.except_connection
        with _argument_names():
            to_custom_event(payload)
        return payload


@contextmanager
def _argument_names() -> Iterator[None]:
    """Errors name the argument of `Event` instead of the wire's field."""
    try:
        yield
    except InvalidInput as exc:
        field = exc.field or ""
        if field.startswith("except") and field != "except_connection":
            raise InvalidInput(exc.detail, field=f"except_{field[len('except') :]}") from None
        raise


def _with_topic(data: Any, topics: list[str]) -> Any:
    """The data with the name of the topic: the frame is the same on each channel, and does not name it."""
    if len(topics) > 1:
        raise InvalidInput("has more than one topic: send an event to each", field="to_users")
    if not topics or not isinstance(data, dict | None):
        return data
    return {"topic": topics[0].removeprefix("topic:"), **(data or {})}


def _json(data: Any) -> Any:
    try:
        return json.loads(json.dumps(data, cls=DjangoJSONEncoder))
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"cannot be JSON: {exc}", field="data") from None
