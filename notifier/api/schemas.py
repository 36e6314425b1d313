"""JSON Schemas in the form that generators of clients read, and those of a stream's events as files.

Pydantic's own schemas are valid, and generators stumble over them: a default makes an optional field required, a choice
between a type and null becomes an empty class, a number without format has 32 bits, a title becomes a class.

Must not know: routes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from notifier.api.stream_events import STREAM_EVENTS

Schema = dict[str, Any]

REF: Final = "#/components/schemas/{model}"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FORMATS: Final = {"integer": "int64", "number": "double"}
_NAMES: Final = ("properties", "$defs")
"""Keywords whose members are named by the API, and so are no keywords."""


def of_models(models: Iterable[type[BaseModel]], ref: str = REF) -> dict[str, Schema]:
    """The schemas of models and of all that they refer to, by name."""
    _, shapes = models_json_schema([(model, "validation") for model in models], ref_template=ref)
    return {name: plain(schema) for name, schema in shapes.get("$defs", {}).items()}


def plain(node: Any) -> Any:
    """A schema without titles and defaults; null is one of a value's types, and each number has its format."""
    if isinstance(node, list):
        return [plain(part) for part in node]
    if not isinstance(node, dict):
        return node
    schema = {
        key: {name: plain(part) for name, part in value.items()} if key in _NAMES else plain(value)
        for key, value in node.items()
        if key not in ("title", "default")
    }
    if node.get("default") not in (None, [], {}, ""):
        schema["description"] = f"{schema.get('description', '')} Default: {_shown(node['default'])}.".lstrip()
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if (number_format := _FORMATS.get(str(schema.get("type")))) is not None:
        schema.setdefault("format", number_format)
    return _with_null(schema)


def _with_null(schema: Schema) -> Schema:
    """The same where the schema is a choice between one type and null, as a list of types."""
    choice = schema.get("anyOf", ())
    if len(choice) != 2 or choice[1] != {"type": "null"} or "type" not in choice[0] or "enum" in choice[0]:
        return schema
    others = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**choice[0], "type": [choice[0]["type"], "null"], **others}


def _shown(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def of_events() -> dict[str, Schema]:
    """A schema for the data of each event, which stands alone: the files in `notifier/schemas`, by event."""
    return {name: _alone(name, model) for name, (model, _) in STREAM_EVENTS.items()}


def _alone(name: str, model: type[BaseModel]) -> Schema:
    shapes = of_models([model], "#/$defs/{model}")
    own = shapes.pop(model.__name__)
    head = {"$schema": DIALECT, "title": f"The data of the event `{name}`"}
    return {**head, **own, **({"$defs": shapes} if shapes else {})}
