"""Training of a relevance scorer: judged queries split three ways, to fit, to calibrate and to report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward.judgments import TIERS, Judgment
from reward.relevance_calibration import Calibration, best_thresholds
from reward.relevance_features import NAMES, Features
from reward.relevance_metrics import (
    calibration_error,
    confusion,
    kappa_gain,
    log_loss,
    quadratic_kappa,
    reliability,
    tier_calibration_error,
)
from reward.relevance_network import Network, fit_network
from reward.relevance_report import Borders, RelevanceReport
from reward.relevance_scorer import CHUNK, Logits, NetworkScorer, PairScorer
from reward.settings import RelevanceSettings
from reward.text import normalise, tokens
from schemas.catalogue import Catalogue
from schemas.errors import InvalidData

#: Logits of the four tiers are linear in the cosine when nothing can be trained: borders near .3, .45 and .6.
UNTRAINED_SLOPE: Final = 12.0
UNTRAINED_BORDERS: Final = (0.30, 0.45, 0.60)
#: Fewest judged queries that can be split.
LEAST_QUERIES: Final = 10

Arrays = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Pairs(NamedTuple):
    """P judged pairs of distinct ``queries`` (normalised, sorted) and catalogue rows, in the order of both."""

    queries: list[str]
    which_P: Ints
    rows_P: Ints
    tier_P: NDArray[np.int8]

    @classmethod
    def of(cls, judgments: Sequence[Judgment], catalogue: Catalogue) -> Pairs:
        """The order of the judgments does not matter.

        Raises:
            InvalidData: a tier outside 0 to 3, or an item that the catalogue lacks.
        """
        for n, judgment in enumerate(judgments):
            if not 0 <= judgment.tier < TIERS:
                raise InvalidData("judgments", n, "tier", judgment.tier, f"0 to {TIERS - 1}")
            if judgment.item not in catalogue.row:
                raise InvalidData("judgments", n, "item", judgment.item, "in the catalogue")
        known = sorted((normalise(j.query), catalogue.row[j.item], j.tier) for j in judgments)
        queries = sorted({query for query, _, _ in known})
        number = {query: n for n, query in enumerate(queries)}
        which, rows = (np.array(column, np.int64) for column in ([number[q] for q, _, _ in known], [r for _, r, _ in known]))
        return cls(queries, which, rows, np.array([tier for *_, tier in known], np.int8))

    def part(self, wanted_P: Mask) -> Pairs:
        """Some of the pairs, all of the queries."""
        return Pairs(self.queries, self.which_P[wanted_P], self.rows_P[wanted_P], self.tier_P[wanted_P])

    def features(self, features: Features) -> Arrays:
        """x_PF, in pieces that bound the memory."""
        x = [np.zeros((0, features.width), np.float32)]
        for start in range(0, len(self.rows_P), CHUNK):
            asked_U, which_C = np.unique(self.which_P[start : start + CHUNK], return_inverse=True)
            x.append(features.of([self.queries[u] for u in asked_U], which_C, self.rows_P[start : start + CHUNK]))
        return np.concatenate(x)


class Trained(NamedTuple):
    """A scorer with what makes tiers of its logits. ``borders`` of the two simple scores; None: not trained."""

    scorer: PairScorer
    calibration: Calibration
    borders: Borders | None
    report: RelevanceReport


def train(
    pairs: Pairs, catalogue: Catalogue, features: Features, settings: RelevanceSettings, seed: int, given: PairScorer | None
) -> Trained:
    """Fit our network, or take the ``given`` scorer as it is; calibrate it on other queries, report on others still.

    Too few judgments: tiers go by the cosine of query and title; where titles are only ids that would be noise, and
    every tier is 0 with the confidence of a guess.

    Raises:
        InvalidData: too few judgments to calibrate a given scorer.
    """
    if len(pairs.rows_P) < settings.min_judgments or len(pairs.queries) < LEAST_QUERIES:
        if given is not None:
            raise too_few(len(pairs.rows_P), settings)
        return _untrained(pairs, catalogue, features)
    part_P = split(len(pairs.queries), settings, seed)[pairs.which_P]
    fit_P, tune_P, test_P = (part_P == part for part in range(3))
    x_PF = pairs.features(features)
    if given is None:
        random_x = _random_pairs(pairs.part(fit_P), catalogue, settings.random_share, seed).features(features)
        tier_N = np.concatenate([pairs.tier_P[fit_P], np.zeros(len(random_x), np.int8)])
        # Calibration and borders are for the kind of pair that judges see: random ones would move every border down.
        network = fit_network(
            np.concatenate([x_PF[fit_P], random_x]), tier_N, x_PF[tune_P], pairs.tier_P[tune_P], settings, seed
        )
        given = NetworkScorer(features, network)
    tune, test = pairs.part(tune_P), pairs.part(test_P)
    calibration = Calibration.fit(given.logits(tune.queries, tune.which_P, tune.rows_P), tune.tier_P)
    borders = Borders(
        *(
            tuple(best_thresholds(x_PF[~test_P, NAMES.index(name)], pairs.tier_P[~test_P]).tolist())
            for name in ("bm25", "cosine")
        )
    )
    logit_MT = given.logits(test.queries, test.which_P, test.rows_P)
    report = measured(test, x_PF[test_P], logit_MT, calibration, borders, len(pairs.rows_P), len(pairs.queries))
    return Trained(given, calibration, borders, report)


def measured(
    pairs: Pairs,
    x_MF: Arrays,
    logit_MT: Logits,
    calibration: Calibration,
    borders: Borders,
    judgments: int,
    queries: int,
) -> RelevanceReport:
    """Agreement with M judgments that the scorer never saw, beside BM25 and cosine on the same pairs."""
    p_MT, tier_M = calibration.probabilities(logit_MT), pairs.tier_P
    predicted_M, confidence_M = calibration.tiers(logit_MT)
    bm25_M = np.digitize(x_MF[:, NAMES.index("bm25")], borders.bm25)
    cosine_M = np.digitize(x_MF[:, NAMES.index("cosine")], borders.cosine)
    right_M = predicted_M == tier_M
    return RelevanceReport(
        trained=True,
        judgments=judgments,
        queries=queries,
        test_judgments=len(tier_M),
        kappa=quadratic_kappa(predicted_M, tier_M),
        accuracy=float(right_M.mean()),
        log_loss=log_loss(p_MT, tier_M),
        calibration_error=calibration_error(confidence_M, right_M),
        kappa_bm25=quadratic_kappa(bm25_M, tier_M),
        kappa_cosine=quadratic_kappa(cosine_M, tier_M),
        confusion=tuple(tuple(row) for row in confusion(predicted_M, tier_M).tolist()),
        gain_bm25=kappa_gain(predicted_M, bm25_M, tier_M, pairs.which_P, seed=0),
        gain_cosine=kappa_gain(predicted_M, cosine_M, tier_M, pairs.which_P, seed=0),
        tier_calibration_error=tier_calibration_error(p_MT, tier_M),
        reliability=reliability(confidence_M, right_M),
    )


def too_few(judgments: int, settings: RelevanceSettings) -> InvalidData:
    """What is wrong with them."""
    bound = f"at least {settings.min_judgments} (reward.relevance.min_judgments), of {LEAST_QUERIES} queries"
    return InvalidData("judgments", None, "number", judgments, bound)


def tell_apart(catalogue: Catalogue) -> bool:
    """Whether the titles hold more than ids: with each item's id taken out of its title, at least two still differ."""
    left = {
        tuple(word for word in tokens(title) if word not in tokens(item))
        for item, title in zip(catalogue.items, catalogue.titles, strict=True)
    }
    return len(left) > 1


