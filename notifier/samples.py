"""The numbers of this process: reads them from its parts, by the names of `metrics.FAMILIES`.

Must not know: how they are shown.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from notifier import process_numbers
from notifier.broker import Broker
from notifier.histogram import Histogram
from notifier.hub import Hub
from notifier.metrics import Samples


def _build() -> Mapping[str, str]:
    return {"version": version("sse-notifier"), "python": platform.python_version()}


@dataclass(frozen=True, slots=True)
class ProcessSamples:
    """Where they are. Built by `app`."""

    hub: Hub
    broker: Broker
    publishes: Mapping[str, int]
    """See `Publishing.counts`."""
    lags: Histogram = field(default_factory=Histogram)
    """Of the event loop."""
    build: Mapping[str, str] = field(default_factory=_build)
    """The versions, read once: reading them leaves cycles."""

    def read(self) -> Samples:
        """As JSON has them."""
        hub, broker, counts = self.hub, self.broker, self.hub.counts
        samples = {
            "notifier_build": self.build,
            "notifier_streams": len(hub),
            "notifier_topics": hub.topic_count,
            "notifier_ready": int(broker.ready and not hub.draining),
            "notifier_draining": int(hub.draining),
            "notifier_shards": broker.shards,
            "notifier_shards_away": len(broker.shards_away),
            "notifier_streams_opened_total": counts["streams_opened"],
            "notifier_streams_ended_total": _by_reason(counts, "ended_"),
            "notifier_streams_refused_total": _by_reason(counts, "refused_"),
            "notifier_publishes_total": dict(self.publishes),
            "notifier_events_total": hub.events,
            "notifier_deliveries_total": hub.deliveries,
            "notifier_resets_total": counts["resets"],
            "notifier_skipped_total": broker.skipped,
            "notifier_publish_to_write_seconds": hub.write_times.values(),
            "notifier_opening_seconds": hub.opening_times.values(),
            "notifier_loop_lag_seconds": self.lags.values(),
        }
        if broker.round_trips is not None:
            samples["notifier_broker_round_trip_seconds"] = broker.round_trips.values()
        return samples | {f"process_{name}": number for name, number in process_numbers.read().items()}


def _by_reason(counts: Mapping[str, int], prefix: str) -> Mapping[str, int]:
    return {name.removeprefix(prefix): number for name, number in counts.items() if name.startswith(prefix)}
