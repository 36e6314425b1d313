"""Request bodies as pydantic models: names and types of fields.

The rules for values are in `notifier.rules` and are applied when the event is built, for API and bridge alike. The
models of messages, of events and of CloudEvents are for the OpenAPI document only: the rules check them completely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model
from typing_extensions import TypeAliasType

from notifier.message import CORRECTABLE, FIELDS, REQUIRED
from notifier.message import Field as MessageField
from notifier.question import TIMEOUT_S
from notifier.rules import LEVELS, MAX_ACTIONS, MAX_EXCLUDED
from notifier.task import STATUSES, UNKNOWN

MessageLevel = TypeAliasType("MessageLevel", Annotated[str, WithJsonSchema({"type": "string", "enum": list(LEVELS)})])
TaskStatus = TypeAliasType("TaskStatus", Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(STATUSES)})])
AnswerInput = TypeAliasType("AnswerInput", Annotated[str, WithJsonSchema({"type": "string", "enum": ["text"]})])
Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""Values whose rules are checked elsewhere: types with a name of their own in the document, so that a client generated
from it has one for each."""


class Strict(BaseModel):
    """No unknown fields, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Sender(Strict):
    id: str | None = Field(None, description="The sender's user id.")
    name: str | None = Field(None, description="The sender's name as shown.")


class Action(Strict):
    """A button of a message."""

    text: str
    url: str
    method: Literal["GET", "POST"] = Field("GET", description="A link, or a call to the page's own site.")


def field_type(field: MessageField, given: Any) -> Any:
    """The type of a message's field in a model; `given` is that of its JSON value."""
    own: Any = {"from": Sender, "actions": Annotated[list[Action], Field(max_length=MAX_ACTIONS)]}.get(field.name)
    if own is None:
        own = MessageLevel if field.choices else Moment if field.format else None
    if own is None:
        return given
    return own | None if type(None) in get_args(given) else own


_EXAMPLES: Final[dict[str, list[Any]]] = {"to": [["user:42"]], "subject": ["Report ready"]}


def _accepted() -> dict[str, Any]:
    """The fields of a message in a request, from `notifier.message`."""
    return {
        field.name: (
            field_type(field, field.accepts),
            Field(
                default=... if field.default is REQUIRED else field.default,
                description=field.description,
                examples=_EXAMPLES.get(field.name),
            ),
        )
        for field in FIELDS
    }


class Excluding(Strict):
    """Who does not get what is published to channels that have them."""

    model_config = ConfigDict(populate_by_name=True)

    excluded: list[str] | None = Field(
        None,
        alias="except",
        max_length=MAX_EXCLUDED,
        description="Users (`user:<id>`) that get it neither live nor later.",
    )
    except_connection: str | None = Field(
        None, description="A stream, by its id in `hello`, that does not get it live."
    )


if TYPE_CHECKING:

    class MessageIn(Strict): ...

else:
    MessageIn = create_model(
        "MessageIn", __base__=Excluding, __doc__="A message: a durable event for people.", **_accepted()
    )


def _correctable() -> dict[str, Any]:
    fields = {name: field for name, field in _accepted().items() if name in CORRECTABLE}
    # A factory's default is not in the schema: None would be no string there.
    return {
        name: (accepts, Field(default_factory=lambda: None, description=field.description))
        for name, (accepts, field) in fields.items()
    }


if TYPE_CHECKING:

    class CorrectionIn(Strict): ...

else:
    CorrectionIn = create_model(
        "CorrectionIn",
        __base__=Strict,
        __doc__="A change of a message. Fields that are left out stay as they are.",
        to=(list[str], Field(description="The channels that have it.", examples=[["user:42"]])),
        **_correctable(),
    )


class RetractionIn(Strict):
    """The channels that a message is removed from."""

    to: list[str] = Field(examples=[["group:staff"]])


Total = TypeAliasType(
    "Total",
    Annotated[
        Any,  # checked by `notifier.task`
        WithJsonSchema(
            {
                "oneOf": [
                    {"title": "Number of items", "type": "integer", "minimum": 0},
                    {"title": "Not known", "type": "string", "enum": [UNKNOWN]},
                ]
            }
        ),
    ],
)


class TaskIn(Strict):
    """A new task."""

    to: list[str] = Field(description="Recipients, who watch it.", examples=[["user:42"]])
    name: str = Field(description="1 to 255 characters.", examples=["Import"])
    state: str | None = Field(None, description="What it is doing now, as text.")
    total: Total | None = Field(None, description="Number of items; null or `unknown` while it is not known.")
    id: str | None = Field(None, description="1 to 64 of `A-Z a-z 0-9 . _ -`; generated by default.")


