"""One list of checks for every relevance scorer, and what an endpoint's failures are called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from reward.relevance_endpoint import EndpointScorer
from reward.relevance_features import NAMES, Features, Geometry
from reward.relevance_network import Network
from reward.relevance_scorer import CHUNK, NetworkScorer, PairScorer
from reward.settings import RelevanceSettings
from schemas.errors import HeadraceError, Incompatible, InvalidData, InvalidSetting, Unavailable
from schemas.store import Store
from tests.reward import tier_server

if TYPE_CHECKING:
    from tests.reward.conftest import Toy

QUERIES = ["red kettle", "", "blue toaster for two"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of `tier_server` in a process of its own."""
    with subprocess.Popen([sys.executable, tier_server.__file__], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


@pytest.fixture(scope="module")
def network(toy: Toy, encoder: SentenceEncoder) -> NetworkScorer:
    rng = np.random.default_rng(2)

    def array(*shape: int) -> Any:
        return rng.normal(0, 1, shape).astype(np.float32)

    width = len(NAMES)
    net = Network(array(width), np.ones(width, np.float32), array(width, 8), array(8), array(8, 4), array(4))
    return NetworkScorer(Features(toy.catalogue, toy.emb_ND, encoder, Geometry.fit(toy.emb_ND), 10), net)


@pytest.fixture(params=["network", "endpoint"])
def scorer(request: pytest.FixtureRequest, toy: Toy) -> PairScorer:
    """Add yours here."""
    if request.param == "network":
        found: PairScorer = request.getfixturevalue("network")
        return found
    settings = RelevanceSettings(endpoint=request.getfixturevalue("url"), endpoint_batch=7)
    return EndpointScorer.connect(settings, toy.catalogue)


def test_it_gives_each_pair_four_finite_logits(scorer: PairScorer, toy: Toy) -> None:
    rows_P = np.arange(len(toy.catalogue))
    logit_PT = scorer.logits(QUERIES, rows_P % 3, rows_P)
    assert logit_PT.shape == (len(rows_P), 4) and np.isfinite(logit_PT).all() and logit_PT.std() > 0
    assert scorer.logits(QUERIES, np.zeros(0, np.int64), np.zeros(0, np.int64)).shape == (0, 4)
    assert scorer.logits([], np.zeros(0, np.int64), np.zeros(0, np.int64)).shape == (0, 4)


def test_a_pair_has_its_logits_in_any_place_and_company(scorer: PairScorer, toy: Toy) -> None:
    """More pairs than one chunk, in another order, with another order of queries, twice, and alone."""
    rng = np.random.default_rng(0)
    which_P, rows_P = rng.integers(0, 3, CHUNK + 100), rng.integers(0, len(toy.catalogue), CHUNK + 100)
    first_PT = scorer.logits(QUERIES, which_P, rows_P)
    order_P = rng.permutation(len(rows_P))
    again_PT = scorer.logits(QUERIES[::-1], 2 - which_P[order_P], rows_P[order_P])
    np.testing.assert_allclose(again_PT, first_PT[order_P], rtol=1e-4, atol=1e-4)
    for place in range(0, len(rows_P), 200):
        alone = scorer.logits([QUERIES[which_P[place]]], np.zeros(1, np.int64), rows_P[place : place + 1])
        np.testing.assert_allclose(alone[0], first_PT[place], rtol=1e-4, atol=1e-4)


def test_an_endpoint_takes_the_networks_place(toy: Toy, encoder: SentenceEncoder, url: str, tmp_path: Path) -> None:
    """Calibrated, reported on, saved, loaded: the model outside says 1 for the colour alone, where judges say 0 or 1.

    It says .4 of whatever it says; its confidence becomes about the share in which it is right.
    """
    settings = RelevanceSettings(endpoint=url, endpoint_batch=100)
    scorer, report = RelevanceScorer.train(toy.judgments(24), toy.catalogue, toy.emb_ND, encoder, settings, 3)
    assert report.trained and report.kappa > 0.7 and report.gain_bm25[0] > 0
    hammer = next(n for n, a in enumerate(toy.catalogue.attributes) if (a["entity"], a["colour"]) == ("hammer", "red"))
    unjudged = "a red hammer please"
    assert scorer.tiers(unjudged, np.array([hammer]))[0].tolist() == [3]
    confidence = scorer.tiers(unjudged, np.array([hammer]))[1][0]
    assert confidence > tier_server.SURE + 0.15 and confidence == pytest.approx(report.accuracy, abs=0.15)
    store = Store(str(tmp_path))
    loaded = RelevanceScorer.load(store, scorer.save(store), toy.catalogue, encoder, toy.emb_ND)
    rows = np.arange(len(toy.catalogue))
    assert (loaded.version, loaded.report) == (scorer.version, report)
    for ours, theirs in zip(loaded.tiers(unjudged, rows), scorer.tiers(unjudged, rows), strict=True):
        assert np.array_equal(ours, theirs)
    assert loaded.measure(toy.judgments(3, seed=9)).kappa > 0.7


@pytest.mark.parametrize(
    ("word", "error", "said"),
    [
        ("slow", Unavailable, r"no answer to 1 pairs within 0.3 s; raise reward.relevance.endpoint_timeout_s"),
        ("broken", Unavailable, "HTTP 500: sorry"),
        ("text", Unavailable, "body of its answer"),
        ("half", Unavailable, "rows of p of its answer is .0., must be 1, one a pair"),
        ("unsure", Unavailable, r"p\[0\] of its answer .* 4 probabilities that sum to 1"),
        ("renamed", Incompatible, "expected 'rule-1', found 'rule-2'"),
    ],
)
def test_what_goes_wrong_outside_is_named(toy: Toy, url: str, word: str, error: type[HeadraceError], said: str) -> None:
    scorer = EndpointScorer.connect(RelevanceSettings(endpoint=url, endpoint_timeout_s=0.3), toy.catalogue)
    with pytest.raises(error, match=said):
        scorer.logits([word], np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert scorer.logits(["saw"], np.zeros(1, np.int64), np.zeros(1, np.int64)).shape == (1, 4)  # it goes on


def test_an_endpoint_that_is_not_there_is_named(toy: Toy) -> None:
    for address in ("http://127.0.0.1:9", "nonsense"):
        with pytest.raises(Unavailable, match="start the model, or correct the address"):
            EndpointScorer.connect(RelevanceSettings(endpoint=address), toy.catalogue)


def test_a_password_in_the_address_is_refused_and_not_repeated(toy: Toy) -> None:
    with pytest.raises(InvalidSetting, match="without user and password") as caught:
        EndpointScorer.connect(RelevanceSettings(endpoint="http://me:hush@127.0.0.1:9"), toy.catalogue)
    assert "hush" not in str(caught.value)


def test_an_endpoint_cannot_be_calibrated_on_nothing(toy: Toy, encoder: SentenceEncoder, url: str) -> None:
    with pytest.raises(InvalidData, match=r"field 'number' is 0, but must be at least 200"):
        RelevanceScorer.train([], toy.catalogue, toy.emb_ND, encoder, RelevanceSettings(endpoint=url), 1)
