"""Answers and stream events as pydantic models: for the OpenAPI document, neither is built from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, Field, create_model
from typing_extensions import TypeAliasType

from notifier.api.bodies import AnswerInput, Moment, TaskStatus, field_type
from notifier.message import FIELDS
from notifier.trace import Reason, Verdict


def _carried() -> dict[str, Any]:
    """The fields of a message on the stream, from `notifier.message`."""
    return {
        field.name: (
            field_type(field, field.carries),
            field.default if field.may_be_left_out(field.default) else ...,
        )
        for field in FIELDS
        if field.carries is not None
    }


def _added() -> dict[str, Any]:
    """The fields that the service adds."""
    return {
        "replaces": (str | None, Field(None, description="The id of the message that this one replaces.")),
        "edited": (bool, Field(False, description="True if it was corrected after it was published.")),
    }


if TYPE_CHECKING:

    class MessageData(BaseModel): ...

else:
    MessageData = create_model("MessageData", __doc__="A message as streams carry it.", **_carried(), **_added())


class TopicsChanged(BaseModel):
    """What a stream hears after a change."""

    topics: list[str] = Field(description="The names of all its topics.")
    cursor: str = Field(description="The end of the order after the added topics were subscribed.")
    stale: list[str] = Field(description="Added topics with newer events than `since`, or where that is not known.")


class CursorData(BaseModel):
    """The present end of the order."""

    cursor: str


class Published(BaseModel):
    """Stored and ordered by the broker; not yet seen by anyone."""

    id: str | None = Field(description="The message's id; null for other events.")
    cursor: str = Field(
        description="`<epoch>-<seq>`: its place in the order; with several shards, on the first that has a recipient."
    )
    watched: bool = Field(description="Whether a recipient has an open stream now.")


class FieldFault(BaseModel):
    field: str
    detail: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = Field(None, description="The path of the offending value, such as `to[0]` or `data.a`.")
    errors: list[FieldFault] | None = Field(None, description="The same as a list.")
    task_status: TaskStatus | None = Field(
        None, description="409: the status of the task, which does not allow the call."
    )
    unknown_field: bool | None = Field(None, description="422: true where this version does not know `field`.")


class Result(BaseModel):
    status: int = Field(description="200, or the status of the problem.")
    body: dict[str, Any] = Field(description="The response body of the item's own call.")


class Results(BaseModel):
    """One result for each item of a batch, in order."""

    results: list[Result]


class BatchProblem(Problem):
    """Every item of a batch failed for the same temporary reason (429 or 503)."""

    results: list[Result] | None = Field(
        None, description="One for each item, as in a 200; absent if no item was tried."
    )


LAST_SEEN: Final = "When the user last had an open stream; null where that is not known."


class Presence(BaseModel):
    user: str
    online: bool = Field(description="Whether the user has an open stream, in any process.")
    connections: int = Field(description="The number of these streams.")
    last_seen_at: Moment | None = Field(description=LAST_SEEN)


class Online(BaseModel):
    online: bool = Field(description="Whether the user has an open stream, in any process.")
    last_seen_at: Moment | None = Field(description=LAST_SEEN)


class Presences(BaseModel):
    users: dict[str, Online]


class PersonData(BaseModel):
    """A user as others on a topic see it."""

    id: str
    name: str | None
    state: str = Field(description="`viewing`, or what the user's page has said.")


class People(BaseModel):
    count: int
    users: list[PersonData] = Field(description="At most 100 of them.")


class Disconnected(BaseModel):
    user: str


class Health(BaseModel):
    status: Literal["ok"]


class Readiness(BaseModel):
    ready: bool
    broker: Literal["ok", "degraded", "away"]
    draining: bool
    shards_away: list[int] | None = None


class Choice(BaseModel):
    value: str
    text: str


class QuestionData(BaseModel):
    """An open question."""

    id: str
    text: str
    choices: list[Choice] | None = Field(description="Null where the answer is any text.")
    input: AnswerInput | None
    asked_at: Moment
    expires_at: Moment


class Responder(BaseModel):
    id: str
    name: str | None


class AnswerData(BaseModel):
    """The answer to a question: the first that a user gave, or the default after the timeout."""

    value: str | None
    by: Responder | None = Field(description="Null after the timeout.")
    answered_at: Moment


class NewestAnswer(AnswerData):
    """The newest answer of a task."""

    question: str = Field(description="The question's id.")


class OutputCount(BaseModel):
    n: int = Field(description="The number of the newest piece.")
    chars: int = Field(description="Characters of all pieces so far.")


class Appended(OutputCount):
    cancel_requested: bool = Field(description="Whether a user asked to cancel.")


class OutputText(BaseModel):
    n: int = Field(description="The number of the newest piece; 0 without any.")
    text: str = Field(description="The pieces after `after`, as one text.")
    truncated: bool = Field(description="Pieces that were asked for are not kept any more.")


class TaskData(BaseModel):
    """A task's present state."""

    id: str
    name: str
    status: TaskStatus
    state: str
    done: int
    total: int | None
    percent: int | None = Field(
        description="0 to 100; 100 when all is done or the task succeeded; else null while the total is unknown."
    )
    eta_s: float | None
    started_at: Moment
    updated_at: Moment
    ended_at: Moment | None
    error: str | None
    url: str | None = Field(description="Where the result is, once the task has ended.")
    url_text: str | None = Field(description="The text of the button that leads there.")
    question: QuestionData | None = Field(description="The open question; null while there is none.")
    answer: NewestAnswer | None = Field(description="The answer to its newest closed question; null without one.")
    output: OutputCount | None = Field(description="Null without output.")
    cancellable: bool | None = Field(
        description="Whether the user may cancel it. Null in an event for several users: it depends on the user."
    )


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