class TaskPatch(Strict):
    """A change of a task. A field that is left out or null stays as it is; without any change the task is read."""

    state: str | None = None
    done: int | None = Field(None, description="Items done so far, at most the total.")
    total: Total | None = Field(None, description="Items in all; `unknown` removes the total.")
    status: TaskStatus | None = Field(None, description="`waiting` only while a question is open.")
    error: str | None = None
    url: str | None = Field(
        None, description="Where the result is: http, https or relative. Only with the last status."
    )
    url_text: str | None = Field(None, description="The text of the button that leads there, 1 to 255 characters.")
    advance: int | None = Field(None, description="Added to `done`, atomically; not together with `done`.")

    @property
    def erases_total(self) -> bool:
        """True for `{"total": null}` and nothing else. Deprecated: the form of 0.1.0 for an unknown total. With other
        fields, null means what it means for all of them: the field stays."""
        return self.total is None and self.model_fields_set == {"total"}


class OutputIn(Strict):
    """A piece of a task's output."""

    text: str = Field(description="At most 16 KiB as UTF-8. Plain text, appended as it is.", examples=["42 rows\n"])


class ChoiceIn(Strict):
    value: str = Field(description="What the publisher gets as the answer.", examples=["yes"])
    text: str = Field(description="What the user sees.", examples=["Yes"])


class QuestionIn(Strict):
    """A question to the users who watch a task: with `choices`, or with `input` for any text."""

    text: str = Field(examples=["Overwrite 312 rows?"])
    choices: list[ChoiceIn] | None = Field(None, description="1 to 10.")
    input: AnswerInput | None = Field(None, description="`text`: the answer is any text of up to 2000 characters.")
    default: str | None = Field(None, description="The answer after the timeout.")
    timeout_s: int = Field(TIMEOUT_S, description="1 to 604800.")
    id: str | None = Field(None, description="A question asked again under its id is the same: its answer counts.")


class AnswerIn(Strict):
    """A user's answer to the open question of a task."""

    question: str = Field(description="The question's id.")
    value: str = Field(description="The value of a choice, or the text.")


class EventIn(Excluding):
    """Any other event."""

    to: list[str] = Field(examples=[["group:staff"]])
    type: str = Field(description="`[a-z][a-z0-9._-]{0,63}`, not a reserved name.", examples=["order.paid"])
    data: Any = Field(None, description="Any JSON.")
    durable: bool = Field(True, description="false: announced to open streams only, without id and history.")


class Ids(Strict):
    """Messages to mark as read: some, or all."""

    ids: list[str] | None = Field(None, max_length=1000)
    all: bool | None = None


class TopicsIn(Strict):
    """Topics to add to an open stream, or to remove from it."""

    connection: str = Field(max_length=64, description="From the stream's `hello`.")
    add: list[str] = Field([], max_length=200, description="Grants: tokens with `aud` = `notifier:topics`.")
    remove: list[str] = Field([], max_length=200, description="Names of topics.")
    since: str | None = Field(None, max_length=64, description="The cursor at which the page was rendered.")
    state: dict[str, str] = Field(
        {}, max_length=200, description="What the user does, by topic: 1 to 32 of `a-z 0-9 _ -`. Others see it."
    )


class UsersIn(Strict):
    """Users whose presence is asked for."""

    users: list[str] = Field(max_length=1000, description="User ids.")


class CloudEventIn(BaseModel):
    """A CloudEvent 1.0 in structured mode. For the document; its content is checked as an event's."""

    specversion: Literal["1.0"]
    id: str = Field(description="With `source` it names one event: a repeat within 5 minutes changes nothing.")
    source: str
    type: str = Field(description="`[a-z][a-z0-9._-]{0,63}`, not a reserved name.", examples=["order.paid"])
    to: str = Field(description="Extension: the recipients, separated by commas.", examples=["user:42,group:staff"])
    durable: bool = Field(True, description="Extension: false is announced to open streams only.")
    data: Any = Field(None, description="Any JSON.")


if TYPE_CHECKING:

    class BatchMessage(Strict): ...

    class BatchTask(Strict): ...

    class BatchEvent(Strict): ...

    class BatchPatch(Strict): ...

    class BatchOutput(Strict): ...

else:

    class BatchMessage(MessageIn):
        """An item of a batch: a message."""

        kind: Literal["message"]

    class BatchTask(TaskIn):
        """An item of a batch: a new task."""

        kind: Literal["task"]

    class BatchEvent(EventIn):
        """An item of a batch: any other event."""

        kind: Literal["event"]

    class BatchPatch(TaskPatch):
        """An item of a batch: a change of a task."""

        kind: Literal["patch"]
        id: str = Field(description="The task's id.")

    class BatchOutput(OutputIn):
        """An item of a batch: a piece of a task's output."""

        kind: Literal["output"]
        id: str = Field(description="The task's id.")


BATCH_ITEMS: Final[dict[str, type[BaseModel]]] = {
    "message": BatchMessage,
    "task": BatchTask,
    "event": BatchEvent,
    "patch": BatchPatch,
    "output": BatchOutput,
}
"""Items of a batch by their `kind`. For the document: the calls check items as their own calls do."""
