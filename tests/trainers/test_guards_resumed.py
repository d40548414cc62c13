"""The guards over a restart: the next learner knows what the one before it knew, and goes the way that one would have gone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from schemas.campaigns import Campaign
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import LearningError
from schemas.journal import GateDecision, StepResult
from schemas.store import Store
from schemas.topics import CANDIDATES, PROMOTED, WEIGHTS
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_toys import view
from tests.trainers.test_guards import alarms_of, guarded, produce, walk
from tests.trainers.test_resume import VERSIONS
from trainers.checkpoints import MANIFEST, _seal, path_of
from trainers.guards import BEFORE, in_words
from trainers.journal import read_journal, read_topic
from trainers.learner import Learner
from trainers.state import save_warm_start

#: A bound that nothing keeps, and the step at which there are enough of them to say so.
STRICT = {"reward_jump": 1e-9, "on_alarm": "roll_back"}
RINGS = 2 * (1 + BEFORE)


@pytest.fixture
def frozen(fresh_topics: Connections) -> str:
    """The warm start's name in a store of its own."""
    return save_warm_start(Store(fresh_topics.store), policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint


def back_at(connections: Connections) -> list[tuple[int, str]]:
    """Step and checkpoint of every time that training was sent back."""
    return [(alarm.step, alarm.restored) for alarm in alarms_of(connections) if alarm.restored]


def spoil(learner: Learner) -> None:
    """Weights by which no loss is finite."""
    for parameter in learner.state.policy.module.parameters():
        parameter.data.fill_(float("nan"))


def without_alarms(connections: Connections, checkpoint: str) -> None:
    """Make a manifest one that has no such field yet."""
    path = Path(connections.store) / path_of(checkpoint) / MANIFEST
    fields = msgspec.json.decode(path.read_bytes())
    assert fields.pop("alarms") and fields.pop("sha256")
    path.write_bytes(_seal(msgspec.json.encode(fields)))


@pytest.mark.services
@pytest.mark.parametrize("old", [False, True])
def test_what_a_guard_holds_back_stays_so_over_a_restart(fresh_topics: Connections, frozen: str, old: bool) -> None:
    """Stopped while a guard rings: the last checkpoint is neither judged nor announced, though the next learner's guards have seen
    nothing yet; its journal says why, once. The guard still rings at the next step, so what comes of that is held back, too: also
    where the checkpoint is an old one that says what rang in words alone, but then the alarm is told a second time."""
    produce(fresh_topics, 100)
    learner = guarded(fresh_topics, frozen, max_lag=40)
    try:
        learner.resume()
        walk(learner, 2)
        held = learner.checkpoint()
        assert held.held == in_words(held.alarms) and [alarm.guard for alarm in held.alarms] == ["lag"]
    finally:
        learner.close()
    told = alarms_of(fresh_topics)
    if old:
        without_alarms(fresh_topics, held.checkpoint)
    for _ in range(2):
        again = guarded(fresh_topics, frozen, max_lag=40)
        try:
            again.resume()
        finally:
            again.close()
        (decision,) = (r for r in read_journal(fresh_topics) if isinstance(r, GateDecision))
        assert (decision.checkpoint, decision.promoted, decision.reason) == (held.checkpoint, False, held.held)
        assert read_topic(fresh_topics, CANDIDATES) == read_topic(fresh_topics, PROMOTED) == []
    last = guarded(fresh_topics, frozen, max_lag=40)
    try:
        last.resume()
        walk(last, 1)
        last.publish(last.checkpoint())
    finally:
        last.close()
    assert read_topic(fresh_topics, CANDIDATES) == read_topic(fresh_topics, PROMOTED) == []
    assert [(a.guard, a.on) for a in alarms_of(fresh_topics)] == [("lag", True)] * (2 if old else 1)
    assert alarms_of(fresh_topics)[:1] == told


@pytest.mark.services
@pytest.mark.parametrize("judged", [True, False])
def test_a_restart_rings_at_the_step_at_which_it_would_have(fresh_topics: Connections, frozen: str, judged: bool) -> None:
    """Most of what the guard looks at lies before the checkpoint: the next learner reads it from the journal. A kill between the
    step that rings and what is told of it changes nothing either."""
    produce(fresh_topics, 60)
    learner = guarded(fresh_topics, frozen, **STRICT)
    try:
        learner.resume()
        walk(learner, RINGS - 2)
        learner._publisher.hold_back(learner.checkpoint(), "for the test")
        walk(learner, 1)
        if not judged:
            while not learner.wait_for_step():
                pass
            learner.step(learner.intend())
    finally:
        learner.close()
    assert back_at(fresh_topics) == []
    for steps in (1, 2) if judged else (0, 2):
        again = guarded(fresh_topics, frozen, **STRICT)
        try:
            again.resume()
            walk(again, steps)
        finally:
            again.close()
        assert back_at(fresh_topics) == [(RINGS, frozen)]


@pytest.mark.services
def test_a_campaign_that_begins_is_no_jump_of_the_reward(fresh_topics: Connections, frozen: str) -> None:
    """It changes what a reward is, as a new version of the weights does, though its book was there all the time. A restart knows
    which steps were before it."""
    sale = Campaign("sale", 1, "sale", "me", starts_ms=view(30).emitted_at, relevance=4)
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    producer.send(WEIGHTS.name, key=b"global", value=encode(RewardWeights(version=2, campaigns=(sale,))), partition=0)
    producer.close()
    produce(fresh_topics, 20)
    learner = guarded(fresh_topics, frozen, **STRICT)
    try:
        learner.resume()
        walk(learner, RINGS - 4)
        produce(fresh_topics, 60, first=20)
        walk(learner, 5)
        learner._publisher.hold_back(learner.checkpoint(), "for the test")
    finally:
        learner.close()
    again = guarded(fresh_topics, frozen, **STRICT)
    try:
        again.resume()
        walk(again, 1)
    finally:
        again.close()
    running = [record.campaigns for record in read_journal(fresh_topics) if isinstance(record, StepResult)]
    assert running[0] == () and running[-2:] == [("sale",)] * 2 and len(running) == RINGS + 2
    assert alarms_of(fresh_topics) == []


@pytest.mark.services
def test_a_checkpoint_of_steps_taken_again_says_which_guard_rings(fresh_topics: Connections, frozen: str) -> None:
    """A guard rings, the learner is killed before a checkpoint, and the next one is stopped before its first own step."""
    produce(fresh_topics, 100)
    learner = guarded(fresh_topics, frozen, max_lag=40)
    try:
        learner.resume()
        walk(learner, 2)
    finally:
        learner.close()
    told = alarms_of(fresh_topics)
    assert [(alarm.guard, alarm.on) for alarm in told] == [("lag", True)]
    again = guarded(fresh_topics, frozen, max_lag=40)
    try:
        again.resume()
        assert again.unsaved() and [alarm.guard for alarm in again.checkpoint().alarms] == ["lag"]
        rings = again._exposition.registry.get_sample_value("headrace_learner_guard_seconds", {"guard": "lag"})
        assert rings is not None and rings > 0
    finally:
        again.close()
    assert alarms_of(fresh_topics) == told, "it is told once"


@pytest.mark.services
@pytest.mark.slow
def test_too_many_steps_left_out_stop_the_learner_but_no_start(fresh_topics: Connections, frozen: str) -> None:
    """Weights that make no loss finite: beyond the bound the learner ends by name. It starts again, ends at the next such step,
    and once it is told to go back it does so, and learns."""
    produce(fresh_topics, 100)
    learner = guarded(fresh_topics, frozen, max_left_out=3)
    try:
        learner.resume()
        walk(learner, 1)
        spoil(learner)
        learner._publisher.hold_back(learner.checkpoint(), "for the test")
        with pytest.raises(LearningError, match="4 steps in a row were not finite, 3 are allowed"):
            walk(learner, 9)
    finally:
        learner.close()
    again = guarded(fresh_topics, frozen, max_left_out=3)
    try:
        again.resume()
        with pytest.raises(LearningError, match="5 steps in a row were not finite, 3 are allowed"):
            walk(again, 1)
    finally:
        again.close()
    assert back_at(fresh_topics) == []
    back = guarded(fresh_topics, frozen, max_left_out=3, on_alarm="roll_back")
    try:
        back.resume()
        assert back_at(fresh_topics) == [(6, frozen)]
        assert back._exposition.registry.get_sample_value("headrace_learner_rollbacks_total") == 1
        walk(back, 2)
    finally:
        back.close()
    last = [record for record in read_journal(fresh_topics) if isinstance(record, StepResult)][-2:]
    assert [record.step for record in last] == [7, 8] and all("loss" in record.metrics for record in last)
