"""The counters that the core keeps, as Prometheus text (exposition format 0.0.4).

Written out here: the client library would be a quarter of the service's memory for a dozen lines of text.
Must not know: who counts, and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(
    counts: Mapping[str, int], *, streams: int, topics: int, deliveries: int, ready: bool, draining: bool, skipped: int
) -> str:
    """One process's metrics. With several workers each answers for itself."""
    ended = [(f'{{reason="{name[6:]}"}}', n) for name, n in sorted(counts.items()) if name.startswith("ended_")]
    families = [
        _family("streams", "gauge", "Open streams.", [("", streams)]),
        _family("topics", "gauge", "Channels that open streams listen to.", [("", topics)]),
        _family("ready", "gauge", "Whether an event published now would be delivered.", [("", int(ready))]),
        _family("draining", "gauge", "Whether the process is ending its streams.", [("", int(draining))]),
        _family("streams_opened_total", "counter", "Streams opened.", [("", counts.get("streams_opened", 0))]),
        _family("streams_ended_total", "counter", "Streams ended by the service, by reason.", ended),
        _family("events_total", "counter", "Events taken from the broker for open streams.", [("", counts["events"])]),
        _family("deliveries_total", "counter", "Events written to streams.", [("", deliveries)]),
        _family("resets_total", "counter", "Resets sent.", [("", counts["resets"])]),
        _family("skipped_total", "counter", "Stored or announced entries not in our form.", [("", skipped)]),
    ]
    return "".join(families)


def _family(name: str, kind: str, said: str, samples: Iterable[tuple[str, int]]) -> str:
    lines = [f"# HELP notifier_{name} {said}", f"# TYPE notifier_{name} {kind}"]
    lines += [f"notifier_{name}{labels} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"
