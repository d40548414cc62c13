"""How a change of the weights sinks into a policy: in how many steps, and to how many nats per unit of reward.

Two learners go on from one checkpoint over the same views and draws, one with the defaults, one with a changed weight. At intervals the
difference of their log-probabilities over the identifiers that a search finds is regressed on the difference of the rewards: the slope is
the uptake (`reward.serving.uptake_scale`), and the step at which it has half its final value the half-life
(`trainers.learner.absorb_half_life`).

    python -m benchmarks.absorption --steps 300
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import parser
from benchmarks.wishes.shop import SmallShop, small_shop
from schemas.examples import TrainingExample
from schemas.journal import StepIntent
from schemas.weights import RewardWeights
from trainers import checkpoints
from trainers.batches import Batch, draws
from trainers.beam import beam_search
from trainers.passes import prompts_of
from trainers.settings import LearnerSettings
from trainers.state import LearnerState, Versions, load_state
from trainers.step import take_step
from trainers.tools import Tools, open_tools

Floats = NDArray[np.float64]


class Line:
    """One learner over a small shop, without topics: every step draws its views."""

    def __init__(self, shop: SmallShop, settings: LearnerSettings) -> None:
        self._shop, self._settings = shop, settings
        versions = Versions(shop.artefacts.relevance, shop.artefacts.identifiers)
        self.state: LearnerState = load_state(
            shop.store, checkpoints.read(shop.store, shop.artefacts.frozen), settings, versions
        )
        self.tools: Tools = open_tools(shop.store, shop.artefacts, self.state.policy, settings, shop.settings.reward)

    def fork(self) -> Line:
        """Another learner at the same point."""
        other = copy.copy(self)
        other.state = copy.deepcopy(self.state)
        return other

    def learn(self, weights: RewardWeights, steps: int) -> None:
        """Take steps with these weights in force."""
        for _ in range(steps):
            number = self.state.step + 1
            random = draws(self._settings.seed, number)
            views = random.choice(len(self._shop.examples), self._settings.prompts, replace=False)
            batch = Batch(tuple(self._shop.examples[n] for n in views), self._settings.prompts, 0, 0)
            take_step(self.tools, self.state, batch, StepIntent(number, {}, weights, None, 0, number, 0))
            self.state.step = number


class Found:
    """What a search finds for some views, kept, to ask policies about it."""

    def __init__(self, line: Line, views: Sequence[TrainingExample], beam: int = 50) -> None:
        self.views, self._tools = views, line.tools
        self._prompts = prompts_of(line.tools.builder, views)
        beams = beam_search(line.state.policy, self._prompts, line.tools.trie, beam)
        self.leaf_BW, self._sids_BWL = beams.leaf_BW.numpy(), beams.sids_BWL

    def logp(self, line: Line) -> Floats:
        """[B, W] of the identifiers."""
        policy = line.state.policy
        policy.module.eval()
        with torch.no_grad():
            logp_BWL = policy.logprobs(policy.encode(self._prompts), self._sids_BWL, self._tools.trie)
        return logp_BWL.sum(dim=-1).double().numpy()

    def reward(self, weights: RewardWeights) -> Floats:
        """[B, W], without the views' own clicks."""
        bare = [msgspec.structs.replace(view, items=()) for view in self.views]
        return self._tools.rewards.score(bare, self.leaf_BW, weights, self._tools.rates(None)).reward_BG


def uptake(plain_BW: Floats, wished_BW: Floats, more_BW: Floats) -> float:
    """Slope of the difference of log-probabilities on the difference of rewards, within each view."""
    moved_BW, more_BW = (wished_BW - plain_BW), more_BW - more_BW.mean(axis=1, keepdims=True)
    return float((moved_BW * more_BW).sum() / (more_BW**2).sum())


def curve(shop: SmallShop, wish: RewardWeights, settle: int, steps: int, every: int) -> list[tuple[int, float]]:
    """(steps since the change, uptake) after ``settle`` steps with the defaults."""
    plain = Line(shop, shop.settings.trainers.learner)
    plain.learn(RewardWeights(), settle)
    wished, found = plain.fork(), Found(plain, shop.examples[::12])
    more_BW = found.reward(wish) - found.reward(RewardWeights())
    points = []
    for step in range(every, steps + 1, every):
        plain.learn(RewardWeights(), every)
        wished.learn(wish, every)
        points.append((step, uptake(found.logp(plain), found.logp(wished), more_BW)))
    return points


def half_life(points: Sequence[tuple[int, float]]) -> float:
    """Steps to half of the final uptake, the mean of the last third; linear between two points."""
    half = 0.5 * float(np.mean([value for _, value in points[-max(1, len(points) // 3) :]]))
    steps, values = zip(*[(0, 0.0), *points], strict=True)
    first = next(n for n, value in enumerate(values) if value >= half)
    return float(np.interp(half, values[first - 1 : first + 1], steps[first - 1 : first + 1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the curve of each change."""
    options = parser("absorption", __doc__)
    options.add_argument("--steps", type=int, default=300, help="steps after the change")
    options.add_argument("--settle", type=int, default=100, help="steps with the defaults before it")
    chosen = options.parse_args(arguments)
    steps = 60 if chosen.quick else chosen.steps
    with tempfile.TemporaryDirectory(prefix="headrace-absorption-") as folder:
        shop = small_shop(Path(folder), warm_steps=60 if chosen.quick else 300)
        for wish in (RewardWeights(relevance=3), RewardWeights(relevance=0)):
            points = curve(shop, wish, 20 if chosen.quick else chosen.settle, steps, max(1, steps // 15))
            said = ", ".join(f"{step}: {value:.3f}" for step, value in points)
            print(f"relevance {wish.relevance:g}: nats per unit of reward by step: {said}")
            print(f"  half of it after {half_life(points):.0f} steps", flush=True)


if __name__ == "__main__":
    main()
