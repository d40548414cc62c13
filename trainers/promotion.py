"""Publishing: a checkpoint becomes a candidate, meets the gate, and is promoted or kept, every word of it journalled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from schemas.artefacts import Artefacts
from schemas.checkpoints import Candidate, Manifest, Promotion
from schemas.connections import Connections
from schemas.errors import Corrupt, Unavailable
from schemas.journal import GateDecision
from schemas.posteriors import SnapshotPointer
from schemas.store import Store
from schemas.topics import CANDIDATES, PROMOTED
from schemas.weights import RewardWeights
from trainers import checkpoints
from trainers.gate import Contender, compare
from trainers.journal import Journal, read_topic
from trainers.lines import Line
from trainers.policies import load_policy
from trainers.policies.base import Policy
from trainers.settings import GateSettings
from trainers.state import LearnerState
from trainers.tools import Tools

log = structlog.get_logger()


class Present(NamedTuple):
    """What rewards are made of now: a candidate and the served one are judged by the same."""

    weights: RewardWeights
    snapshot: SnapshotPointer | None
    tools: Tools  #: over the items of the last step


class Publisher:
    """Knows which checkpoint is served: the last one promoted, or the run's frozen one before any.

    If its files no longer pass their checks, a candidate is compared with the newest promoted one that does.
    """

    def __init__(
        self, connections: Connections, store: Store, artefacts: Artefacts, journal: Journal, settings: GateSettings
    ) -> None:
        self._store, self._journal, self._settings = store, journal, settings
        promotions: list[Promotion] = read_topic(connections, PROMOTED)
        of_line = Line(store, artefacts.frozen)
        self._line = [artefacts.frozen, *(one.checkpoint for one in promotions if of_line.promoted(one))]
        self._served: Contender | None = None

    def publish(self, manifest: Manifest, state: LearnerState, now: Present) -> GateDecision:
        """Announce a checkpoint of the present state, put it to the gate, and promote it if the gate lets it through."""
        path = checkpoints.path_of(manifest.checkpoint)
        candidate = Candidate(manifest.checkpoint, manifest.step, path, int(time.time() * 1000))
        self._journal.send(CANDIDATES, manifest.checkpoint.encode(), candidate)
        # From the store: what would be served.
        policy = load_policy(checkpoints.policy_folder(self._store, manifest.checkpoint))
        decision = self._judge(manifest, policy, state, now)
        self._journal.append(decision)
        log.info("gate", checkpoint=manifest.checkpoint, promoted=decision.promoted, reason=decision.reason)
        if decision.promoted:
            self._promote(manifest, decision.reason)
            self._served = Contender(manifest.checkpoint, policy, manifest.absorbed)
        return decision

    @property
    def line(self) -> Sequence[str]:
        """What may be served: the first checkpoint and all that were promoted after it, oldest first."""
        return self._line

    def fallback(self) -> str:
        """The newest of ``line`` that passes its checks now."""
        self._served = None
        return self._serves().name

    def hold_back(self, manifest: Manifest, reason: str) -> GateDecision:
        """Keep a checkpoint from the gate, in the journal as a decision against it; it is announced to nobody."""
        now_ms = int(time.time() * 1000)
        decision = GateDecision(manifest.checkpoint, self._line[-1], False, "guards", 0.0, 0.0, 0.0, 0, reason, now_ms)
        self._journal.append(decision)
        log.warning("held back", checkpoint=manifest.checkpoint, reason=reason)
        return decision

    def settle(self, manifest: Manifest, state: LearnerState, now: Present, decisions: dict[str, GateDecision]) -> None:
        """Finish what a kill cut short for the checkpoint that was resumed from: its judgement, or its announcement."""
        decision = decisions.get(manifest.checkpoint)
        if decision is None and manifest.held:
            self.hold_back(manifest, manifest.held)
        elif decision is None:
            self.publish(manifest, state, now)
        elif decision.promoted and manifest.checkpoint not in self._line:
            self._promote(manifest, decision.reason)

    def _judge(self, manifest: Manifest, candidate: Policy, state: LearnerState, now: Present) -> GateDecision:
        views = state.held_out.newest(self._settings.views)
        asks = Contender(manifest.checkpoint, candidate, manifest.absorbed)
        return compare(asks, self._serves(), views, now.tools, now.weights, now.snapshot, self._settings, manifest.step)

    def _serves(self) -> Contender:
        while self._served is None or self._served.name != self._line[-1]:
            checkpoint = self._line[-1]
            try:
                absorbed = checkpoints.verify(self._store, checkpoint).absorbed
                policy = load_policy(checkpoints.policy_folder(self._store, checkpoint))
                self._served = Contender(checkpoint, policy, absorbed)
            except (Corrupt, Unavailable) as error:
                log.error("promoted checkpoint refused", checkpoint=checkpoint, error=str(error))
                if len(self._line) == 1:
                    raise
                self._line.pop()
        return self._served

    def _promote(self, manifest: Manifest, reason: str) -> None:
        path = checkpoints.path_of(manifest.checkpoint)
        promotion = Promotion(manifest.checkpoint, manifest.step, path, int(time.time() * 1000), reason, manifest.line)
        self._journal.send(PROMOTED, manifest.checkpoint.encode(), promotion)
        self._line.append(manifest.checkpoint)
