"""A tiny shop with a real policy over it: 240 items, seeded, an untrained model (what it says does not matter here)."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from fastapi import FastAPI

from headrace.shop.settings import ShopSettings
from headrace.shop.world import ShopWorld
from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from reward.settings import PosteriorSettings, RelevanceSettings, ServingScoreSettings
from reward.snapshot import PosteriorSnapshot
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.checkpoints import Manifest
from schemas.connections import Connections
from schemas.store import Store
from schemas.weights import RewardWeights
from serving.engine import SearchEngine
from serving.requests import SearchRequest
from serving.settings import EngineSettings, ServingSettings
from trainers import checkpoints
from trainers.identifiers.build import Identifiers, build_identifiers
from trainers.identifiers.settings import IdentifierSettings
from trainers.policies.backbones import backbone
from trainers.policies.levels import LevelPolicy
from trainers.policies.settings import PolicySettings
from trainers.policies.tokenizer import PromptTokenizer
from trainers.state import libraries, policy_files

NOW_MS = 1_780_000_000_000


@dataclass(frozen=True)
class Truth:
    """Certain tiers; an item that the world does not know is irrelevant."""

    world: ShopWorld
    catalogue: Catalogue

    def tiers(self, query: str, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        items = [self.catalogue.items[row] for row in rows]
        known = [item for item in items if item in self.world.catalogue.row]
        found = dict(zip(known, self.world.tiers(query, known), strict=True))
        return np.array([found.get(item, 0) for item in items], np.int8), np.ones(len(items), np.float32)


@dataclass(frozen=True)
class Shop:
    """The world, its identifiers and the encoder they were made with."""

    world: ShopWorld
    identifiers: Identifiers
    encoder: SentenceEncoder

    def policy(self, seed: int, **changes: object) -> LevelPolicy:
        """A small policy; another seed gives other weights, ``changes`` other settings."""
        tokenizer = PromptTokenizer.train(self.world.catalogue.titles, self.identifiers.level_sizes, 400)
        size = {"text_vocabulary": 400, "d_model": 32, "ffn": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}
        settings = PolicySettings.model_validate(size | changes)
        kind = backbone(settings.backbone, "the test")
        policy = kind.create(settings, tokenizer, self.identifiers.version, self.encoder.dim, seed)
        with torch.no_grad():  # fresh embeddings are so small that all identifiers would be nearly alike
            policy.embeddings().mul_(20)
        return policy

    def truth(self, catalogue: Catalogue) -> Truth:
        """The world's truth as relevance scorer over its catalogue and what was appended."""
        return Truth(self.world, catalogue)

    def engine(self, seed: int = 1, score: ServingScoreSettings | None = None, /, **settings: float) -> SearchEngine:
        """An engine over `policy` of that seed."""
        return SearchEngine(
            self.policy(seed), self.identifiers.trie, self.world.catalogue, self.identifiers, self.truth(self.world.catalogue), self.encoder,
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


@dataclass(frozen=True)
class Prepared:
    """A store with everything a server loads. ``promoted`` are checkpoints of other weights, steps 10 and 20."""

    store: Store
    artefacts: Artefacts
    promoted: tuple[Manifest, ...]
    foreign: Manifest  #: a checkpoint of other identifiers
    elsewhere: Manifest  #: of another warm start's line


@pytest.fixture(scope="session")
def prepared(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Written once; artefacts never change."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    catalogue = shop.world.catalogue
    checksum = catalogue.save(store)
    emb_ND, buffer = shop.encoder.encode(catalogue.titles), io.BytesIO()
    np.save(buffer, emb_ND)
    store.write("catalogue/embeddings.npy", buffer.getvalue())
    scorer, _ = RelevanceScorer.train(
        shop.world.judgments, catalogue, emb_ND, shop.encoder,
        RelevanceSettings(epochs=3, min_judgments=20), 1,
    )  # fmt: skip
    relevance = scorer.save(store)
    shop.identifiers.save(store)
    foreign = shop.policy(5)
    foreign.codebook_version = "0ther"

    def save(policy: LevelPolicy, step: int, start: str = "") -> Manifest:
        draft = Manifest(
            "", step, "", 0, {}, {}, 0, 0, relevance, policy.codebook_version, 0, 1, "grpo", libraries(), start=start
        )
        return checkpoints.write(store, policy_files(policy), draft)

    artefacts = Artefacts(checksum, shop.identifiers.version, relevance, save(shop.policy(1), 0).checkpoint)
    promoted, elsewhere = (save(shop.policy(2), 10), save(shop.policy(3), 20)), save(shop.policy(4), 40, "00000000-e1e4e6e8")
    return Prepared(store, artefacts, promoted, save(foreign, 30), elsewhere)


@dataclass
class Running:
    """A server on a port of its own, in a thread of this process."""

    app: FastAPI
    url: str
    http: httpx.Client

    def search(self, **params: object) -> httpx.Response:
        """GET /search; ``request_id`` and ``ts`` go into the headers."""
        headers = {"X-Request-Id": "request_id", "X-Headrace-Time": "ts"}
        sent = {header: str(params.pop(name)) for header, name in headers.items() if name in params}
        return self.http.get("/search", params=params, headers=sent)  # type: ignore[arg-type]

    def wait_ready(self, timeout_s: float = 90.0) -> dict[str, Any]:
        """Until /readyz says so."""
        return self.wait(lambda: self.http.get("/readyz"), lambda r: r.status_code == 200, timeout_s).json()

    def wait(
        self, ask: Callable[[], httpx.Response], good: Callable[[httpx.Response], bool], timeout_s: float = 60.0
    ) -> httpx.Response:
        """Ask until the answer is good."""
        deadline = time.monotonic() + timeout_s
        while True:
            response = ask()
            if good(response):
                return response
            assert self.app.state.server.failure is None, self.app.state.server.failure
            assert time.monotonic() < deadline, f"still {response.status_code} {response.text} after {timeout_s} s"
            time.sleep(0.05)


@contextmanager
def _serve(app: FastAPI) -> Iterator[Running]:
    web = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=web.run)
    thread.start()
    try:
        while not web.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        url = "http://{}:{}".format(*web.servers[0].sockets[0].getsockname())
        with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as http:
            yield Running(app, url, http)
    finally:
        web.should_exit = True
        thread.join(timeout=60.0)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def serve(prepared: Prepared, unique: Callable[[str], str]) -> Callable[..., AbstractContextManager[Running]]:
    """``serve(connections, **settings)``: a running server as a context manager; its clock is the requests'."""

    from serving.app import create_app  # kafka-python's import warns; by now pytest knows that it may

    def start(connections: Connections, artefacts: Artefacts | None = None, **settings: object) -> Any:
        given = {"simulated_clock": True, "click_group": unique("clicks"), "poll_s": 0.05} | settings
        parsed = ServingSettings.model_validate(given)
        return _serve(create_app(connections, prepared.store, artefacts or prepared.artefacts, parsed))

    return start
