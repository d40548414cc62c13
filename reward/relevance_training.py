"""Training of the relevance model: judged queries split three ways, to fit, to tune and to report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reward.judgments import TIERS, Judgment
from reward.relevance_features import NAMES, Features
from reward.relevance_model import TierModel, best_thresholds, confusion, fit, log_loss, quadratic_kappa
from reward.relevance_report import RelevanceReport
from reward.settings import RelevanceSettings
from reward.text import tokens
from schemas.catalogue import Catalogue
from schemas.errors import InvalidData

#: Logits of the four tiers are linear in the cosine when nothing can be trained: borders near .3, .45 and .6.
UNTRAINED_SLOPE: Final = 12.0
UNTRAINED_BORDERS: Final = (0.30, 0.45, 0.60)
#: No expected tier is as high: a model with these borders says 0 of everything.
NO_BORDERS: Final = (4.0, 4.0, 4.0)

Arrays = NDArray[np.float32]
Tier = NDArray[np.int8]


def train_model(
    judgments: Sequence[Judgment], catalogue: Catalogue, features: Features, settings: RelevanceSettings, seed: int
) -> tuple[TierModel, RelevanceReport]:
    """The model and its held-out report. ``judgments`` have normalised queries and items of the catalogue.

    Too few judgments: tiers go by the cosine of query and title; where titles are only ids that would be noise, and
    every tier is 0 with the confidence of a guess.

    Raises:
        InvalidData: a tier outside 0 to 3.
    """
    for n, judgment in enumerate(judgments):
        if not 0 <= judgment.tier < TIERS:
            raise InvalidData("judgments", n, "tier", judgment.tier, f"0 to {TIERS - 1}")
    queries = sorted({j.query for j in judgments})
    if len(judgments) < settings.min_judgments or len(queries) < 10:
        textless = not tell_apart(catalogue)
        empty = RelevanceReport(False, len(judgments), len(queries), 0, 0, 0, 0, 0, 0, 0, (), textless)
        return _ignorant(features.width) if textless else _untrained(features.width), empty
    x_NF, tier_N, query_N = _table(judgments, catalogue, features, queries)
    part_Q = _parts(len(queries), settings, seed)
    fit_N, tune_N, test_N = (part_Q[query_N] == part for part in range(3))
    own = [queries[q] for q in np.flatnonzero(part_Q == 0)]
    random_x = _random_pairs(judgments, catalogue, features, own, settings, seed)
    fit_x = np.concatenate([x_NF[fit_N], random_x])
    fit_tier = np.concatenate([tier_N[fit_N], np.zeros(len(random_x), np.int8)])
    # Calibration and borders are for the kind of pair that judges see: random ones would move every border down.
    model = fit(fit_x, fit_tier, x_NF[tune_N], tier_N[tune_N], settings, seed)
    predicted, confidence = model.tiers(x_NF[test_N])
    right = predicted == tier_N[test_N]

    def simple(name: str) -> float:
        score_N = x_NF[:, NAMES.index(name)]
        borders = best_thresholds(score_N[~test_N], tier_N[~test_N])
        return quadratic_kappa(np.digitize(score_N[test_N], borders), tier_N[test_N])

    table = confusion(predicted, tier_N[test_N])
    report = RelevanceReport(
        trained=True,
        judgments=len(judgments),
        queries=len(queries),
        test_judgments=int(test_N.sum()),
        kappa=quadratic_kappa(predicted, tier_N[test_N]),
        accuracy=float(right.mean()),
        log_loss=log_loss(model.probabilities(x_NF[test_N]), tier_N[test_N]),
        calibration_error=_calibration_error(confidence, right),
        kappa_bm25=simple("bm25"),
        kappa_cosine=simple("cosine"),
        confusion=tuple(tuple(row) for row in table.tolist()),
    )
    return model, report


def tell_apart(catalogue: Catalogue) -> bool:
    """Whether the titles hold more than ids: with each item's id taken out of its title, at least two still differ."""
    left = {
        tuple(word for word in tokens(title) if word not in tokens(item))
        for item, title in zip(catalogue.items, catalogue.titles, strict=True)
    }
    return len(left) > 1


