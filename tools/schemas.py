"""Writes the JSON Schemas of a stream's events: `python -m tools.schemas`, after a change of an event."""

from __future__ import annotations

import json
from pathlib import Path

from notifier.api.schemas import of_events

FOLDER = Path(__file__).parent.parent / "notifier" / "schemas"


def texts() -> dict[str, str]:
    """The content of each file, by name."""
    return {f"{name}.json": f"{json.dumps(schema, indent=2)}\n" for name, schema in of_events().items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for name, text in texts().items():
        (FOLDER / name).write_text(text, "utf-8")
