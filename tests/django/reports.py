"""The reports of a `Progress`, collected."""

from __future__ import annotations

from typing import Any

Reports = list[tuple[int, int | None, int | None]]
"""`done`, `total` and `percent` at each report."""


def collect(reports: Reports) -> Any:
    """A callback that appends each report."""
    return lambda progress: reports.append((progress.done, progress.total, progress.percent))
