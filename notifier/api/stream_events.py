"""The data of a stream's events: OpenAPI describes them, clients read them.

Must not know: how events are delivered.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from notifier.api.answers import MessageData, PersonData, TaskData
from notifier.api.bodies import Moment


class Hello(BaseModel):
    """First event of every stream; its id is the cursor that the stream starts from."""

    v: int
    recovered: bool = Field(description="Nothing is missing since the cursor, or none was given.")
    replayed: int
    unread: int
    tasks: list[TaskData]
    heartbeat_s: float
    connection: str = Field(description="The stream's id, for `POST /v1/stream/topics`.")
    time: Moment


class InboxChange(BaseModel):
    """Another tab or device changed the read state."""

    read: list[str]
    deleted: list[str]
    unread: int


class TaskDismissed(BaseModel):
    """Another tab or device dismissed this ended task."""

    id: str


class TaskOutput(BaseModel):
    """The next piece of a task's output. A client that misses one reads `GET /v1/tasks/{id}/output`."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    n: int = Field(description="The number of the piece; of the last, if several are joined.")
    first: int | None = Field(None, alias="from", description="The number of the first of several pieces.")
    text: str


class Reset(BaseModel):
    """Events may have been missed. Replace unread count and tasks by those of this event, and list the inbox again. The
    id of this event is the new cursor."""

    reason: Literal["cursor_unknown", "epoch_changed", "history_trimmed", "history_lost", "too_many_missed"]
    unread: int
    tasks: list[TaskData]


class Degraded(BaseModel):
    """The broker is away (true), or back (false)."""

    degraded: bool


class Ping(BaseModel):
    """Every `heartbeat_s`, so that a client can tell a silent stream from a dead one."""


class Bye(BaseModel):
    """The server ends this stream."""

    reason: Literal["drain", "slow", "expired", "evicted", "revoked", "rotate"]
    retry_ms: int


class TopicsLeft(BaseModel):
    """The stream no longer hears these topics: their grant has ended."""

    left: list[str]
    reason: Literal["expired"]


class PresenceChange(BaseModel):
    """Who came to a topic, left it, or does something else there. A stream that begins to be seen gets everyone in
    `joined`."""

    topic: str
    count: int
    joined: list[PersonData] = Field(description="Empty, as the other lists, with more than 100 people.")
    left: list[PersonData]
    changed: list[PersonData]


STREAM_EVENTS: dict[str, tuple[type[BaseModel], bool]] = {
    "hello": (Hello, True),
    "message": (MessageData, True),
    "task": (TaskData, False),
    "task.dismissed": (TaskDismissed, False),
    "task.output": (TaskOutput, False),
    "inbox": (InboxChange, False),
    "topics": (TopicsLeft, False),
    "presence": (PresenceChange, False),
    "reset": (Reset, True),
    "degraded": (Degraded, False),
    "ping": (Ping, False),
    "bye": (Bye, False),
}
"""Events of a stream: their data, and whether they carry an id."""