def split(queries: int, settings: RelevanceSettings, seed: int) -> Ints:
    """0 to fit, 1 to tune, 2 to test, per query; every part has at least one query."""
    test, tune = (max(1, round(queries * share)) for share in (settings.test_share, settings.tune_share))
    part_Q = np.zeros(queries, np.int64)
    part_Q[:test], part_Q[test : test + tune] = 2, 1
    return np.random.default_rng(seed).permutation(part_Q)


def _random_pairs(judged: Pairs, catalogue: Catalogue, share: float, seed: int) -> Pairs:
    """Unjudged items drawn for the judged queries, as many for each as its judgments ask for; tier 0.

    Judges see what a search brings up; a policy that explores brings up anything.
    """
    rng = np.random.default_rng((seed, 1))
    which, count = np.unique(judged.which_P, return_counts=True)
    which_R = np.repeat(which, rng.poisson(share * count))
    rows_R = rng.integers(0, len(catalogue), len(which_R))
    pair_R = np.setdiff1d(which_R * len(catalogue) + rows_R, judged.which_P * len(catalogue) + judged.rows_P)
    which_R, rows_R = np.divmod(pair_R, len(catalogue))
    return Pairs(judged.queries, which_R, rows_R, np.zeros(len(pair_R), np.int8))


def _untrained(pairs: Pairs, catalogue: Catalogue, features: Features) -> Trained:
    """Adjacent tiers swap places at the borders: logit of tier t is slope * (t * cosine - sum of the first t borders).

    Titles of mere ids: every tier is as likely as the others (confidence 1/4), no expected tier reaches a border, 0 is said.
    """
    textless = not tell_apart(catalogue)
    slope = 0.0 if textless else UNTRAINED_SLOPE
    weight_FH = np.zeros((features.width, 1), np.float32)
    weight_FH[NAMES.index("cosine"), 0] = 1.0
    network = Network(
        mean_F=np.zeros(features.width, np.float32),
        scale_F=np.ones(features.width, np.float32),
        weight_FH=weight_FH,
        bias_H=np.zeros(1, np.float32),
        weight_HT=(slope * np.arange(TIERS)).astype(np.float32)[None, :],
        bias_T=(-slope * np.concatenate([[0.0], np.cumsum(UNTRAINED_BORDERS)])).astype(np.float32),
    )
    borders = (4.0, 4.0, 4.0) if textless else (0.5, 1.5, 2.5)
    report = RelevanceReport(False, len(pairs.rows_P), len(pairs.queries), 0, 0, 0, 0, 0, 0, 0, (), textless)
    return Trained(NetworkScorer(features, network), Calibration(1.0, borders), None, report)
