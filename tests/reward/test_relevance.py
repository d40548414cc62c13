"""The scorer learns a rule from judgments, generalises to unseen queries and typos, and knows how sure it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from reward.attributes import still_held
from reward.encoder import SentenceEncoder
from reward.judgments import Judgment
from reward.relevance import RelevanceScorer
from reward.relevance_calibration import best_thresholds
from reward.relevance_features import NAMES, Features, Geometry
from reward.relevance_metrics import quadratic_kappa
from reward.relevance_report import RelevanceReport
from reward.settings import RelevanceSettings
from reward.text import tokens
from schemas.descriptions import Description
from schemas.errors import Corrupt, Incompatible, InvalidData, Unavailable
from schemas.store import Store
from tests.reward.growing import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.reward.conftest import Toy

SETTINGS = RelevanceSettings(epochs=60)


@pytest.fixture(scope="session")
def trained(toy: Toy, encoder: SentenceEncoder) -> RelevanceScorer:
    scorer, _ = RelevanceScorer.train(toy.judgments(24), toy.catalogue, toy.emb_ND, encoder, SETTINGS, 3)
    return scorer


def test_held_out_queries_agree_better_than_words_or_vectors_alone(trained: RelevanceScorer) -> None:
    report = trained.report
    assert report.trained and report.queries == 36 and report.test_judgments > 100
    assert report.kappa > 0.9 and min(report.kappa - report.kappa_bm25, report.kappa - report.kappa_cosine) > 0.04
    assert sum(map(sum, report.confusion)) == report.test_judgments
    assert f"kappa {report.kappa:.3f}" in str(report)


@pytest.mark.parametrize("query", ["red kettle", "RED  kettles!", "red ketle", "kettle in red"])
def test_every_way_to_say_it_finds_the_rule(trained: RelevanceScorer, toy: Toy, query: str) -> None:
    """Case, plural, a typo and another order. Mean absolute error below half a tier over the whole catalogue."""
    tier_N, confidence_N = trained.tiers(query, np.arange(len(toy.catalogue)))
    truth_N = np.array([toy.tier(("kettle", "red"), item) for item in toy.catalogue.items])
    assert np.abs(tier_N - truth_N).mean() < 0.5
    assert np.all((confidence_N > 0) & (confidence_N <= 1))
    assert tier_N[truth_N == 3].min() >= 2 and tier_N[truth_N <= 1].mean() < 1


def test_a_judgment_stands_before_the_scorer(toy: Toy, encoder: SentenceEncoder) -> None:
    """A judge who calls a hammer excellent for `red kettle` is believed, for that query in any spelling of its key."""
    hammer = next(i for i, a in zip(toy.catalogue.items, toy.catalogue.attributes, strict=True) if a["entity"] == "hammer")
    judgments = [*toy.judgments(12), Judgment("Red KETTLE", hammer, 3)]
    scorer, _ = RelevanceScorer.train(judgments, toy.catalogue, toy.emb_ND, encoder, SETTINGS, 3)
    row = np.array([toy.catalogue.row[hammer]])
    assert [array.tolist() for array in scorer.tiers("red kettle.", row)] == [[3], [1.0]]
    assert scorer.tiers("blue kettle", row)[0].tolist() != [3]


def test_pairs_and_rows_agree_and_places_do_not_matter(trained: RelevanceScorer, toy: Toy) -> None:
    rng = np.random.default_rng(0)
    queries = [f"{colour} {kind}" for kind, colour in toy.queries]
    chosen = [queries[n] for n in rng.integers(0, len(queries), 200)]
    rows = rng.integers(0, len(toy.catalogue), 200)
    tier_P, confidence_P = trained.tiers_many(chosen, rows)
    for place in range(0, 200, 17):
        tier, confidence = trained.tiers(chosen[place], rows[place : place + 1])
        assert tier[0] == tier_P[place] and confidence[0] == pytest.approx(confidence_P[place], abs=1e-5)
    assert trained.tiers("red kettle", np.zeros(0, np.int64))[0].shape == (0,)
    assert trained.tiers("", np.arange(3))[0].shape == (3,)


def test_the_same_seed_and_any_order_of_judgments_give_the_same_scorer(toy: Toy, encoder: SentenceEncoder) -> None:
    judgments, settings = toy.judgments(8), RelevanceSettings(epochs=3)
    one, _ = RelevanceScorer.train(judgments, toy.catalogue, toy.emb_ND, encoder, settings, 5)
    two, _ = RelevanceScorer.train(judgments[::-1], toy.catalogue, toy.emb_ND, encoder, settings, 5)
    assert one.version == two.version


def test_it_is_loaded_as_saved_and_guarded(
    trained: RelevanceScorer, toy: Toy, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    version = trained.save(store)
    loaded = RelevanceScorer.load(store, version, toy.catalogue, encoder, toy.emb_ND)
    rows = np.arange(len(toy.catalogue))
    assert np.array_equal(loaded.tiers("green saw", rows)[1], trained.tiers("green saw", rows)[1])
    assert (loaded.version, loaded.report) == (version, trained.report)
    with pytest.raises(Unavailable):
        RelevanceScorer.load(store, "none", toy.catalogue, encoder, toy.emb_ND)
    with pytest.raises(Incompatible, match="rows of the item embeddings"):
        RelevanceScorer.load(store, version, toy.catalogue, encoder, toy.emb_ND[:-1])
    model = store.read(f"relevance/{version}/model.npz")
    store.write(f"relevance/{version}/model.npz", model[: len(model) // 2])
    with pytest.raises(Corrupt):
        RelevanceScorer.load(store, version, toy.catalogue, encoder, toy.emb_ND)


def test_without_judgments_it_says_that_it_goes_by_cosine(toy: Toy, encoder: SentenceEncoder, tmp_path: Path) -> None:
    """Borders .3, .45, .6: adjacent tiers are equally likely exactly there, so the expected tier crosses near them."""
    scorer, report = RelevanceScorer.train([], toy.catalogue, toy.emb_ND, encoder, SETTINGS, 1)
    assert not report.trained and "cosine alone" in str(report)
    rows = np.arange(len(toy.catalogue))
    tier_N, _ = scorer.tiers("red kettle", rows)
    cosine_N = toy.emb_ND @ encoder.encode(["red kettle"])[0]
    assert np.all(np.diff(tier_N[np.argsort(cosine_N)]) >= 0)
    assert np.all(tier_N[cosine_N < 0.25] == 0) and np.all(tier_N[cosine_N > 0.65] == 3)
    store = Store(str(tmp_path))
    loaded = RelevanceScorer.load(store, scorer.save(store), toy.catalogue, encoder, toy.emb_ND)
    assert loaded.tiers("red kettle", rows)[0].tolist() == tier_N.tolist()


def test_a_tier_outside_its_bound_is_named(toy: Toy, encoder: SentenceEncoder) -> None:
    with pytest.raises(InvalidData, match="row 2, field 'tier'"):
        wrong = [Judgment("a", "i000", 0), Judgment("a", "i001", 3), Judgment("a", "i002", 4)]
        RelevanceScorer.train(wrong, toy.catalogue, toy.emb_ND, encoder, SETTINGS, 1)


def test_features_by_hand(toy: Toy, encoder: SentenceEncoder) -> None:
    """`blue hammer` against a red hammer: hammer is covered, blue is not, and contradicts the item's colour."""
    features = Features(toy.catalogue, toy.emb_ND, encoder, Geometry.fit(toy.emb_ND), 10)
    kinds = [(a["entity"], a["colour"]) for a in toy.catalogue.attributes]
    plain_red = next(
        n for n, kind in enumerate(kinds) if kind == ("hammer", "red") and "blue" not in toy.catalogue.titles[n]
    )
    rows = np.array([plain_red, kinds.index(("hammer", "blue")), kinds.index(("kettle", "blue"))])
    x_NF = features.of(["blue hammer"], np.zeros(3, np.int64), rows)
    column = {name: x_NF[:, n] for n, name in enumerate(NAMES)}
    holds = [{*tokens(t), *a.values()} for t, a in zip(toy.catalogue.titles, toy.catalogue.attributes, strict=True)]
    # idf = log(1 + (N - df + .5) / (df + .5)); a title that names blue as a trim covers it, so such red hammers are out.
    df = [sum(word in words for words in holds) for word in ("blue", "hammer")]
    blue, hammer = np.log1p((180 - df[0] + 0.5) / (df[0] + 0.5)), np.log1p((180 - df[1] + 0.5) / (df[1] + 0.5))
    assert column["covered_any"] == pytest.approx([hammer / (blue + hammer), 1, blue / (blue + hammer)])
    assert column["attribute_conflict"] == pytest.approx([blue / (blue + hammer), 0, hammer / (blue + hammer)])
    assert column["neighbours"].tolist() == [0, 1, 0]
    assert column["last_word"].tolist() == [1, 1, 0] and column["first_word"].tolist() == [0, 1, 1]
    assert column["cosine"] == pytest.approx(toy.emb_ND[rows] @ encoder.encode(["blue hammer"])[0])
    assert x_NF.shape == (3, features.width)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    predicted, true = zip(*pairs, strict=True)
    if len(set(predicted)) == 1 and set(predicted) == set(true):
        return  # undefined there, 0 here
    expected = cohen_kappa_score(predicted, true, weights="quadratic", labels=[0, 1, 2, 3])
    assert quadratic_kappa(predicted, true) == pytest.approx(expected)


