"""The rewarding agent for the runtime: loads what its cores share, once a process."""

from __future__ import annotations

from pathlib import Path

from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from reward.settings import RewardSettings
from reward.snapshot import PosteriorSnapshot
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.connections import Connections
from schemas.store import Store
from schemas.topics import SNAPSHOTS, VIEWS
from streams.rewarding.core import NAME, RewardingCore
from streams.runtime.core import Agent


def rewarding_agent(connections: Connections, store: Store, artefacts: Artefacts, settings: RewardSettings) -> Agent:
    """Views and snapshots in, examples out.

    Raises:
        Unavailable, Corrupt: an artefact is missing or does not pass its check.
    """
    catalogue = Catalogue.load(store)
    encoder = SentenceEncoder(Path(settings.relevance.model) if settings.relevance.model else None)
    relevance = RelevanceScorer.load(store, artefacts.relevance, catalogue, encoder)

    def build(partition: int) -> RewardingCore:
        return RewardingCore(
            partition, catalogue, relevance, lambda pointer: PosteriorSnapshot.read(store, pointer), settings.posterior
        )

    return Agent(NAME, (VIEWS, SNAPSHOTS), build)
