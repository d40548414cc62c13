"""What a learner does between two steps is no other because it was started again meanwhile."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer

from schemas.codec import encode
from schemas.connections import Connections
from schemas.journal import StepResult
from schemas.store import Store
from schemas.topics import WEIGHTS
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_worker import SETTINGS, open_learner
from tests.trainers.test_guards import produce
from tests.trainers.test_resume import VERSIONS
from trainers.journal import read_journal
from trainers.learner import Learner
from trainers.state import save_warm_start

IDLE = 3
PATIENT = SETTINGS.model_copy(update={"learner": SETTINGS.learner.model_copy(update={"idle_steps": IDLE})})


def stepped(learner: Learner) -> bool:
    """Take the step that is due; False: none has been for several times as long as one waits."""
    if not any(learner.wait_for_step() for _ in range(10)):
        return False
    learner.step(learner.intend())
    return True


@pytest.mark.services
def test_a_restart_takes_no_step_that_an_undisturbed_learner_would_not(fresh_topics: Connections) -> None:
    """With nothing new to read it goes over its window a few times more. Ended before the first checkpoint and after two of three steps over the window: one is left. Ended at rest, with a checkpoint
    or without: none is, until something comes."""
    frozen = save_warm_start(Store(fresh_topics.store), policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint

    def restarted(stop_at: int = IDLE + 1, saved: bool = False) -> tuple[int, int]:
        """Steps that it took by itself, and how many in a row are without news."""
        learner, taken = open_learner(fresh_topics, frozen, PATIENT), 0
        try:
            learner.resume()
            while learner.state.idle < stop_at and stepped(learner):
                taken += 1
            if saved:
                learner.checkpoint()
            return taken, learner.state.idle
        finally:
            learner.close()

    produce(fresh_topics, 12)
    assert restarted(stop_at=IDLE - 1)[1] == IDLE - 1
    assert restarted() == (1, IDLE)
    assert restarted(saved=True) == (0, IDLE)
    assert restarted() == (0, IDLE)
    produce(fresh_topics, 24, first=12)
    taken, idle = restarted()
    assert taken > IDLE and idle == IDLE
    assert restarted() == (0, IDLE)


@pytest.mark.services
def test_the_way_of_new_weights_into_a_gradient_is_timed_over_a_restart(fresh_topics: Connections) -> None:
    """They come while no learner runs: the next one's first step says how long they waited; no other step does."""
    frozen = save_warm_start(Store(fresh_topics.store), policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint
    produce(fresh_topics, 60)
    for version in (1, 2, 2):
        producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
        producer.send(WEIGHTS.name, key=b"global", value=encode(RewardWeights(version=version, created_ms=1)), partition=0)
        producer.close()
        learner = open_learner(fresh_topics, frozen, PATIENT)
        try:
            learner.resume()
            assert stepped(learner) and stepped(learner)
            learner.checkpoint()
        finally:
            learner.close()
    results = [record for record in read_journal(fresh_topics) if isinstance(record, StepResult)]
    assert [one.weights_version for one in results] == [1, 1, 2, 2, 2, 2]
    assert [one.step for one in results if "weights_to_gradient_s" in one.metrics] == [3]
