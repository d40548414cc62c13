"""A toy shop for the learner's tests: items with identifiers, tiers by rule, views with clicks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.catalogue import Catalogue
from schemas.examples import ExampleItem, TrainingExample
from schemas.views import ViewStatus
from tests.trainers import policy_toys
from trainers.identifiers.trie import Trie
from trainers.pairs import Pair, PairSampler
from trainers.policies.base import Policy, PromptContext
from trainers.rewards import RewardModel
from trainers.settings import LearnerSettings
from trainers.tools import Tools

ITEMS = 24
QUERIES = tuple(dict.fromkeys(policy_toys.TEXTS))
PRIOR = PosteriorSnapshot.prior(PosteriorSettings())


class RuleTiers:
    """Tier of (query, row) by checksum: any of 0 to 3, always the same."""

    def tiers(self, query: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        tier_P = np.array([zlib.crc32(f"{query}/{row}".encode()) % 4 for row in rows], dtype=np.int8)
        return tier_P, np.ones(len(rows), dtype=np.float32)

    def over(self, catalogue: Catalogue, encode: object) -> RuleTiers:
        """The rule knows nothing of titles."""
        return self


def catalogue(items: int = ITEMS, available_from: Sequence[int] | None = None) -> Catalogue:
    """Items i0, i1, ..."""
    return Catalogue(
        items=tuple(f"i{n}" for n in range(items)),
        titles=tuple(f"title {n}" for n in range(items)),
        categories=("thing",) * items,
        brands=("",) * items,
        prices_N=np.ones(items, dtype=np.float32),
        available_from_N=np.array(available_from if available_from is not None else [0] * items, dtype=np.int64),
        attributes=({},) * items,
    )


def view(
    number: int, revision: int = 1, clicked: Sequence[int] = (), ordered: Sequence[int] = (), **changes: object
) -> TrainingExample:
    """View ``r<number>`` of four items, with clicks and orders at these positions (1 to 4)."""
    rng = np.random.default_rng(number)
    rows = rng.choice(ITEMS, size=4, replace=False)
    items = tuple(
        ExampleItem(f"i{row}", n, 1.0, 2, 1.0, 0.05, 0.0, int(n in clicked), int(n in ordered), 0.0)
        for n, row in enumerate(rows, start=1)
    )
    fields: dict[str, object] = {
        "example_id": f"r{number}:x:{revision}", "request_id": f"r{number}", "status": ViewStatus.PROVISIONAL,
        "revision": revision, "ts": 1_000 + number, "emitted_at": 2_000 + number, "user": f"u{number % 5}",
        "query": QUERIES[number % len(QUERIES)], "items": items, "relevance_version": "r", "snapshot_version": 0,
        "recent_items": (f"i{number % ITEMS}",),
    }  # fmt: skip
    return TrainingExample(**(fields | changes))  # type: ignore[arg-type]


def trie() -> Trie:
    """Identifiers of the catalogue's items."""
    return policy_toys.toy_trie(items=ITEMS)


def tools(policy: Policy, settings: LearnerSettings) -> Tools:
    """A learner's tools over the toy shop, all real but the encoder and the tiers."""
    shop, index = catalogue(), trie()
    sids = {item: tuple(index.sids_NL[row].tolist()) for row, item in enumerate(shop.items)}
    pairs = [Pair(PromptContext(QUERIES[n % len(QUERIES)]), sids[item]) for n, item in enumerate(shop.items)]
    return Tools(
        catalogue=shop,
        trie=index,
        builder=policy_toys.toy_builder(policy, sids),  # type: ignore[arg-type]
        rewards=RewardModel(shop, index, RuleTiers()),
        rates=lambda _: PRIOR,
        pairs=PairSampler({"titles": pairs}, {"titles": 1.0}, settings.seed),
        settings=settings,
    )
