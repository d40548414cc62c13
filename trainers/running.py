"""The learner as a process: alone, or one of several ranks, of which rank 0 learns and the others follow."""

from __future__ import annotations

from threading import Event

from reward.settings import RewardSettings
from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.single import single
from schemas.store import Store
from trainers.follower import follow
from trainers.learner import Learner, learn
from trainers.policies.base import Policy
from trainers.ranks import ranks_here
from trainers.settings import LearnerSettings, TrainerSettings
from trainers.tools import OpenTools, Tools, open_tools

REMEDY = "stop that one first; it may be that of `headrace up`, which takes --ranks too"


def run(
    connections: Connections,
    store: Store,
    artefacts: Artefacts,
    settings: TrainerSettings,
    stop: Event,
    reward: RewardSettings | None = None,
) -> None:
    """Learn until ``stop`` is set, on any rank; then write a last checkpoint and return.

    Raises:
        Conflict: a learner runs on this machine.
        Unavailable: no checkpoint to start from, an artefact is missing, or the broker or another rank stays away.
        Corrupt, Incompatible: what is stored does not fit together.
        LearningError: a step is not finite.
    """

    def tools(policy: Policy, chosen: LearnerSettings) -> Tools:
        return open_tools(store, artefacts, policy, chosen, reward or RewardSettings())

    lead_or_follow(connections, store, artefacts, settings, tools, stop)


def lead_or_follow(
    connections: Connections,
    store: Store,
    artefacts: Artefacts,
    settings: TrainerSettings,
    open_tools: OpenTools,
    stop: Event,
) -> None:
    """`run` with these tools. A second learner would decide the same steps otherwise, and no start could take up that journal:
    on one machine it is refused before it reads or writes anything."""
    ranks = ranks_here(settings.learner.ranks_timeout_s)
    if ranks.rank:
        follow(connections, store, artefacts, open_tools, ranks, stop)
        return
    with single(connections.kafka, "learner", "the learner of this Kafka", REMEDY):
        learn(Learner(connections, store, artefacts, settings, open_tools, ranks), stop)
