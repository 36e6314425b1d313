"""The process's counters as Prometheus text (exposition format 0.0.4).

Formatted by hand: the client library would take a quarter of the service's memory for a dozen lines of text.
Must not know: who counts, and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(
    counts: Mapping[str, int], *, streams: int, topics: int, deliveries: int, ready: bool, draining: bool, skipped: int
) -> str:
    """The metrics of one process. With several workers, each reports its own."""
    ended = [(f'{{reason="{name[6:]}"}}', n) for name, n in sorted(counts.items()) if name.startswith("ended_")]
    families = [
        _family("streams", "gauge", "Open streams.", [("", streams)]),
        _family("topics", "gauge", "Channels that open streams listen to.", [("", topics)]),
        _family("ready", "gauge", "Whether an event published now would be delivered.", [("", int(ready))]),
        _family("draining", "gauge", "Whether the process is ending its streams.", [("", int(draining))]),
        _family("streams_opened_total", "counter", "Streams opened.", [("", counts.get("streams_opened", 0))]),
        _family("streams_ended_total", "counter", "Streams ended by the service, by reason.", ended),
        _family("events_total", "counter", "Events received for open streams.", [("", counts["events"])]),
        _family("deliveries_total", "counter", "Events written to streams.", [("", deliveries)]),
        _family("resets_total", "counter", "Resets sent.", [("", counts["resets"])]),
        _family("skipped_total", "counter", "Stored or announced entries that were malformed.", [("", skipped)]),
    ]
    return "".join(families)


def _family(name: str, kind: str, description: str, samples: Iterable[tuple[str, int]]) -> str:
    lines = [f"# HELP notifier_{name} {description}", f"# TYPE notifier_{name} {kind}"]
    lines += [f"notifier_{name}{labels} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"
