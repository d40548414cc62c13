"""A learner process of the tests: the toy shop, many checkpoints. Arguments: connections as JSON, the first checkpoint, `changed` or `first` settings."""

from __future__ import annotations

import signal
import sys
import threading

from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.store import Store
from tests.trainers.learner_toys import tools
from trainers.learner import Learner, learn
from trainers.settings import GateSettings, LearnerSettings, TrainerSettings

SETTINGS = TrainerSettings(
    learner=LearnerSettings(
        group=6, prompts=4, window_size=24, held_out_share=0.2, held_out_size=32, wait_s=0.05, idle_steps=0,
        max_backlog=8192, warm_start_batch=4, learning_rate=1e-3, checkpoint_every_steps=5, checkpoint_every_s=3600,
        catalogue_every_s=0.0,
    ),
    gate=GateSettings(views=24, min_views=8, k=5, repeats=100, margin=0.5),
)  # fmt: skip


#: What an operator changes while steps are still to be taken again.
CHANGED = SETTINGS.model_copy(
    update={"learner": SETTINGS.learner.model_copy(update={"learning_rate": 3e-3, "window_size": 12, "group": 8})}
)


def open_learner(
    connections: Connections, frozen: str, settings: TrainerSettings = SETTINGS, relevance: str = "rel"
) -> Learner:
    """The toy shop's learner."""
    artefacts = Artefacts(identifiers="cb1", relevance=relevance, frozen=frozen)
    return Learner(connections, Store(connections.store), artefacts, settings, tools)


if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    chosen = CHANGED if sys.argv[3] == "changed" else SETTINGS
    learn(open_learner(Connections.model_validate_json(sys.argv[1]), sys.argv[2], chosen), stop)
