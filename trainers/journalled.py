"""What the journal's records say: which steps are to be taken again, under which settings, from where, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from schemas.errors import Corrupt, Incompatible
from schemas.journal import GateDecision, GuardAlarm, JournalRecord, StepIntent, StepLeftOut, StepResult, TrainingSettings
from schemas.topics import STEPS
from trainers.settings import LearnerSettings


def intents_after(records: Sequence[JournalRecord], step: int) -> list[StepIntent]:
    """The intents that continue a checkpoint of ``step``, in order, each once.

    Raises:
        Corrupt: a step is missing, or one step has two different intents.
    """
    found: dict[int, StepIntent] = {}
    for record in records:
        if isinstance(record, StepIntent) and record.step > step and found.setdefault(record.step, record) != record:
            raise Corrupt(f"topic {STEPS.name}", f"two intents for step {record.step}", "two learners ran at once; stop one")
    for expected, number in enumerate(sorted(found), start=step + 1):
        if number != expected:
            raise Corrupt(f"topic {STEPS.name}", f"step {expected} is missing before step {number}", "restore the topic")
    return [found[number] for number in sorted(found)]


def settings_before(records: Sequence[JournalRecord], step: int, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The learner's settings under which ``step`` was taken; ``known`` are those of the checkpoint that the records follow."""
    told = [record.settings for record in records if isinstance(record, TrainingSettings) and record.step < step]
    return told[-1] if told else known


#: What was so before there was a setting for it, where the default is another.
UNSAID: Final[Mapping[str, Any]] = {"served_share": 1.0}


def settings_at(
    records: Sequence[JournalRecord], step: int, known: Mapping[str, Any], otherwise: LearnerSettings
) -> LearnerSettings:
    """`settings_before` as settings; ``otherwise`` where nothing was ever told.

    Raises:
        Incompatible: this version of the code does not understand them.
    """
    said = settings_before(records, step, known)
    try:
        return LearnerSettings.model_validate({**UNSAID, **said}) if said else otherwise
    except ValidationError as error:
        raise Incompatible(
            f"settings of step {step}", "settings of this version", str(error),
            "take the step again with the version that decided it, stop it in good order, and update then",
        ) from error  # fmt: skip


def restored_after(records: Sequence[JournalRecord], step: int) -> str:
    """The checkpoint from which training went on after ``step``, where a guard sent it back; empty where none did."""
    back = [r.restored for r in records if isinstance(r, GuardAlarm) and r.step == step and r.restored]
    return back[-1] if back else ""


def check_scorer(intents: Sequence[StepIntent], before: str, present: str) -> None:
    """Refuse to take steps again with tiers of another relevance scorer than they were taken with. ``before``: the scorer that
    the checkpoint names, for intents that name none.

    Raises:
        Incompatible: ``present`` is another one.
    """
    for intent in intents:
        made_with = intent.relevance_version or before
        if made_with != present:
            remedy = (
                f"`headrace relevance use {made_with}`, start the learner and stop it in good order: it leaves a checkpoint, "
                "from which any scorer may go on"
            )
            raise Incompatible(f"relevance scorer of the journalled step {intent.step}", made_with, present, remedy)


def results_of(records: Sequence[JournalRecord]) -> set[int]:
    """Steps whose result is in the journal."""
    return {record.step for record in records if isinstance(record, StepResult)}


def left_out_of(records: Sequence[JournalRecord]) -> set[int]:
    """Steps that an operator has left out."""
    return {record.step for record in records if isinstance(record, StepLeftOut)}


def decisions_of(records: Sequence[JournalRecord]) -> dict[str, GateDecision]:
    """The last decision about each checkpoint."""
    return {record.checkpoint: record for record in records if isinstance(record, GateDecision)}
