"""The undisturbed run: the journalled steps taken from the warm start in one process, held against what kills have left.

Compared bit by bit: at every checkpoint's step the files of weights, optimiser and windows, and what shapes the next step beside
them; of every step the result in the journal, but for what tells time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas.checkpoints import Manifest
from schemas.connections import Connections
from schemas.errors import Corrupt, Unavailable
from schemas.journal import JournalRecord, StepIntent, StepResult
from schemas.store import Store
from schemas.topics import EXAMPLES
from trainers import checkpoints
from trainers.journal import read_journal
from trainers.journalled import intents_after
from trainers.learner import Learner

#: Fields of a manifest that steps make, beside files, offsets and metrics.
MADE = ("checkpoint", "absorbed", "weights_version", "snapshot_version", "catalogue_offset", "settings")


@dataclass(frozen=True)
class Verdict:
    """Of ``steps`` steps and ``checkpoints`` that were compared, the first ``identical`` steps were; ``difference`` is the first one,
    empty when there is none. ``refused``: checkpoints whose manifest is missing, torn or altered."""

    steps: int
    identical: int
    checkpoints: int
    refused: tuple[str, ...]
    difference: str = ""


def compare(connections: Connections, store: Store, learner: Learner) -> Verdict:
    """Take every journalled step again with ``learner``, which nobody has used yet and whose own store, a copy, holds nothing but
    the start; it reports to the journal once more.

    Raises:
        Corrupt: the journal lacks a step, or has decided one twice.
    """
    journal: list[JournalRecord] = read_journal(connections)
    made, refused = _manifests(store)
    again: dict[int, Manifest] = {}
    for intent in intents_after(journal, 0):
        learner.retake(intent, report=True)
        if intent.step in made:
            again[intent.step] = learner.checkpoint()
    undisturbed = [record for record in read_journal(connections)[len(journal) :] if isinstance(record, StepResult)]
    steps, found = len(undisturbed), [*_of_checkpoints(made, again), *_of_steps(journal, undisturbed)]
    step, difference = min(found, default=(steps + 1, ""))
    return Verdict(steps, step - 1, len(again), tuple(refused), difference)


def _manifests(store: Store) -> tuple[dict[int, Manifest], list[str]]:
    """By step, without the start; and those that no learner would resume from."""
    made: dict[int, Manifest] = {}
    refused = []
    for name in store.names(checkpoints.ROOT):
        try:
            manifest = checkpoints.read(store, name)
            made[manifest.step] = manifest
        except (Corrupt, Unavailable):
            refused.append(name)
    made.pop(0, None)
    return made, refused


def _of_checkpoints(made: Mapping[int, Manifest], again: Mapping[int, Manifest]) -> Iterator[tuple[int, str]]:
    for step, want in again.items():
        got = made[step]
        for name in sorted({*got.files, *want.files}):
            if got.files.get(name) != want.files.get(name):
                yield step, f"step {step}: {name} of checkpoint {got.checkpoint} is not that of the undisturbed run"
        fields = [name for name in MADE if getattr(got, name) != getattr(want, name)]
        if got.offsets[EXAMPLES.name] != want.offsets[EXAMPLES.name]:
            fields.append("offsets")
        if timeless(got.metrics) != timeless(want.metrics):
            fields.append("metrics")
        if fields:
            yield step, f"step {step}: checkpoint {got.checkpoint} differs in {', '.join(fields)}"


def _of_steps(journal: Sequence[JournalRecord], undisturbed: Sequence[StepResult]) -> Iterator[tuple[int, str]]:
    """Of a run that was disturbed, and ended in good order: each step decided once, reported once, with the same result."""
    decided = Counter(record.step for record in journal if isinstance(record, StepIntent))
    reported = Counter(record.step for record in journal if isinstance(record, StepResult))
    results = {record.step: record for record in journal if isinstance(record, StepResult)}
    for want in undisturbed:
        times = decided[want.step], reported[want.step]
        if times != (1, 1):
            yield want.step, f"step {want.step}: decided {times[0]} times, reported {times[1]} times"
        elif difference := _of_result(results[want.step], want):
            yield want.step, f"step {want.step}: {difference}"


def _of_result(got: StepResult, want: StepResult) -> str:
    one, other = (
        {**timeless(r.metrics), "prompts": r.prompts, "examples": r.examples, "weights": r.weights_version}
        for r in (got, want)
    )
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            return f"{name} is {one.get(name)!r}, undisturbed {other.get(name)!r}"
    return ""


def timeless(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics without seconds, rates, and the lag, which is how much had come by then."""
    return {name: value for name, value in metrics.items() if not name.endswith("_s") and name != "lag"}
