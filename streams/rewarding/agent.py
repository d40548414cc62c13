"""The rewarding agent for the runtime: loads catalogue, scorer and snapshots from the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from reward.settings import PosteriorSettings, RewardSettings
from reward.snapshot import PosteriorSnapshot
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.connections import Connections
from schemas.identifiers import read_level_sizes
from schemas.posteriors import SnapshotPointer
from schemas.store import Store
from schemas.topics import EXAMPLES, SNAPSHOTS, VIEWS
from streams.item_log import ItemLog
from streams.rewarding.core import NAME, Later, RewardingCore, Tiers
from streams.rewarding.newcomers import Newcomers
from streams.rewarding.traces import tell_traces
from streams.runtime.core import Agent

#: Snapshots kept in memory; views of neighbouring times share one.
KEPT = 4


def rewarding_agent(
    connections: Connections, store: Store, artefacts: Artefacts, settings: RewardSettings, settle_s: int
) -> Agent:
    """The agent, with the relevance scorer and the catalogue that ``artefacts`` name. ``settle_s``: the click window, see
    `Newcomers`.

    Raises:
        Unavailable, Incompatible, Corrupt: as the artefacts' loaders.
    """
    catalogue = Catalogue.load(store)
    folder = settings.relevance.model
    encoder = SentenceEncoder(Path(folder) if folder else None)
    scorer = RelevanceScorer.load(store, artefacts.relevance, catalogue, encoder)
    sizes = read_level_sizes(store, artefacts.identifiers)
    read = ItemLog(connections, NAME, artefacts.identifiers, sizes)
    later = Newcomers(catalogue, scorer, encoder.encode, read, settle_s * 1_000)
    return agent_of(catalogue, scorer, snapshot_loader(store), settings.posterior, later)


def agent_of(
    catalogue: Catalogue,
    tiers: Tiers,
    load: Callable[[SnapshotPointer], PosteriorSnapshot],
    settings: PosteriorSettings,
    later: Later | None = None,
) -> Agent:
    """The agent over what is loaded already: see `RewardingCore`."""
    return Agent(
        NAME,
        (VIEWS, SNAPSHOTS),
        (EXAMPLES,),
        lambda partition: RewardingCore(partition, catalogue, tiers, load, settings, later),
        tell_traces,
    )


def snapshot_loader(store: Store) -> Callable[[SnapshotPointer], PosteriorSnapshot]:
    """Reads a pointer's snapshot, the last few of them remembered."""

    @lru_cache(maxsize=KEPT)
    def load(pointer: SnapshotPointer) -> PosteriorSnapshot:
        return PosteriorSnapshot.read(store, pointer)

    return load
