"""Training taken again from the journal, over a change of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.store import Store
from tests.trainers import policy_toys
from tests.trainers.learner_toys import tools
from tests.trainers.learner_worker import CHANGED, SETTINGS, open_learner
from tests.trainers.test_guards import guarded, produce, walk
from tests.trainers.test_resume import VERSIONS
from trainers.remake import remake
from trainers.state import save_warm_start


@pytest.mark.services
def test_each_step_is_remade_under_the_settings_of_its_time(fresh_topics: Connections, tmp_path: Path) -> None:
    """Two steps, whose learner leaves no checkpoint, and two under another rate, window and group: taken in one go they make the same
    bytes, as the next learner did, which took the first two again under the settings before its own."""
    store = Store(fresh_topics.store)
    frozen = save_warm_start(store, policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint
    produce(fresh_topics, 40)
    for settings in (SETTINGS, CHANGED):
        learner = open_learner(fresh_topics, frozen, settings)
        try:
            learner.resume()
            walk(learner, 2)
            if settings is CHANGED:
                made = learner.checkpoint()
        finally:
            learner.close()
    artefacts = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen)
    remade = remake(fresh_topics, store, Store(str(tmp_path / "remade")), artefacts, frozen, made.checkpoint, tools)
    assert (remade.steps, remade.differing) == (4, ())
    assert remade.manifest.settings == made.settings == CHANGED.learner.model_dump(mode="json")


@pytest.mark.services
def test_a_checkpoint_made_again_stands_in_for_the_one_that_is_lost(fresh_topics: Connections, tmp_path: Path) -> None:
    """Its manifest says what that one said, but when it was made: where the journal goes on, what time it was, which guard rang."""
    store = Store(fresh_topics.store)
    frozen = save_warm_start(store, policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint
    produce(fresh_topics, 100)
    learner = guarded(fresh_topics, frozen, max_lag=40)
    try:
        learner.resume()
        walk(learner, 2)
        lost = learner.checkpoint()
    finally:
        learner.close()
    assert lost.clock_ms > 0 and lost.alarms
    artefacts = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen)
    made = remake(fresh_topics, store, Store(str(tmp_path / "remade")), artefacts, frozen, lost.checkpoint, tools).manifest
    assert replace(made, created_ms=lost.created_ms) == lost


@pytest.mark.services
@pytest.mark.parametrize("changed", [{"learning_rate": 3e-3}, {"window_size": 12}, {"served_share": 0.5}])
def test_settings_that_wait_for_the_next_step_are_not_in_a_checkpoint_of_the_last(
    changed: dict[str, float], fresh_topics: Connections, tmp_path: Path
) -> None:
    """Killed after five steps, started under other settings, and stopped before a sixth: what it leaves is what those steps made. A
    learner under the first settings goes on from there as if the others had never been."""
    store = Store(fresh_topics.store)
    frozen = save_warm_start(store, policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint
    produce(fresh_topics, 78)
    other = SETTINGS.model_copy(update={"learner": SETTINGS.learner.model_copy(update=changed)})
    made = []
    for settings, steps in ((SETTINGS, 5), (other, 0), (SETTINGS, 3)):
        learner = open_learner(fresh_topics, frozen, settings)
        try:
            learner.resume()
            walk(learner, steps)
            if settings is other or made:
                made.append(learner.checkpoint())
        finally:
            learner.close()
    artefacts = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen)
    for number, (first, last) in enumerate(((frozen, made[0]), (made[0].checkpoint, made[1]), (frozen, made[1]))):
        remade = remake(fresh_topics, store, Store(str(tmp_path / str(number))), artefacts, first, last.checkpoint, tools)
        assert remade.differing == ()
