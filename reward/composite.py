"""The composite item reward, its terms kept apart, and the serving score made of the same components.

What differs from the paper: orders outrank clicks (it prints their values the other way round), and each term's share
of the reward's variance is reported, because a raw CTR near 0.02 next to a click of 3 does nothing.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward.examination import Examination
from reward.settings import ServingScoreSettings

#: Names of the last axis of `item_terms`.
TERMS: Final = ("relevance", "ctr", "interaction")
#: Names of the last axis of `serving_terms`.
SERVING_TERMS: Final = ("policy", "relevance", "ctr", "multiplier", "taken_up")

#: V1's weight of an interaction's kind.
LAMBDA: Final = {"search_order": 2.0, "category_order": 1.5, "click": 1.0, "exposed": 0.5, "category": 0.2, "random": 0.0}

#: CTR is clipped to [CTR_FLOOR, 1 - CTR_FLOOR].
CTR_FLOOR: Final = 1e-6

Floats = NDArray[np.float64]


class TermWeights(Protocol):
    """Weights of the terms: numbers for all items (`RewardWeights`), or arrays that follow them (`ItemWeights`)."""

    @property
    def relevance(self) -> float | Floats: ...
    @property
    def ctr(self) -> float | Floats: ...
    @property
    def click(self) -> float | Floats: ...
    @property
    def order(self) -> float | Floats: ...
    @property
    def multiplier(self) -> float | Floats:
        """On the item's whole reward."""


class Excess(NamedTuple):
    """What a checkpoint was rewarded with beyond the reference (`reward.campaigns.relative`): numbers, or arrays [...] that
    follow the items."""

    relevance: float | Floats  #: for each tier
    click: float | Floats  #: for the chance of a click


def item_terms(
    tier: ArrayLike, ctr: ArrayLike, clicked: ArrayLike, ordered: ArrayLike, weights: TermWeights
) -> NDArray[np.float64]:
    """The three weighted terms of R_item, last axis `TERMS`: [..., 3] from four inputs of one (broadcast) shape [...].

    ``tier`` 0 to 3, ``ctr`` in (0, 1) (clipped), ``clicked`` a truth value, a count, or the probability of a click,
    ``ordered`` a truth value or a count, ``weights`` of one set or [...] (V2 Eq. 9-10, times the item's multiplier).
    """
    relevance = weights.relevance * np.asarray(tier, dtype=np.float64)
    click_rate = weights.ctr * np.clip(np.asarray(ctr, dtype=np.float64), CTR_FLOOR, 1 - CTR_FLOOR)
    clicks = np.clip(np.asarray(clicked, dtype=np.float64), 0.0, 1.0)
    interaction = np.where(np.asarray(ordered) > 0, weights.order, weights.click * clicks)
    terms = np.stack(np.broadcast_arrays(relevance, click_rate, interaction), axis=-1)
    leaned: Floats = terms * np.asarray(weights.multiplier, dtype=np.float64)[..., None]
    return leaned


def item_reward(
    tier: ArrayLike, ctr: ArrayLike, clicked: ArrayLike, ordered: ArrayLike, weights: TermWeights
) -> NDArray[np.float64]:
    """R_item = multiplier (w_rel R_rel + w_ctr R_ctr + R_co) (V2 Eq. 9-10), shape [...]: the sum of `item_terms`."""
    total: Floats = item_terms(tier, ctr, clicked, ordered, weights).sum(axis=-1)
    return total


def click_if_examined(clicked: ArrayLike, examined: ArrayLike, ctr: ArrayLike) -> NDArray[np.float64]:
    """Probability [...] of a click had the item been examined, given what was seen of it: R_co without the page's places.

    With theta = ``examined`` the probability that its place was looked at (0: not shown) and c = ``ctr`` the probability
    of a click when it is: 1 where it was clicked; else P(would click | no click) = c (1 - theta) / (1 - theta c). Theta and c
    belong to one snapshot, as c was estimated under its theta; estimates are relative to the first place, and what
    they have above it counts as 1. An item on top without a click is worth nothing, one that nobody saw what is believed of it. An observed R_co pays the top
    places for being there, and what is not shown for nothing: a learner on it confirms the order it began with.
    """
    c, theta = np.asarray(ctr, dtype=np.float64), np.minimum(np.asarray(examined, dtype=np.float64), 1.0)
    c = np.clip(c, CTR_FLOOR, 1 - CTR_FLOOR)
    chance: Floats = np.where(np.asarray(clicked) > 0, 1.0, c * (1 - theta) / (1 - theta * c))
    return chance


