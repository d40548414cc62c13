"""A small prepared shop: its store, its artefacts, and its page views as training examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.common import NOW_MS
from headrace.folder import RunFolder
from headrace.prepare import run_prepare
from headrace.settings import Settings
from headrace.shop.world import ShopWorld
from schemas.artefacts import Artefacts
from schemas.events import Click, Impression
from schemas.examples import ExampleItem, TrainingExample
from schemas.store import Store
from schemas.views import ViewStatus


class SmallShop(NamedTuple):
    """``examples`` are of the shop's history, in time order."""

    settings: Settings
    store: Store
    artefacts: Artefacts
    world: ShopWorld
    examples: tuple[TrainingExample, ...]


#: A policy that costs next to nothing.
TINY = {"text_vocabulary": 500, "d_model": 64, "ffn": 128, "encoder_layers": 1, "decoder_layers": 1}


def small_shop(
    folder: Path, warm_steps: int, items: int = 240, policy: Mapping[str, int] = MappingProxyType(TINY)
) -> SmallShop:
    """Prepare a shop below ``folder``, its policy (settings as given, else the defaults) warmed up for ``warm_steps``."""
    settings = Settings.model_validate(
        {
            "store": str(folder / "store"), "now_ms": NOW_MS, "seed": 7,
            "serving": {"port": 0},  # another run of this machine may be on the usual one
            "shop": {
                "items": items, "users": 60, "queries": 60, "history_impressions": 600, "live_requests": 200,
                "new_item_share": 0.0, "new_query_share": 0.0,
            },
            "reward": {"relevance": {"epochs": 5, "min_judgments": 50}},
            "trainers": {
                "identifiers": {"iterations": 4, "opq_iterations": 2},
                "policy": dict(policy),
                "warm_start": {"steps": warm_steps, "seconds": 0},
            },
        }
    )  # fmt: skip
    run_prepare(RunFolder(folder), settings, lambda stage, share, note: None)
    store = Store(settings.store)
    world = ShopWorld(settings.shop, NOW_MS)
    return SmallShop(settings, store, Artefacts.load(store), world, examples_of(world))


def examples_of(world: ShopWorld) -> tuple[TrainingExample, ...]:
    """The history as the rewarding worker would tell it; the facts that a learner does not read are left at a constant."""
    clicks: defaultdict[str, set[str]] = defaultdict(set)
    pages = []
    for event in world.history():
        if isinstance(event, Impression):
            pages.append(event)
        elif isinstance(event, Click):
            clicks[event.request_id].add(event.item)
    return tuple(
        TrainingExample(
            f"{page.request_id}:provisional:1", page.request_id, ViewStatus.PROVISIONAL, 1, page.ts, page.ts + 1_800_000,
            page.user, page.query,
            tuple(
                ExampleItem(i.item, i.position, i.propensity, 0, 1.0, 0.02, 0.0, int(i.item in clicks[page.request_id]), 0, 0.0)
                for i in page.items
            ),
            "r", 0, page.recent_queries, page.recent_items, segment=page.segment, market=page.market,
        )
        for page in pages
    )  # fmt: skip
