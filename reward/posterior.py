"""Empirical-Bayes CTR: a hierarchy whole -> (SID prefix) -> item -> (query, item) with fitted strengths.

Each level's Beta prior has its parent's posterior mean and one strength. What a child adds to its parent is discounted by
s / (s + n): a thousand views of one pair tell less of its item than ten views of each of a hundred pairs, as all of them
share the pair's own deviation. So evidence climbs discounted and means come down; nothing counts twice, and a
parent needs no version without the child (hierarchical credibility; Jewell 1975, Buehlmann and Gisler 2005, ch. 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward.counts import Ints, Sums
from reward.settings import PosteriorSettings
from reward.strength import Evidence, fit_strength

Floats = NDArray[np.float64]

#: Means stay inside [FLOOR, 1 - FLOOR].
FLOOR: Final = 1e-6
#: Rounds of climbing and fitting: evidence depends on the strengths below, strengths on the evidence.
ROUNDS: Final = 4


class Step(NamedTuple):
    """The way up from one level: each child's parent, and how many parents there are."""

    parent_C: Ints
    parents: int


@dataclass(frozen=True)
class Level:
    """Posterior of C children: Beta of mean ``mean_C`` and ``strength + n_C`` positions."""

    strength: float
    n_C: Floats
    mean_C: Floats

    @property
    def variance_C(self) -> Floats:
        """Of the rate, given the parent's mean."""
        return self.mean_C * (1 - self.mean_C) / (self.strength + self.n_C + 1)


@dataclass(frozen=True)
class Posterior:
    """The whole, its prefixes (None without identifiers), items and pairs, in the order of the sums."""

    whole: Level
    prefixes: Level | None
    items: Level
    pairs: Level


def fit(sums: Sums, settings: PosteriorSettings, prefixes: Step | None = None) -> Posterior:
    """The hierarchy from decayed sums; ``prefixes``: the identifiers' prefix of each of the sums' items."""
    steps = [Step(sums.item_P, len(sums.item_I))]
    if prefixes is not None:
        steps.append(prefixes)
    steps.append(Step(np.zeros(steps[-1].parents, np.int64), 1))
    pairs, left = _evidence(sums, ~sums.rest_P), _evidence(sums, sums.rest_P)
    # What evicted pairs left is many pairs, each too thin to be discounted: it joins its item as it is.
    left = _summed(left, steps[0])
    strengths = [settings.prior_strength] * len(steps)
    for _ in range(ROUNDS):
        strengths = _descend(_climb(pairs, left, steps, strengths), steps, strengths, settings)[1]
    levels, _ = _descend(_climb(pairs, left, steps, strengths), steps, strengths, settings)
    return Posterior(levels[-1], levels[2] if prefixes is not None else None, levels[1], levels[0])


def _climb(pairs: Evidence, left: Evidence, steps: Sequence[Step], strengths: Sequence[float]) -> list[Evidence]:
    """Evidence of every level, pairs first, the whole last."""
    climbed = [pairs]
    for n, (step, strength) in enumerate(zip(steps, strengths, strict=True)):
        upper = _summed(_discounted(climbed[-1], strength), step)
        climbed.append(Evidence(*(u + v for u, v in zip(upper, left, strict=True))) if n == 0 else upper)
    return climbed


def _descend(
    climbed: Sequence[Evidence], steps: Sequence[Step], strengths: Sequence[float], settings: PosteriorSettings
) -> tuple[list[Level], list[float]]:
    """Levels, pairs first, by these strengths; and the strengths that they would fit."""
    whole = climbed[-1]
    prior = settings.prior_mass
    mean_C = _clip((prior * settings.prior_ctr + whole.x_C) / (prior + whole.n_C))
    levels, fitted = [Level(prior, whole.n_C, mean_C)], list[float]()
    for evidence, step, strength in zip(climbed[-2::-1], steps[::-1], strengths[::-1], strict=True):
        above = levels[0]
        parent_C = above.mean_C[step.parent_C]
        fitted.insert(0, _fitted(evidence, above, step, strength, settings))
        mean_C = _clip((strength * parent_C + evidence.x_C) / (strength + evidence.n_C))
        levels.insert(0, Level(strength, evidence.n_C, mean_C))
    return levels, fitted


def _fitted(evidence: Evidence, above: Level, step: Step, strength: float, settings: PosteriorSettings) -> float:
    """The strength of one level, every child held against its parent without the child's own share."""
    mass_C = (above.strength + above.n_C)[step.parent_C]
    own = _discounted(evidence, strength)
    rest_C = np.maximum(mass_C - own.n_C, FLOOR)
    parent_C = _clip((mass_C * above.mean_C[step.parent_C] - own.x_C) / rest_C)
    return fit_strength(evidence, parent_C, parent_C * (1 - parent_C) / (rest_C + 1), strength, settings)


def _discounted(evidence: Evidence, strength: float) -> Evidence:
    """What children tell of their parent: each weighs s / (s + n), and its own deviation joins the variance."""
    n_C, x_C, a_C, b_C = evidence
    weight_C = strength / (strength + n_C)
    deviation_C = np.maximum(n_C**2 - b_C, 0.0) / (strength + 1)
    return Evidence(weight_C * n_C, weight_C * x_C, weight_C**2 * (a_C + deviation_C), weight_C**2 * (b_C + deviation_C))


def _summed(evidence: Evidence, step: Step) -> Evidence:
    sums = (np.bincount(step.parent_C, weights=v_C, minlength=step.parents).astype(np.float64) for v_C in evidence)
    return Evidence(*sums)


def _evidence(sums: Sums, which_P: NDArray[np.bool_]) -> Evidence:
    """Of the pairs at ``which_P``, zero elsewhere."""
    return Evidence(*(np.where(which_P, v_P, 0.0) for v_P in (sums.n_P, sums.clicks_P, sums.n2_P, sums.s2_P)))


def _clip(mean: Floats) -> Floats:
    return np.clip(mean, FLOOR, 1 - FLOOR)
