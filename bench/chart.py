"""The run's chart: CPU per delivery and memory per stream of every server, as a self-contained SVG.

Must not know: how anything was measured.
"""

from __future__ import annotations

from html import escape
from typing import Any

from bench.report import US, Figures
from bench.system import REPOSITORY

FILE = REPOSITORY / "docs" / "images" / "performance.svg"
PANELS = [
    ("One event to 5,000 streams: CPU per delivery, µs", "broadcast", "cpu_us"),
    ("An open stream: memory, KiB", "connect", "memory_kib"),
    ("Opening a stream: CPU, µs", "connect", "cpu_us"),
]
WIDTH, LEFT, BAR, GAP, HEAD = 760, 220, 20, 8, 44
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:14px}.bar{fill:#9aa7b4}"
    ".ours{fill:#2563eb}@media(prefers-color-scheme:dark){text{fill:#ddd}.bar{fill:#5b6773}.ours{fill:#60a5fa}}"
)


def write(run: dict[str, Any]) -> None:
    """Write docs/images/performance.svg."""
    FILE.write_text(draw(run))


def draw(run: dict[str, Any]) -> str:
    """The chart of a run."""
    get, parts, top = Figures(run), [], 0
    for title, work, name in PANELS:
        rows = [(server, get(server, work, name) or 0.0) for server in get.servers(work) if "workers" not in server]
        parts.append(_panel(title, rows, top))
        top += HEAD + len(rows) * (BAR + GAP) + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
        f'aria-label="Bars of CPU and memory by server"><style>{STYLE}</style>{"".join(parts)}</svg>\n'
    )


def _panel(title: str, rows: list[tuple[str, float]], top: int) -> str:
    longest = max([value for _, value in rows] or [1.0]) or 1.0
    parts = [f'<text class="title" x="8" y="{top + 26}">{escape(title)}</text>']
    for at, (server, value) in enumerate(rows):
        y = top + HEAD + at * (BAR + GAP)
        width = max(1.0, (WIDTH - LEFT - 80) * value / longest)
        kind = "bar ours" if server.startswith(US) else "bar"
        parts.append(f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(server)}</text>')
        parts.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="3"/>')
        parts.append(f'<text x="{LEFT + width + 8:.1f}" y="{y + 15}">{value:,.1f}</text>')
    return "".join(parts)
