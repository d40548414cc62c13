"""What a learner uses and never changes, opened from the store by the versions that the run uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from reward.settings import PosteriorSettings, RewardSettings, ServingScoreSettings
from reward.snapshot import PosteriorSnapshot
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.posteriors import SnapshotPointer
from schemas.store import Store
from trainers import checkpoints
from trainers.identifiers.build import Identifiers
from trainers.identifiers.trie import Trie
from trainers.pair_file import load_sampler
from trainers.pairs import PairSampler
from trainers.policies import load_policy
from trainers.policies.base import Policy
from trainers.policies.prompts import Encoder, PromptBuilder
from trainers.rewards import ClickRates, RewardModel, Tiers
from trainers.settings import LearnerSettings
from trainers.state import own_weights


@dataclass(frozen=True)
class Tools:
    """What a step uses and never changes."""

    catalogue: Catalogue
    trie: Trie
    builder: PromptBuilder
    rewards: RewardModel
    rates: Callable[[SnapshotPointer | None], ClickRates]
    pairs: PairSampler | None  #: warm-start pairs, None where there are none to mix in
    settings: LearnerSettings
    order: ServingScoreSettings = field(
        default_factory=ServingScoreSettings
    )  #: the server's, by which the gate orders a page
    reference: Policy | None = None  #: the warm start, where the objective holds on to it


#: What opens them, for the policy that is loaded and for settings of the learner.
OpenTools = Callable[[Policy, LearnerSettings], Tools]


class Snapshots:
    """Posterior snapshots by their pointers; the newest one stays in memory. None: the prior, before any event."""

    def __init__(self, store: Store, settings: PosteriorSettings) -> None:
        self._store = store
        self._held: tuple[SnapshotPointer | None, PosteriorSnapshot] = (None, PosteriorSnapshot.prior(settings))
        self._prior = self._held[1]

    def __call__(self, pointer: SnapshotPointer | None) -> PosteriorSnapshot:
        """The snapshot a step's intent names, checked against its checksum."""
        if pointer is None:
            return self._prior
        if self._held[0] != pointer:
            self._held = (pointer, PosteriorSnapshot.read(self._store, pointer))
        return self._held[1]


def open_tools(
    store: Store, artefacts: Artefacts, policy: Policy, settings: LearnerSettings, reward: RewardSettings,
    encoder: Encoder | None = None, tiers: Tiers | None = None,
) -> Tools:  # fmt: skip
    """Read catalogue, identifiers, relevance scorer and warm-start pairs. ``encoder`` and ``tiers``: what is open already.

    Raises:
        Unavailable, Corrupt: an artefact is missing or fails its check.
    """
    catalogue = Catalogue.load(store)
    identifiers = Identifiers.load(store, artefacts.identifiers)
    if encoder is None or tiers is None:
        opened = SentenceEncoder(Path(reward.relevance.model) if reward.relevance.model else None, threads=settings.threads)
        encoder = encoder or opened
        tiers = tiers or RelevanceScorer.load(store, artefacts.relevance, catalogue, opened)
    trie = identifiers.trie

    def sid_of(item: str) -> tuple[int, ...] | None:
        row = catalogue.row.get(item)
        return None if row is None or trie.leaf_of_item_N[row] < 0 else tuple(trie.sids_NL[row].tolist())

    mixed, expected = settings.warm_start_weight > 0, settings.interaction == "expected"
    return Tools(
        catalogue=catalogue,
        trie=trie,
        builder=PromptBuilder.of(policy.tokenizer, policy.settings.prompt, identifiers, encoder, sid_of, catalogue),
        rewards=RewardModel(catalogue, trie, tiers, expected=expected),
        rates=Snapshots(store, reward.posterior),
        pairs=load_sampler(store, artefacts.frozen, settings.seed) if mixed else None,
        settings=settings,
        order=reward.serving,
        reference=_warm_start(store, artefacts) if settings.loss.needs_reference else None,
    )


def _warm_start(store: Store, artefacts: Artefacts) -> Policy:
    """The run's frozen policy, for reading alone."""
    checkpoints.verify(store, artefacts.frozen)
    policy = own_weights(load_policy(checkpoints.policy_folder(store, artefacts.frozen)))
    policy.module.eval().requires_grad_(False)
    return policy
