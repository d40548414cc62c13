"""Which prefixes of identifiers the posterior counts by: those of the run, and what items that come and move make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from reward.counts import UNIT
from reward.keys import keys
from reward.settings import PosteriorSettings, RewardSettings
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.codec import decode, encode
from schemas.connections import Connections
from schemas.errors import Incompatible
from schemas.events import ItemAdded
from schemas.identifiers import read_sids
from schemas.posteriors import CountDelta, PosteriorDelta
from schemas.store import Store
from schemas.topics import DELTAS, SNAPSHOTS
from streams.posteriors.agents import load_prefixes, posteriors_agents
from streams.posteriors.merger_core import MergerCore
from streams.posteriors.present import ItemPrefixes, PrefixesAt
from streams.replaying.rebuild import maker_of
from streams.runtime.core import Record
from streams.settings import StreamSettings
from trainers.identifiers.build import build_identifiers

SETTINGS = PosteriorSettings(snapshot_every_s=10, bucket_s=5, calibration_snapshots=3)


def test_the_merger_takes_the_prefixes_of_the_runs_identifiers(tmp_path: Path) -> None:
    """From catalogue and identifiers as `headrace prepare` writes them; without identifiers there is no such level."""
    store = Store(str(tmp_path))
    catalogue = Catalogue(
        ("a", "b", "c"), ("A", "B", "C"), ("x",) * 3, ("",) * 3, np.ones(3, np.float32), np.zeros(3, np.int64), ({},) * 3
    )
    catalogue.save(store)
    random_ND = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    emb_ND = random_ND / np.linalg.norm(random_ND, axis=1, keepdims=True)
    made = build_identifiers(catalogue, emb_ND, [], np.zeros((0, 8), np.float32))
    version = made.save(store)
    artefacts = Artefacts(identifiers=version)
    found = load_prefixes(store, artefacts, SETTINGS)
    assert found is not None and found.version == version
    assert found.items == catalogue.items and found.sids_NL.tolist() == made.sids_NL.tolist()
    assert found.levels == SETTINGS.sid_levels
    assert load_prefixes(store, Artefacts(), SETTINGS) is None
    assert load_prefixes(store, artefacts, SETTINGS.model_copy(update={"sid_levels": 0})) is None
    delta = PosteriorDelta(0, 10_000, (CountDelta("q", "a", 0, UNIT, 1, 0, 0, 1),))
    core = MergerCore(1, SETTINGS, PrefixesAt(found, list, 0))
    core.apply(DELTAS.name, [Record(0, 0, None, encode(delta))])
    core.advance()
    assert decode(SNAPSHOTS.kind, core.drain()[0][0].value).identifiers == version
    with pytest.raises(Incompatible, match="expected 2, found 3"):
        read_sids(store, version, 2)


def test_rebuilt_snapshots_have_the_prefixes_of_the_live_ones(tmp_path: Path) -> None:
    """Agents of the same rules make the same outputs of the same inputs; the identifiers are among the rules."""
    store, of_run = Store(str(tmp_path)), Artefacts(identifiers="0123456789ab")
    of_run.save(store)
    rebuilt = maker_of(SNAPSHOTS.name, Connections(), store, StreamSettings(), RewardSettings())
    agents = posteriors_agents(Connections(), store, of_run, RewardSettings())
    assert rebuilt.rules == next(agent.rules for agent in agents if agent.name == rebuilt.name)


def test_prefixes_follow_items_that_came_and_moved(tmp_path: Path) -> None:
    """By event time: from a settling time after a record on, the last one with an identifier counts, whatever was read by then."""
    first = ItemPrefixes("v", ("a", "b", "c"), np.array([[0, 1, 2], [0, 1, 3], [4, 0, 0]], np.int32), 2)
    records = [
        ItemAdded(100, "c", "C", (0, 1, 9), "v", (4, 0, 0)),  # c moves to where a and b are
        ItemAdded(150, "d", "D", (4, 0, 1), "v"),  # a new one where c was
        ItemAdded(200, "a", "A", (), "v", (0, 1, 2)),  # gone, and kept where it was
        ItemAdded(250, "d", "D2", (0, 1, 7), "v", (4, 0, 1)),
    ]

    def families(stamp: int, read: Sequence[ItemAdded]) -> set[frozenset[str]]:
        prefixes = PrefixesAt(first, lambda: read, 10)(stamp)
        found: dict[int, set[str]] = {}
        for item in "abcd":
            number = int(prefixes.find(keys([item]))[0])
            if number < prefixes.size:
                found.setdefault(number, set()).add(item)
        return set(map(frozenset, found.values()))

    apart, joined = {frozenset("ab"), frozenset("c")}, {frozenset("abc")}
    expected = {
        109: apart,
        110: joined,
        160: {*joined, frozenset("d")},
        215: {*joined, frozenset("d")},
        260: {frozenset("abcd")},
    }
    for stamp, wanted in expected.items():
        assert families(stamp, records) == wanted
        assert families(stamp, [record for record in records if record.ts + 10 <= stamp]) == wanted
    assert families(109, []) == apart
