"""Features by hand, in any company, and against the whole catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from reward.encoder import SentenceEncoder
from reward.relevance_features import NAMES, Features, Geometry
from reward.relevance_letters import LetterIndex, pieces
from reward.relevance_words import WordIndex
from tests.reward.growing import grown

if TYPE_CHECKING:
    from tests.reward.conftest import Toy

QUERIES = ["blue hammer", "", "the", "red ketle for a frying pan, black trim, fits green bag 17", "zzzz qqqq", "17"]
#: Features that look at more of an item than its title.
ABOUT_FIELDS = {
    "covered_any", "share_any", "category_words", "attribute_match", "attribute_conflict", "last_word", "first_word",
    "rarest_word", "numbers",
}  # fmt: skip


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


def test_a_grown_index_reads_new_titles_and_leaves_the_others_as_they_were(toy: Toy) -> None:
    """Words and letters of changed rows are those of an index made anew; what they weigh is what they weighed."""
    new = ["zorbular hammer " + " ".join(f"word{n}" for n in range(30)), "saw"]  # longer than any title of the toy
    later = grown(toy.catalogue, {7: "zorbular green kettle"}, new)
    rows = [7, 180, 181]
    before, anew, index = WordIndex(toy.catalogue), WordIndex(later), WordIndex(toy.catalogue).over(later, rows)
    for name in ("title_NW", "brand_NW", "category_NW", "attributes_NW"):
        ours, theirs = (
            [[words[number] for number in row if number >= 0] for row in getattr(made, name).tolist()]
            for made, words in ((index, list(index._id)), (anew, list(anew._id)))
        )
        assert ours == theirs
    kept = np.setdiff1d(np.arange(180), rows)
    assert (index.saturation_N[kept] == before.saturation_N[kept]).all()
    red, zorbular = index.query("red zorbular").idf_Q
    assert red == before.query("red").idf_Q[0]
    assert zorbular == pytest.approx(np.log1p((180 - 1 + 0.5) / (1 + 0.5)))  # as if one of the 180 had it
    assert index.query("zorbular").best_cover == 1.0 and before.query("zorbular").best_cover == 0.0
    letters, letters_anew = LetterIndex(toy.catalogue).over(later, rows), LetterIndex(later)
    ours, theirs = (
        [{names[number] for number in row if number >= 0} for row in made.piece_NW.tolist()]
        for made, names in ((letters, list(letters._id)), (letters_anew, list(letters_anew._id)))
    )
    assert ours == theirs and letters.count_N.tolist() == letters_anew.count_N.tolist()


def test_features_follow_the_catalogue_whatever_way_it_went(features: Features, toy: Toy, encoder: SentenceEncoder) -> None:
    """An item that did not change keeps its features; a copy of an item's title has that item's, brand and category aside."""
    later = grown(toy.catalogue, {7: "zorbular green kettle"}, [toy.catalogue.titles[3]])
    emb_MD = encoder.encode(["zorbular green kettle", toy.catalogue.titles[3]])
    after = features.over(later, [7, 180], emb_MD)
    asked = ["red sandal", "green boot", "zorbular kettle"]
    kept = np.setdiff1d(np.arange(180), [7])
    for query in asked[:2]:  # which no changed title answers better than the best one did
        one = np.zeros(len(kept), np.int64)
        np.testing.assert_array_equal(after.of([query], one, kept), features.of([query], one, kept))
    x_2F = after.of(["zorbular kettle"], np.zeros(2, np.int64), np.array([7, 8]))
    assert x_2F[0, NAMES.index("covered_title")] == 1.0 > x_2F[1, NAMES.index("covered_title")]
    twin_2F = after.of(asked[:1], np.zeros(2, np.int64), np.array([3, 180]))
    same = [n for n, name in enumerate(NAMES) if "brand" not in name and name not in ABOUT_FIELDS]
    np.testing.assert_allclose(twin_2F[0, same], twin_2F[1, same], atol=1e-5)
    assert twin_2F[0, NAMES.index("category_cosine")] == pytest.approx(twin_2F[1, NAMES.index("category_cosine")])
