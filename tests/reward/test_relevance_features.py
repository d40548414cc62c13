"""Features by hand, in any company, and against the whole catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from reward.encoder import SentenceEncoder
from reward.relevance_features import NAMES, Features, Geometry
from reward.relevance_letters import LetterIndex, pieces

if TYPE_CHECKING:
    from tests.reward.conftest import Toy

QUERIES = ["blue hammer", "", "the", "red ketle for a frying pan, black trim, fits green bag 17", "zzzz qqqq", "17"]


@pytest.fixture(scope="module")
def features(toy: Toy, encoder: SentenceEncoder) -> Features:
    return Features(toy.catalogue, toy.emb_ND, encoder, Geometry.fit(toy.emb_ND), 100)


def test_a_pair_has_its_features_in_any_company(features: Features, toy: Toy) -> None:
    """Queries of none to many words, padded to each other, against each alone."""
    rng = np.random.default_rng(0)
    which_P, rows_P = rng.integers(0, len(QUERIES), 300), rng.integers(0, len(toy.catalogue), 300)
    x_PF = features.of(QUERIES, which_P, rows_P)
    assert x_PF.shape == (300, features.width) and np.isfinite(x_PF).all()
    for place in range(0, 300, 7):
        alone = features.of([QUERIES[which_P[place]]], np.zeros(1, np.int64), rows_P[place : place + 1])
        np.testing.assert_allclose(x_PF[place], alone[0], rtol=1e-5, atol=1e-5)
    assert features.of(QUERIES, np.zeros(0, np.int64), np.zeros(0, np.int64)).shape == (0, features.width)


@pytest.mark.parametrize("query", QUERIES)
def test_the_best_title_is_the_best_of_all_titles(features: Features, toy: Toy, query: str) -> None:
    """What the postings find is the maximum over every row of the catalogue, so the best title's gaps are 0."""
    every = np.arange(len(toy.catalogue))
    x_NF = features.of([query], np.zeros_like(every), every)
    column = {name: x_NF[:, n] for n, name in enumerate(NAMES)}
    assert column["best_cover"] == pytest.approx(column["covered_title"].max(), abs=1e-6)
    assert column["cover_gap"].max() == pytest.approx(0, abs=1e-6)
    assert column["bm25_gap"].max() == pytest.approx(0, abs=1e-6)


def test_letters_by_hand(toy: Toy) -> None:
    assert pieces("Sheet-Rock", 80) == pieces("sheetrock", 80) == ["she", "hee", "eet", "etr", "tro", "roc", "ock"]
    assert pieces("", 80) == [] and pieces("saw", 80) == ["saw"] and pieces("aaaaa", 80) == ["aaa"]
    assert pieces("sheetrock", 2) == ["she", "hee"]
    index = LetterIndex(toy.catalogue)
    asked = index.query("saw qqq")  # saw, awq, wqq, qqq: no title has the last three
    count = sum("saw" in pieces(title, 80) for title in toy.catalogue.titles)
    assert asked.id_G.tolist()[1:] == [-1, -1, -1] and asked.id_G[0] >= 0
    assert asked.idf_G[0] == pytest.approx(np.log1p((180 - count + 0.5) / (count + 0.5)))


def test_a_compound_meets_its_parts(features: Features, toy: Toy) -> None:
    """`fryingpan` is no word of any title; its letters are those of the frying pans."""
    kinds = [a["entity"] for a in toy.catalogue.attributes]
    every = np.arange(len(kinds))
    letters_N = features.of(["fryingpan"], np.zeros_like(every), every)[:, NAMES.index("letters")]
    pans_N = np.array([kind == "frying pan" for kind in kinds])
    assert letters_N[pans_N].min() == pytest.approx(1) and letters_N[~pans_N].max() < 0.5