def test_thresholds_part_what_can_be_parted() -> None:
    tier_N = np.repeat(np.arange(4), 25).astype(np.int8)
    score_N = tier_N * 2.0 + np.linspace(0, 1, 100)
    assert quadratic_kappa(np.digitize(score_N, best_thresholds(score_N, tier_N)), tier_N) > 0.98


def test_without_judgments_titles_of_mere_ids_give_no_tier(toy: Toy, encoder: SentenceEncoder, tmp_path: Path) -> None:
    """The title "hotel 17" is as close to the query "hotel 17" as text can be, and it says nothing about relevance."""
    items = tuple(str(n) for n in range(len(toy.catalogue)))
    nameless = replace(toy.catalogue, items=items, titles=tuple(f"hotel {item}" for item in items))
    emb_ND = encoder.encode(list(nameless.titles))
    scorer, report = RelevanceScorer.train([], nameless, emb_ND, encoder, SETTINGS, 1)
    assert (report.trained, report.textless) == (False, True) and "every tier is 0" in report.doubt
    tier_N, confidence_N = scorer.tiers("hotel 17", np.arange(len(items)))
    assert set(tier_N.tolist()) == {0} and np.allclose(confidence_N, 0.25)
    one_named = replace(nameless, titles=("grand hotel by the sea", *nameless.titles[1:]))
    _, report = RelevanceScorer.train([], one_named, emb_ND, encoder, SETTINGS, 1)
    assert not report.textless and "cosine alone" in report.doubt
    store = Store(str(tmp_path))
    loaded = RelevanceScorer.load(store, scorer.save(store), nameless, encoder, emb_ND)
    assert loaded.report == scorer.report and loaded.tiers("x", np.arange(3))[0].tolist() == [0, 0, 0]


