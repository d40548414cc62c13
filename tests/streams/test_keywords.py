"""Keyword chains: what the writer says, what the store keeps, what the agent does with good and bad records."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from confluent_kafka import Producer
from numpy.typing import NDArray
from redis import Redis

from headrace.services.ports import free_port
from reward.counts import UNIT, Counts
from reward.lexicon import Lexicon, build_lexicon
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.events import Impression, ShownItem, Tick
from schemas.keywords import KeywordChain
from schemas.posteriors import CountDelta, SnapshotPointer
from schemas.store import Store
from schemas.topics import IMPRESSIONS, SNAPSHOTS
from streams.keywords.agent import catalogue_writer
from streams.keywords.refresher import Refresher
from streams.keywords.settings import KeywordSettings, WriterSettings
from streams.keywords.store import COUNTERS, PREFIX, RedisKeywordStore
from streams.keywords.writer import CatalogueWriter, WriterFailed
from tests.streams.scraping import until

TITLES = (
    *["Kelda leather sofa black"] * 4,
    "Brisko leather sofa black",
    "Brisko fabric sofa red",
    *["Kelda oak table"] * 4,
)
CATALOGUE = Catalogue(
    items=tuple(f"i{row}" for row in range(10)),
    titles=TITLES,
    categories=("home",) * 10,
    brands=tuple(title.split()[0] for title in TITLES),
    prices_N=np.ones(10, dtype=np.float32),
    available_from_N=np.zeros(10, dtype=np.int64),
    attributes=({"entity": "sofa"},) * 5 + ({"entity": "sofa", "colour": "red"},) + ({"entity": "table"},) * 4,
)


class Ctr(NamedTuple):
    mean_N: NDArray[np.float64]


class OnlyRed:
    """Click statistics in which people click the red sofa alone."""

    def ctr(self, query_key: str, items: Sequence[str]) -> Ctr:
        return Ctr(np.array([0.9 if item == "i5" else 0.001 for item in items]))


def writer(**changes: object) -> CatalogueWriter:
    return CatalogueWriter(CATALOGUE, build_lexicon(CATALOGUE), WriterSettings(**changes))  # type: ignore[arg-type]


def test_a_typo_is_read_and_what_the_items_share_is_added() -> None:
    """Of the items behind "leather sofa" 0.957 (by weight) are black, 1.9 times the catalogue's half; 0.77 are Kelda's.

    A leather sofa weighs (log 3 + log 8/3)^2 = 4.32, the fabric one (log 8/3)^2 = 0.96; 5 * 4.32 / (5 * 4.32 + 0.96).
    """
    chain = writer(add_lift=1.9).compose("leater sofa", 7)
    assert chain.query == "leater sofa" and chain.written_ms == 7
    assert "It means: leather sofa." in chain.chain
    assert chain.keywords == ("leather", "sofa", "black") and chain.types == ("material", "entity", "colour")
    assert writer(add_lift=2.0).compose("leater sofa", 7).keywords == ("leather", "sofa")


def test_clicks_calibrate_the_keywords() -> None:
    """When only the red sofa is clicked, a sofa query is about red, not about black leather."""
    plain = writer(add_share=0.5)
    assert "red" not in plain.compose("sofa", 0).keywords
    plain.clicks = OnlyRed()
    clicked = plain.compose("sofa", 0)
    assert "red" in clicked.keywords and "black" not in clicked.keywords


def test_support_by_hand() -> None:
    """Items that hold "sofa" and "red" beat those that hold "sofa": weights are squared sums of log(1 + N / count)."""
    one = writer()
    index = Lexicon(build_lexicon(CATALOGUE).phrases).index
    support = one.support("red sofa", [index["red"], index["sofa"]])
    red, sofa = np.log1p(10 / 1), np.log1p(10 / 6)
    weights = np.array([(red + sofa) ** 2] + [sofa**2] * 5)
    assert support.rows_R.tolist() == [5, 0, 1, 2, 3, 4]
    assert np.allclose(support.weight_R, weights / weights.sum())


def test_words_that_no_item_supports_go() -> None:
    """Both words are known, but the items found by the rarer one do not hold "table": it is dropped, and said so."""
    chain = writer(support_items=1, keep_share=0.5).compose("red table", 0)
    assert "red" in chain.keywords and "table" not in chain.keywords
    assert "do not support entity table" in chain.chain


def test_unknown_and_empty_queries_have_a_chain_without_keywords() -> None:
    """Nothing is made up."""
    chain = writer().compose("xyzzyplugh", 0)
    assert chain.keywords == () and "no keywords" in chain.chain
    assert writer().compose("", 0).keywords == ()


def test_the_version_names_lexicon_and_settings() -> None:
    """Another lexicon or setting is another writer."""
    versions = {writer().version, writer(most=3).version, CatalogueWriter(CATALOGUE, Lexicon([])).version}
    assert len(versions) == 3 and writer().version in versions


def a_chain(query: str, version: str = "w1", written_ms: int = 1_000) -> KeywordChain:
    return KeywordChain(version, query, ("sofa",), "because", written_ms)


@pytest.mark.services
def test_the_store_writes_once_under_a_version(redis_url: str) -> None:
    """The same version is written again only when it is old; another version at once; each write counts and expires."""
    with Redis.from_url(redis_url) as client:
        store = RedisKeywordStore(client, KeywordSettings(refresh_after_s=10, expire_after_s=60))
        assert store.put(a_chain("red sofa"))
        assert not store.put(a_chain("red sofa", written_ms=10_999))  # 9.999 s later
        assert store.put(a_chain("red sofa", written_ms=11_000))
        assert store.put(a_chain("red sofa", "w2", 11_001))
        assert store.refreshed() == 3
        assert 0 < client.ttl(PREFIX + "red sofa") <= 60
        assert store.get("Red  SOFA!") == a_chain("red sofa", "w2", 11_001)
        assert store.get("red sofa", "w1") is None
        assert store.fresh("red sofa", "w2", 21_000) and not store.fresh("red sofa", "w2", 21_001)
        assert store.coverage(["red sofa", "Red sofa", "blue sofa", ""]) == 0.5
        assert store.coverage(["red sofa"], "w1") == 0 == store.coverage([])
        client.set(PREFIX + "blue sofa", b"broken")
        assert store.get("blue sofa") is None and store.put(a_chain("blue sofa"))
        store.count("failed", 2)
        assert store.counters() == {"refreshed": 4, "failed": 2}


def test_a_store_without_redis_says_so() -> None:
    """Redis away is `Unavailable`, not an empty answer."""
    with Redis.from_url("redis://127.0.0.1:1/0") as client, pytest.raises(Unavailable, match="HEADRACE_REDIS"):
        RedisKeywordStore(client).coverage(["a"])


class Counting:
    """A writer that says how often it was asked, and fails for one query."""

    version = "w1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def write(self, query: str) -> KeywordChain:
        self.asked.append(query)
        await asyncio.sleep(0.01)
        if query == "bad":
            raise WriterFailed("writer", "no answer", "wait")
        return a_chain(query, written_ms=5_000)


def impression(query: str, request: str = "r1") -> bytes:
    return encode(Impression(ts=1, request_id=request, user="u", query=query, items=(ShownItem("i1", 1),)))


@pytest.mark.services
def test_each_query_is_written_once_and_again_when_old(redis_url: str) -> None:
    """Concurrent sights of a query ask the writer once; a failure is counted and tried again; bad records are counted."""
    now = [5_000]
    asked = Counting()
    with Redis.from_url(redis_url) as client:
        store = RedisKeywordStore(client, KeywordSettings(refresh_after_s=10))
        refresher = Refresher(store, asked, KeywordSettings(refresh_after_s=10), lambda: now[0])

        async def take(*records: bytes) -> None:
            await asyncio.gather(*(refresher.take(record) for record in records))

        asyncio.run(take(impression("Sofa"), impression("sofa"), impression(" sofa "), encode(Tick(5)), impression("?")))
        assert asked.asked == ["sofa"] and store.refreshed() == 1
        asyncio.run(take(impression("bad"), b"{", b'{"type":"impression","v":9}', impression("sofa")))
        assert asked.asked == ["sofa", "bad"]  # "sofa" is remembered: it asks nobody
        counters = {"refreshed": 1, "failed": 1, "skipped.unreadable": 1, "skipped.unknown_version": 1}
        assert store.counters() == counters
        now[0] = 15_001
        asyncio.run(take(impression("bad"), impression("sofa")))
        assert sorted(asked.asked[2:]) == ["bad", "sofa"]  # two tasks, two threads: either may be first


@pytest.mark.services
def test_the_default_writer_reads_the_lexicon_of_the_identifiers(tmp_path: Path) -> None:
    """A run with identifiers uses their lexicon; before there are any, one is built from the catalogue."""
    store = Store(str(tmp_path))
    CATALOGUE.save(store)
    settings = KeywordSettings()
    built = catalogue_writer(store, Artefacts(), settings)
    assert built.version == writer().version
    store.write("identifiers/abc/lexicon.json", Lexicon([]).to_bytes())
    assert catalogue_writer(store, Artefacts(identifiers="abc"), settings).version != built.version


QUIET = os.environ | {"PYTHONWARNINGS": "ignore"}

RUN = """
import sys
from reward.counts import UNIT, Counts
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.store import Store
from streams.keywords.agent import run
from streams.settings import RuntimeSettings

