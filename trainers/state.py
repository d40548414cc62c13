"""What training changes: weights, optimiser, windows, offsets; saved into a checkpoint whole and read back exactly."""

from __future__ import annotations

import importlib.metadata
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import zstandard

from reward.campaigns.relative import diluted
from schemas.checkpoints import Absorbed, Alarm, Manifest
from schemas.errors import Corrupt, Incompatible
from schemas.journal import StepIntent
from schemas.store import Store
from schemas.topics import EXAMPLES, STEPS
from trainers import checkpoints
from trainers.batches import is_held_out
from trainers.guards import in_words
from trainers.optimiser import Optimiser
from trainers.policies import load_policy
from trainers.policies.base import Policy
from trainers.policies.folder import dump_weights, fill
from trainers.ranks import ALONE, Ranks
from trainers.served import Start, as_served, start_of
from trainers.settings import LearnerSettings
from trainers.sharding import ShardedOptimiser
from trainers.window import Window

OPTIMISER, WINDOW, HELD_OUT, LEARNED = checkpoints.TRAINING_FILES


@dataclass
class LearnerState:
    """Mutable. ``parent`` is the checkpoint that training continues from."""

    policy: Policy
    optimiser: Optimiser
    window: Window
    held_out: Window
    start: Start | None = None  #: None: of a state that is never saved
    step: int = 0
    parent: str = ""
    offsets: dict[int, int] = field(default_factory=dict)  #: next offset of each partition of the examples
    journal_offset: int = 0  #: where intents after `step` begin
    absorbed: tuple[Absorbed, ...] = ()  #: weights that the steps used, see `reward.campaigns.relative`
    clock_ms: int = 0  #: newest event time that was read: campaigns begin and end by it
    idle: int = 0  #: steps in a row without a fresh view


@dataclass(frozen=True)
class Versions:
    """Versions that a checkpoint names."""

    relevance: str
    identifiers: str


def load_state(
    store: Store,
    manifest: Manifest,
    settings: LearnerSettings,
    versions: Versions,
    ranks: Ranks = ALONE,
    sharded: bool = False,
) -> LearnerState:
    """The state as it was saved; a checkpoint without training files (a warm start) begins with fresh ones.

    ``sharded``: several ranks divide weights and moments among them (`trainers.sharding`).

    Raises:
        Corrupt: a training file cannot be read.
        Incompatible: the checkpoint speaks other identifiers.
        Unavailable: sharded, and another rank has ended.
    """
    policy = _learned(store, manifest)
    if policy.codebook_version != versions.identifiers:
        raise Incompatible(
            f"identifiers of checkpoint {manifest.checkpoint}", versions.identifiers, policy.codebook_version,
            "use the checkpoint's own identifiers, or warm-start on the new ones",
        )  # fmt: skip
    own_weights(policy)
    divided = sharded and ranks.size > 1
    optimiser = ShardedOptimiser(policy.module, settings, ranks) if divided else Optimiser(policy.module, settings)
    data = {name: _training_file(store, manifest, name) for name in checkpoints.TRAINING_FILES}
    _load_optimiser(optimiser, data[OPTIMISER], manifest)
    state = LearnerState(
        policy=policy,
        optimiser=optimiser,
        window=_load_window(data[WINDOW], settings.window_size, manifest, WINDOW),
        held_out=_load_window(data[HELD_OUT], settings.held_out_size, manifest, HELD_OUT),
        start=start_of(store, manifest),
        step=manifest.step,
        parent=manifest.checkpoint,
        offsets=dict(manifest.offsets.get(EXAMPLES.name, {})),
        journal_offset=manifest.offsets.get(STEPS.name, {}).get(0, 0),
        absorbed=manifest.learned or manifest.absorbed,
        clock_ms=manifest.clock_ms,
        idle=manifest.idle,
    )
    adopt(state, settings)
    return state


def adopt(state: LearnerState, settings: LearnerSettings) -> None:
    """Go on under these settings, as far as the state holds what they say: an optimiser's file brings its own rate."""
    torch.set_num_threads(settings.threads)
    state.optimiser.adopt(settings)
    # Under another share a view that was trained on may be one for the gate alone, or the other way round: neither keeps it.
    state.window.forget(lambda view: is_held_out(view.request_id, settings.held_out_share))
    state.held_out.forget(lambda view: not is_held_out(view.request_id, settings.held_out_share))
    state.window.resize(settings.window_size)
    state.held_out.resize(settings.held_out_size)


def restore(state: LearnerState, store: Store, checkpoint: str) -> None:
    """Weights, optimiser and record of absorbed weights of a checkpoint; windows, offsets and the count of steps stay.

    Raises:
        Corrupt, Unavailable: it is not whole.
    """
    manifest = checkpoints.verify(store, checkpoint)
    state.optimiser.put(_learned(store, manifest).module)
    _load_optimiser(state.optimiser, _training_file(store, manifest, OPTIMISER), manifest)
    state.absorbed = manifest.learned or manifest.absorbed


