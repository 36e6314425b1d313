"""The OpenAPI document in version 3.0, for generators that do not read 3.1 yet.

The same document: JSON Schema's lists of types, constants and examples become what 3.0 has for them.

Must not know: what the document describes.
"""

from __future__ import annotations

from typing import Any, Final

VERSION: Final = "3.0.3"
_NULL: Final = {"type": "null"}
_NAMES: Final = ("properties", "schemas", "responses", "parameters", "headers", "securitySchemes", "paths", "mapping")
"""Members of the document whose own members are names."""


def converted(document: dict[str, Any]) -> dict[str, Any]:
    """A document of version 3.1 as one of version 3.0."""
    whole: dict[str, Any] = _converted(document)
    return {**whole, "openapi": VERSION}


def _converted(node: Any) -> Any:
    if isinstance(node, list):
        return [_converted(part) for part in node]
    if not isinstance(node, dict):
        return node
    changed = {
        key: {name: _converted(part) for name, part in value.items()}
        if key in _NAMES and isinstance(value, dict)
        else _converted(value)
        for key, value in _without_null(node).items()
    }
    if "const" in changed:
        changed["enum"] = [changed.pop("const")]
    if isinstance(changed.get("examples"), list):
        changed["example"] = changed.pop("examples")[0]
    for bound, word in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in changed:
            changed[word], changed[bound] = changed[bound], True
    if "$ref" in changed and len(changed) > 1:  # 3.0 ignores what stands beside a reference
        changed = {"allOf": [{"$ref": changed.pop("$ref")}], **changed}
    return changed


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """`nullable` instead of a type null, in a list of types or a choice."""
    kinds = node.get("type")
    if isinstance(kinds, list):
        others = [kind for kind in kinds if kind != "null"]
        rest = {key: value for key, value in node.items() if key != "type"}
        own = {"type": others[0]} if len(others) == 1 else {"anyOf": [{"type": kind} for kind in others]}
        return {**own, **rest, **({"nullable": True} if "null" in kinds else {})}
    for word in ("anyOf", "oneOf"):
        choice = node.get(word)
        if isinstance(choice, list) and _NULL in choice:
            others = [part for part in choice if part != _NULL]
            rest = {key: value for key, value in node.items() if key != word}
            own = others[0] if len(others) == 1 else {word: others}
            return {**own, **rest, "nullable": True}
    return node
