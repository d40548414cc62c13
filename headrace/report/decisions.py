"""What a change of the reward weights did: which weights, from which step on, and what the rollouts were worth around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from schemas.journal import StepResult
from schemas.weights import RewardWeights

#: Steps before and after the first one with the new weights that are compared.
AROUND: Final = 100
#: Weight -> term of the reward that it scales.
TERM_OF: Final = {"relevance": "relevance", "ctr": "ctr", "click": "interaction", "order": "interaction"}


def weights_story(
    old: RewardWeights, new: RewardWeights | None, reached: tuple[float, int] | None, results: Sequence[StepResult]
) -> str:
    """A few sentences for the report.

    Args:
        new: None when nobody changed the weights.
        reached: (seconds after the change, step) of the first step with ``new``; None when no step used it.
        results: of the journal, in order of steps.
    """
    if new is None:
        return "The reward weights were not changed."
    changed = [name for name in TERM_OF if getattr(old, name) != getattr(new, name)]
    what = ", ".join(f"{name} from {getattr(old, name):g} to {getattr(new, name):g}" for name in changed)
    said = f"Half-way version {new.version} of the weights was set: {what} ({new.reason})"
    if reached is None:
        return f"{said}; no step used it."
    seconds, step = reached
    said = f"{said}; step {step} was the first to use it, {seconds:.2f} s later."
    return " ".join([said, *_effects(dict.fromkeys(TERM_OF[name] for name in changed), step, results)])


def _effects(terms: dict[str, None], step: int, results: Sequence[StepResult]) -> list[str]:
    """Mean of each term of the rollouts' reward before and after, where both sides have a step."""
    said = []
    for term in terms:
        before = _values(term, results, step - AROUND, step)
        after = _values(term, results, step, step + AROUND)
        if before and after:
            said.append(
                f"The {term} term of the rollouts' reward was {np.mean(before):.3f} in the {len(before)} steps before and "
                f"{np.mean(after):.3f} in the {len(after)} from there on."
            )
    return said


def _values(term: str, results: Sequence[StepResult], first: int, end: int) -> list[float]:
    name = f"reward.{term}"
    return [r.metrics[name] for r in results if first <= r.step < end and name in r.metrics]
