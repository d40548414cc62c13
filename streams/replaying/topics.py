"""An event topic's past, sent into the same topic once more."""

from __future__ import annotations

from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.topics import INPUTS, ITEMS
from streams.producing import EventProducer
from streams.replaying.clients import new_reader
from streams.replaying.lines import Progress, ignore
from streams.replaying.span import Span, event_time


def replay_topic(
    connections: Connections,
    topic: str,
    start_offset: int = 0,
    span: Span = Span(),  # noqa: B008 - immutable
    on_progress: Progress = ignore,
) -> dict[str, int]:
    """Send the records of ``topic`` from an offset of each partition on, and of event times in ``span``, once more, each
    into the partition it had. Ticks are among the records of an input, so none are added. Topic -> records sent.

    Raises:
        InvalidRequest: the topic is not one that events come in by.
        Unavailable: the broker does not answer.
    """
    names = [t.name for t in (*INPUTS, ITEMS)]
    if topic not in names:
        raise InvalidRequest(
            "topic of events", topic, f"one of {', '.join(names)}", "derived topics are rebuilt with --into"
        )
    reader, sent, done = new_reader(connections), 0, 0
    bounds = [reader.bounds(topic, p) for p in range(1 if topic == ITEMS.name else connections.partitions)]
    starts = [max(low, start_offset) for low, _ in bounds]
    total = sum(max(0, high - start) for start, (_, high) in zip(starts, bounds, strict=True))
    with EventProducer(connections) as producer:
        for partition, (start, (_, high)) in enumerate(zip(starts, bounds, strict=True)):
            for batch in reader.read(topic, partition, start, high):
                chosen = [
                    {"value": record.value, "key": record.key, "partition": partition}
                    for record in batch
                    if span.whole or span.start <= event_time(record.value) < span.end
                ]
                producer.send_batch(topic, chosen)
                sent += len(chosen)
                done += len(batch)
                on_progress(done, total)
    return {topic: sent}
