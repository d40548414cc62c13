"""The two posterior agents for the runtime."""

from __future__ import annotations

from reward.settings import RewardSettings
from schemas.connections import Connections
from schemas.topics import DELTAS, VIEWS
from streams.posteriors import counts_core, merger_core
from streams.posteriors.counts_core import CountsCore
from streams.posteriors.merger_core import MergerCore
from streams.runtime.core import Agent


def posteriors_agents(connections: Connections, settings: RewardSettings) -> list[Agent]:
    """Counts per partition of views, and the merger of all ``connections.partitions`` of them."""
    posterior, sources = settings.posterior, connections.partitions
    return [
        Agent(counts_core.NAME, (VIEWS,), lambda partition: CountsCore(partition, posterior)),
        Agent(merger_core.NAME, (DELTAS,), lambda _: MergerCore(sources, posterior)),
    ]
