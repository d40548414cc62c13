"""Letting a broken window pass: a person's decision, which the audit keeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from reward.desk import gates, records
from reward.desk.periods import shown
from schemas.codec import decode, encode
from schemas.connections import Connections
from schemas.decisions import INTEGRITY, Actor, Change, Role
from schemas.errors import InvalidRequest, Unavailable
from schemas.examples import TrainingExample
from schemas.integrity import Release, Verdict
from schemas.quarantine import Reason
from schemas.topics import EXAMPLES, FACTS
from streams.integrity.reading import find, verdicts
from streams.producing import EventProducer
from streams.quarantine import Entry, Wanted, listing, mark_sent
from streams.runtime.core import Record
from streams.runtime.log import LogReader

#: Longest wait for the judge to say what was released (s).
PATIENCE_S: Final = 30.0
_ALL: Final = 2**31


def release(
    engine: Engine, connections: Connections, start: int, actor: Actor, why: str, patience_s: float = PATIENCE_S
) -> int:
    """Let a broken window pass: its values become the past that later ones are held against, and its examples are learned.

    Those that the learner has put aside already are sent to it once more; how many is returned. Examples that another broken
    window touches too wait for that one's release. The line of the audit is written first, as nothing may be released
    unsaid; it stays where the judge does not answer, for the release then waits for it in its topic.

    Raises:
        Forbidden: a viewer.
        InvalidRequest: no reason; the window is not broken, or somebody has let it pass already.
        Unavailable: the judge does not take it up in ``patience_s``; or the broker does not answer.
    """
    gates.need(actor, Role.EDITOR, "release a window")
    why, now_ms = gates.reason(why), int(time.time() * 1_000)
    verdict = find(connections, start)
    if not verdict.stands:
        state = f"released by {verdict.released_by}" if verdict.released_by else "healthy"
        raise InvalidRequest(f"window {start}", state, "broken", "there is nothing to release")
    with Session(engine) as session, session.begin():
        let_pass = Change(f"window {shown(start)}", "broken", "released")
        records.add_line(session, actor, "release window", INTEGRITY, why, now_ms, (let_pass,))
    with EventProducer(connections) as producer:
        producer.send(FACTS.name, encode(Release(start, actor.name, why, now_ms)), b"release", 0)
    deadline = time.monotonic() + patience_s
    while (verdict := find(connections, start)).stands:
        if time.monotonic() > deadline:
            raise Unavailable("the judge", f"it has not told window {start} again in {patience_s} s", "is its worker up?")
        time.sleep(0.2)
    return _send_again(connections, verdict)


def _send_again(connections: Connections, verdict: Verdict) -> int:
    standing = [other for other in verdicts(connections) if other.stands]
    sent: set[str] = set()
    marks: list[tuple[str, tuple[int, int]]] = []
    with EventProducer(connections) as producer:
        for entries, partition, record in _put_aside(connections):
            example: TrainingExample = decode(TrainingExample, record.value)
            touched = any(other.since <= example.ts < other.end for other in standing)
            if verdict.since <= example.ts < verdict.end and not touched:
                if example.example_id not in sent:
                    producer.send(EXAMPLES.name, record.value, record.key, partition)
                    sent.add(example.example_id)
                marks += [(entry.record.agent, entry.place) for entry in entries]
        mark_sent(producer, marks)
    return len(sent)


def _put_aside(connections: Connections) -> Iterator[tuple[list[Entry], int, Record]]:
    """The examples that quarantine names, with their entries there and their partition, from their own topic: it keeps them
    whole, and for ever."""
    places: dict[int, dict[int, list[Entry]]] = {}
    for entry in listing(connections, _ALL, Wanted(Reason.BROKEN_WINDOW)):
        places.setdefault(entry.record.partition, {}).setdefault(entry.record.offset, []).append(entry)
    reader = LogReader(connections, 30)
    for partition in sorted(places):
        wanted = places[partition]
        for batch in reader.read(EXAMPLES.name, partition, min(wanted), max(wanted) + 1):
            yield from ((wanted[record.offset], partition, record) for record in batch if record.offset in wanted)