class PolledEvent(BaseModel):
    """An event of a stream."""

    id: str | None = Field(description="The cursor at this event; null for an event without id.")
    event: str
    data: Any


class PollAnswer(BaseModel):
    """What a stream from this cursor would have had, until its first round."""

    cursor: str | None = Field(
        description="Where the next poll goes on; null if no cursor was given and none is known."
    )
    recovered: bool = Field(description="False: events may be missing, and `events` has a `reset`.")
    events: list[PolledEvent]
    tasks: list[TaskData] | None = Field(description="Present tasks; null if the poll ended before it could read them.")
    unread: int | None = Field(description="Present unread count, or null.")


class ConnectionData(BaseModel):
    """One stream of a user, or the polls of one client that follow each other."""

    opened_at: Moment
    closed_at: Moment | None = Field(description="Null while it is open, or where its process ended without a word.")
    closed_why: str | None = Field(
        description="The reason of its `bye`, `closed` (by the client or the network), `answered` (a poll), or "
        "`process_ended`: its end is not known."
    )
    process: str = Field(description="The host and the process id.")
    address: str = Field(description="The client's address, as the service sees it.")
    user_agent: str
    from_: str | None = Field(alias="from", description="The cursor that the client sent.")
    to: str | None = Field(description="The last cursor that is known.")
    polls: int = Field(description="The number of its polls; 0 of a stream.")
    replayed: int = Field(description="Events of the replay; of polls, of all replays.")
    reset: str | None = Field(description="The reason of its last `reset`.")


class Connections(BaseModel):
    """The last connections of a user, the newest first."""

    user: str
    connections: list[ConnectionData]


class TracedConnection(ConnectionData):
    step: Literal["written", "replayed", "missed_reset", "excluded", "behind", "unsent", "process_ended"] = Field(
        description="What it did with the message. `behind`: it has not reached it yet; `unsent`: the client did not "
        "take it; `process_ended`: that is not known."
    )
    at: Moment | None


TraceReason = TypeAliasType("TraceReason", Reason)
"""More of the verdict about a message."""


class Traced(BaseModel):
    """What became of a message for a user."""

    id: str
    user: str
    accepted_at: Moment | None
    publisher: str | None
    channels: list[str] = Field(description="Those of the user's channels, and of `to`, that have it.")
    cursor: str | None
    verdict: Verdict
    reason: TraceReason | None = Field(description="More of `written`, `replayed`, `waiting` and `expired`.")
    at: Moment | None
    connections: list[TracedConnection] = Field(description="The connections that had to do with it, in order.")
