"""Going on without a step that was decided and cannot be taken: one that needs more memory than there is, or fails each time.

A step is journalled before it is taken, and every start takes it again. Left out, it reads what it was to read and changes no
weight, on every rank and whenever it is taken again.
"""

from __future__ import annotations

import time

from schemas.artefacts import Artefacts
from schemas.checkpoints import Manifest
from schemas.connections import Connections
from schemas.errors import NotFound
from schemas.journal import StepIntent, StepLeftOut
from schemas.store import Store
from schemas.topics import STEPS
from trainers import checkpoints
from trainers.journal import Journal, read_journal
from trainers.journalled import intents_after, left_out_of, results_of
from trainers.lines import Line


def leave_out(connections: Connections, store: Store, artefacts: Artefacts, why: str) -> StepIntent:
    """Tell the journal to go on without the step that is waiting for its result. A learner that runs ends with `Conflict`, and does
    without the step once it is started again.

    Raises:
        NotFound: no step waits.
        Unavailable: the broker or a checkpoint is not there.
    """
    line = Line(store, artefacts.frozen)
    manifest = checkpoints.newest_of(store, line, artefacts.identifiers)
    _waiting(connections, line, manifest)  # before a learner that has nothing to leave out is taken over from
    journal = Journal(connections, artefacts.frozen)
    try:
        intent = _waiting(connections, line, manifest)  # again, as nobody else adds to it from here on
        journal.append(StepLeftOut(intent.step, why, int(time.time() * 1000)))
        return intent
    finally:
        journal.close()


def _waiting(connections: Connections, line: Line, manifest: Manifest) -> StepIntent:
    records = read_journal(connections, manifest.offsets.get(STEPS.name, {}).get(0, 0), line)
    done = results_of(records) | left_out_of(records)
    for intent in intents_after(records, manifest.step):
        if intent.step not in done:
            return intent
    raise NotFound("a step without result", "none", "one that the learner has begun", "there is nothing to leave out")
