"""Training taken again from the journal, over a change of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.store import Store
from tests.trainers import policy_toys
from tests.trainers.learner_toys import tools
from tests.trainers.learner_worker import CHANGED, SETTINGS, open_learner
from tests.trainers.test_guards import produce, walk
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
