"""Rebuilds a derived topic under another name: today's code over everything that its inputs still keep.

An agent's state is a function of its inputs' whole past, so all of that is read, even when only a stretch of event time is
wanted. Readers of committed records see nothing half written; that all of it is there is said by `streams.replaying.marks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reward.settings import RewardSettings
from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.store import Store
from schemas.topics import DELTAS, EXAMPLES, SNAPSHOTS, VIEWS, Topic
from streams.replaying import marks
from streams.replaying.clients import TIMEOUT_S, new_reader, new_writer
from streams.replaying.inputs import Stretch, kept, partitions_of, side_by_side
from streams.replaying.lines import Progress, ignore
from streams.replaying.span import Span, event_time
from streams.runtime.core import Agent, Blob, Core, Output
from streams.runtime.log import LogReader
from streams.runtime.writer import TransactionWriter
from streams.settings import StreamSettings
from streams.worker import agents_of

#: Derived topic -> (worker, agent) that makes it.
MAKERS: dict[str, tuple[str, str]] = {
    VIEWS.name: ("attribution", "attribution"),
    DELTAS.name: ("posteriors", "posteriors"),
    SNAPSHOTS.name: ("posteriors", "posteriors-merger"),
    EXAMPLES.name: ("rewarding", "rewarding"),
}
#: Those that hang on the run's artefacts: examples on all of them, snapshots on the prefixes of its identifiers.
NEED_ARTEFACTS = frozenset({SNAPSHOTS.name, EXAMPLES.name})

#: Outputs in one transaction, about.
OUTPUTS = 5_000


@dataclass(frozen=True)
class Result:
    """What a rebuild did: input records read, records written, and the counters of the agent's cores, summed."""

    topic: str
    of: str
    read: int
    written: int
    counters: dict[str, int]


def maker_of(topic: str, connections: Connections, store: Store, settings: StreamSettings, reward: RewardSettings) -> Agent:
    """The agent that makes a derived topic.

    Raises:
        InvalidRequest: no agent makes it.
        Unavailable, Incompatible, Corrupt: as the loaders of the artefacts that it needs.
    """
    if topic not in MAKERS:
        raise InvalidRequest(
            "topic to rebuild", topic, f"one of {', '.join(MAKERS)}", "leave --into out for a topic of events"
        )
    worker, name = MAKERS[topic]
    artefacts = Artefacts.load(store) if topic in NEED_ARTEFACTS else Artefacts()
    agents = agents_of(worker, connections, store, artefacts, settings, reward)
    return next(agent for agent in agents if agent.name == name)


def rebuild(
    connections: Connections,
    store: Store,
    agent: Agent,
    of: Topic,
    into: str,
    span: Span = Span(),  # noqa: B008 - immutable
    upstream: Sequence[str] = (),
    transaction_timeout_s: float = 60.0,
    on_progress: Progress = ignore,
) -> Result:
    """Write what ``agent`` makes for the topic ``of`` into the empty topic ``into``, of event times in ``span``.

    ``upstream`` names finished rebuilds that stand in for inputs. ``on_progress(done, total)`` is told input records.

    Raises:
        InvalidRequest: ``into`` is not empty or its name is taken; an upstream is no input of the agent, or not whole.
        Conflict: another rebuild into the same topic has begun.
        Unavailable: the broker does not answer.
    """
    marks.check_name(into)
    reader = new_reader(connections)
    renamed = _stand_ins(reader, connections, agent, upstream)
    outputs_to = range(partitions_of(of, connections.partitions))
    held = sum(reader.bounds(into, p)[1] for p in outputs_to)
    if held:
        raise InvalidRequest(f"end of topic {into}", held, "0: empty", "take another name, or --overwrite")
    writer = new_writer(connections, f"rebuild-{into}", transaction_timeout_s)
    writer.open(TIMEOUT_S)
    _write(writer, marks.marks(connections, into, of, span, [marks.UNFINISHED] * len(outputs_to)))
    plan = [kept(reader, agent, p, renamed) for p in range(partitions_of(agent.inputs[0], connections.partitions))]
    total = sum(stretch.end - stretch.start for stretches in plan for stretch in stretches)
    written, done, counters = 0, 0, Counter[str]()
    for partition, stretches in enumerate(plan):
        core, told = agent.build(partition), list[Output]()
        for records, outputs, blobs in run(reader, core, stretches, partition):
            for blob in blobs:
                store.write(blob.path, blob.data)
            told += [
                Output(into, o.key, o.value, partition if o.partition is None else o.partition)
                for o in outputs
                if o.topic == of.name and _wanted(o, span)
            ]
            done += records
            on_progress(done, total)
            if len(told) >= OUTPUTS:
                written += _write(writer, told)
                told = []
        written += _write(writer, told)
        counters.update(core.counters)
    ends = [settled_end(reader, into, p) for p in outputs_to]
    _write(writer, marks.marks(connections, into, of, span, ends))
    return Result(into, of.name, done, written, dict(counters))


def run(
    reader: LogReader, core: Core, stretches: list[Stretch], partition: int
) -> Iterator[tuple[int, list[Output], list[Blob]]]:
    """Feed a core; after each batch: the records it took, and what it put out."""
    for name, batch in side_by_side(reader, stretches, partition):
        core.apply(name, batch)
        core.advance()
        yield len(batch), *core.drain()


def settled_end(reader: LogReader, topic: str, partition: int) -> int:
    """The end offset once no transaction is open below it: a commit's own record comes after the call that asked for it."""
    low, high = reader.bounds(topic, partition)
    for _ in reader.read(topic, partition, max(low, high - 1), high):
        pass
    return reader.bounds(topic, partition)[1]


def _wanted(output: Output, span: Span) -> bool:
    return span.whole or span.start <= event_time(output.value) < span.end


def _write(writer: TransactionWriter, outputs: list[Output]) -> int:
    if outputs:
        writer.write(outputs[:-1], (), lambda _: outputs[-1], 0)  # each names its partition
    return len(outputs)


def _stand_ins(reader: LogReader, connections: Connections, agent: Agent, upstream: Sequence[str]) -> Mapping[str, str]:
    inputs = [topic.name for topic in agent.inputs]
    renamed: dict[str, str] = {}
    for name in upstream:
        made = marks.rebuilt(reader, connections, name)
        if made.of.name not in inputs or made.of.name in renamed:
            bound = f"a rebuild of one of {', '.join(inputs)}, one for each"
            raise InvalidRequest("upstream", f"{name}, of {made.of.name}", bound, "name another")
        if not made.span.whole:
            raise InvalidRequest(
                "upstream", f"{name}, a stretch of time", "a whole rebuild", "rebuild it without --from, --to"
            )
        renamed[made.of.name] = name
    return renamed
