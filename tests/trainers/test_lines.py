"""A new warm start begins a new line of training; a step that cannot be taken is left out. Over one Kafka and one store."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
import torch
from kafka import KafkaProducer

from schemas.artefacts import Artefacts
from schemas.checkpoints import Promotion
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import InvalidValue, NotFound
from schemas.journal import StepIntent, StepResult
from schemas.store import Store
from schemas.topics import CANDIDATES, PROMOTED, WEIGHTS
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_toys import tools
from tests.trainers.learner_worker import SETTINGS, open_learner
from tests.trainers.test_breaker import verdict
from tests.trainers.test_guards import produce, walk
from tests.trainers.test_resume import VERSIONS
from trainers import checkpoints
from trainers.journal import read_journal, read_topic
from trainers.learner import Learner, learn
from trainers.leaving_out import leave_out
from trainers.lineage import lineage
from trainers.lines import Line
from trainers.remake import remake
from trainers.settings import LossSettings
from trainers.state import save_warm_start

pytestmark = pytest.mark.services


def warm(connections: Connections, seed: int) -> str:
    """A warm start of the toy shop, with the same identifiers whatever the seed."""
    return save_warm_start(Store(connections.store), policy_toys.toy_policy(seed=seed), 0, VERSIONS, {}).checkpoint


class Later(Event):
    """A stop some rounds after everything was learned; from then on it is long ago that a checkpoint was made."""

    def __init__(self, learner: Learner, broken: bool) -> None:
        super().__init__()
        self._learner, self._broken, self._rounds = learner, broken, 20

    def is_set(self) -> bool:
        if self._learner.state.step and not self._learner._feed.lag():
            self._rounds -= 1
            self._learner._saved_at = -1e9
            if self._broken:
                self._learner._breaker.follow(verdict(1_000))
        return self._rounds < 0


@pytest.mark.parametrize("broken", [False, True])
def test_the_last_steps_before_a_silence_are_published(fresh_topics: Connections, broken: bool) -> None:
    """The time for a checkpoint comes when no step does. What was learned of a log that turned out to be broken waits."""
    produce(fresh_topics, 3)
    learner = open_learner(fresh_topics, warm(fresh_topics, 1))
    learn(learner, Later(learner, broken))
    assert learner.state.step > 0
    announced = [candidate.step for candidate in read_topic(fresh_topics, CANDIDATES)]
    assert announced == ([] if broken else [learner.state.step])


@pytest.mark.slow
def test_a_new_warm_start_is_not_the_old_lines(fresh_topics: Connections, tmp_path: Path) -> None:
    """The first line has steps, a promotion and a step that waits. The second begins at its own warm start, learns everything anew
    and is told apart wherever either is read; the first goes on where it was, should its warm start come back."""
    store = Store(fresh_topics.store)
    produce(fresh_topics, 60)
    old, made = warm(fresh_topics, 1), {}
    one = open_learner(fresh_topics, old)
    try:
        one.resume()
        walk(one, 4)
        made[old] = one.checkpoint()
        one._publisher._promote(made[old], "for the test")
        walk(one, 2)
        one.intend()
    finally:
        one.close()
    new = warm(fresh_topics, 2)
    two = open_learner(fresh_topics, new)
    try:
        two.resume()
        assert (two.state.step, two.state.offsets, list(two._publisher.line)) == (0, {}, [new])
        walk(two, 5)
        made[new] = two.checkpoint()
        two._publisher._promote(made[new], "for the test")
        assert list(two._publisher.line) == [new, made[new].checkpoint]
    finally:
        two.close()
    promotions: list[Promotion] = read_topic(fresh_topics, PROMOTED)
    assert [(p.start, Line(store, new).promoted(p)) for p in promotions] == [(old, False), (new, True)]
    for frozen, manifest in made.items():
        assert manifest.line == frozen
        found = lineage(store, read_journal(fresh_topics, line=Line(store, manifest.line)), manifest.checkpoint)
        assert [(one.checkpoint, one.last_step) for one in found] == [(manifest.checkpoint, manifest.step), (frozen, 0)]
        artefacts, target = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen), Store(str(tmp_path / frozen))
        assert remake(fresh_topics, store, target, artefacts, frozen, manifest.checkpoint, tools).differing == ()
    back = open_learner(fresh_topics, old)
    try:
        back.resume()
        assert (back.state.step, list(back._publisher.line)) == (7, [old, made[old].checkpoint])
    finally:
        back.close()


@pytest.mark.slow
def test_a_step_that_cannot_be_taken_is_left_out(fresh_topics: Connections, tmp_path: Path) -> None:
    """Decided, and never taken: after `leave_out` it changes no weight, reads what it was to read, and is so for everybody who takes
    the steps again. Nobody looks at its views, which may be what cannot be done, and the weights that are new then reach a gradient at
    the step behind it."""
    store, produced = Store(fresh_topics.store), 60
    produce(fresh_topics, produced)
    frozen = warm(fresh_topics, 1)
    artefacts = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen)
    looking = SETTINGS.model_copy(update={"learner": SETTINGS.learner.model_copy(update={"whereabouts_every_steps": 1})})
    one = open_learner(fresh_topics, frozen, looking)
    try:
        one.resume()
        walk(one, 1)
        with pytest.raises(NotFound, match="nothing to leave out"):
            leave_out(fresh_topics, store, artefacts, "why not")
        walk(one, 1)  # a healthy learner is not taken over from
        before = {name: value.clone() for name, value in one.state.policy.module.state_dict().items()}
        producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
        producer.send(WEIGHTS.name, key=b"global", value=encode(RewardWeights(version=5, created_ms=1)), partition=0)
        producer.close()
        assert any(one.wait_for_step() for _ in range(10))
        waiting = one.intend()
    finally:
        one.close()
    assert leave_out(fresh_topics, store, artefacts, "more than this machine has").step == waiting.step == 3
    with pytest.raises(NotFound):
        leave_out(fresh_topics, store, artefacts, "again")
    for _ in range(2):  # and whoever takes it again leaves it out again
        two = open_learner(fresh_topics, frozen, looking)
        try:
            two.resume()
            assert two.state.step == 3 and two.state.offsets == {**one.state.offsets, **waiting.offsets}
            assert all(torch.equal(before[name], value) for name, value in two.state.policy.module.state_dict().items())
        finally:
            two.close()
    three = open_learner(fresh_topics, frozen, looking)
    try:
        three.resume()
        walk(three, 2)
        made = three.checkpoint()
    finally:
        three.close()
    told = {r.step: r.metrics for r in read_journal(fresh_topics) if isinstance(r, StepResult)}
    assert told[3]["left_out"] == 1 and "loss" not in told[3]
    assert [step for step, one in told.items() if "valid_sids" in one] == [1, 2, 4, 5]
    assert waiting.weights.version == 5 and [step for step, one in told.items() if "weights_to_gradient_s" in one] == [4]
    remade = remake(fresh_topics, store, Store(str(tmp_path / "remade")), artefacts, frozen, made.checkpoint, tools)
    assert remade.differing == () and remade.steps == 5


def test_settings_that_the_catalogue_cannot_meet_are_refused_before_a_step_is_decided(fresh_topics: Connections) -> None:
    """More different identifiers a group than there are: a step decided so would fail at every start."""
    produce(fresh_topics, 60)
    learner = SETTINGS.learner.model_copy(update={"sampling": "without_replacement", "group": 100})
    one = open_learner(fresh_topics, warm(fresh_topics, 1), SETTINGS.model_copy(update={"learner": learner}))
    try:
        one.resume()
        with pytest.raises(InvalidValue, match="rollouts per prompt is 100, but must be 1 to "):
            walk(one, 1)
    finally:
        one.close()
    assert not [record for record in read_journal(fresh_topics) if isinstance(record, StepIntent)]
    store = Store(fresh_topics.store)
    assert checkpoints.newest_of(store, Line(store, ""), "cb1").step == 0


def test_a_learner_that_draws_no_groups_takes_a_step_whatever_their_size(fresh_topics: Connections) -> None:
    """Supervised learning: how many identifiers a group would have bounds nothing."""
    produce(fresh_topics, 60)
    changed = {"sampling": "without_replacement", "group": 100, "loss": LossSettings(learner="sft")}
    learner = SETTINGS.learner.model_copy(update=changed)
    one = open_learner(fresh_topics, warm(fresh_topics, 1), SETTINGS.model_copy(update={"learner": learner}))
    try:
        one.resume()
        walk(one, 1)
    finally:
        one.close()
    (result,) = (record for record in read_journal(fresh_topics) if isinstance(record, StepResult))
    assert "sft_ce" in result.metrics
