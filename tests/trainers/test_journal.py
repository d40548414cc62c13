"""The journal: order, gaps and doubles; written and read through a real broker."""

from __future__ import annotations

import os
from contextlib import closing

import msgspec
import pytest

from schemas.connections import Connections
from schemas.errors import Conflict, Corrupt, Incompatible
from schemas.journal import GateDecision, LearnerStart, StepIntent, StepResult, TrainingSettings
from schemas.store import Store
from schemas.weights import RewardWeights
from trainers.journal import Journal, read_journal, standing
from trainers.journalled import check_scorer, decisions_of, intents_after, results_of, settings_at
from trainers.lines import Line
from trainers.settings import LearnerSettings


def intent(step: int, offset: int = 0) -> StepIntent:
    """An intent of that step."""
    return StepIntent(step, {0: offset, 1: 7}, RewardWeights(), None, 0, step, 1)


def result(step: int) -> StepResult:
    """Its result."""
    return StepResult(step, 4, 2, 1, {"reward": 1.5}, 1)


def decision(checkpoint: str, promoted: bool) -> GateDecision:
    """The gate's word."""
    return GateDecision(checkpoint, "c0", promoted, "reward@10", 0.1, 0.0, 0.2, 50, "", 1)


def test_intents_after_a_checkpoint_in_order_each_once() -> None:
    """Results, decisions, earlier steps and exact repetitions do not count."""
    records = [intent(4), result(4), intent(5), decision("c", True), intent(6), intent(5), result(5)]
    assert [i.step for i in intents_after(records, 4)] == [5, 6]
    assert intents_after(records, 6) == []
    assert results_of(records) == {4, 5}


def test_a_missing_step_is_corruption() -> None:
    """Step 6 without step 5 cannot be replayed."""
    with pytest.raises(Corrupt, match="step 5 is missing before step 6"):
        intents_after([intent(6)], 4)


def test_two_intents_for_one_step_are_two_learners() -> None:
    """The second names other offsets."""
    with pytest.raises(Corrupt, match="two intents for step 5"):
        intents_after([intent(5), intent(5, offset=3)], 4)


def test_steps_are_taken_again_by_their_own_scorer_alone() -> None:
    """An intent that names none is the checkpoint's. Without steps to take again any scorer may go on."""
    old, new = intent(5), msgspec.structs.replace(intent(6), relevance_version="new")
    check_scorer([old], "old", "old")
    check_scorer([new], "old", "new")
    check_scorer([], "old", "new")
    with pytest.raises(Incompatible, match="step 5: expected 'old', found 'new'; `headrace relevance use old`"):
        check_scorer([old], "old", "new")
    with pytest.raises(Incompatible, match="step 6: expected 'new', found 'old'"):
        check_scorer([old, new], "old", "old")


def test_the_last_decision_about_a_checkpoint_counts() -> None:
    """It was judged again after a kill."""
    decisions = decisions_of([decision("a", False), decision("b", False), decision("a", True)])
    assert {name: d.promoted for name, d in decisions.items()} == {"a": True, "b": False}


def test_settings_hold_from_the_step_after_they_were_told() -> None:
    """Told after step 5: step 5 was taken under the checkpoint's own, 6 under the new ones; of two in a row the last counts."""
    rate = {"learning_rate": 1e-3}
    records = [intent(5), *(TrainingSettings(5, {"learning_rate": r}, 1) for r in (1e-4, 2e-4)), intent(6)]
    assert [settings_at(records, n, rate, LearnerSettings()).learning_rate for n in (5, 6, 7)] == [1e-3, 2e-4, 2e-4]
    assert settings_at([], 1, {}, LearnerSettings(group=3)).group == 3
    with pytest.raises(Incompatible, match="settings of step 6"):
        settings_at([TrainingSettings(5, {"of_another_version": 1}, 1)], 6, rate, LearnerSettings())


def test_what_a_learner_writes_behind_the_start_of_another_does_not_count() -> None:
    """Records of before there were terms count until the first start; a later start ends every earlier term."""
    start = LearnerStart("7 of a", 1)
    found = [
        (3, -1, intent(1)), (4, -1, start), (5, -1, intent(2)), (6, 4, intent(2, 1)), (7, 6, start),
        (8, 4, result(2)), (9, 7, result(2)), (10, 4, intent(3)), (11, 7, intent(3, 1)),
    ]  # fmt: skip
    assert list(standing(found)) == [(3, intent(1)), (6, intent(2, 1)), (9, result(2)), (11, intent(3, 1))]


@pytest.mark.services
def test_of_two_learners_the_later_one_goes_on(fresh_topics: Connections) -> None:
    """The earlier one is told by whom at its next record, which no reader counts, from wherever it reads."""
    with (
        closing(Journal(fresh_topics)) as first,
        closing(Journal(fresh_topics)) as idle,
        closing(Journal(fresh_topics)) as last,
    ):
        kept = [intent(1), result(1), intent(2)]
        offsets = [last.append(record) for record in kept[:2]]
        with pytest.raises(Conflict, match=rf"journal of this Kafka is held by another learner, process {os.getpid()} of "):
            first.append(intent(1, offset=5))
        with pytest.raises(Conflict, match="another learner"):
            idle.append(result(1))
        last.append(kept[2])  # past what those two have left there
        assert read_journal(fresh_topics) == kept
        assert read_journal(fresh_topics, offsets[1]) == kept[2:]
        assert read_journal(fresh_topics, offsets[0]) == kept[1:]


@pytest.mark.services
def test_a_line_reads_its_own_records(fresh_topics: Connections) -> None:
    """Two warm starts, one topic: each reads its own steps, and those of before there were lines (`test_old_lines` has whose they are)."""
    written, store = [], Store(fresh_topics.store)
    for line in ("", "00000000-a", "00000000-b"):
        with closing(Journal(fresh_topics, line)) as journal:
            record = decision(line, True)
            journal.append(record)
            written.append(record)
    assert read_journal(fresh_topics) == written
    assert read_journal(fresh_topics, line=Line(store, "00000000-a")) == written[:2]
    assert read_journal(fresh_topics, line=Line(store, "00000000-b")) == [written[0], written[2]]


@pytest.mark.services
def test_what_is_written_is_read_back_from_any_offset(fresh_topics: Connections) -> None:
    """Each write returns the offset after it; reading from there gives the rest."""
    journal = Journal(fresh_topics)
    try:
        records = [intent(1), result(1), decision("c", True), intent(2)]
        offsets = [journal.append(record) for record in records]
    finally:
        journal.close()
    assert read_journal(fresh_topics) == records
    assert read_journal(fresh_topics, offsets[1]) == records[2:]
    assert read_journal(fresh_topics, offsets[3]) == []
