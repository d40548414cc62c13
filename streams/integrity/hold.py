"""Whether the learner stands still for a broken log, and since when: from its journal."""

from __future__ import annotations

import msgspec

from schemas.integrity import Check
from schemas.journal import JournalRecord, StepIntent, StepResult, TrainingHold


class Hold(msgspec.Struct, frozen=True):
    """Training stands still."""

    since_ms: int  #: wall time
    step: int  #: the last one taken
    window: int  #: start of the newest broken window (event time, ms)
    checks: tuple[Check, ...]  #: what is broken in it
    look: str = "headrace integrity status"  #: the command that says more


def after(hold: Hold | None, record: JournalRecord) -> Hold | None:
    """What holds after one more record of the journal. A later broken window does not begin the hold anew; a learner that was
    started again on a healthy log takes a step without saying that it goes on.
    """
    if isinstance(record, TrainingHold) and record.held:
        return Hold(hold.since_ms if hold else record.created_ms, record.step, record.window, record.checks)
    return None if isinstance(record, TrainingHold | StepIntent | StepResult) else hold
