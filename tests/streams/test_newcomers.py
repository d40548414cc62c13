"""What became of the items since the run was prepared, as a view of any time is scored by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from reward.settings import PosteriorSettings, RelevanceSettings
from schemas.catalogue import Catalogue
from schemas.codec import encode
from schemas.connections import Connections
from schemas.events import ItemAdded
from schemas.store import Store
from schemas.topics import ITEMS, VIEWS
from streams.item_log import ItemLog
from streams.rewarding.agent import agent_of, snapshot_loader
from streams.rewarding.newcomers import Newcomers
from streams.runtime.log import LogReader
from streams.runtime.slot import Slot
from streams.runtime.writer import TransactionWriter
from streams.settings import RuntimeSettings
from tests.streams.conftest import feeder
from tests.streams.test_rewarding import view

SHOP = Catalogue(
    ("a", "b", "c"), ("red shoe", "blue lamp", "green rug"), ("x",) * 3, ("",) * 3, np.ones(3, np.float32),
    np.zeros(3, np.int64), ({},) * 3,
)  # fmt: skip
SETTLE_MS = 100
CAME = [
    ItemAdded(10, "b", "red boot", (1,), "v"),  # another title
    ItemAdded(20, "x", "red lamp", (2,), "v"),
    ItemAdded(30, "never", "", (), "v"),
    ItemAdded(40, "a", "", (), "v"),  # gone: it keeps its title
    ItemAdded(50, "x", "oil lamp", (3,), "v"),
    ItemAdded(60, "b", "blue lamp", (4,), "v"),  # as it was at first
    ItemAdded(70, "y", "green hat", (5,), "v"),
    ItemAdded(80, "c", "green rug", (6,), "v", brand="lamp"),  # what is known of it, nothing else
    ItemAdded(90, "x", "oil lamp", (3,), "v", brand="blue"),
    ItemAdded(95, "c", "green rug", (6,), "v", price=3.0),  # its brand stays
]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    """The wheel's model."""
    return SentenceEncoder()


@pytest.fixture(scope="module")
def scorer(encoder: SentenceEncoder) -> RelevanceScorer:
    """Of three items, by cosine."""
    emb_ND = encoder.encode(list(SHOP.titles))
    return RelevanceScorer.train([], SHOP, emb_ND, encoder, RelevanceSettings(), 0)[0]


class Log:
    """The records that have come so far; a reader sees them when it looks, or each time it asks."""

    def __init__(self, records: Sequence[ItemAdded], seldom: bool = False) -> None:
        self.records, self.seldom, self._seen = list(records), seldom, list[ItemAdded]()

    def __call__(self, at_once: bool = False) -> list[ItemAdded]:
        if at_once or not self.seldom or not self._seen:
            self._seen = list(self.records)
        return self._seen


def scored(newcomers: Newcomers, emitted_at: int, items: Sequence[str]) -> list[tuple[str, int, float]]:
    """What an example says of these items for a query that all titles have a word of."""
    rows, tiers = newcomers.at(emitted_at, items)
    found = tiers.tiers("red blue lamp", np.array([rows[item] for item in items]))
    return [(item, int(tier), float(sure)) for item, tier, sure in zip(items, *found, strict=True)]


def slowly(
    scorer: RelevanceScorer, encoder: SentenceEncoder, until: int, items: Sequence[str]
) -> list[tuple[str, int, float]]:
    """The same by the sentences of the documentation: a catalogue made anew of the records up to a time."""
    titles, categories, brands = dict(zip(SHOP.items, SHOP.titles, strict=True)), dict.fromkeys(SHOP.items, "x"), {}
    for record in CAME:
        if record.ts <= until and record.sid:
            titles[record.item] = record.title
            categories[record.item] = record.category or categories.get(record.item, "")
            brands[record.item] = record.brand or brands.get(record.item, "")
    n = len(titles)
    shop = Catalogue(
        tuple(titles), tuple(titles.values()), tuple(categories[item] for item in titles),
        tuple(brands.get(item, "") for item in titles), np.ones(n, np.float32), np.zeros(n, np.int64), ({},) * n,
    )  # fmt: skip
    found = scorer.over(shop, encoder.encode).tiers("red blue lamp", np.array([shop.row[item] for item in items]))
    return [(item, int(tier), float(sure)) for item, tier, sure in zip(items, *found, strict=True)]


def test_a_view_is_scored_under_the_titles_that_its_page_was_shown_with(
    scorer: RelevanceScorer, encoder: SentenceEncoder
) -> None:
    """Of each time the catalogue of that time, in whatever order views ask; two partitions may go back and forth."""
    newcomers = Newcomers(SHOP, scorer, encoder.encode, Log(CAME), SETTLE_MS)
    said = {}
    for until in (5, 10, 9, 10, 19, 35, 45, 49, 50, 59, 60, 79, 80, 89, 90, 200, 0, 55):
        shown = ["a", "b", "c", *(["x"] if until >= 20 else [])]
        said[until] = scored(newcomers, until + SETTLE_MS, shown)
        assert said[until] == slowly(scorer, encoder, until, shown)
    assert said[9][1] != said[10][1] and said[49][3] != said[50][3]  # another title, another score
    assert (
        newcomers.at(80 + SETTLE_MS, ["c"])[1] is not newcomers.at(79 + SETTLE_MS, ["c"])[1]
    )  # another brand is another catalogue
    assert newcomers.at(SETTLE_MS, ["a"])[1] is scorer  # nothing is made where nothing had changed
    # An item on a page was there, however short the settling time: what else had come by its record counts, too.
    assert scored(newcomers, 60, ["x"]) == slowly(scorer, encoder, 20, ["x"])
    assert scored(newcomers, 60, ["y", "b"]) == slowly(scorer, encoder, 70, ["y", "b"])


