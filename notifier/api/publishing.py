"""The calls of publishers: messages, events, tasks. A request's body becomes an `Event` or a `Task`, and goes to the
broker; nothing here touches a stream.

Each call runs directly under the protocol, and as a route (`publish`). Must not know: how brokers store data, who
listens.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from notifier import event as events
from notifier import output, parsing, rules, task
from notifier.api.access import known_task, require_task
from notifier.api.bodies import OutputIn, QuestionIn, TaskIn, TaskPatch
from notifier.api.http import (
    checked_body,
    fingerprint,
    idempotency,
    json_answer,
    object_of,
    own_key,
    validate,
)
from notifier.asking import asked
from notifier.auth import Publisher
from notifier.broker import Broker
from notifier.broker.values import Idempotency, Receipt
from notifier.call import JSON, Answer, Headers, RequestHead, media_type
from notifier.errors import InvalidInput, NotifierError, UnknownField
from notifier.event import Event
from notifier.exclusion import Exclusion
from notifier.limits import RateLimit
from notifier.message import BY_NAME, message_event
from notifier.question import ask

CLOUD_EVENT: Final = "application/cloudevents+json"
NULL_TOTAL_DEPRECATED: Final = (b"deprecation", b"@1795824000")
"""RFC 9745: since 2026-11-28 `{"total": null}` is to be written `{"total": "unknown"}`."""
EXCLUDING: Final = frozenset(("except", "except_connection"))
EVENT_FIELDS: Final = frozenset(("to", "type", "data", "durable")) | EXCLUDING
MESSAGE_FIELDS: Final = frozenset(BY_NAME) | EXCLUDING

log = logging.getLogger("notifier.api")


@dataclass(frozen=True, slots=True)
class Publishing:
    """The calls. Built by `app`."""

    broker: Broker
    limit: RateLimit
    max_event_bytes: int
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Of calls and of items of batches, by kind and status: `message 200`. (A Counter costs ten times as much.)"""

    @property
    def accepted(self) -> int:
        """The calls and the items of batches so far that were answered with 200."""
        return sum(number for key, number in self.counts.items() if key.endswith(" 200"))

    # Calls

    def post_message(self, who: Publisher, head: RequestHead, body: bytes) -> Answer | Awaitable[Answer]:
        """Store a message in its recipients' history and announce it."""
        try:
            headers, value = self.accepted_body(who, head, body)
            idem = idempotency(head, who, value)
            return self._publish(self.message_event(who, value, idem), idem, headers, "message 200")
        except Exception as exc:
            self.note("message", exc)
            raise

    def send(
        self, who: Publisher, fields: Mapping[str, Any], idem: Idempotency | None, headers: Headers, kind: str
    ) -> Answer | Awaitable[Answer]:
        """Store the message with these fields and announce it. kind: of the call, as `counts` has it."""
        return self._publish(self.message_event(who, fields, idem), idem, headers, f"{kind} 200")

    def post_event(self, who: Publisher, head: RequestHead, body: bytes) -> Answer | Awaitable[Answer]:
        """Publish an event of the publisher's own type, or a CloudEvent."""
        try:
            return self._post_event(who, head, body)
        except Exception as exc:
            self.note("event", exc)
            raise

    def _post_event(self, who: Publisher, head: RequestHead, body: bytes) -> Answer | Awaitable[Answer]:
        headers, value = self.accepted_body(who, head, body)
        idem = idempotency(head, who, value)
        content_type = head.headers.get(b"content-type", b"")
        if b"cloudevents" in content_type.lower() and media_type(content_type.decode("latin-1")) == CLOUD_EVENT:
            fields = _from_cloud_event(value)
            # CloudEvents 1.0: source and id together name one event.
            idem = idem or Idempotency(own_key(who, "cloudevent", value["source"], value["id"]), fingerprint(value))
            return self._publish(self.custom_event(who, fields), idem, headers, "event 200")
        return self._publish(self.custom_event(who, value), idem, headers, "event 200")

    async def post_task(self, who: Publisher, head: RequestHead, body: bytes) -> Answer:
        """Create a running task that its recipients watch."""
        with Counted(self, "task"):
            headers, value = self.accepted_body(who, head, body)
            return json_answer(await self.create_task(who, value, idempotency(head, who, value)), headers)

    async def patch_task(self, who: Publisher, head: RequestHead, body: bytes) -> Answer:
        """Change the task that the path names."""
        with Counted(self, "patch"):
            return await self._patch_task(who, head, body)

    async def _patch_task(self, who: Publisher, head: RequestHead, body: bytes) -> Answer:
        headers, value = self.accepted_body(who, head, body)
        patch = validate(TaskPatch, value)
        if patch.erases_total:
            headers = (*headers, NULL_TOTAL_DEPRECATED)
            log.warning('%s sent {"total": null}, which is deprecated: {"total": "unknown"} is meant', who.name)
        idem = idempotency(head, who, value)
        return json_answer(await self.change_task(who, head.last_segment, patch, idem), headers)

    async def post_output(self, who: Publisher, head: RequestHead, body: bytes) -> Answer:
        """Append to the output of the task that the path names."""
        with Counted(self, "output"):
            headers, value = self.accepted_body(who, head, body)
            idem = idempotency(head, who, value)
            return json_answer(await self.append_output(who, head.last_segment, value, idem), headers)

    async def post_question(self, who: Publisher, head: RequestHead, body: bytes) -> Answer:
        """Ask the users who watch the task that the path names."""
        with Counted(self, "question"):
            return await self._post_question(who, head, body)

    async def _post_question(self, who: Publisher, head: RequestHead, body: bytes) -> Answer:
        headers, value = self.accepted_body(who, head, body)
        asking, now_ms = validate(QuestionIn, value), _now_ms()
        idem = idempotency(head, who, value)
        fields = asking.model_dump()
        own_id, free = fields.pop("id"), fields.pop("input")
        if own_id is None and idem is not None:
            own_id = _id_from(idem)
        question = ask(**fields, free=free, question_id=own_id, now_ms=now_ms)
        await require_task(self.broker, who, head.last_segment)
        changed = await self.broker.change_task(
            head.last_segment, lambda stored: asked(stored, question, now_ms=now_ms), idem
        )
        return json_answer(changed.for_publisher(), headers)

    def accepted_body(self, who: Publisher, head: RequestHead, body: bytes) -> tuple[Headers, Mapping[str, Any]]:
        """The headers about the publisher's rate limit, and the body's JSON object."""
        body = checked_body(head, body)
        headers = self.limit.take(who.name)
        return headers, object_of(parsing.parse_json(body))

    def _publish(
        self, event: Event, idem: Idempotency | None, headers: Headers, counted: str
    ) -> Answer | Awaitable[Answer]:
        """counted: the key of `counts` for what is accepted."""
        receipt = self.broker.submit(event, idem)
        if isinstance(receipt, Receipt):
            self.counts[counted] += 1
            return Answer(200, (*headers, *JSON), published(event, receipt).encode())
        return self._published_later(event, receipt, headers, counted)

    async def _published_later(
        self, event: Event, pending: Awaitable[Receipt], headers: Headers, counted: str
    ) -> Answer:
        try:
            receipt = await pending
        except Exception as exc:
            self.note(counted.partition(" ")[0], exc)
            raise
        self.counts[counted] += 1
        return Answer(200, (*headers, *JSON), published(event, receipt).encode())

    def note(self, kind: str, exc: Exception) -> None:
        """Count a call that failed."""
        self.counts[f"{kind} {exc.status if isinstance(exc, NotifierError) else 500}"] += 1

    # From a body's fields to what the broker stores. The fields are JSON that the rules allow.

    def message_event(self, who: Publisher, fields: Mapping[str, Any], idem: Idempotency | None) -> Event:
        """The event of a message."""
        _check_names(fields, MESSAGE_FIELDS)
        own_id = fields.get("id")
        if own_id is None and idem is not None:
            fields = {**fields, "id": _id_from(idem)}
        # A publisher that chose the id may send one message by several calls, each to some of its recipients.
        left_out = excluded(fields)
        if not EXCLUDING.isdisjoint(fields):
            fields = {name: value for name, value in fields.items() if name not in EXCLUDING}
        event = message_event(
            fields,
            may_repeat=own_id is not None,
            excluded=left_out,
            max_bytes=self.max_event_bytes,
            publisher=who.name,
        )
        who.require_channels(event.to)
        return event

    def custom_event(self, who: Publisher, fields: Mapping[str, Any]) -> Event:
        """An event of the publisher's own."""
        _check_names(fields, EVENT_FIELDS)
        for name in ("to", "type"):
            if name not in fields:
                raise InvalidInput("is required", field=name)
        event = events.encoded_custom(
            to=fields["to"],
            event_type=fields["type"],
            encoded=parsing.to_json(fields.get("data")),
            durable=fields.get("durable", True),
            max_bytes=self.max_event_bytes,
            excluded=excluded(fields),
        )
        who.require_channels(event.to)
        return event

    async def create_task(self, who: Publisher, fields: Mapping[str, Any], idem: Idempotency | None) -> dict[str, Any]:
        body = validate(TaskIn, fields)
        begun = task.begin(
            to=body.to,
            name=body.name,
            state=body.state,
            total=body.total,
            task_id=_id_from(idem) if body.id is None and idem is not None else body.id,
            now_ms=_now_ms(),
        )
        who.require_channels(begun.to)
        return (await self.broker.create_task(begun, idem)).for_publisher()

    async def change_task(
        self, who: Publisher, task_id: str, patch: TaskPatch, idem: Idempotency | None
    ) -> dict[str, Any]:
        await require_task(self.broker, who, task_id)
        change = {"total": task.UNKNOWN} if patch.erases_total else patch.model_dump(exclude_none=True)
        if not change:
            return (await known_task(self.broker, task_id)).for_publisher()
        changed = await self.broker.change_task(task_id, lambda stored: stored.changed(change, now_ms=_now_ms()), idem)
        return changed.for_publisher()

    async def append_output(
        self, who: Publisher, task_id: str, fields: Mapping[str, Any], idem: Idempotency | None
    ) -> dict[str, Any]:
        await require_task(self.broker, who, task_id)
        text = output.piece(validate(OutputIn, fields).text)
        return (await self.broker.append_output(task_id, text, idem)).public()


