"""The bodies of the publishing API and what streams carry, as pydantic models: types and names of fields.

The rules for values stand in `notifier.rules` and are applied when the event is built, for API and bridge alike.
The stream's models are for the OpenAPI document only; frames are never built from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from notifier.message import FIELDS, REQUIRED


class Strict(BaseModel):
    """No unknown fields, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Sender(Strict):
    id: str | None = Field(None, description="The sender's user id.")
    name: str | None = Field(None, description="The sender's name as shown.")


_EXAMPLES: Final[dict[str, list[Any]]] = {"to": [["user:42"]], "subject": ["Report ready"]}


def _accepted() -> dict[str, Any]:
    """The fields of a message in a request, from `notifier.message`."""
    return {
        field.name: (
            Sender | None if field.name == "from" else field.accepts,
            Field(
                default=... if field.default is REQUIRED else field.default,
                description=field.description,
                examples=_EXAMPLES.get(field.name),
            ),
        )
        for field in FIELDS
    }


def _carried() -> dict[str, Any]:
    """The fields of a message on the stream, from `notifier.message`."""
    return {
        field.name: (
            Sender | None if field.name == "from" else field.carries,
            field.default if field.may_be_left_out(field.default) else ...,
        )
        for field in FIELDS
        if field.carries is not None
    }


if TYPE_CHECKING:

    class MessageIn(Strict): ...

    class MessageData(BaseModel): ...

else:
    MessageIn = create_model(
        "MessageIn", __base__=Strict, __doc__="A message: a durable event for people.", **_accepted()
    )
    MessageData = create_model("MessageData", __doc__="A message as streams carry it.", **_carried())


class TaskIn(Strict):
    """A new task."""

    to: list[str] = Field(description="Who watches it.", examples=[["user:42"]])
    name: str = Field(description="1 to 255 characters.", examples=["Import"])
    state: str | None = Field(None, description="What it is doing, in words.")
    total: int | None = Field(None, description="Items in all; null while unknown.")
    id: str | None = Field(None, description="1 to 64 of `A-Z a-z 0-9 . _ -`; made by the service by default.")


class TaskPatch(Strict):
    """A change of a task; fields that are left out stay."""

    state: str | None = None
    done: int | None = Field(None, description="Items done so far, at most the total.")
    total: int | None = None
    status: str | None = Field(None, description="pending, running, succeeded, failed, cancelling, cancelled, stalled.")
    error: str | None = None
    advance: int | None = Field(None, description="Added to `done`, atomically; not together with `done`.")


class EventIn(Strict):
    """Any other event."""

    to: list[str] = Field(examples=[["group:staff"]])
    type: str = Field(description="`[a-z][a-z0-9._-]{0,63}`, not a reserved name.", examples=["order.paid"])
    data: Any = Field(None, description="Any JSON.")
    durable: bool = Field(True, description="false: announced to open streams only, without id and history.")


class Ids(Strict):
    """Messages to mark as read: some, or all."""

    ids: list[str] | None = Field(None, max_length=1000)
    all: bool | None = None


class CloudEventIn(BaseModel):
    """A CloudEvent 1.0 in structured mode. Shown in the document; what it is made of is checked as an `EventIn`."""

    specversion: Literal["1.0"]
    id: str = Field(description="With `source` it names one event: a repeat within 5 minutes changes nothing.")
    source: str
    type: str = Field(description="`[a-z][a-z0-9._-]{0,63}`, not a reserved name.", examples=["order.paid"])
    to: str = Field(description="Extension: the recipients, separated by commas.", examples=["user:42,group:staff"])
    durable: bool = Field(True, description="Extension: false is announced to open streams only.")
    data: Any = Field(None, description="Any JSON.")


class Published(BaseModel):
    """Stored and ordered by the broker; not yet seen by anyone."""

    id: str | None = Field(None, description="The message's id; null for other events.")
    cursor: str = Field(description="`<epoch>-<seq>`: its place in the order.")
    watched: bool = Field(description="Whether some recipient has an open stream now.")


class FieldFault(BaseModel):
    field: str
    detail: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = Field(None, description="The path of the value at fault, such as `to[0]` or `data.a`.")
    errors: list[FieldFault] | None = Field(None, description="The same as a list.")


class Result(BaseModel):
    status: int = Field(description="200, or the status of the problem.")
    body: dict[str, Any] = Field(description="What the item's own call answers.")


class Results(BaseModel):
    """One result for each item of a batch, in order."""

    results: list[Result]


class Presence(BaseModel):
    user: str
    online: bool = Field(description="Whether any process holds a stream of this user.")


class Disconnected(BaseModel):
    user: str


class Health(BaseModel):
    status: Literal["ok"]


class Readiness(BaseModel):
    ready: bool
    broker: Literal["ok", "away"]
    draining: bool


class TaskData(BaseModel):
    """A task's present state."""

    id: str
    name: str
    status: Literal["pending", "running", "succeeded", "failed", "cancelling", "cancelled", "stalled"]
    state: str
    done: int
    total: int | None
    percent: int | None = Field(
        description="0 to 100; 100 only when the work is done; null while the total is unknown."
    )
    eta_s: float | None
    started_at: str
    updated_at: str
    ended_at: str | None
    error: str | None


class PublisherTask(TaskData):
    cancel_requested: bool = Field(description="Whether a user asked to cancel.")


class InboxMessage(MessageData):
    read: bool


class InboxPage(BaseModel):
    messages: list[InboxMessage]
    more: bool
    unread: int
    cursor: str


class Tasks(BaseModel):
    tasks: list[TaskData]


class Unread(BaseModel):
    unread: int


class Hello(BaseModel):
    """First event of every stream; its id is the cursor that the stream starts from."""

    v: int
    recovered: bool = Field(description="Nothing is missing since the cursor, or none was given.")
    replayed: int
    unread: int
    tasks: list[TaskData]
    heartbeat_s: float
    time: str


class InboxChange(BaseModel):
    """Another tab or device changed the read state."""

    read: list[str]
    deleted: list[str]
    unread: int


class Reset(BaseModel):
    """Something may have been missed: drop what you hold, take this, list the inbox again. Its id is the new cursor."""

    reason: str = Field(description="cursor_unknown, epoch_changed, history_trimmed, history_lost or too_many_missed.")
    unread: int
    tasks: list[TaskData]


class Degraded(BaseModel):
    """The broker is away (true), or back (false)."""

    degraded: bool


class Bye(BaseModel):
    """The server ends this stream."""

    reason: Literal["drain", "slow", "expired", "evicted", "revoked", "rotate"]
    retry_ms: int


STREAM_EVENTS: dict[str, tuple[type[BaseModel] | None, bool]] = {
    "hello": (Hello, True),
    "message": (MessageData, True),
    "task": (TaskData, False),
    "inbox": (InboxChange, False),
    "reset": (Reset, True),
    "degraded": (Degraded, False),
    "ping": (None, False),
    "bye": (Bye, False),
}
"""Events of a stream: their data, and whether they carry an id."""
