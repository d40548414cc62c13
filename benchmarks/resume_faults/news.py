"""What changes while the learner is killed: views and their orders, weights twice, items that come, move and go."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, product

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.wishes.shop import SmallShop
from headrace.shop.sink import KafkaSink
from schemas.campaigns import Campaign, Multipliers
from schemas.catalogue import Catalogue
from schemas.codec import encode
from schemas.connections import Connections
from schemas.events import ItemAdded
from schemas.examples import TrainingExample
from schemas.topics import ITEMS, WEIGHTS
from schemas.weights import RewardWeights
from trainers.identifiers.build import Identifiers

#: Views after which one that was clicked comes again, its first item ordered.
LATER = 3


def with_orders(views: Iterable[TrainingExample]) -> Iterator[TrainingExample]:
    """These views, each followed by its second revision when `LATER` others have come."""
    waiting: deque[TrainingExample] = deque()
    for view in views:
        yield view
        waiting.append(view)
        if len(waiting) > LATER:
            old = waiting.popleft()
            first, *rest = old.items
            ordered = msgspec.structs.replace(first, clicks=1, orders=1)
            yield msgspec.structs.replace(
                old, revision=2, example_id=f"{old.request_id}:provisional:2", items=(ordered, *rest)
            )


class News:
    """Sends the changes, one after the other."""

    def __init__(self, shop: SmallShop, connections: Connections) -> None:
        self._sink = KafkaSink(connections)
        self._left = deque(self._changes(shop))

    def __len__(self) -> int:
        return len(self._left)

    def send(self) -> str:
        """The next change; what it is."""
        said, records = self._left.popleft()
        for record in records:
            if isinstance(record, ItemAdded):
                self._sink.send(ITEMS.name, 0, record.item.encode(), encode(record))
            else:
                self._sink.send(WEIGHTS.name, 0, b"global", encode(record))
        self._sink.flush()
        return said

    def _changes(self, shop: SmallShop) -> Iterator[tuple[str, list[ItemAdded | RewardWeights]]]:
        known, now = Catalogue.load(shop.store), shop.examples[-1].ts
        trie = Identifiers.load(shop.store, shop.artefacts.identifiers).trie
        one, two = islice(_free(trie.sids_NL, trie.level_sizes), 2)
        shared = tuple(trie.sids_NL[2].tolist())  # two items may have one identifier
        version = shop.artefacts.identifiers
        # In force when the shop's views have come once around to their last tenth.
        starts_ms = shop.examples[len(shop.examples) * 9 // 10].emitted_at
        sale = Campaign("sale", 1, "sale", "me", starts_ms=starts_ms, relevance=4, multipliers=Multipliers(new_items=2))
        book = RewardWeights(version=2, ctr=5, created_ms=1, campaigns=(sale,), before=RewardWeights())
        yield "weights 2, with a campaign", [book]
        yield (
            "an item comes, one goes",
            [
                ItemAdded(now, "new", "red lamp", one, version),
                ItemAdded(now, known.items[0], known.titles[0], (), version),
            ],
        )
        yield "an item moves", [ItemAdded(now, known.items[1], known.titles[1], two, version)]
        yield "weights 3", [RewardWeights(version=3, click=1, created_ms=1)]
        yield (
            "the new item gets another title and place",
            [ItemAdded(now, "new", "blue rug", shared, version, one)],
        )


def _free(sids_NL: NDArray[np.int32], sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Identifiers that no item has."""
    taken = {tuple(sid) for sid in sids_NL.tolist()}
    return (sid for sid in product(*map(range, sizes)) if sid not in taken)
