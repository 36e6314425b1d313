"""The contract of brokers: the trace of a publish comes with the event's announcement, and is kept nowhere."""

from __future__ import annotations

from notifier.broker import Broker
from notifier.event import custom
from notifier.exclusion import Exclusion
from notifier.sampling import Sampling
from notifier.trace_context import TracedTime
from tests.broker.support import ANN, Recorder, note, opened, until

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CONTEXT = f'00-{TRACE_ID}-b7ad6b7169203331-01 vendor=a"b'


class Traced(Sampling):
    """Every publish is traced."""

    def accepted_us(self) -> int:
        return TracedTime(1_764_403_200_123_456, CONTEXT)


async def test_the_trace_of_a_publish_is_announced_and_kept_nowhere(broker: Broker, sink: Recorder) -> None:
    start = (await opened(broker)).cursor
    (topic,) = broker.topics("ann", ["group:staff"])
    await broker.subscribe([topic])
    broker.sampling = Traced()
    await broker.publish(note("group:staff"))
    await broker.publish(note("group:staff", excluded=Exclusion(frozenset(["eve"]), "c1")))
    await broker.publish(custom(to=["group:staff"], event_type="changed", durable=False))
    await until(lambda: len(sink.excluded) == 3)
    assert [(int(time_us), time_us.context) for time_us in sink.accepted_us if isinstance(time_us, TracedTime)] == [
        (1_764_403_200_123_456, CONTEXT)
    ] * 2
    assert sink.excluded == [None, Exclusion(frozenset(["eve"]), "c1"), None]
    page = await broker.inbox("ann", ANN, limit=10, before=None, unread_only=False)
    kept = repr((sink.events, sink.states, await opened(broker, start), page))
    assert "event: message" in kept
    assert TRACE_ID not in kept
