"""The guards: when each rings, on numbers worked out here; and what the learner then does, to the last bit."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from kafka import KafkaProducer

from schemas.artefacts import Artefacts
from schemas.checkpoints import Alarm
from schemas.connections import Connections
from schemas.journal import GateDecision, GuardAlarm, StepResult
from schemas.store import Store
from schemas.topics import PROMOTED
from tests.trainers import policy_toys
from tests.trainers.learner_toys import tools
from tests.trainers.learner_worker import SETTINGS
from tests.trainers.test_resume import VERSIONS, send
from trainers.checkpoints import path_of
from trainers.guards import BEFORE, Guards, in_words
from trainers.journal import read_journal, read_topic
from trainers.learner import Learner
from trainers.remake import remake
from trainers.settings import GuardSettings, TrainerSettings
from trainers.state import OPTIMISER, save_warm_start


def rings(guards: Guards) -> dict[str, float]:
    """Names and values of the alarms."""
    return {alarm.guard: alarm.value for alarm in guards.alarms()}


def test_entropy_that_collapsed_rings_once_enough_steps_show_it() -> None:
    """Levels of 0.03 and 0.02 nats: exp(-0.05) = 0.951 beyond 0.9. One varied step among three: exp(-(0.05 * 2 + 2) / 3) = 0.5."""
    guards, flat = Guards(GuardSettings(steps=3)), {"entropy.1": 0.03, "entropy.2": 0.02}
    for _ in range(2):
        guards.see(flat, 1)
    assert rings(guards) == {}
    guards.see(flat, 1)
    assert rings(guards) == pytest.approx({"entropy_collapse": math.exp(-0.05)})
    guards.see({"entropy.1": 1.5, "entropy.2": 0.5}, 1)
    assert rings(guards) == {}


@pytest.mark.parametrize("jump", [1.0, -1.0])
def test_a_jump_of_the_reward_rings_under_the_same_weights_alone(jump: float) -> None:
    """Before: 1 and 3 in turn, mean 2, standard deviation 1. Two steps at 2 + 7 are 7 deviations off, up or down; after a change
    of the weights nothing is known yet."""
    settings = GuardSettings(steps=2, reward_jump=6)
    for weights, expected in ((1, {"reward_jump": 7.0}), (2, {})):
        guards = Guards(settings)
        for n in range(2 * BEFORE):
            guards.see({"reward": 1.0 + 2 * (n % 2)}, 1)
        for _ in range(2):
            guards.see({"reward": 2 + 7 * jump}, weights)
        assert rings(guards) == pytest.approx(expected)


@pytest.mark.parametrize("gap", [{"left_out": 1.0}, {"not_finite": 1.0}, {}])
def test_steps_that_measure_nothing_hide_nothing(gap: dict[str, float]) -> None:
    """Flat, and a reward that jumps by 7 deviations, as above, with a step in every four that has neither: judged are those that have."""
    guards = Guards(GuardSettings(steps=2, reward_jump=6))
    for n in range(2 * (1 + BEFORE)):
        reward = 1.0 + 2 * (n % 2) if n < 2 * BEFORE else 9.0
        guards.see({"entropy.1": 0.05, "reward": reward}, 1)
        if n % 3 == 0:
            guards.see(gap, 1)
    alarms = rings(guards)
    assert alarms.pop("not_finite", 1.0) == 1.0
    assert alarms == pytest.approx({"entropy_collapse": math.exp(-0.05), "reward_jump": 7.0})
    for _ in range(2):
        guards.see(gap, 1)
    assert rings(guards).keys() >= alarms.keys(), "nothing else is known yet"


def test_lag_and_steps_left_out() -> None:
    """The last step's lag counts; a step left out rings as long as it is among the last ones."""
    guards = Guards(GuardSettings(steps=2, max_lag=10))
    guards.see({"lag": 11.0, "not_finite": 1.0}, 1)
    assert rings(guards) == {"lag": 11.0, "not_finite": 1.0}
    guards.see({"lag": 10.0}, 1)
    assert rings(guards) == {"not_finite": 1.0}
    guards.see({"lag": 10.0}, 1)
    assert rings(guards) == {}


@pytest.fixture
def frozen(fresh_topics: Connections) -> str:
    """The warm start's name in a store of its own."""
    return save_warm_start(Store(fresh_topics.store), policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint


def produce(connections: Connections, views: int, first: int = 0) -> None:
    """So many page views to learn from, from number ``first`` on."""
    producer = KafkaProducer(bootstrap_servers=connections.kafka, acks="all")
    send(producer, first, first + views)
    producer.close()


def guarded(connections: Connections, frozen: str, **changes: object) -> Learner:
    """The toy shop's learner under other bounds."""
    learner = SETTINGS.learner.model_copy(update={"guards": GuardSettings(steps=2, **changes)})  # type: ignore[arg-type]
    settings: TrainerSettings = SETTINGS.model_copy(update={"learner": learner})
    artefacts = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen)
    return Learner(connections, Store(connections.store), artefacts, settings, tools)


def walk(learner: Learner, steps: int) -> None:
    """So many steps on what is there."""
    while steps:
        if learner.wait_for_step():
            learner.step(learner.intend())
            learner.judge()
            steps -= 1


def test_people_read_guard_value_and_bound() -> None:
    """Four digits are enough for them; who needs all reads the alarms."""
    alarms = [Alarm("lag", 123_456.0, 100_000.0), Alarm("reward_jump", 7.0, 6.0)]
    assert in_words(alarms) == "guard lag: 1.235e+05, 1e+05 is allowed; guard reward_jump: 7, 6 is allowed"
    assert in_words([]) == ""


