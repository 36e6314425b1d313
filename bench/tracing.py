"""What tracing costs: `python -m bench.tracing [--before FILE]`.

In one process, a message is published by its call and delivered to streams on real sockets, over the broker in memory:
with tracing off, with a publish that begins no trace, with one whose trace is sampled out, and with one that is
recorded by an SDK that discards its spans; in turns, so that all meet the same machine.

`--before`: the file `rounds.py` of another version, the only module between a publish and its write that tracing has
changed. Both run with tracing off, in turns, in one process: processes of their own differ by more than what is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from importlib.util import module_from_spec, spec_from_file_location
from statistics import median
from typing import Any

from bench.metrics import attach
from notifier import hub
from notifier.api.publishing import Publishing
from notifier.auth import Publisher
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.values import History
from notifier.call import Answer, RequestHead
from notifier.limits import RateLimit

WHO = Publisher("bench", frozenset(("publish",)))
BODY = b'{"to":["all"],"subject":"Hello","text":"%s"}' % (b"x" * 100)
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0%d"
HEADS = {
    "off": {},
    "no header": {},
    "not sampled": {b"traceparent": PARENT % 0},
    "recorded": {b"traceparent": PARENT % 1},
}


async def prepared(streams: int, tracing: Any) -> tuple[hub.Hub, Any]:
    """A hub with streams, and the call that publishes to them."""
    broker = MemoryBroker(history=History(10, 10, 60), max_replay=10)
    limits = {"max_streams_per_user": 1, "max_streams_per_address": streams, "max_backlog_bytes": 1 << 20}
    more = {} if tracing is None else {"first_write": tracing.first_write}
    opened = hub.Hub(broker, heartbeat_s=60, **limits, **more)
    await broker.start(opened)
    for number in range(streams):
        await attach(opened, number)
    publishing = Publishing(broker if tracing is None else tracing.broker(broker), RateLimit(0), 16_384)
    return opened, publishing.post_message if tracing is None else tracing.call("message", publishing.post_message)


async def spent_us(opened: hub.Hub, call: Any, head: RequestHead, events: int) -> float:
    """CPU of one publish and its delivery."""
    begun = time.process_time()
    for _ in range(events):
        answer = call(WHO, head, BODY)
        assert isinstance(answer, Answer)
        while len(opened._rounds):
            opened._rounds._run_slice()
    spent = (time.process_time() - begun) / events * 1e6
    await asyncio.sleep(0)  # the readers read
    return spent


async def in_turns(streams: int, turns: int, events: int) -> dict[str, float]:
    """Median of each way, in µs."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
    from opentelemetry.trace import get_tracer_provider, set_tracer_provider

    from notifier.spans import Spans

    class Discarding(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    if not isinstance(get_tracer_provider(), TracerProvider):
        provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
        provider.add_span_processor(BatchSpanProcessor(Discarding()))
        set_tracer_provider(provider)
    ways = {name: await prepared(streams, None if name == "off" else Spans()) for name in HEADS}
    spent: dict[str, list[float]] = {name: [] for name in HEADS}
    gc.disable()
    for turn in range(turns):
        for name in list(HEADS) if turn % 2 else reversed(HEADS):
            spent[name].append(await spent_us(*ways[name], RequestHead("POST", "/v1/messages", HEADS[name]), events))
    return {name: median(values) for name, values in spent.items()}


async def beside(file: str, streams: int, turns: int, events: int) -> tuple[float, float, float]:
    """Medians with another version of the rounds and with this one, and the median of the ratios of their turns."""
    spec = spec_from_file_location("rounds_before", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)

    def before(**options: Any) -> Any:
        return module.Rounds(**{name: option for name, option in options.items() if name != "first_write"})

    now, hub.Rounds = hub.Rounds, before  # type: ignore[assignment, misc]
    versions = {"before": await prepared(streams, None)}
    hub.Rounds = now  # type: ignore[misc]
    versions["now"] = await prepared(streams, None)
    head, spent = RequestHead("POST", "/v1/messages", {}), {name: [] for name in versions}
    gc.disable()
    for turn in range(turns):
        for name in list(versions) if turn % 2 else reversed(versions):
            spent[name].append(await spent_us(*versions[name], head, events))
    ratios = [now / before for before, now in zip(spent["before"], spent["now"], strict=True)]
    return median(spent["before"]), median(spent["now"]), median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--events", type=int, default=20, help="of one turn")
    parser.add_argument("--before", metavar="FILE", help="rounds.py of another version")
    options = parser.parse_args()
    if options.before:
        print("streams | before, µs | now, tracing off, µs | ratio")
        for streams in (1, 10, 100):
            before, now, ratio = asyncio.run(beside(options.before, streams, options.turns, options.events))
            print(f"{streams:7} | {before:.1f} | {now:.1f} | {ratio:.3f}")
        return
    print("streams | " + " | ".join(f"{name}, µs" for name in HEADS))
    for streams in (1, 10, 100):
        spent = asyncio.run(in_turns(streams, options.turns, options.events))
        print(f"{streams:7} | " + " | ".join(f"{spent[name]:.1f}" for name in HEADS))


if __name__ == "__main__":
    main()
