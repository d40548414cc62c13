"""The lineage: the same as by a plain reading of the whole journal for each checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.checkpoints import Manifest
from schemas.journal import GateDecision, GuardAlarm, JournalRecord, StepIntent, StepResult, TrainingSettings
from schemas.posteriors import SnapshotPointer
from schemas.store import Store
from schemas.weights import RewardWeights
from tests.trainers.test_checkpoints import draft
from trainers import checkpoints
from trainers.journalled import decisions_of, restored_after, settings_before
from trainers.lineage import changed_fields, lineage

STEPS, SMALL = st.integers(0, 12), st.integers(0, 4)


@st.composite
def journals(draw: st.DrawFn) -> list[JournalRecord]:
    """Records in any order; a step may be told twice, never, or after a later one."""
    found = list[JournalRecord]()
    for kind in draw(st.lists(st.sampled_from(["intent", "result", "settings", "gate", "alarm"]), max_size=30)):
        step, number = draw(STEPS), draw(SMALL)
        if kind == "intent":
            pointer = SnapshotPointer(number, 1, "snapshots", "", 0, 0) if draw(st.booleans()) else None
            found.append(StepIntent(step, {0: step}, RewardWeights(version=number), pointer, 0, step, 0))
        elif kind == "result":
            found.append(StepResult(step, number, draw(SMALL), number, {}, 0))
        elif kind == "settings":
            found.append(TrainingSettings(step, {"seed": number, "loss": {"kl": draw(SMALL)}}, 0))
        elif kind == "alarm":
            restored = name_of(number) if draw(st.booleans()) else ""
            found.append(GuardAlarm(step, "not_finite", True, 1.0, 0.0, 0, restored))
        else:
            found.append(GateDecision(name_of(step), "", draw(st.booleans()), "", 0, 0, 0, 0, f"reason {number}", 0))
    return found


@cache
def name_of(step: int) -> str:
    """The checkpoint of a step, whose content is the step."""
    with TemporaryDirectory() as folder:
        return write(Store(folder), step, draft(step)).checkpoint


def write(store: Store, step: int, named: Manifest) -> Manifest:
    """A checkpoint whose content is the step."""
    return checkpoints.write(store, {"policy.json": b"%d" % step}, named)


def plain(records: Sequence[JournalRecord], one: Manifest, parent: Manifest | None) -> dict[str, object]:
    """What of a stretch comes from the journal, read from its beginning to its end for this checkpoint alone."""
    first = parent.step + 1 if parent else one.step + 1
    intents = {r.step: r for r in records if isinstance(r, StepIntent) and first <= r.step <= one.step}
    results = {r.step: r for r in records if isinstance(r, StepResult) and first <= r.step <= one.step}
    decision = decisions_of(records).get(one.checkpoint)
    under = settings_before(records, parent.step, parent.settings) if parent else {}
    return {
        "prompts": sum(r.prompts for r in results.values()),
        "examples": sum(r.examples for r in results.values()),
        "weights_versions": tuple(sorted({i.weights.version for i in intents.values()})),
        "snapshot_versions": tuple(sorted({i.snapshot.version for i in intents.values() if i.snapshot})),
        "settings_changed": changed_fields(under, one.settings) if under else (),
        "gone_back": tuple((step, back) for step in range(first, one.step + 1) if (back := restored_after(records, step))),
        "promoted": None if decision is None else decision.promoted,
        "reason": "" if decision is None else decision.reason,
    }


@given(journals(), st.sets(STEPS, min_size=1), st.lists(SMALL, min_size=13, max_size=13))
def test_it_is_what_the_whole_journal_says_of_each_checkpoint(
    records: list[JournalRecord], steps: set[int], seeds: list[int]
) -> None:
    """Any journal, and a line of any steps under any settings."""
    with TemporaryDirectory() as folder:
        store, line = Store(folder), list[Manifest]()
        for step in sorted(steps):
            parent = line[-1].checkpoint if line else ""
            settings = {"seed": seeds[step], "loss": {"kl": 0}} if seeds[step] else {}
            line.append(write(store, step, msgspec.structs.replace(draft(step), parent=parent, settings=settings)))
        found = lineage(store, records, line[-1].checkpoint)
    assert [one.checkpoint for one in found] == [one.checkpoint for one in reversed(line)]
    for stretch, one, parent in zip(reversed(found), line, [None, *line[:-1]], strict=True):
        expected = plain(records, one, parent)
        assert {name: getattr(stretch, name) for name in expected} == expected


def test_a_long_journal_is_read_no_more_often_for_more_checkpoints(tmp_path: Path) -> None:
    """How often its records are gone through does not depend on how long the line is."""

    class Counted(list[JournalRecord]):
        passes = 0

        def __iter__(self) -> Iterator[JournalRecord]:
            self.passes += 1
            return super().__iter__()

    def passes(count: int) -> int:
        store, parent, records = Store(str(tmp_path / str(count))), "", Counted()
        for step in range(count):
            parent = write(store, step, msgspec.structs.replace(draft(step), parent=parent)).checkpoint
        assert len(lineage(store, records, parent)) == count
        return records.passes

    assert passes(2) == passes(9)
