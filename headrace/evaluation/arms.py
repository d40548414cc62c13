"""The frozen arm: what the warm start would have shown for the very requests that were served.

It meets the same prompts, filters, weights, posterior snapshots and exploration draws as the page that was served, so the
difference between the two is what the policy has learned since.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from headrace.settings import Settings
from reward.snapshot import PosteriorSnapshot
from schemas import log
from schemas.artefacts import Artefacts
from schemas.events import Impression
from schemas.posteriors import SnapshotPointer
from schemas.store import Store
from schemas.topics import SNAPSHOTS
from schemas.weights import RewardWeights
from serving.engine import SearchEngine
from serving.parts import Parts, open_checkpoint
from serving.requests import SearchRequest
from trainers.policies.base import context_of
from trainers.validity import valid_sid_rate

#: Requests answered in one pass.
BATCH = 32
#: Prompts on which the valid-SID rate is measured.
VALID_PROMPTS = 256


@dataclass(frozen=True)
class Offline:
    """Artefacts of a run, opened for answering its requests again."""

    settings: Settings
    store: Store
    parts: Parts
    snapshots: dict[int, SnapshotPointer]
    weights: dict[int, RewardWeights]

    @classmethod
    def open(cls, settings: Settings, weights: Sequence[RewardWeights]) -> Offline:
        """Read the artefacts from the store and the snapshots' names from their topic."""
        store = Store(settings.store)
        parts = Parts.load(store, Artefacts.load(store), settings.reward)
        pointers = {e.record.version: e.record for e in log.scan(settings.connections, SNAPSHOTS) if e.partition == 0}
        return cls(settings, store, parts, pointers, {1: RewardWeights()} | {w.version: w for w in weights})

    def engine(self, checkpoint: str) -> SearchEngine:
        """The search engine over one checkpoint."""
        policy, manifest = open_checkpoint(self.store, checkpoint)
        return self.parts.engine(policy, manifest, self.settings.serving.engine, self.settings.reward)

    def pages(self, engine: SearchEngine, impressions: Sequence[Impression], k: int) -> Iterator[tuple[str, ...]]:
        """The page of each impression's request under ``engine``, in order."""
        for snapshot_version, group in groupby(impressions, key=lambda i: i.snapshot_version):
            same, snapshot = list(group), self._snapshot(snapshot_version)
            pages: dict[str, tuple[str, ...]] = {}
            for version in sorted({i.weights_version for i in same}):  # the control share's pages lie between the others
                ordering = engine.ordering(self.weights[version])
                requests = [_request(i, k) for i in same if i.weights_version == version]
                for start in range(0, len(requests), BATCH):
                    for answer in engine.answer(requests[start : start + BATCH], ordering, snapshot):
                        pages[answer.request_id] = tuple(item.item for item in answer.items)
            yield from (pages[i.request_id] for i in same)

    def valid_rate(self, engine: SearchEngine, impressions: Sequence[Impression]) -> float:
        """Unconstrained valid-SID rate over up to `VALID_PROMPTS` evenly spaced requests."""
        chosen = [
            impressions[n] for n in np.linspace(0, len(impressions) - 1, min(VALID_PROMPTS, len(impressions)), dtype=int)
        ]
        contexts = [context_of(i) for i in chosen]
        return valid_sid_rate(engine.policy, engine.prompts(contexts), self.parts.identifiers.trie)

    def _snapshot(self, version: int) -> PosteriorSnapshot:
        if version == 0:
            return PosteriorSnapshot.prior(self.settings.reward.posterior)
        return PosteriorSnapshot.read(self.store, self.snapshots[version])


def _request(impression: Impression, k: int) -> SearchRequest:
    return SearchRequest(
        impression.request_id,
        impression.ts,
        impression.user,
        impression.query,
        k,
        impression.candidates,
        impression.session,
        impression.recent_queries,
        impression.recent_items,
        segment=impression.segment,
        market=impression.market,
        recent_orders=impression.recent_orders,
        filter=impression.filter,
    )