class Counted:
    """Counts the call that runs within it."""

    __slots__ = ("_kind", "_publishing")

    def __init__(self, publishing: Publishing, kind: str) -> None:
        self._publishing = publishing
        self._kind = kind

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, exc: BaseException | None, *__: object) -> None:
        if exc is None:
            self._publishing.counts[f"{self._kind} 200"] += 1
        elif isinstance(exc, Exception):
            self._publishing.note(self._kind, exc)


def published(event: Event, receipt: Receipt) -> str:
    """The response body of a publish. Its values need no escapes."""
    message_id = f'"{event.message_id}"' if event.message_id else "null"
    watched = "true" if receipt.watched else "false"
    return f'{{"id":{message_id},"cursor":"{receipt.cursor}","watched":{watched}}}'


def excluded(fields: Mapping[str, Any]) -> Exclusion | None:
    """Who does not get what is published. None: all its recipients get it."""
    if EXCLUDING.isdisjoint(fields):
        return None
    users, connection = rules.excluded(fields.get("except")), fields.get("except_connection")
    if connection is not None:
        connection = rules.identifier(connection, "except_connection")
    return Exclusion(users, connection or "") if users or connection else None


def _check_names(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in fields:
        if name not in known:
            raise UnknownField(name)


def _id_from(idem: Idempotency) -> str:
    """An id derived from the idempotency key, so that repeats have the same. It depends on the body too: if the key
    expires and is used for another body, the new message must not replace the first."""
    return events.id_from_key(f"{idem.key}/{idem.fingerprint}")


def _from_cloud_event(cloud: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("specversion", "id", "source", "type"):
        if not isinstance(cloud.get(name), str) or not cloud[name]:
            raise InvalidInput("is required in a CloudEvent, as a string", field=name)
    if cloud["specversion"] != "1.0":
        raise InvalidInput(f"must be '1.0', not {rules.shown(cloud['specversion'])}", field="specversion")
    if "data_base64" in cloud:
        raise InvalidInput("is not supported: events carry JSON", field="data_base64")
    to = cloud.get("to")
    if isinstance(to, str):
        to = [recipient.strip() for recipient in to.split(",")]
    fields = {"to": to, "type": cloud["type"], "data": cloud.get("data")}
    return {**fields, "durable": cloud["durable"]} if "durable" in cloud else fields


def _now_ms() -> int:
    return int(time.time() * 1000)
