"""A tiny shop with a real policy over it: 240 items, seeded, an untrained model (what it says does not matter here)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from headrace.shop.settings import ShopSettings
from headrace.shop.world import ShopWorld
from reward.encoder import SentenceEncoder
from reward.settings import PosteriorSettings, ServingScoreSettings
from reward.snapshot import PosteriorSnapshot
from schemas.weights import RewardWeights
from serving.engine import SearchEngine
from serving.requests import SearchRequest
from serving.settings import EngineSettings
from trainers.identifiers.build import Identifiers, build_identifiers
from trainers.identifiers.settings import IdentifierSettings
from trainers.policies.bart import BartPolicy
from trainers.policies.settings import PolicySettings
from trainers.policies.tokenizer import PromptTokenizer

NOW_MS = 1_780_000_000_000


@dataclass(frozen=True)
class Shop:
    """The world, its identifiers and the encoder they were made with."""

    world: ShopWorld
    identifiers: Identifiers
    encoder: SentenceEncoder

    def policy(self, seed: int) -> BartPolicy:
        """A small policy; another seed gives other weights."""
        tokenizer = PromptTokenizer.train(self.world.catalogue.titles, self.identifiers.level_sizes, 400)
        settings = PolicySettings(text_vocabulary=400, d_model=32, ffn=32, heads=2, encoder_layers=1, decoder_layers=1)
        policy = BartPolicy.create(settings, tokenizer, self.identifiers.version, self.encoder.dim, seed)
        with torch.no_grad():  # fresh embeddings are so small that all identifiers would be nearly alike
            policy.model.model.shared.weight.mul_(20)
        return policy

    def tiers(self, query: str, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The world's truth as relevance scorer: certain."""
        items = [self.world.catalogue.items[row] for row in rows]
        return self.world.tiers(query, items), np.ones(len(items), np.float32)

    def engine(self, seed: int = 1, score: ServingScoreSettings | None = None, /, **settings: float) -> SearchEngine:
        """An engine over `policy` of that seed."""
        return SearchEngine(
            self.policy(seed), self.identifiers.trie, self.world.catalogue, self.identifiers, self, self.encoder,
            EngineSettings.model_validate(settings), score, checkpoint=f"policy-{seed}",
        )  # fmt: skip

    def requests(self, count: int, k: int = 10) -> list[SearchRequest]:
        """The world's first live requests."""
        stream = self.world.requests()
        return [SearchRequest(r.request_id, r.ts, r.user, r.query, k) for r, _ in zip(stream, range(count), strict=False)]


@pytest.fixture(scope="session")
def shop() -> Shop:
    """Built once, about two seconds."""
    torch.set_num_threads(1)
    settings = ShopSettings(items=240, users=40, queries=40, history_impressions=100, live_requests=60, new_item_share=0.2)
    world, encoder = ShopWorld(settings, NOW_MS), SentenceEncoder()
    queries = sorted({query.text for query in world.queries})
    identifiers = build_identifiers(
        world.catalogue, encoder.encode(world.catalogue.titles), queries, encoder.encode(queries),
        IdentifierSettings(iterations=4, opq_iterations=2), seed=3, known_ms=world.live_ms,
    )  # fmt: skip
    return Shop(world, identifiers, encoder)


@pytest.fixture(scope="session")
def prior() -> PosteriorSnapshot:
    """Nobody has clicked yet."""
    return PosteriorSnapshot.prior(PosteriorSettings())


@pytest.fixture
def weights() -> RewardWeights:
    """The defaults."""
    return RewardWeights()
