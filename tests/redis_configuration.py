"""The configuration of Redis or Valkey in docs/deploy.md, for servers of tests."""

from __future__ import annotations

from typing import Final

from tests.pasted import Document

PAGE: Final = Document("docs/deploy.md")
EVERY: Final = PAGE.block("conf", "appendonly")
REPLICATED: Final = PAGE.block("conf", "min-replicas-to-write")


def options(*blocks: str) -> list[str]:
    """Settings of the page as the arguments of a server."""
    lines = (line.split() for block in blocks for line in block.splitlines())
    return [word for name, *values in lines for word in (f"--{name}", *values)]
