"""Which views a step learns from: a pure function of the records it takes, the windows, and (seed, counter)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from schemas.examples import TrainingExample
from trainers.breaker import Breaker, Spans, inside
from trainers.follow import Arrival
from trainers.settings import LearnerSettings
from trainers.window import Window

#: Steps' worth of waiting prompts beyond which revisiting gives way to catching up.
CROWDED = 4


@dataclass(frozen=True)
class Batch:
    """``views`` are the prompts, fresh ones first. ``fresh`` counts first-time views taken, prompts or not."""

    views: tuple[TrainingExample, ...]
    fresh: int
    revised: int  #: later revisions taken
    held_out: int  #: records set aside for the gate
    broken: tuple[Arrival, ...] = ()  #: records of stretches in which the log was broken; nothing is made of them


def draws(seed: int, counter: int) -> np.random.Generator:
    """The generator of one step: a function of the run's seed and the step's counter, so nothing needs saving."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, counter], dtype=np.uint64)))


def fresh_quota(settings: LearnerSettings) -> int:
    """Fresh views that make a step, at least 1."""
    return max(1, round(settings.prompts * settings.fresh_share))


def is_held_out(request_id: str, share: float) -> bool:
    """Whether a view is for the gate alone; by hash, so that every revision and every restart agrees."""
    return zlib.crc32(request_id.encode()) < share * 2**32


def is_fresh(example: TrainingExample | None, settings: LearnerSettings, aside: Spans = ()) -> bool:
    """Whether a record gives a step a new prompt: first revision of a view that may be trained on."""
    if example is None or example.revision != 1 or example.ts < settings.learn_from_ms or inside(example.ts, aside):
        return False
    return not is_held_out(example.request_id, settings.held_out_share)


def choose(
    waiting: Iterable[Arrival], taken: dict[int, int], settings: LearnerSettings, breaker: Breaker | None = None
) -> tuple[dict[int, int], int]:
    """How far the next step reads: (next offset per partition, fresh views up to there), and not beyond what ``breaker`` lets
    pass.

    A step takes its share of fresh views, so that the rest of its prompts revisit the window. When more than
    `CROWDED` steps' prompts wait it takes up to ``prompts``; when more than ``max_backlog`` wait, all that wait, the
    surplus going to the window without a turn of its own, so that the learner stays with the present.
    """
    waiting, aside = list(waiting), breaker.aside if breaker else ()
    if breaker is not None:
        waiting = list(takewhile(lambda a: a.example is None or not breaker.unjudged(a.example.ts), waiting))
    backlog = sum(is_fresh(a.example, settings, aside) for a in waiting)
    if backlog > settings.max_backlog:
        limit = backlog
    elif backlog > CROWDED * settings.prompts:
        limit = settings.prompts
    else:
        limit = fresh_quota(settings)
    offsets, fresh = dict(taken), 0
    for arrival in waiting:
        new = is_fresh(arrival.example, settings, aside)
        if fresh + new > limit:
            break
        fresh += new
        offsets[arrival.partition] = arrival.offset + 1
    return offsets, fresh


def compose(
    records: Sequence[Arrival], window: Window, held_out: Window, settings: LearnerSettings, random: np.random.Generator,
    aside: Spans = (),
) -> Batch:  # fmt: skip
    """Form a step's batch and move the windows on.

    A view becomes a fresh prompt once, at its first revision; later revisions only correct what is kept, so no click is
    learned twice from the stream. The window is drawn from before this step's views enter it. Of pages shown in the
    stretches ``aside`` nothing is taken in, and what the windows hold of them is forgotten.
    """
    fresh: dict[str, TrainingExample] = {}
    late: list[TrainingExample] = []
    broken: list[Arrival] = []
    revised = gate = 0
    for kept in (window, held_out) if aside else ():
        kept.forget(lambda example: inside(example.ts, aside))
    for arrival in records:
        example = arrival.example
        if example is None or example.ts < settings.learn_from_ms:
            continue
        if inside(example.ts, aside):
            broken.append(arrival)
            continue
        if is_held_out(example.request_id, settings.held_out_share):
            held_out.insert(example)
            gate += 1
        elif example.request_id in fresh:
            revised += 1
            if example.revision > fresh[example.request_id].revision:
                fresh[example.request_id] = example
        elif window.revise(example):
            revised += 1
        elif example.revision == 1:
            fresh[example.request_id] = example
        else:  # its view has left the window: what became of it can still be drawn
            late.append(example)
            revised += 1
    prompts = list(fresh.values())[-settings.prompts :]
    views = prompts + window.draw(settings.prompts - len(prompts), random)
    for example in (*late, *fresh.values()):
        window.insert(example)
    return Batch(tuple(views), len(fresh), revised, gate, tuple(broken))
