"""The preset of the paper: what it sets, and that a word of one's own goes before it; settings that do not go together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainers.settings import QUEUE, GateSettings, LearnerSettings, LossSettings, TrainerSettings


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
    used = ({"kl": 1.0}, {"learner": "grpo", "kl": 1.0}, {"learner": "dpo"})
    assert all(LossSettings.model_validate(given).needs_reference for given in used)
    assert not any(LossSettings.model_validate(given).needs_reference for given in ({}, {"learner": "sft", "kl": 1.0}))


def test_a_rollout_counts_by_one_chance() -> None:
    """Either way of drawing has its own; both at once are refused, and the message says what to do."""
    LearnerSettings(sampling="without_replacement")
    LearnerSettings(rollout_temperature=2)
    with pytest.raises(
        ValidationError, match=r"rollout_temperature is 2\.0, but must be 1 where .*; set one of the two back"
    ):
        LearnerSettings(sampling="without_replacement", rollout_temperature=2)


@pytest.mark.parametrize(("views", "size"), [(30, 31), (31, 30)])
def test_a_gate_that_could_never_open_is_refused(views: int, size: int) -> None:
    """It waits for more views than are ever compared: of those kept, and of the newest of them."""
    learner = LearnerSettings(held_out_size=size)
    TrainerSettings(learner=learner, gate=GateSettings(views=views, min_views=30))
    with pytest.raises(ValidationError, match=r"gate\.min_views is 31, but must be at most 30, .*; lower it"):
        TrainerSettings(learner=learner, gate=GateSettings(views=views, min_views=31))


def test_a_gate_without_views_to_compare_on_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"learner\.held_out_share is 0\.0, but must be above 0: .*; raise it"):
        TrainerSettings(learner=LearnerSettings(held_out_share=0))


def test_a_backlog_that_never_waits_is_refused() -> None:
    """The learner that is started says so; a journal may still tell of one, as nothing hangs on it when a step is taken again."""
    TrainerSettings(learner=LearnerSettings(max_backlog=QUEUE))
    told = LearnerSettings(max_backlog=100_000)
    with pytest.raises(ValidationError, match=r"learner\.max_backlog is 100000, but must be at most 8192: .*; lower it"):
        TrainerSettings(learner=told)
