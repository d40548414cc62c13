"""A checkpoint is one atomic manifest: weights, optimiser, random state, offsets, versions, checksums."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.weights import RewardWeights


class Absorbed(msgspec.Struct, frozen=True):
    """A part of what a checkpoint has learned with: weights in force, and the share of its recent steps that used them."""

    share: float  #: 0 to 1; those of a checkpoint sum to 1
    weights: RewardWeights


class Alarm(msgspec.Struct, frozen=True):
    """A guard's measure beyond its bound."""

    guard: str
    value: float
    bound: float
    since_ms: int = 0  #: wall time since when it rings; 0: unknown, as of alarms from before there was this field


class Manifest(msgspec.Struct, frozen=True, tag_field="type", tag="manifest"):
    """Written last into its folder; a folder without a valid one is not a checkpoint."""

    checkpoint: str  #: id: ``{step:08d}-{first 8 hex digits of the weights' checksum}``
    step: int
    parent: str  #: checkpoint this one continues, empty for the warm start
    created_ms: int  #: wall time
    files: dict[str, str]  #: path inside the folder -> sha256
    offsets: dict[str, dict[int, int]]  #: topic -> partition -> next offset to read
    weights_version: int
    snapshot_version: int
    relevance_version: str
    codebook_version: str
    catalogue_offset: int  #: next offset of catalogue.items
    seed: int
    learner: str  #: tpma | grpo | sft | ...
    libraries: dict[str, str]
    metrics: dict[str, float] = {}
    absorbed: tuple[Absorbed, ...] = ()  #: by the policy that is served; empty: it was trained with the defaults
    clock_ms: int = 0  #: newest event time that the learner had read
    idle: int = 0  #: steps in a row without a fresh view, up to the last one
    settings: dict[str, Any] = {}  #: the learner's, under which the last step was taken
    start: str = ""  #: the warm start of its line; empty: of a warm start, and of checkpoints before there was this field
    learned: tuple[Absorbed, ...] = ()  #: by the learner's own weights, where those are not what is served
    held: str = ""  #: why a guard keeps it from being published, for people to read; empty: none does
    alarms: tuple[Alarm, ...] = ()  #: what rang when it was made; unknown of held ones from before this field
    v: int = 1

    @property
    def line(self) -> str:
        """The warm start of its line of training; empty where the manifest is too old to say."""
        return self.start or (self.checkpoint if self.step == 0 else "")


class Candidate(msgspec.Struct, frozen=True, tag_field="type", tag="candidate"):
    """A checkpoint that asks to be served. ``path`` is relative to the store's root."""

    checkpoint: str
    step: int
    path: str
    created_ms: int
    v: int = 1


class Promotion(msgspec.Struct, frozen=True, tag_field="type", tag="promotion"):
    """The gate let a checkpoint through; the search server swaps to it."""

    checkpoint: str
    step: int
    path: str
    decided_ms: int
    reason: str
    start: str = ""  #: the warm start of its line; empty: of promotions before there was this field
    v: int = 1