class Broken:
    version = "w1"

    async def write(self, query):
        raise ZeroDivisionError

connections = Connections.model_validate_json(sys.argv[1])
runtime = RuntimeSettings(metrics_port=int(sys.argv[3]), lag_every_s=0.2)
writer = Broken() if sys.argv[4:] else None
code = run(connections, Store(connections.store), Artefacts(), writer=writer, app_id=sys.argv[2], runtime=runtime)
assert "torch" not in sys.modules and "faiss" not in sys.modules
sys.exit(code)
"""


@pytest.mark.services
@pytest.mark.slow
def test_the_worker_writes_the_chains_of_what_people_search(fresh_topics: Connections, unique: Callable[[str], str]) -> None:
    """From the topic to Redis, past a broken record, after a failed writer and a kill as well; SIGTERM ends it cleanly."""
    CATALOGUE.save(Store(fresh_topics.store))
    producer = Producer({"bootstrap.servers": fresh_topics.kafka})

    def send(*values: bytes) -> None:
        for number, value in enumerate(values):
            producer.produce(IMPRESSIONS.name, value, key=b"u", partition=number % 2)
        assert producer.flush(20) == 0

    group = unique("keywords")
    port = free_port()
    command = [sys.executable, "-c", RUN, fresh_topics.model_dump_json(), group, str(port)]
    send(impression("black sofa"), b"broken", impression("Oak table", "r2"), encode(Tick(9)))
    with Redis.from_url(fresh_topics.redis) as client:
        store = RedisKeywordStore(client)
        broken = subprocess.run([*command, "broken"], env=QUIET, timeout=120, capture_output=True)
        assert broken.returncode == 1 and b"ZeroDivisionError" in broken.stdout + broken.stderr
        assert store.refreshed() == 0  # the next worker finds the records that this one broke on
        first = subprocess.Popen(command, env=QUIET)
        try:
            await_coverage(store, ["black sofa", "oak table"], first)
        finally:
            first.kill()
            first.wait()
        assert store.refreshed() == 2
        send(impression("leather sofa", "r3"))
        second = subprocess.Popen(command, env=QUIET)
        try:
            await_coverage(store, ["leather sofa"], second)
            assert store.refreshed() == 3  # what the killed worker had written was not written again
            publish_clicks_on_red(producer, Store(fresh_topics.store))
            deadline, number, keywords = time.monotonic() + 60, 0, ()
            while "red" not in keywords:  # until the worker has read the click statistics
                assert time.monotonic() < deadline, "no chain knew the clicks"
                number += 1
                send(impression(f"sofa {number}", f"s{number}"))
                await_coverage(store, [f"sofa {number}"], second)
                keywords = store.get(f"sofa {number}").keywords  # type: ignore[union-attr]
            # Every impression was acknowledged; the newest of the partition is its watermark, 0 s behind itself.
            counts = until(port, "headrace_lag_records", {"agent": "keywords", "partition": "0"}, 0.0)
            assert counts["headrace_keywords_chains_total", ("outcome", "written")] == 1 + number
            assert counts["headrace_keywords_write_seconds_count",] == 1 + number
            second.send_signal(signal.SIGTERM)
            assert second.wait(60) == 0
        finally:
            second.kill()
            second.wait()
        assert store.counters()["skipped.unreadable"] >= 1
        assert client.exists(COUNTERS) and "sofa" in " ".join(store.get("black sofa").keywords)  # type: ignore[union-attr]


def publish_clicks_on_red(producer: Producer, store: Store) -> None:
    """A snapshot after which everybody who sees i5, the red sofa, clicks it, and nobody anything else."""
    seen = [CountDelta("sofa", item, 0, 100 * UNIT, 100 * (item == "i5"), 0) for item in CATALOGUE.items]
    data = PosteriorSnapshot.build(Counts(seen), 1_000, PosteriorSettings())
    store.write("posteriors/1", data)
    pointer = SnapshotPointer(1, 1_000, "posteriors/1", PosteriorSnapshot(data).sha256, 0, 10)
    producer.produce(SNAPSHOTS.name, encode(pointer), partition=0)
    producer.produce(SNAPSHOTS.name, encode(pointer), partition=1)
    assert producer.flush(20) == 0


def await_coverage(store: RedisKeywordStore, queries: list[str], worker: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while store.coverage(queries) < 1:
        assert worker.poll() is None, "the worker has ended"
        assert time.monotonic() < deadline, "the worker is silent"
        time.sleep(0.1)
