"""The learner's journal: what a step will read, then what came of it. Replaying it remakes every checkpoint."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

import msgspec

from schemas.integrity import Check
from schemas.posteriors import SnapshotPointer
from schemas.weights import RewardWeights

#: What becomes of examples while training stands still: said with every hold.
KEPT: Final = (
    "Later examples wait, and are learned once a window is healthy; those of the broken window are put into quarantine then, and "
    "stay unlearned until `headrace integrity release WINDOW`."
)


class StepIntent(msgspec.Struct, frozen=True, tag_field="type", tag="intent"):
    """Written before a step: everything that shapes it besides the parameters themselves."""

    step: int
    offsets: dict[int, int]  #: partition of training.examples -> next offset after this step
    weights: RewardWeights
    snapshot: SnapshotPointer | None
    catalogue_offset: int
    random_counter: int  #: seeds the step's draws, together with the run's seed
    created_ms: int
    #: Stretches ``[start, end)`` of event time (ms) in which the log was broken: examples of pages shown in them are put aside.
    aside: tuple[tuple[int, int], ...] = ()
    relevance_version: str = ""  #: scorer of the rollouts' tiers; empty: the one that the checkpoint before it names
    ranks: int = 1  #: shares that the step was cut into: in their sum the gradient's last digits hang on it
    v: int = 1


class StepResult(msgspec.Struct, frozen=True, tag_field="type", tag="result"):
    """Written after a step."""

    step: int
    prompts: int
    examples: int  #: fresh examples consumed
    weights_version: int
    metrics: dict[str, float]
    created_ms: int
    #: Ids of those in force, the first to win: they begin and end under one version of the weights.
    campaigns: tuple[str, ...] = ()
    v: int = 1

    @property
    def measure(self) -> Hashable:
        """Steps of the same are rewarded alike."""
        return self.weights_version, self.campaigns


class StepLeftOut(msgspec.Struct, frozen=True, tag_field="type", tag="left_out"):
    """An operator goes on without a step that was decided and cannot be taken: it reads what it was to read, and changes no weight."""

    step: int
    why: str
    created_ms: int
    v: int = 1


class GateDecision(msgspec.Struct, frozen=True, tag_field="type", tag="gate"):
    """Candidate against the served checkpoint on held-out views: paired difference with its 95 % interval."""

    checkpoint: str
    against: str
    promoted: bool
    metric: str
    diff: float
    low: float
    high: float
    n: int
    reason: str
    created_ms: int
    v: int = 1


class TrainingHold(msgspec.Struct, frozen=True, tag_field="type", tag="hold"):
    """Training stands still for a broken window of the log, or (``held`` false) goes on. It shapes no step: intents do."""

    step: int  #: the last one taken
    held: bool
    window: int  #: start of the window (event time, ms) whose verdict decided
    checks: tuple[Check, ...]  #: why; empty when training goes on
    created_ms: int
    v: int = 1


class GuardAlarm(msgspec.Struct, frozen=True, tag_field="type", tag="alarm"):
    """A guard of the learner's health is beyond its bound, or (``on`` false) within it again. Nothing is published meanwhile."""

    step: int  #: the last one taken
    guard: str
    on: bool
    value: float
    bound: float
    created_ms: int
    restored: str = ""  #: checkpoint whose weights and optimiser the next step starts from; empty: the learner's own
    v: int = 1


class TrainingSettings(msgspec.Struct, frozen=True, tag_field="type", tag="settings"):
    """The learner's settings, from the step after ``step`` on: they shape a step as much as its intent does."""

    step: int  #: the last one taken
    settings: dict[str, Any]  #: `trainers.settings.LearnerSettings` as JSON
    created_ms: int
    v: int = 1


class LearnerStart(msgspec.Struct, frozen=True, tag_field="type", tag="start"):
    """A learner takes the journal over: what an earlier one writes behind this record does not count."""

    where: str  #: host and process
    created_ms: int
    v: int = 1


#: What a learner says of its work; who took over when is not part of it.
JournalRecord = StepIntent | StepResult | StepLeftOut | GateDecision | TrainingHold | TrainingSettings | GuardAlarm