def own_weights(policy: Policy) -> Policy:
    """Copy the weights in place: mapped from a file they may lie at another alignment, by which matrix products round."""
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.data = parameter.data.clone()
    return policy


def save_state(
    store: Store, state: LearnerState, intent: StepIntent | None, settings: LearnerSettings, versions: Versions,
    metrics: dict[str, float], alarms: Sequence[Alarm] = (),
) -> Manifest:  # fmt: skip
    """Write a checkpoint of the state, manifest last. ``intent``: of the last step, None before the first; ``alarms``: what rings.

    Of a sharded state this is rank 0's to call while the others call `Optimiser.hand_in`.
    """
    pack = zstandard.ZstdCompressor(level=1).compress
    share = settings.served_share
    assert state.start is not None
    with as_served(state.policy, state.start, share):
        served = policy_files(state.policy)
    files: dict[str, bytes | memoryview] = {
        **served,
        **({LEARNED: dump_weights(state.policy.module)} if share < 1 else {}),
        OPTIMISER: state.optimiser.dump(),
        WINDOW: pack(state.window.dump()),
        HELD_OUT: pack(state.held_out.dump()),
    }
    draft = Manifest(
        checkpoint="",
        step=state.step,
        parent=state.parent,
        created_ms=int(time.time() * 1000),
        files={},
        offsets={EXAMPLES.name: dict(state.offsets), STEPS.name: {0: state.journal_offset}},
        weights_version=intent.weights.version if intent else 0,
        snapshot_version=intent.snapshot.version if intent and intent.snapshot else 0,
        relevance_version=versions.relevance,
        codebook_version=versions.identifiers,
        catalogue_offset=intent.catalogue_offset if intent else 0,
        seed=settings.seed,
        learner=settings.loss.learner,
        libraries=libraries(),
        metrics=metrics,
        absorbed=diluted(state.absorbed, share),
        clock_ms=state.clock_ms,
        idle=state.idle,
        settings=settings.model_dump(mode="json"),
        start=state.start.checkpoint,
        learned=state.absorbed if share < 1 else (),
        held=in_words(alarms),
        alarms=tuple(alarms),
    )
    manifest = checkpoints.write(store, files, draft)
    state.parent = manifest.checkpoint
    return manifest


def save_warm_start(store: Store, policy: Policy, seed: int, versions: Versions, metrics: dict[str, float]) -> Manifest:
    """Write the checkpoint that a run starts from: step 0, the policy alone."""
    draft = Manifest(
        checkpoint="", step=0, parent="", created_ms=int(time.time() * 1000), files={}, offsets={}, weights_version=0,
        snapshot_version=0, relevance_version=versions.relevance, codebook_version=versions.identifiers,
        catalogue_offset=0, seed=seed, learner="warm_start", libraries=libraries(), metrics=metrics,
    )  # fmt: skip
    return checkpoints.write(store, policy_files(policy), draft)


def policy_files(policy: Policy) -> dict[str, memoryview]:
    """The files that `Policy.save` writes."""
    with tempfile.TemporaryDirectory(prefix="headrace-policy-") as folder:
        policy.save(Path(folder))
        return checkpoints.folder_files(Path(folder))


def libraries() -> dict[str, str]:
    """Versions of what computes; another version may round differently."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy")}


def _learned(store: Store, manifest: Manifest) -> Policy:
    """The policy with the learner's own weights."""
    policy = load_policy(checkpoints.policy_folder(store, manifest.checkpoint))
    if LEARNED in manifest.files:
        fill(
            policy.module, _training_file(store, manifest, LEARNED), f"{checkpoints.path_of(manifest.checkpoint)}/{LEARNED}"
        )
    return policy


def _training_file(store: Store, manifest: Manifest, name: str) -> bytes:
    if name not in manifest.files:
        return b""
    data = store.read(f"{checkpoints.path_of(manifest.checkpoint)}/{name}", manifest.files[name])
    return zstandard.ZstdDecompressor().decompress(data) if name.endswith(".zst") else data


def _load_window(data: bytes, size: int, manifest: Manifest, name: str) -> Window:
    return Window.load(data, size, f"{checkpoints.path_of(manifest.checkpoint)}/{name}") if data else Window(size)


def _load_optimiser(optimiser: Optimiser, data: bytes, manifest: Manifest) -> None:
    try:
        optimiser.load(data)
    except (RuntimeError, ValueError, KeyError) as error:
        raise Corrupt(f"{checkpoints.path_of(manifest.checkpoint)}/{OPTIMISER}", str(error), "use the one before") from error
