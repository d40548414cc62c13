"""Where a checkpoint comes from: its line back to the warm start, each with the events, versions and settings that made it.

Read from the manifests, which outlive the weights, and from the journal.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from schemas.checkpoints import Manifest
from schemas.errors import Unavailable
from schemas.journal import GuardAlarm, JournalRecord, StepIntent, StepResult, TrainingSettings
from schemas.store import Store
from schemas.topics import EXAMPLES
from trainers import checkpoints
from trainers.journalled import decisions_of


class Stretch(msgspec.Struct, frozen=True):
    """The steps between a checkpoint and the one it continues."""

    checkpoint: str
    parent: str  #: empty for the warm start
    first_step: int  #: above ``last_step`` for a warm start: it took none
    last_step: int
    created_ms: int
    learner: str
    offsets: dict[int, tuple[int, int]]  #: partition of training.examples -> [first, next) offset that was read
    prompts: int
    examples: int  #: views learned for the first time
    weights_versions: tuple[int, ...]
    snapshot_versions: tuple[int, ...]
    relevance_version: str
    codebook_version: str
    settings_changed: tuple[str, ...]  #: fields of the learner's settings that differ from the parent's last step
    gone_back: tuple[tuple[int, str], ...]  #: (step, checkpoint): after the step a guard sent training back to its weights
    promoted: bool | None  #: the gate's decision; None: it was never put to the gate
    reason: str
    whole: bool  #: the weights are still in the store


def lineage(store: Store, records: Sequence[JournalRecord], checkpoint: str) -> list[Stretch]:
    """From ``checkpoint`` back to the warm start, newest first.

    Args:
        records: the whole journal.

    Raises:
        Unavailable: no such checkpoint, or one it continues has lost its manifest.
        Corrupt: a manifest fails its check.
    """
    line = [checkpoints.read(store, checkpoint)]
    while parent := line[-1].parent:
        try:
            line.append(checkpoints.read(store, parent))
        except Unavailable as error:
            what, remedy = f"checkpoint {parent}, which {line[-1].checkpoint} continues", "restore its manifest.json"
            raise Unavailable(what, "no manifest", remedy) from error
    before, told = [*line[1:], None], _Told(records)
    return [_stretch(store, told, one, parent) for one, parent in zip(line, before, strict=True)]


class _Told:
    """What the journal says, found by step: a line of many checkpoints would read it once for each."""

    def __init__(self, records: Sequence[JournalRecord]) -> None:
        self.intents = {r.step: r for r in records if isinstance(r, StepIntent)}
        self.results = {r.step: r for r in records if isinstance(r, StepResult)}
        self.restored = {r.step: r.restored for r in records if isinstance(r, GuardAlarm) and r.restored}
        self.decisions = decisions_of(records)
        self._settings = [r for r in records if isinstance(r, TrainingSettings)]
        by_step = sorted((r.step, at) for at, r in enumerate(self._settings))
        self._steps = [step for step, _ in by_step]
        self._last = list(accumulate((at for _, at in by_step), max))

    def settings_before(self, step: int, known: Mapping[str, Any]) -> Mapping[str, Any]:
        """As `trainers.journalled.settings_before`."""
        earlier = bisect_left(self._steps, step)
        return self._settings[self._last[earlier - 1]].settings if earlier else known


def _stretch(store: Store, told: _Told, one: Manifest, parent: Manifest | None) -> Stretch:
    first = parent.step + 1 if parent else one.step + 1
    steps = range(first, one.step + 1)
    intents = [told.intents[step] for step in steps if step in told.intents]
    results = [told.results[step] for step in steps if step in told.results]
    began = parent.offsets.get(EXAMPLES.name, {}) if parent else {}
    ended = one.offsets.get(EXAMPLES.name, {})
    decision = told.decisions.get(one.checkpoint)
    under = told.settings_before(parent.step, parent.settings) if parent else {}
    return Stretch(
        checkpoint=one.checkpoint,
        parent=one.parent,
        first_step=first,
        last_step=one.step,
        created_ms=one.created_ms,
        learner=one.learner,
        offsets={p: (began.get(p, 0), offset) for p, offset in sorted(ended.items())},
        prompts=sum(r.prompts for r in results),
        examples=sum(r.examples for r in results),
        weights_versions=tuple(sorted({i.weights.version for i in intents})),
        snapshot_versions=tuple(sorted({i.snapshot.version for i in intents if i.snapshot})),
        relevance_version=one.relevance_version,
        codebook_version=one.codebook_version,
        settings_changed=changed_fields(under, one.settings) if under else (),
        gone_back=tuple((step, told.restored[step]) for step in steps if step in told.restored),
        promoted=None if decision is None else decision.promoted,
        reason="" if decision is None else decision.reason,
        whole=all(store.exists(f"{checkpoints.path_of(one.checkpoint)}/{name}") for name in one.files),
    )


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Dotted names of the leaves that differ, sorted."""
    found: list[str] = []
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += changed_fields(one, other, f"{prefix}{name}.")
        elif one != other:
            found.append(prefix + name)
    return tuple(found)
