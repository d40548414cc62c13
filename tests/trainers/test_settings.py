"""The preset of the paper: what it sets, and that a word of one's own goes before it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainers.settings import LearnerSettings, LossSettings


def test_the_paper_is_one_word() -> None:
    """V2's loss and reward; what is not the paper's concern stays as it is by default."""
    paper, ours = LearnerSettings(preset="paper"), LearnerSettings()
    assert (paper.interaction, paper.warm_start_weight, paper.served_share) == ("observed", 0, 1)
    assert paper.loss == LossSettings(gate_item_advantage=True, entropy=0)
    assert (
        paper.model_copy(
            update={
                name: getattr(ours, name) for name in ("preset", "interaction", "warm_start_weight", "served_share", "loss")
            }
        )
        == ours
    )


def test_ones_own_word_goes_before_the_preset() -> None:
    """Field by field, also within the loss."""
    mixed = LearnerSettings.model_validate({"preset": "paper", "warm_start_weight": 0.5, "loss": {"entropy": 1.0}})
    assert (mixed.warm_start_weight, mixed.loss) == (0.5, LossSettings(gate_item_advantage=True, entropy=1.0))


def test_a_reference_is_held_only_where_it_is_used() -> None:
    assert [LossSettings(**given).needs_reference for given in ({}, {"kl": 1.0}, {"learner": "dpo"})] == [False, True, True]


def test_a_rollout_counts_by_one_chance() -> None:
    """Either way of drawing has its own; both at once are refused, and the message says what to do."""
    LearnerSettings(sampling="without_replacement")
    LearnerSettings(rollout_temperature=2)
    with pytest.raises(ValidationError, match=r"rollout_temperature is 2\.0, .* set one of the two back"):
        LearnerSettings(sampling="without_replacement", rollout_temperature=2)
