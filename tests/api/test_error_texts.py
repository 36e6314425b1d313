"""Error texts are for callers in any language: they name JSON's types, and say what is allowed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from notifier import rules
from notifier import task as tasks
from notifier.api import publishing
from notifier.api.bodies import EventIn, Ids, MessageIn, TaskIn, TaskPatch
from notifier.api.http import parse, validate
from notifier.api.publishing import EXCLUDING
from notifier.errors import NotifierError, too_large
from notifier.message import message_event
from notifier.task import Task
from tests.api.request_corpus import KEY
from tests.api.sides import side
from tests.raw_http import chunked, request

PYTHON = re.compile(r"\b(None|True|False|dict|dictionary|tuple|instance|Sender|NoneType|str|int|bool)\b")
VALUES: list[Any] = [None, True, False, 7, 1.5, "x", "", [], [7], [None], {}, {"a": None}, {"id": [True]}, [{"a": {}}]]
BODIES: dict[Any, dict[str, Any]] = {
    MessageIn: {"to": ["all"], "subject": "Test"},
    EventIn: {"to": ["all"], "type": "order.paid"},
    TaskIn: {"to": ["all"], "name": "Import"},
    TaskPatch: {},
    Ids: {},
}


def _event(body: Any) -> None:
    fields = body.model_dump(exclude_unset=True, by_alias=True)
    publishing.excluded(fields)
    message_event({name: value for name, value in fields.items() if name not in EXCLUDING})


def _begin(body: Any) -> None:
    tasks.begin(to=body.to, name=body.name, state=body.state, total=body.total, task_id=body.id, now_ms=1)


def _change(body: Any) -> Task:
    task = tasks.begin(to=["all"], name="Import", total=5, now_ms=1)
    return task.changed({name: getattr(body, name) for name in body.model_fields_set}, now_ms=2)


USES: dict[Any, Any] = {MessageIn: _event, TaskIn: _begin, TaskPatch: _change}


@pytest.mark.parametrize(
    ("model", "field"),
    [(model, info.alias or name) for model in BODIES for name, info in model.model_fields.items()],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_value_of_a_wrong_type_is_named_as_in_json(model: Any, field: str) -> None:
    texts = []
    for value in VALUES:
        try:
            body = validate(model, {**BODIES[model], field: value})
            USES.get(model, lambda _: None)(body)
        except NotifierError as exc:
            texts.append(str(exc))
    assert not [text for text in texts if PYTHON.search(text) or not text.startswith(field)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: json.dumps(value))
def test_a_body_that_is_no_object_is_named_as_in_json(value: Any) -> None:
    if isinstance(value, dict):
        return
    with pytest.raises(NotifierError) as error:
        parse(MessageIn, json.dumps(value).encode())
    assert not PYTHON.search(str(error.value))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"subject": None}, "subject: must be a string, not null"),
        ({"subject": ["a"]}, 'subject: must be a string, not ["a"]'),
        ({"from": "Ann"}, "from: must be an object, not 'Ann'"),
        ({"data": [True]}, "data: must be an object, not [true]"),
        ({"to": {"user": "42"}}, 'to: must be a list, not {"user": "42"}'),
        ({"to": [None]}, "to[0]: must be a string, not null"),
        ({"level": 7}, "level: must be a string, not 7"),
    ],
)
def test_the_text_says_what_is_allowed_and_what_was_given(body: dict[str, Any], text: str) -> None:
    with pytest.raises(NotifierError) as error:
        validate(MessageIn, {**BODIES[MessageIn], **body})
    assert str(error.value) == text


def test_a_number_and_a_flag_are_named_as_in_json() -> None:
    for model, field, text in ((TaskPatch, "done", "a whole number"), (EventIn, "durable", "true or false")):
        with pytest.raises(NotifierError) as error:
            validate(model, {**BODIES[model], field: "x"})
        assert str(error.value) == f"{field}: must be {text}, not 'x'"


@pytest.mark.parametrize(
    ("model", "field", "rule"),
    [
        (TaskPatch, "done", rules.whole),
        (TaskPatch, "advance", rules.whole),
        (TaskPatch, "state", rules.text),
        (TaskIn, "name", rules.text),
        (EventIn, "durable", rules.flag),
        (Ids, "all", rules.flag),
    ],
)
def test_a_wrong_type_is_worded_by_the_rule_on_every_way(model: Any, field: str, rule: Any) -> None:
    """A task's fields are checked by the model, a message's and the bridge's by the rules alone."""
    refused = 0
    for value in VALUES[1:]:  # null stands for no value
        if (expected := text_of(rule, value, field)) is not None:
            refused += 1
            assert text_of(validate, model, {**BODIES[model], field: value}) == expected
    assert refused > len(VALUES) / 2


def text_of(check: Any, *values: Any) -> str | None:
    try:
        check(*values)
    except NotifierError as exc:
        return str(exc)
    return None


async def test_a_body_that_is_too_large_has_one_text_wherever_it_is_refused() -> None:
    """By the protocol at its head and while it arrives, by a call that runs directly, by a route while it reads."""
    body, huge = b" " * 70_000, b" " * 1_100_000
    length, parts = "Content-Length: 70000", "Transfer-Encoding: chunked"
    cases = [
        (
            request("POST", "/v1/events", "Content-Length: 1100000", key=KEY),
            "has 1100000 bytes; at most 1048576 are accepted",
        ),
        (request("POST", "/v1/batch", parts, body=chunked(huge, 65_536), key=KEY), "has more than 1048576 bytes"),
        (request("POST", "/v1/events", length, body=body, key=KEY), "has 70000 bytes; at most 65536 are accepted"),
        (request("POST", "/v1/events", parts, body=chunked(body, 65_536), key=KEY), "has more than 65536 bytes"),
    ]
    async with side(direct=True) as service:
        for data, text in cases:
            (answer,) = await service.ask([data])
            assert (answer.status, answer.json()["errors"]) == (413, [{"field": "body", "detail": text}])
    assert [str(too_large(65_536, 70_000)), str(too_large(65_536))] == [f"body: {text}" for _, text in cases[2:]]


def test_a_value_of_the_bridge_that_json_does_not_know_is_shown_as_python_does() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert [rules.shown(value) for value in (object, {1}, (1, None))] == ["<class 'object'>", "{1}", "[1, null]"]
    assert rules.shown(endless) == "[[...]]"
    assert len(rules.shown({"a": "x" * 100})) == 60


def test_a_list_that_is_too_long_says_how_long_it_may_be() -> None:
    with pytest.raises(NotifierError) as error:
        validate(Ids, {"ids": ["a"] * 1001})
    assert str(error.value) == "ids: must have at most 1000 items, not 1001"
