"""TPMA's advantages, vectorised, against the paper's loop over groups, rollouts and positions.

Both start from the rollouts, the targets and the item rewards, each in the form it works on (tensors; lists), and end
with what the loss needs: position advantages, gates and item advantages (Eq. 11 and 13-16). The loop
computes nothing twice; it is plain Python on floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import Result, finish, paired_times, parser, row, scaled
from trainers.credit import (
    WEIGHTS_L,
    item_advantages,
    marginal_rewards,
    position_advantages,
    prefix_gates,
    prefix_rewards,
    token_matches,
)

GROUP, LENGTH, CODES, MOST_TARGETS = 16, 5, 16, 3
DELTA = 1e-6

Sids = list[list[list[int]]]
Floats = list[list[float]]


class Batch(NamedTuple):
    """B groups. A group without a target is one whose page nobody clicked."""

    sids_BGL: Tensor
    targets_BTL: Tensor
    has_BT: Tensor
    reward_BG: Tensor

    def lists(self) -> tuple[Sids, Sids, Floats]:
        """The same as lists, each group with its own number of targets."""
        targets = [
            [sid for sid, has in zip(sids, known, strict=True) if has]
            for sids, known in zip(self.targets_BTL.tolist(), self.has_BT.tolist(), strict=True)
        ]
        return self.sids_BGL.tolist(), targets, self.reward_BG.tolist()


def make_batch(groups: int, seed: int) -> Batch:
    """Rollouts that reproduce a random part of one of 0 to 3 targets, and rewards of the size of Eq. 9."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, CODES, (groups, MOST_TARGETS, LENGTH))
    near = np.take_along_axis(targets, rng.integers(0, MOST_TARGETS, (groups, GROUP))[..., None], axis=1)
    sids = np.where(rng.random((groups, GROUP, LENGTH)) < 0.5, near, rng.integers(0, CODES, (groups, GROUP, LENGTH)))
    has = np.arange(MOST_TARGETS) < rng.integers(0, MOST_TARGETS + 1, groups)[:, None]
    reward = rng.integers(0, 4, (groups, GROUP)) + rng.beta(2, 30, (groups, GROUP))
    return Batch(torch.from_numpy(sids), torch.from_numpy(targets), torch.from_numpy(has), torch.from_numpy(reward))


def ours(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(position_BGL, gate_BGL, item_BG) as the learner computes them: rewards in float64, advantages in float32."""
    weights_L = torch.tensor(WEIGHTS_L)
    match_BGTL = token_matches(batch.sids_BGL, batch.targets_BTL, batch.has_BT)
    marginal_BGL = marginal_rewards(prefix_rewards(match_BGTL, weights_L))
    position_BGL = position_advantages(marginal_BGL, weights_L, DELTA, "paper")
    gate_BGL = prefix_gates(match_BGTL, "paper", weights_L.dtype)
    return position_BGL, gate_BGL, item_advantages(batch.reward_BG, DELTA).float()


def loop(sids: Sids, targets: Sids, rewards: Floats) -> tuple[list[Floats], list[Floats], Floats]:
    """The same by the paper's indices."""
    position: list[Floats] = []
    gates: list[Floats] = []
    item: Floats = []
    for rollouts, wanted, reward in zip(sids, targets, rewards, strict=True):
        marginals, gate = [], []
        for rollout in rollouts:
            gained, opened = _walk(rollout, wanted)
            marginals.append(gained)
            gate.append(opened)
        by_position = [_standardise([gained[n] for gained in marginals]) for n in range(LENGTH)]
        position.append([[by_position[n][i] for n in range(LENGTH)] for i in range(len(rollouts))])
        gates.append(gate)
        item.append(_standardise(reward))
    return position, gates, item


def _walk(rollout: Sequence[int], wanted: Sequence[Sequence[int]]) -> tuple[list[float], list[float]]:
    """Marginal rewards (Eq. 13-14) and gates (Eq. 16) of one rollout."""
    score, count = [0.0] * len(wanted), [0] * len(wanted)
    before, matches = 0.0, 0
    gained, gate = [], []
    for n in range(LENGTH):
        gate.append(matches / n if n else 1.0)
        for t, target in enumerate(wanted):
            if rollout[n] == target[n]:
                score[t] += WEIGHTS_L[n]
                count[t] += 1
        best = max(score, default=0.0)
        matches = max(count, default=0)
        gained.append(best - before)
        before = best
    return gained, gate


def _standardise(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / (std + DELTA) for value in values]


def check(batch: Batch) -> None:
    """Raise unless both give the same numbers, up to float32."""
    names = ("position advantages", "gates", "item advantages")
    for name, tensor, nested in zip(names, ours(batch), loop(*batch.lists()), strict=True):
        if not torch.allclose(tensor, torch.tensor(nested), rtol=1e-4, atol=1e-4):
            raise AssertionError(f"the two {name} differ")


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("advantages", __doc__)
    options.add_argument("--groups", type=int, default=4096, help="groups of a batch")
    chosen = options.parse_args(arguments)
    batch = make_batch(chosen.groups, seed=1)
    check(batch)
    lists = batch.lists()
    pairs = paired_times(lambda: ours(batch), lambda: loop(*lists), repeats=5 if chosen.quick else 11, calls=5)
    case = row(f"{chosen.groups} groups", scaled(pairs, 1e3), "the paper's loop in plain Python", "ms")
    return finish("advantages", [case], chosen, [f"G {GROUP}, L {LENGTH}, one thread; both agree to 1e-4."])


if __name__ == "__main__":
    main()
