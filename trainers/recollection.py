"""What a learner's guards had seen before the checkpoint that it resumes from: it lies further back in the journal."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from schemas.checkpoints import Manifest
from schemas.connections import Connections
from schemas.errors import InvalidEvent
from schemas.journal import GuardAlarm, JournalRecord, StepResult
from schemas.topics import STEPS
from trainers.journal import read_journal
from trainers.lines import Line

log = structlog.get_logger()

#: Records of the journal a step, at first guess: intent, result, and room for what else is said.
RECORDS_A_STEP = 3


def seen_until(connections: Connections, manifest: Manifest, line: Line, wanted: int) -> list[StepResult | GuardAlarm]:
    """The last ``wanted`` results or more up to the checkpoint, oldest first, and the alarms between them that sent training back;
    fewer where there are no more.

    Raises:
        Unavailable: the broker stops answering.
    """
    behind, reach = manifest.offsets.get(STEPS.name, {}).get(0, 0), wanted * RECORDS_A_STEP
    while manifest.step > 0:
        start = max(0, behind - reach)
        try:
            found = unbroken(read_journal(connections, start, line), manifest.step)
        except InvalidEvent as error:
            # Steps are taken from what lies behind the checkpoint alone: a record of long ago must not end the learner.
            log.warning("the guards begin anew", checkpoint=manifest.checkpoint, error=str(error))
            break
        if start == 0 or sum(isinstance(record, StepResult) for record in found) >= wanted:
            return found
        reach *= 4
    return []


def unbroken(records: Sequence[JournalRecord], step: int) -> list[StepResult | GuardAlarm]:
    """The results of ``step``, the one before it and so on, oldest first, each with its alarms that sent training back. A record of
    another line that does not say so, as older ones do not, ends it at the latest before step 1."""
    found, expected = list[StepResult | GuardAlarm](), step
    for record in reversed(records):
        if isinstance(record, StepResult | GuardAlarm) and record.step == expected > 0:
            if isinstance(record, StepResult):
                expected -= 1
                found.append(record)
            elif record.restored:
                found.append(record)
    return found[::-1]
