"""What a run's engines are made of, loaded from the store once and shared by every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from reward.settings import RewardSettings
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.checkpoints import Manifest
from schemas.errors import Corrupt, Unavailable
from schemas.store import Store
from serving.engine import SearchEngine
from serving.settings import EngineSettings
from trainers import checkpoints
from trainers.identifiers.build import Identifiers
from trainers.identifiers.trie import Trie
from trainers.identifiers.trie_file import shared
from trainers.policies import load_policy
from trainers.policies.base import Policy


@dataclass(frozen=True, eq=False)
class Parts:
    """Immutable; `engine` puts a policy over them."""

    store: Store
    reward: RewardSettings
    catalogue: Catalogue
    identifiers: Identifiers
    trie: Trie  #: of the identifiers, mapped: the servers of a machine share its pages
    relevance: RelevanceScorer
    encoder: SentenceEncoder

    @classmethod
    def load(cls, store: Store, artefacts: Artefacts, settings: RewardSettings) -> Parts:
        """Read the run's catalogue, identifiers and relevance scorer.

        Raises:
            Unavailable, Corrupt: an artefact is missing or does not pass its check.
        """
        if not (artefacts.identifiers and artefacts.relevance):
            raise Unavailable("the run's artefacts", str(artefacts), "prepare the run with `headrace prepare`")
        catalogue, encoder = Catalogue.load(store), _encoder(settings)
        identifiers = Identifiers.load(store, artefacts.identifiers)
        return cls(
            store=store,
            reward=settings,
            catalogue=catalogue,
            identifiers=identifiers,
            trie=shared(store, identifiers.version, lambda: identifiers.trie),
            relevance=RelevanceScorer.load(store, artefacts.relevance, catalogue, encoder),
            encoder=encoder,
        )

    def relevance_over(self, catalogue: Catalogue) -> RelevanceScorer:
        """The run's scorer over its catalogue as it is now: items appended, titles changed; itself where neither happened.

        The new titles are embedded with an encoder of their own, because the shared one belongs to the model's thread.
        """
        return self.relevance.over(catalogue, self._for_titles.encode)

    @cached_property
    def _for_titles(self) -> SentenceEncoder:
        return _encoder(self.reward)

    def engine(self, policy: Policy, manifest: Manifest, settings: EngineSettings, reward: RewardSettings) -> SearchEngine:
        """An engine over these parts and the policy of a checkpoint.

        Raises:
            Incompatible: the policy was trained with other identifiers.
        """
        return SearchEngine(
            policy, self.trie, self.catalogue, self.identifiers, self.relevance, self.encoder,
            settings, reward.serving, checkpoint=manifest.checkpoint, absorbed=manifest.absorbed,
        )  # fmt: skip


def _encoder(settings: RewardSettings) -> SentenceEncoder:
    return SentenceEncoder(Path(settings.relevance.model) if settings.relevance.model else None)


class Opened(NamedTuple):
    """A checkpoint in memory."""

    policy: Policy
    manifest: Manifest


def open_checkpoint(store: Store, checkpoint: str, like: Opened | None = None) -> Opened:
    """A checkpoint's policy and its manifest; every file is held against the manifest first.

    ``like``: one that was opened before; where the two differ in their weights alone, nothing else is made anew.

    Raises:
        Unavailable, Corrupt, Incompatible: it is not complete, altered, or of an unknown backbone.
    """
    manifest = checkpoints.verify(store, checkpoint)
    alike = like.policy if like is not None and _form(like.manifest) == _form(manifest) else None
    policy = load_policy(checkpoints.policy_folder(store, checkpoint), alike)
    if not all(bool(weight.isfinite().all()) for weight in policy.module.parameters()):
        raise Corrupt(f"the weights of checkpoint {checkpoint}", "some are not finite", "use the checkpoint before it")
    return Opened(policy, manifest)


def _form(manifest: Manifest) -> dict[str, str]:
    """Digests of what says what the weights are of: settings, shape and tokenizer."""
    return {name: digest for name, digest in manifest.files.items() if name.endswith(".json")}