def alarms_of(connections: Connections) -> list[GuardAlarm]:
    """What the guards told."""
    return [record for record in read_journal(connections) if isinstance(record, GuardAlarm)]


@pytest.mark.services
@pytest.mark.slow
def test_publishing_waits_for_the_guards_and_goes_on_by_itself(fresh_topics: Connections, frozen: str) -> None:
    """With 100 views waiting and 40 allowed nothing is announced; the journal says why. Once they are learned, it is."""
    produce(fresh_topics, 100)
    learner = guarded(fresh_topics, frozen, max_lag=40)
    try:
        learner.resume()
        walk(learner, 2)
        held = learner.checkpoint()
        learner.publish(held)
        journal = read_journal(fresh_topics)
        (alarm,) = (r for r in journal if isinstance(r, GuardAlarm))
        assert (alarm.guard, alarm.on, alarm.bound, alarm.restored) == ("lag", True, 40, "") and alarm.value > 40
        (decision,) = (r for r in journal if isinstance(r, GateDecision))
        assert not decision.promoted and decision.reason.startswith("guard lag: ") and decision.checkpoint == held.checkpoint
        assert read_topic(fresh_topics, PROMOTED) == []
        while not learner._watch.quiet:
            walk(learner, 1)
        learner.publish(learner.checkpoint())
        last = [r for r in read_journal(fresh_topics) if isinstance(r, GuardAlarm | GateDecision)][-2:]
        assert isinstance(last[0], GuardAlarm) and not last[0].on
        assert isinstance(last[1], GateDecision) and "guard" not in last[1].reason
    finally:
        learner.close()


@pytest.mark.services
def test_rolled_back_it_is_the_same_however_often_it_is_killed(
    fresh_topics: Connections, frozen: str, tmp_path: Path
) -> None:
    """A bound that nothing keeps sends training back to the first checkpoint after 10 steps. Another process that starts without a
    later checkpoint takes the same way, and so does the journal's replay."""
    store, bare = Store(fresh_topics.store), tmp_path / "bare"
    shutil.copytree(fresh_topics.store, bare)
    produce(fresh_topics, 60)
    strict = {"reward_jump": 1e-9, "on_alarm": "roll_back"}
    learner = guarded(fresh_topics, frozen, **strict)
    try:
        learner.resume()
        walk(learner, 2 * (1 + BEFORE) + 3)
        made = learner.checkpoint()
    finally:
        learner.close()
    told = [(a.step, a.guard, a.restored) for a in alarms_of(fresh_topics) if a.on]
    assert told == [(10, "reward_jump", frozen)]
    again = guarded(fresh_topics.model_copy(update={"store": str(bare)}), frozen, **strict)
    try:
        again.resume()
        assert again.checkpoint().files == made.files
        walk(again, 1)
        assert [(a.step, a.restored) for a in alarms_of(fresh_topics) if a.on] == [(10, frozen)], (
            "the next step rings not again"
        )
    finally:
        again.close()
    artefacts = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen)
    remade = remake(fresh_topics, store, Store(str(tmp_path / "remade")), artefacts, frozen, made.checkpoint, tools)
    assert remade.differing == () and remade.steps == made.step


@pytest.mark.services
def test_steps_that_are_not_finite_roll_back_at_the_second(fresh_topics: Connections, frozen: str) -> None:
    """The first may be the batch's fault; after the second the weights are those of the checkpoint promoted last, and learning goes on."""
    produce(fresh_topics, 60)
    learner = guarded(fresh_topics, frozen, on_alarm="roll_back", max_left_out=5)
    try:
        learner.resume()
        walk(learner, 1)
        for parameter in learner.state.policy.module.parameters():
            parameter.data.fill_(float("nan"))
        walk(learner, 5)
        journal = read_journal(fresh_topics)
    finally:
        learner.close()
    assert [r.step for r in journal if isinstance(r, StepResult) and r.metrics.get("not_finite")] == [2, 3]
    told = [(a.step, a.on, a.restored) for a in journal if isinstance(a, GuardAlarm) and a.guard == "not_finite"]
    assert told == [(2, True, ""), (3, True, frozen), (4, False, "")]


@pytest.mark.services
def test_a_damaged_checkpoint_is_nothing_to_go_back_to(fresh_topics: Connections, frozen: str) -> None:
    """The one promoted last has lost a file since: training goes back to the one before it, and a restart does too."""
    produce(fresh_topics, 60)
    settings = {"reward_jump": 1e-9, "on_alarm": "roll_back"}
    learner = guarded(fresh_topics, frozen, **settings)
    try:
        learner.resume()
        walk(learner, 1)
        damaged = learner.checkpoint()
        learner._publisher._promote(damaged, "for the test")
        (Store(fresh_topics.store).folder(path_of(damaged.checkpoint)) / OPTIMISER).unlink()
        walk(learner, 2 * (1 + BEFORE))
        (alarm,) = (r for r in read_journal(fresh_topics) if isinstance(r, GuardAlarm) and r.on)
        assert alarm.restored == frozen
    finally:
        learner.close()
    again = guarded(fresh_topics, frozen, **settings)
    try:
        again.resume()
        assert again.state.step == 2 * (1 + BEFORE) + 1
    finally:
        again.close()