def test_a_scorer_that_beats_nothing_says_so() -> None:
    good = RelevanceReport(True, 300, 50, 60, 0.6, 0.7, 0.8, 0.1, 0.3, 0.4, ())
    assert good.doubt == ""
    for weak in (msgspec.structs.replace(good, kappa=0.4), msgspec.structs.replace(good, kappa_bm25=0.7)):
        assert "guess" in weak.doubt
    few = RelevanceReport(True, 200, 200, 30, 0.2, 0.3, 1.4, 0.0, -0.1, -0.2, ())
    assert "guess" in few.doubt and msgspec.structs.replace(few, test_judgments=300).doubt == ""  # .37 and .12 by chance


def test_an_item_that_the_catalogue_lacks_is_named(toy: Toy, encoder: SentenceEncoder) -> None:
    with pytest.raises(InvalidData, match="row 1, field 'item' is 'gone', but must be in the catalogue"):
        RelevanceScorer.train(
            [Judgment("a", "i000", 0), Judgment("a", "gone", 3)], toy.catalogue, toy.emb_ND, encoder, SETTINGS, 1
        )


def test_a_damaged_artefact_is_refused(trained: RelevanceScorer, toy: Toy, encoder: SentenceEncoder, tmp_path: Path) -> None:
    """Each file cut short, a digit changed in each, and a form of another day."""
    store = Store(str(tmp_path))
    version = trained.save(store)
    for name in ("model.npz", "scorer.json"):
        path = f"relevance/{version}/{name}"
        whole = store.read(path)
        place = len(whole) * 2 // 3
        for damaged in (whole[: len(whole) // 2], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], b""):
            store.write(path, damaged)
            with pytest.raises(Corrupt, match="train the scorer again"):
                RelevanceScorer.load(store, version, toy.catalogue, encoder, toy.emb_ND)
        store.write(path, whole)
    store.write(f"relevance/{version}/scorer.json", b'{"v":1}')
    with pytest.raises(Incompatible, match="expected 2, found 1"):
        RelevanceScorer.load(store, version, toy.catalogue, encoder, toy.emb_ND)


def test_the_scorer_is_measured_without_its_judgments(trained: RelevanceScorer, toy: Toy) -> None:
    """Judgments turned upside down agree with no scorer; a lookup of what it was trained on would not notice."""
    judgments = toy.judgments(3, seed=2)
    assert trained.measure(judgments).kappa > 0.8
    upside_down = [judgment._replace(tier=3 - judgment.tier) for judgment in judgments]
    assert trained.measure(upside_down).kappa < 0
    with pytest.raises(InvalidData, match="at least 1"):
        trained.measure([])


def test_intervals_and_reliability_are_reported(trained: RelevanceScorer) -> None:
    report = trained.report
    for low, high, gain in (
        (*report.gain_bm25, report.kappa - report.kappa_bm25),
        (*report.gain_cosine, report.kappa - report.kappa_cosine),
    ):
        assert 0 < low < gain < high
    assert sum(count for *_, count in report.reliability) == report.test_judgments
    assert report.calibration_error < 0.1 and report.tier_calibration_error < 0.1


def test_over_a_changed_catalogue_it_depends_on_where_the_catalogue_came_to_alone(
    trained: RelevanceScorer, toy: Toy, encoder: SentenceEncoder
) -> None:
    """In one step, in two, or there and back: the same tiers and confidences, bit for bit; what did not change keeps its own."""
    catalogue, every = toy.catalogue, np.arange(182)
    half = grown(catalogue, {7: "zorbular green kettle"}, ["red hammer of the year"])
    whole = grown(catalogue, {9: "blue saw"}, ["red hammer of the year", "green toaster"])
    at_once, between = trained.over(whole, encoder.encode), trained.over(half, encoder.encode)
    by_two = between.over(whole, encoder.encode)
    for query in ("red hammer", "green kettle", "zorbular"):
        for ours, theirs in zip(at_once.tiers(query, every), by_two.tiers(query, every), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    same = np.setdiff1d(np.arange(180), [9])
    before, after = trained.tiers("black boot", same), at_once.tiers("black boot", same)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert at_once.tiers("red hammer", np.array([180]))[0][0] == 3 > at_once.tiers("red hammer", np.array([181]))[0][0]
    assert by_two.over(catalogue, encoder.encode) is trained and at_once.version == trained.version


def test_brand_and_category_of_an_item_count_as_its_title_does(
    trained: RelevanceScorer, toy: Toy, encoder: SentenceEncoder
) -> None:
    """Another brand and category under the same title: another confidence for this item, the same for every other."""
    catalogue, every = toy.catalogue, np.arange(180)
    item, title = catalogue.items[7], catalogue.titles[7]
    brand = next(name for name in catalogue.brands if name != catalogue.brands[7])
    category = next(name for name in catalogue.categories if name != catalogue.categories[7])
    query = f"{brand} {title}"  # of words that are known: a new one would count for all items
    before = trained.tiers(query, every)[1]
    for said in (Description(title, catalogue.categories[7], brand), Description(title, category, catalogue.brands[7])):
        after = trained.over(catalogue.described({item: said}, {}), encoder.encode).tiers(query, every)[1]
        assert np.flatnonzero(before != after).tolist() == [7]


def test_what_was_known_of_an_item_under_other_words_goes_with_them(
    trained: RelevanceScorer, toy: Toy, encoder: SentenceEncoder
) -> None:
    """A known item gets the words of another: it answers as a new item with these words, not as the one that it was, and what its
    words never spoke of stays."""
    catalogue = toy.catalogue
    was, values = 7, {value.lower() for value in catalogue.attributes[7].values()}
    words = [
        f"{t} {c} {b}".lower() for t, c, b in zip(catalogue.titles, catalogue.categories, catalogue.brands, strict=True)
    ]
    now = next(n for n in range(180) if not any(value in words[n] for value in values))
    said = Description(catalogue.titles[now], catalogue.categories[now], catalogue.brands[now])
    both = trained.over(catalogue.described({catalogue.items[was]: said, "new": said}, {"new": 0}), encoder.encode)
    for query in (catalogue.titles[was], catalogue.titles[now]):
        tiers, sure = both.tiers(query, np.array([was, 180]))
        assert tiers[0] == tiers[1] and sure[0] == sure[1]
    apart = replace(catalogue, attributes=tuple({**a, "care": "hand wash"} for a in catalogue.attributes))
    held = still_held(apart, apart.described({apart.items[was]: said}, {}), [was])
    assert held.attributes[was] == {"care": "hand wash"} and held.attributes[8] == apart.attributes[8]
    assert still_held(apart, apart, [was]) is apart


def test_another_price_is_no_other_scorer(trained: RelevanceScorer, toy: Toy, encoder: SentenceEncoder) -> None:
    """Nothing is read anew for it, beside items that changed too."""
    item = toy.catalogue.items[9]
    changed = toy.catalogue.described({toy.catalogue.items[7]: Description("blue saw")}, {})
    first = trained.over(changed, encoder.encode)
    said = changed.description(item)
    assert said is not None
    assert trained.over(changed.described({item: said._replace(price=3.0)}, {}), encoder.encode) is first
    assert trained.over(changed.described({item: said._replace(brand="orvo")}, {}), encoder.encode) is not first


def test_a_title_is_embedded_once_while_it_is_there(trained: RelevanceScorer, toy: Toy, encoder: SentenceEncoder) -> None:
    """One that has gone is let go, so that a shop whose titles change for ever does not fill the memory."""
    asked: list[str] = []

    def encode(titles: list[str]) -> NDArray[np.float32]:
        asked.extend(titles)
        return encoder.encode(titles)

    first, second = (grown(toy.catalogue, {7: title}, []) for title in ("zorbular kettle", "zorbular toaster"))
    for catalogue in (first, first, second, second, first):
        trained.over(catalogue, encode)
    assert asked == ["zorbular kettle", "zorbular toaster", "zorbular kettle"]