def learned_terms(
    tier: ArrayLike, ctr: ArrayLike, clicks: ArrayLike, orders: ArrayLike, position: ArrayLike, weights: TermWeights,
    examination: Examination | None,
) -> NDArray[np.float64]:  # fmt: skip
    """`item_terms` [..., 3] as the learner rewards by them, and as a preview says it will.

    ``position`` from 1, 0: not shown. ``examination``, of the snapshot that ``ctr`` is of: an item without a click counts with its
    chance of one (`click_if_examined`); None: clicks as observed.
    """
    if examination is None:
        return item_terms(tier, ctr, clicks, orders, weights)
    # Not shown is looked at by nobody: as a position, 0 would stand for a place that is looked at for certain.
    examined = np.where(np.asarray(position) > 0, examination.at(position), 0.0)
    return item_terms(tier, ctr, click_if_examined(clicks, examined, ctr), orders, weights)


def term_shares(terms_BG3: ArrayLike) -> dict[str, float]:
    """Each term's share of the variance of the reward within groups; the shares sum to 1.

    A share is the term's covariance with the total over the total's variance, groups pooled; a term that works
    against the others has a negative share. All zero when every group's reward is constant.
    """
    terms = np.asarray(terms_BG3, dtype=np.float64)
    centred = terms - terms.mean(axis=-2, keepdims=True)
    total = centred.sum(axis=-1, keepdims=True)
    variance = float((total**2).sum())
    # Centring a constant group leaves rounding of the order of 1e-16 times its size; that is no variance.
    if variance <= 1e-24 * max(1.0, float((terms**2).sum())):
        return dict.fromkeys(TERMS, 0.0)
    shares = (centred * total).reshape(-1, len(TERMS)).sum(axis=0) / variance
    return {name: float(share) for name, share in zip(TERMS, shares, strict=True)}


def serving_terms(
    logp: ArrayLike, tier: ArrayLike, ctr: ArrayLike, weights: TermWeights, settings: ServingScoreSettings,
    excess: Excess | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """The serving score's five terms, last axis `SERVING_TERMS`: [..., 5]. ``logp`` in nats.

    ``excess`` None: the policy was trained with the reference. No more is taken out of it than the weights put in: the total
    never falls with tier or CTR, whatever an average says.
    """
    terms = _serving_terms(logp, tier, ctr, weights, settings, excess)
    return np.stack(np.broadcast_arrays(*terms), axis=-1)


def _serving_terms(
    logp: ArrayLike, tier: ArrayLike, ctr: ArrayLike, weights: TermWeights, settings: ServingScoreSettings,
    excess: Excess | None,
) -> tuple[Floats | float, ...]:  # fmt: skip
    click_rate = np.clip(np.asarray(ctr, dtype=np.float64), CTR_FLOOR, 1 - CTR_FLOOR)
    tier = np.asarray(tier, dtype=np.float64)
    for_tier, for_ctr = settings.relevance_scale * weights.relevance, settings.ctr_scale * weights.ctr
    taken_up: Floats | float = 0.0
    if excess is not None:
        learned = np.minimum(settings.uptake_scale * excess.relevance, for_tier) * tier
        taken_up = -learned - np.minimum(settings.uptake_scale * excess.click * click_rate, for_ctr)
    leaning = settings.multiplier_scale * np.log(weights.multiplier)
    return np.asarray(logp, dtype=np.float64), for_tier * tier, for_ctr * np.log(click_rate), leaning, taken_up


def serving_score(
    logp: ArrayLike, tier: ArrayLike, ctr: ArrayLike, weights: TermWeights, settings: ServingScoreSettings,
    excess: Excess | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Policy score plus the active weights on the components, shape [...]; the server orders by it.

    total = logp + relevance_scale * w_rel * tier + ctr_scale * w_ctr * log(ctr) + multiplier_scale * log(multiplier)
            - uptake_scale * (excess.relevance * tier + excess.click * ctr)
    """
    total: Floats = np.asarray(sum(_serving_terms(logp, tier, ctr, weights, settings, excess)))
    return total


def v1_reward(clicks: ArrayLike, orders: ArrayLike, exposures: ArrayLike, kind_weight: ArrayLike) -> NDArray[np.float64]:
    """V1's smoothed signal, for parity: 2 lambda Ctr Cvr / (Ctr + Cvr) with c(x) = log(x + 10).

    Args are counts of one shape [...] and lambda (see `LAMBDA`). An unseen item gets the highest value: that is the
    signal's flaw, and why the posterior of `reward.posterior` is the default.
    """

    def smooth(count: ArrayLike) -> Any:
        return np.log(np.asarray(count, dtype=np.float64) + 10.0)

    click, order, shown = smooth(clicks), smooth(orders), smooth(exposures)
    ctr, cvr = click / (shown + click + order), order / click
    signal: Floats = 2.0 * np.asarray(kind_weight, dtype=np.float64) * ctr * cvr / (ctr + cvr)
    return signal
