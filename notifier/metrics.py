"""The counters of all workers as Prometheus text (exposition format 0.0.4), each series with the label `worker`.

Formatted by hand: the client library would take a quarter of the service's memory for a dozen lines of text.
Must not know: who counts, and why; how workers reach each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FAMILIES: Final = {
    "streams": ("gauge", "Open streams."),
    "topics": ("gauge", "Channels that open streams listen to."),
    "ready": ("gauge", "Whether an event published now would be delivered."),
    "draining": ("gauge", "Whether the process is ending its streams."),
    "streams_opened_total": ("counter", "Streams opened."),
    "streams_ended_total": ("counter", "Streams ended by the service, by reason."),
    "events_total": ("counter", "Events received for open streams."),
    "deliveries_total": ("counter", "Events written to streams."),
    "resets_total": ("counter", "Resets sent."),
    "skipped_total": ("counter", "Stored or announced entries that were malformed."),
}
"""Type and meaning of each family, by its name without the prefix `notifier_`."""

Samples = Mapping[str, int | Mapping[str, int]]
"""One worker's values by family; those of `streams_ended_total` by reason."""


def samples(
    counts: Mapping[str, int], *, streams: int, topics: int, deliveries: int, ready: bool, draining: bool, skipped: int
) -> Samples:
    """The values of this process."""
    return {
        "streams": streams,
        "topics": topics,
        "ready": int(ready),
        "draining": int(draining),
        "streams_opened_total": counts.get("streams_opened", 0),
        "streams_ended_total": {name[6:]: n for name, n in sorted(counts.items()) if name.startswith("ended_")},
        "events_total": counts.get("events", 0),
        "deliveries_total": deliveries,
        "resets_total": counts.get("resets", 0),
        "skipped_total": skipped,
    }


def text(workers: Mapping[str, Mapping[str, Any]]) -> str:
    """The exposition of the samples of all workers. A worker of another version may have other families."""
    lines = []
    for name, (kind, description) in FAMILIES.items():
        lines += [f"# HELP notifier_{name} {description}", f"# TYPE notifier_{name} {kind}"]
        for worker, values in workers.items():
            value = values.get(name, {})
            if isinstance(value, Mapping):
                lines += [f'notifier_{name}{{worker="{worker}",reason="{reason}"}} {n}' for reason, n in value.items()]
            else:
                lines.append(f'notifier_{name}{{worker="{worker}"}} {value}')
    return "\n".join(lines) + "\n"