@given(
    emitted=st.lists(st.integers(0, 80 + SETTLE_MS), min_size=1, max_size=6).map(sorted),
    ahead=st.lists(st.integers(0, 60), min_size=6, max_size=6),
    seldom=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_what_an_example_says_does_not_hang_on_when_the_topic_was_read(
    scorer: RelevanceScorer, encoder: SentenceEncoder, emitted: list[int], ahead: list[int], seldom: bool
) -> None:
    """A worker that meets views as they are emitted, records coming at any time up to the settling time after their own; and one
    that does it all again when everything has come."""
    live, again = Log([], seldom), Newcomers(SHOP, scorer, encoder.encode, Log(CAME), SETTLE_MS)
    newcomers = Newcomers(SHOP, scorer, encoder.encode, live, SETTLE_MS)
    for now, early in zip(emitted, ahead, strict=False):
        live.records = [record for record in CAME if record.ts <= now - SETTLE_MS + early]
        newcomers.look()
        assert scored(newcomers, now, ["a", "b", "c"]) == scored(again, now, ["a", "b", "c"])
    assert newcomers.knows("b") and not newcomers.knows("never")


def test_partitions_that_recover_side_by_side_take_every_record_once(
    scorer: RelevanceScorer, encoder: SentenceEncoder
) -> None:
    """Two threads share the records: the first is in the midst of them when the second comes."""
    midst, second = Event(), Event()

    class Slowly(list[ItemAdded]):
        """A list whose first reader lets another begin."""

        def __getitem__(self, which: Any) -> Any:
            if not midst.is_set():
                midst.set()
                second.wait(1)
            return super().__getitem__(which)

    newcomers = Newcomers(SHOP, scorer, encoder.encode, lambda at_once=False: Slowly(CAME), SETTLE_MS)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(newcomers.look)
        midst.wait(10)
        other = threads.submit(newcomers.at, 70 + SETTLE_MS, ["x"])
        other.add_done_callback(lambda _: second.set())
        first.result(), other.result()
    assert [(ts, item) for ts, (item, _) in newcomers._said] == [(record.ts, record.item) for record in CAME if record.sid]


def test_a_record_that_comes_after_views_of_its_time_were_scored_is_told(
    scorer: RelevanceScorer, encoder: SentenceEncoder
) -> None:
    """Those stay as they are; a rebuild would score them with it."""
    log = Log(CAME[:1])
    newcomers = Newcomers(SHOP, scorer, encoder.encode, log, SETTLE_MS)
    with capture_logs() as lines:
        newcomers.at(25 + SETTLE_MS, ["a"])
        assert lines == []
        log.records += [ItemAdded(26, "c", "red rug", (9,), "v")]
        newcomers.at(25 + SETTLE_MS, ["a"])
        assert lines == []
        log.records += [ItemAdded(22, "c", "blue rug", (9,), "v")]
        newcomers.at(25 + SETTLE_MS, ["a"])
    assert [(line["event"], line["by_ms"]) for line in lines] == [
        ("item records came late: views were scored without them", 3)
    ]


@pytest.mark.services
def test_a_recovery_does_not_take_a_view_that_was_refused_for_an_item_that_came_since(
    fresh_topics: Connections,
    unique: Callable[[str], str],
    scorer: RelevanceScorer,
    encoder: SentenceEncoder,
    tmp_path: Path,
) -> None:
    """Of three views the second shows x, which is assigned after it was refused: replayed, it would be an example, and no start
    would come to the committed counters again."""
    store, reader, ids = Store(str(tmp_path)), LogReader(fresh_topics, 30), unique("rewarding")

    def start() -> Slot:
        later = Newcomers(SHOP, scorer, encoder.encode, ItemLog(fresh_topics, "test", "v", (10,)), SETTLE_MS)
        agent = agent_of(SHOP, scorer, snapshot_loader(store), PosteriorSettings(), later)
        writer = TransactionWriter(fresh_topics, ids, 20)
        slot = Slot(agent, 0, fresh_topics.partitions, reader, writer, store, RuntimeSettings())
        slot.open()
        slot.recover({})
        return slot

    with feeder(fresh_topics) as send:
        for n, items in enumerate(("abc", "ax", "cb")):
            send(VIEWS.name, 0, encode(view(n, 1_000 + n, items)))
    (views,) = reader.read(VIEWS.name, 0, 0, 3)
    one = start()
    for n, record in enumerate(views):
        one.take(VIEWS.name, n, [record], n + 1)
        asyncio.run(one.flush())
    with feeder(fresh_topics) as send:
        send(ITEMS.name, 0, encode(ItemAdded(2_000, "x", "red lamp", (2,), "v")))
    again = start()
    assert again.core.counters == one.core.counters == {"views": 2, "examples": 2, "quarantined.unknown_item": 1}