def _table(
    judgments: Sequence[Judgment], catalogue: Catalogue, features: Features, queries: Sequence[str]
) -> tuple[Arrays, Tier, NDArray[np.int64]]:
    """Features, tiers and query numbers, sorted by (query, item): the order of the judgments does not matter."""
    by_query: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for judgment in judgments:
        by_query[judgment.query].append((catalogue.row[judgment.item], judgment.tier))
    x, tier, number = [], [], []
    for n, query in enumerate(queries):
        pairs = sorted(by_query[query])
        x.append(features.of(query, np.array([row for row, _ in pairs], np.int64)))
        tier += [t for _, t in pairs]
        number += [n] * len(pairs)
    return np.concatenate(x), np.array(tier, np.int8), np.array(number, np.int64)


def _random_pairs(
    judgments: Sequence[Judgment],
    catalogue: Catalogue,
    features: Features,
    queries: Sequence[str],
    settings: RelevanceSettings,
    seed: int,
) -> Arrays:
    """Features of unjudged items drawn for these queries, as many for each as its judgments ask for.

    Judges see what a search brings up; a policy that explores brings up anything.
    """
    rng = np.random.default_rng((seed, 1))
    known: defaultdict[str, set[int]] = defaultdict(set)
    for judgment in judgments:
        known[judgment.query].add(catalogue.row[judgment.item])
    x = [np.zeros((0, features.width), np.float32)]
    for query in queries:
        wanted = rng.poisson(settings.random_share * len(known[query]))
        rows = np.setdiff1d(rng.integers(0, len(catalogue), wanted), np.array(sorted(known[query]), np.int64))
        x.append(features.of(query, rows))
    return np.concatenate(x)


def _parts(queries: int, settings: RelevanceSettings, seed: int) -> NDArray[np.int64]:
    """0 to fit, 1 to tune, 2 to test, per query; every part has at least one query."""
    test, tune = (max(1, round(queries * share)) for share in (settings.test_share, settings.tune_share))
    part_Q = np.zeros(queries, np.int64)
    part_Q[:test], part_Q[test : test + tune] = 2, 1
    return np.random.default_rng(seed).permutation(part_Q)


def _calibration_error(confidence_N: NDArray[np.float32], right_N: NDArray[np.bool_]) -> float:
    bin_N = np.minimum((confidence_N * 10).astype(np.int64), 9)
    gap_10 = np.bincount(bin_N, weights=confidence_N.astype(np.float64) - right_N, minlength=10)
    return float(np.abs(gap_10).sum() / max(1, len(right_N)))


def _ignorant(width: int) -> TierModel:
    """Every tier is as likely as the others (confidence 1/4), and 0 is said."""
    model = _untrained(width)
    return replace(
        model,
        weight_HT=np.zeros_like(model.weight_HT),
        bias_T=np.zeros_like(model.bias_T),
        threshold_3=np.array(NO_BORDERS),
    )


def _untrained(width: int) -> TierModel:
    """Adjacent tiers swap places at the borders: logit of tier t is slope * (t * cosine - sum of the first t borders)."""
    weight_FH, weight_HT = np.zeros((width, 1), np.float32), np.zeros((1, TIERS), np.float32)
    weight_FH[0, 0] = 1.0
    weight_HT[0] = UNTRAINED_SLOPE * np.arange(TIERS)
    bias_T = -UNTRAINED_SLOPE * np.concatenate([[0.0], np.cumsum(UNTRAINED_BORDERS)])
    return TierModel(
        mean_F=np.zeros(width, np.float32),
        scale_F=np.ones(width, np.float32),
        weight_FH=weight_FH,
        bias_H=np.zeros(1, np.float32),
        weight_HT=weight_HT,
        bias_T=bias_T.astype(np.float32),
        temperature=1.0,
        threshold_3=np.array([0.5, 1.5, 2.5]),
    )
