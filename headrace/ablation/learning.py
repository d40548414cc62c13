"""The line of training of one arm: the learner's own steps, publications and gate, at a stated rate instead of a clock's."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from headrace.ablation.answering import PolicyAnswers, Tiers
from headrace.ablation.lab import Lab
from headrace.ablation.plane import Plane
from headrace.ablation.settings import Setup
from reward.campaigns.relative import diluted
from schemas.journal import StepIntent
from schemas.weights import RewardWeights
from trainers import checkpoints
from trainers.batches import choose
from trainers.follow import Arrival
from trainers.gate import Contender, compare
from trainers.policies.base import Policy
from trainers.served import as_served
from trainers.state import Versions, load_state
from trainers.step import advance
from trainers.tools import Tools, open_tools

#: Points of a curve, at most: each is the mean over a stretch of steps.
POINTS = 50


class Line:
    """A learner without topics: examples come from the plane, a publication goes to the engine."""

    def __init__(self, lab: Lab, setup: Setup, tiers: Tiers, plane: Plane) -> None:
        trainers = setup.settings.trainers
        self._settings = trainers.learner.model_copy(update={"learn_from_ms": lab.world.live_ms})
        self._loop, self._gate, self._plane = setup.loop, trainers.gate, plane
        manifest = checkpoints.read(lab.store, lab.artefacts.frozen)
        versions = Versions(lab.artefacts.relevance, lab.artefacts.identifiers)
        self.state = load_state(lab.store, manifest, self._settings, versions)
        reward, encoder = setup.settings.reward, lab.parts.encoder  # which remembers texts over all arms
        tools = open_tools(lab.store, lab.artefacts, self.state.policy, self._settings, reward, encoder, tiers)
        self.tools: Tools = replace(tools, rates=plane.rates)
        self._waiting: deque[Arrival] = deque()
        self._taken = {0: 0}
        self._served = Contender("00000000", self._copy(), self.state.absorbed)
        self.metrics: list[dict[str, float]] = []
        self.publications: list[dict[str, float | bool]] = []

    def read(self, arrivals: Sequence[Arrival]) -> None:
        """Examples that are ready."""
        self._waiting.extend(arrivals)

    def follow(self, searches: int, answers: PolicyAnswers) -> None:
        """Take the steps that are due after so many searches, and publish when that is due."""
        while self.state.step < searches // self._loop.step_every:
            self._step()
            if self.state.step % self._loop.publish_every == 0:
                self._publish(answers)

    def curves(self) -> dict[str, list[float]]:
        """Metrics of the steps, as means over `POINTS` stretches of them; a step without a batch has none."""
        names = sorted({name for one in self.metrics for name in one} - _WALL)
        parts = np.array_split(np.arange(len(self.metrics)), min(POINTS, max(1, len(self.metrics))))
        found: dict[str, list[float]] = {"step": [float(part[-1] + 1) for part in parts if len(part)]}
        for name in names:
            rows = [[self.metrics[n][name] for n in part if name in self.metrics[n]] for part in parts if len(part)]
            found[name] = [float(np.mean(row)) if row else float("nan") for row in rows]
        return found

    def _step(self) -> None:
        number = self.state.step + 1
        offsets, _ = choose(self._waiting, self._taken, self._settings)
        records = []
        while self._waiting and self._waiting[0].offset < offsets[0]:
            records.append(self._waiting.popleft())
        self._taken = offsets
        intent = StepIntent(number, offsets, RewardWeights(), self._plane.pointer, 0, number, 0)
        self.metrics.append(advance(self.tools, self.state, records, intent)[1])

    def _publish(self, answers: PolicyAnswers) -> None:
        """As `trainers.promotion.Publisher`: the candidate meets what is served on the newest held-out views."""
        absorbed = diluted(self.state.absorbed, self._settings.served_share)
        candidate = Contender(f"{self.state.step:08d}", self._copy(), absorbed)
        said: dict[str, float | bool] = {"step": self.state.step, "promoted": True}
        if self._loop.gated:
            views, step = self.state.held_out.newest(self._gate.views), self.state.step
            weights, snapshot = RewardWeights(), self._plane.pointer
            found = compare(candidate, self._served, views, self.tools, weights, snapshot, self._gate, step)
            said |= {"promoted": found.promoted, "diff": found.diff, "low": found.low, "high": found.high, "n": found.n}
        self.publications.append(said)
        if said["promoted"]:
            self._served = candidate
            answers.swap(candidate.policy, candidate.name, candidate.absorbed)

    def _copy(self) -> Policy:
        """What would be served now."""
        assert self.state.start is not None
        with as_served(self.state.policy, self.state.start, self._settings.served_share):
            policy = copy.deepcopy(self.state.policy)
        policy.module.eval().requires_grad_(False)
        return policy


#: Metrics of the machine, not of learning: they differ from run to run.
_WALL = {"step_s", "prompts_per_s", "rollouts_per_s", "tokens_per_s"}
