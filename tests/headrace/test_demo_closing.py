"""When a demo says that the loop closed."""

from __future__ import annotations

from headrace.demo.closing import missing
from headrace.demo.run import DemoResult, verdict
from headrace.folder import RunFolder
from schemas.journal import GateDecision
from schemas.weights import RewardWeights

CHANGE = RewardWeights(version=2, relevance=2)


def test_a_loop_without_its_change_of_weights_is_not_closed() -> None:
    """Everything there: closed. Without the change, or without a step that used it, it is not, and the reason is told."""
    assert missing(["warm", "c1"], "warm", 0, [], CHANGE, (0.5, 7)) == []
    assert missing(["warm", "c1"], "warm", 0, [], None, None) == ["the reward weights were not changed half-way"]
    assert missing(["c1"], "warm", 0, [], CHANGE, None) == ["no step of the learner used version 2 of the weights"]


def test_lost_events_and_a_warm_start_that_nobody_followed_are_told() -> None:
    kept = GateDecision("c1", "warm", False, "reward", -0.1, -0.2, 0.0, 96, "worse", 0)
    alone, lost = missing(["warm"], "warm", 3, [kept], CHANGE, (0.5, 7))
    assert "served a search (the gate's last word: kept the served one, worse)" in alone and lost == "3 events are lost"
    assert "the gate saw none" in missing([], "warm", 0, [], CHANGE, (0.5, 7))[0]


def test_the_summary_on_the_terminal_says_what_is_missing() -> None:
    report = {
        "learner": {"steps": 9, "promoted": 1, "checkpoints": 2},
        "events": {"lost": 0, "quarantined": 0},
        "seconds": {"total": 60.0},
    }
    why = "the reward weights were not changed half-way"
    said = verdict(DemoResult(RunFolder.new(), report, False, why)).plain
    assert said.startswith(f"The loop did not close ({why}): 9 gradient steps")
    assert verdict(DemoResult(RunFolder.new(), report, True)).plain.startswith("The loop closed: 9 gradient steps")
