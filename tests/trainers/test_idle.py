"""With nothing new to read a learner goes over its window a few times more, and no oftener because it was killed meanwhile."""

from __future__ import annotations

import pytest

from schemas.connections import Connections
from schemas.store import Store
from tests.trainers import policy_toys
from tests.trainers.learner_worker import SETTINGS, open_learner
from tests.trainers.test_guards import produce
from tests.trainers.test_resume import VERSIONS
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
    """Ended before the first checkpoint and after two of three steps over the window: one is left. Ended at rest, with a checkpoint
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
