"""The report's words about a change of weights."""

from __future__ import annotations

from headrace.report.decisions import weights_story
from schemas.journal import StepResult
from schemas.weights import RewardWeights

OLD = RewardWeights()


def result(step: int, **terms: float) -> StepResult:
    """A step whose rollouts had these mean terms."""
    return StepResult(step, 4, 1, 1, {f"reward.{name}": value for name, value in terms.items()}, 0)


def test_the_changed_weights_and_their_terms_are_told() -> None:
    """Relevance 1 to 2 at step 3: terms 1 and 3 before (mean 2), 4 and 6 from there on (mean 5); the CTR's is not told."""
    results = [result(1, relevance=1, ctr=9), result(2, relevance=3, ctr=9), result(3, relevance=4), result(4, relevance=6)]
    new = RewardWeights(version=2, relevance=2, reason="precision")
    said = weights_story(OLD, new, (0.5, 3), results)
    assert "relevance from 1 to 2 (precision)" in said and "step 3 was the first to use it, 0.50 s later" in said
    assert "relevance term of the rollouts' reward was 2.000 in the 2 steps before and 5.000 in the 2 from there on" in said
    assert "ctr" not in said and "interaction" not in said


def test_clicks_and_orders_are_one_term() -> None:
    """Both changed: told once; a step without prompts has no terms and is left out."""
    new = RewardWeights(version=3, click=5, order=8, reason="sell")
    said = weights_story(OLD, new, (1.0, 2), [result(1, interaction=0.5), result(2), result(3, interaction=0.75)])
    assert "click from 3 to 5, order from 4 to 8" in said
    assert said.count("interaction term") == 1 and "0.500 in the 1 steps before and 0.750 in the 1" in said


def test_no_change_and_no_step() -> None:
    assert weights_story(OLD, None, None, []) == "The reward weights were not changed."
    assert weights_story(OLD, RewardWeights(version=2, ctr=3), None, []).endswith("; no step used it.")
