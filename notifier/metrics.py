"""The numbers of all workers for Prometheus, each series with the label `worker`: its text format 0.0.4, or OpenMetrics
1.0 for those who ask for it.

Formatted by hand: the client library would take a quarter of the service's memory for some lines of text.
Must not know: who counts, and why; how workers reach each other.

Sources: Prometheus, "Exposition formats" and "Writing client libraries"; OpenMetrics 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from notifier.histogram import BOUNDS

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """What a metric is. A counter's name ends with `_total`."""

    kind: Literal["gauge", "counter", "histogram", "info"]
    description: str
    labels: tuple[str, ...] = ()
    """Beside `worker`. With labels a worker's value is a mapping: from their values, with spaces between, to numbers;
    of an `info`, from the labels to their values."""


FAMILIES: Final = {
    "notifier_build": Family("info", "The version of the service and of Python.", ("version", "python")),
    "notifier_streams": Family("gauge", "Open streams."),
    "notifier_topics": Family("gauge", "Channels that open streams listen to."),
    "notifier_ready": Family("gauge", "Whether an event published now would be delivered."),
    "notifier_draining": Family("gauge", "Whether the process is ending its streams."),
    "notifier_shards": Family("gauge", "Shards of the broker."),
    "notifier_shards_away": Family("gauge", "Shards on which an event published now would not be delivered."),
    "notifier_streams_opened_total": Family("counter", "Streams opened."),
    "notifier_streams_ended_total": Family("counter", "Streams ended by the service, by reason.", ("reason",)),
    "notifier_streams_refused_total": Family("counter", "Streams refused by a limit or a drain.", ("reason",)),
    "notifier_publishes_total": Family(
        "counter", "Calls of publishers and items of batches, by kind and status of the answer.", ("kind", "status")
    ),
    "notifier_events_total": Family("counter", "Events received for open streams."),
    "notifier_deliveries_total": Family("counter", "Events written to streams."),
    "notifier_resets_total": Family("counter", "Resets sent."),
    "notifier_skipped_total": Family("counter", "Stored or announced entries that were malformed."),
    "notifier_publish_to_write_seconds": Family(
        "histogram", "From the acceptance of an event, in any process, to its write to the last stream here."
    ),
    "notifier_broker_round_trip_seconds": Family(
        "histogram", "A command to Redis and its answer, once a second; of SQLite, a commit."
    ),
    "notifier_opening_seconds": Family("histogram", "From a stream's request to its hello."),
    "notifier_loop_lag_seconds": Family("histogram", "How late the event loop is, four times a second."),
    "process_cpu_seconds_total": Family("counter", "User and system CPU time."),
    "process_resident_memory_bytes": Family("gauge", "Resident memory."),
    "process_open_fds": Family("gauge", "Open file descriptors."),
    "process_max_fds": Family("gauge", "Most file descriptors that may be open."),
    "process_start_time_seconds": Family("gauge", "Start of the process, in Unix time."),
}
"""By name. The series of `WORKERS` come beside them."""
WORKERS: Final = "notifier_workers"
_WORKERS_FAMILY: Final = Family("gauge", "Workers of this service, by whether they answered this scrape.", ("state",))

Samples = Mapping[str, Any]
"""One worker's values by family: numbers, `Histogram.values()`, or what `Family.labels` says."""


def is_open_metrics(accept: str) -> bool:
    """True if a client prefers OpenMetrics to the text format: of those that it names, the one with the higher weight
    (RFC 9110, 12.5.1). A client that names neither gets the text format."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        if name in weights:
            values = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
            weight = float(values[0]) if values and re.fullmatch(r"[01](\.\d*)?", values[0]) else 1.0
            weights[name] = max(weights[name], weight)
    return (
        weights["application/openmetrics-text"] > 0 and weights["application/openmetrics-text"] >= weights["text/plain"]
    )


def text(workers: Mapping[str, Samples], *, missing: int = 0, open_metrics: bool = False) -> str:
    """The exposition of the samples of all workers. A worker of another version may have other families. missing: how
    many did not answer."""
    lines = _head(WORKERS, _WORKERS_FAMILY, open_metrics)
    lines += [f'{WORKERS}{{state="answering"}} {len(workers)}', f'{WORKERS}{{state="missing"}} {missing}']
    for name, family in FAMILIES.items():
        lines += _head(name, family, open_metrics)
        for worker, values in workers.items():
            if name in values:
                lines += _series(name, family, worker, values[name])
    if open_metrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _head(name: str, family: Family, open_metrics: bool) -> list[str]:
    kind: str = family.kind
    if open_metrics:
        name = name.removesuffix("_total")
    elif kind == "info":
        name, kind = f"{name}_info", "gauge"
    return [f"# HELP {name} {family.description}", f"# TYPE {name} {kind}"]


def _series(name: str, family: Family, worker: str, value: Any) -> Iterator[str]:
    own = f'worker="{worker}"'
    if family.kind == "histogram":
        yield from _buckets(name, own, value)
    elif family.kind == "info":
        labels = ",".join([own, *(f'{label}="{value[label]}"' for label in family.labels)])
        yield f"{name}_info{{{labels}}} 1"
    elif family.labels:
        for key, number in sorted(value.items()):
            labels = ",".join(f'{label}="{word}"' for label, word in zip(family.labels, key.split(" "), strict=True))
            yield f"{name}{{{own},{labels}}} {number}"
    else:
        yield f"{name}{{{own}}} {value}"


def _buckets(name: str, own: str, value: Mapping[str, Any]) -> Iterator[str]:
    count = 0
    for bound, more in zip((*map(str, BOUNDS), "+Inf"), value["counts"], strict=True):
        count += more
        yield f'{name}_bucket{{{own},le="{bound}"}} {count}'
    yield f"{name}_sum{{{own}}} {value['sum']}"
    yield f"{name}_count{{{own}}} {count}"
