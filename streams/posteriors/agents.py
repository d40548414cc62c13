"""The two posterior agents for the runtime."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from reward.prefixes import Prefixes
from reward.settings import PosteriorSettings, RewardSettings
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.connections import Connections
from schemas.identifiers import read_level_sizes, read_sids
from schemas.store import Store, sha256
from schemas.topics import DELTAS, SNAPSHOTS, VIEWS
from streams.item_log import ItemLog
from streams.posteriors import counts_core, merger_core
from streams.posteriors.counts_core import CountsCore
from streams.posteriors.merger_core import MergerCore
from streams.posteriors.metrics import tell_snapshots
from streams.posteriors.present import ItemPrefixes, PrefixesAt
from streams.runtime.core import Agent


def posteriors_agents(connections: Connections, store: Store, artefacts: Artefacts, settings: RewardSettings) -> list[Agent]:
    """Counts per partition of views, and the merger of all ``connections.partitions`` of them.

    The merger reads catalogue and identifiers when it is built, the counters never.
    """
    posterior, sources = settings.posterior, connections.partitions

    @cache
    def prefixes() -> Callable[[int], Prefixes] | None:
        first = load_prefixes(store, artefacts, posterior)
        if first is None:
            return None
        sizes = read_level_sizes(store, artefacts.identifiers)
        read = ItemLog(connections, merger_core.NAME, artefacts.identifiers, sizes)
        return PrefixesAt(first, read, posterior.snapshot_every_s * 1_000)

    shape = posterior.model_dump_json().encode()
    return [
        Agent(counts_core.NAME, (VIEWS,), (DELTAS,), lambda partition: CountsCore(partition, posterior)),
        Agent(
            merger_core.NAME,
            (DELTAS,),
            (SNAPSHOTS,),
            lambda _: MergerCore(sources, posterior, prefixes()),
            tell_snapshots,
            sha256(shape + artefacts.identifiers.encode())[:16],
        ),
    ]


def load_prefixes(store: Store, artefacts: Artefacts, settings: PosteriorSettings) -> ItemPrefixes | None:
    """Of the run's identifiers; None where it has none yet, or ``sid_levels`` is 0.

    Raises:
        Unavailable, InvalidData, Incompatible: catalogue or identifiers cannot be read, or differ in their number of items.
    """
    if not artefacts.identifiers or not settings.sid_levels:
        return None
    catalogue = Catalogue.load(store, attributes=False)
    sids_NL = read_sids(store, artefacts.identifiers, len(catalogue))
    return ItemPrefixes(artefacts.identifiers, catalogue.items, sids_NL, settings.sid_levels)
