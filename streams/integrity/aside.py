"""Examples that the learner put aside for broken windows: which of them may be learned now, and what keeps the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec

from schemas.codec import decode
from schemas.connections import Connections
from schemas.examples import TrainingExample
from schemas.integrity import Verdict
from schemas.quarantine import Reason
from schemas.topics import EXAMPLES
from streams.producing import EventProducer
from streams.quarantine import Entry, Wanted, listing, mark_sent
from streams.runtime.core import Record
from streams.runtime.log import LogReader

_ALL: Final = 2**31


class Keeping(msgspec.Struct, frozen=True):
    """A broken window that nobody has released, and the examples that stay aside because of it (and perhaps of others)."""

    window: int  #: its start (event time, ms)
    examples: int


class SentAgain(msgspec.Struct, frozen=True):
    """What became of the examples that had been put aside."""

    sent_again: int  #: to the learner
    stay_aside: int
    of_none: int  #: of those that stay: touched by no window that is broken or was released now (a release that was stopped)
    kept_by: tuple[Keeping, ...]  #: the oldest window first


def send_again(connections: Connections, verdicts: Sequence[Verdict], starts: Collection[int]) -> SentAgain:
    """Send the examples of the released windows that begin at ``starts`` to the learner once more, but for those that a
    window of ``verdicts`` which is still broken touches too. What has been sent before is neither sent nor counted.

    Raises:
        Unavailable: the broker does not answer.
    """
    standing = [verdict for verdict in verdicts if verdict.stands]
    released = [verdict for verdict in verdicts if verdict.start in starts]
    sent, stay, kept_by, of_none = set[str](), set[str](), Counter[int](), 0
    marks: list[tuple[str, tuple[int, int]]] = []
    with EventProducer(connections) as producer:
        for entries, partition, record in _put_aside(connections):
            example: TrainingExample = decode(TrainingExample, record.value)
            keeping = _touching(standing, example.ts)
            if _touching(released, example.ts) and not keeping:
                if example.example_id not in sent:
                    producer.send(EXAMPLES.name, record.value, record.key, partition)
                    sent.add(example.example_id)
                marks += [(entry.record.agent, entry.place) for entry in entries]
            elif example.example_id not in stay:
                stay.add(example.example_id)
                kept_by.update(keeping)
                of_none += not keeping
        mark_sent(producer, marks)
    return SentAgain(len(sent), len(stay), of_none, tuple(Keeping(start, kept_by[start]) for start in sorted(kept_by)))


def _touching(verdicts: Sequence[Verdict], ts: int) -> list[int]:
    return [verdict.start for verdict in verdicts if verdict.since <= ts < verdict.end]


def _put_aside(connections: Connections) -> Iterator[tuple[list[Entry], int, Record]]:
    """The examples that quarantine names, with their entries there and their partition, from their own topic: it keeps them
    whole, and for ever."""
    places: dict[int, dict[int, list[Entry]]] = {}
    for entry in listing(connections, _ALL, Wanted(Reason.BROKEN_WINDOW)):
        if not entry.replayed_ms:
            places.setdefault(entry.record.partition, {}).setdefault(entry.record.offset, []).append(entry)
    reader = LogReader(connections, 30)
    for partition in sorted(places):
        wanted = places[partition]
        for batch in reader.read(EXAMPLES.name, partition, min(wanted), max(wanted) + 1):
            yield from ((wanted[record.offset], partition, record) for record in batch if record.offset in wanted)
