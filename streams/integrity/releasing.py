"""Letting broken windows pass: a person's decision, which the audit keeps.

Two wishes are apart: that the examples be learned after all, and that later windows be judged against these (``new_normal``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from reward.desk import gates, records
from reward.desk.periods import shown
from schemas.codec import encode
from schemas.connections import Connections
from schemas.decisions import INTEGRITY, Actor, Change, Role
from schemas.errors import InvalidRequest, Unavailable
from schemas.integrity import Release, Verdict, moment, window
from schemas.topics import FACTS
from streams.integrity.aside import SentAgain, send_again
from streams.integrity.reading import verdicts
from streams.producing import EventProducer

#: Longest wait for the judge to say what was released (s).
PATIENCE_S: Final = 30.0
#: How one gets back from a new normal, as the past before it is gone.
BACK: Final = "release the first good window judged broken, with --new-normal"


def release(
    engine: Engine,
    connections: Connections,
    starts: Sequence[int],
    actor: Actor,
    why: str,
    new_normal: bool = False,
    patience_s: float = PATIENCE_S,
) -> SentAgain:
    """Let the broken windows that begin at ``starts`` pass, all or none: their examples are learned, and those that the
    learner has put aside already are sent to it once more. Examples that another broken window touches too wait for that
    one's release. What later windows are held against stays as it is; with ``new_normal`` it becomes, for each check that
    broke, the newest of these windows that it broke in.

    The line of the audit is written first, as nothing may be released unsaid; it stays where the judge does not answer, for
    the release then waits for it in its topic.

    Raises:
        Forbidden: a viewer.
        InvalidRequest: no reason; a window is not broken, or somebody has let it pass already.
        Unavailable: the judge does not take it up in ``patience_s``; or the broker does not answer.
    """
    gates.need(actor, Role.EDITOR, "release a window")
    why, now_ms = gates.reason(why), int(time.time() * 1_000)
    starts = [verdict.start for verdict in broken(connections, starts)]
    state = "released as the new normal" if new_normal else "released"
    with Session(engine) as session, session.begin():
        changes = tuple(Change(f"window {shown(start)}", "broken", state) for start in starts)
        changes += (Change("to go back", None, BACK),) if new_normal else ()
        records.add_line(session, actor, "release window", INTEGRITY, why, now_ms, changes)
    with EventProducer(connections) as producer:
        for start in starts:
            producer.send(FACTS.name, encode(Release(start, actor.name, why, now_ms, new_normal)), b"release", 0)
    return send_again(connections, _released(connections, starts, patience_s), starts)


def broken(connections: Connections, starts: Sequence[int]) -> list[Verdict]:
    """The verdicts on the windows that begin at ``starts``, each once, the oldest first.

    Raises:
        InvalidRequest: one was never judged, is healthy, or was released.
        Unavailable: the broker does not answer.
    """
    judged = {verdict.start: verdict for verdict in verdicts(connections)}
    for start in starts:
        if start not in judged:
            raise InvalidRequest(window(start), "not judged", "broken", "see `headrace integrity status`")
        if not judged[start].stands:
            by = judged[start].released_by
            raise InvalidRequest(
                window(start),
                f"released by {by}" if by else "healthy",
                "broken",
                "there is nothing to release: leave it out",
            )
    return [judged[start] for start in sorted(set(starts))]


def broken_between(connections: Connections, first: int, last: int) -> list[Verdict]:
    """The verdicts on the broken windows that begin from ``first`` to ``last``, both included, the oldest first.

    Raises:
        InvalidRequest: there is none.
        Unavailable: the broker does not answer.
    """
    found = [verdict for verdict in verdicts(connections) if verdict.stands and first <= verdict.start <= last]
    if not found:
        value = f"none begins from {moment(first)} to {moment(last)}"
        raise InvalidRequest("broken windows", value, "one at least", "see `headrace integrity status`")
    return found


def _released(connections: Connections, starts: Sequence[int], patience_s: float) -> list[Verdict]:
    """All verdicts, once the judge has told these windows again."""
    deadline = time.monotonic() + patience_s
    while True:
        found = verdicts(connections)
        waiting = [verdict.start for verdict in found if verdict.stands and verdict.start in starts]
        if not waiting:
            return found
        if time.monotonic() > deadline:
            said = f"it has not told {window(waiting[0])} again in {patience_s} s"
            raise Unavailable("the judge", said, "is its worker up?")
        time.sleep(0.2)
