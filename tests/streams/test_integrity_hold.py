"""Whether training stands still, and since when, as a journal says it."""

from __future__ import annotations

import pytest

from headrace.status import status_lines
from schemas.codec import encode
from schemas.connections import Connections
from schemas.integrity import Check
from schemas.journal import GateDecision, JournalRecord, StepIntent, StepResult, TrainingHold
from schemas.topics import STEPS
from schemas.weights import RewardWeights
from streams.followers import followers
from streams.integrity.hold import Hold, after
from streams.producing import EventProducer

CTR = Check("ctr", 0.5, 0.1, None, 0.2, 900, "look at what clicks so often", True)
JOIN = Check("click_join", 0.2, 0.9, 0.8, None, 900, "look at request ids", True)
GATE = GateDecision("00000005-aa", "00000000-bb", True, "reward", 0.1, 0.02, 0.2, 96, "better", 0)


def intent(step: int, next_offset: int = 0) -> StepIntent:
    return StepIntent(step, {0: next_offset}, RewardWeights(), None, 0, 0, 7_000)


def result(step: int) -> StepResult:
    return StepResult(step, 16, 8, 1, {}, 7_000)


def held(window: int, *checks: Check, at_ms: int) -> TrainingHold:
    return TrainingHold(3, bool(checks), window, checks, at_ms)


@pytest.mark.parametrize(
    ("journal", "want"),
    [
        ((intent(3), result(3)), None),
        ((held(10, CTR, at_ms=1_000), GATE), Hold(1_000, 3, 10, (CTR,))),
        ((held(10, CTR, at_ms=1_000), held(20, JOIN, at_ms=2_000)), Hold(1_000, 3, 20, (JOIN,))),
        ((held(10, CTR, at_ms=1_000), held(20, at_ms=2_000)), None),
        ((held(10, CTR, at_ms=1_000), held(20, at_ms=2_000), held(30, CTR, at_ms=3_000)), Hold(3_000, 3, 30, (CTR,))),
        ((held(10, CTR, at_ms=1_000), intent(4)), None),
        ((held(10, CTR, at_ms=1_000), intent(4), result(4), held(30, JOIN, at_ms=3_000)), Hold(3_000, 3, 30, (JOIN,))),
    ],
)
def test_a_hold_begins_with_the_first_broken_window_and_ends_with_a_healthy_one_or_a_step(
    journal: tuple[JournalRecord, ...], want: Hold | None
) -> None:
    hold = None
    for record in journal:
        hold = after(hold, record)
    assert hold == want


@pytest.mark.services
@pytest.mark.parametrize("steps", [0, 1])
def test_status_says_why_the_learner_stands_still(fresh_topics: Connections, steps: int) -> None:
    """Held for a hundred windows, after a step and before any: since the first of them, for the last."""
    with EventProducer(fresh_topics) as producer:
        done = [intent(3), result(3)] * steps
        for record in (*done, *(held(1_000 * n, CTR, at_ms=50_000 + n) for n in range(1, 101))):
            producer.send(STEPS.name, encode(record), b"", 0)
    rows = [row for row in followers(fresh_topics) if row.agent == "learner"]
    assert [row.sequence for row in rows] == ([3] if steps else [0] * fresh_topics.partitions)
    assert all(row.hold == Hold(50_001, 3, 100_000, (CTR,)) for row in rows)
    lines = status_lines(rows, 80)
    assert max(map(len, lines)) <= 80
    said = " ".join(" ".join(lines).split())
    assert "stands still since 1970-01-01 00:00:50 UTC, after step 3" in said
    assert "the window from 1970-01-01 00:01:40 UTC. `headrace integrity status` says more." in said
    assert str(CTR) in said
    assert "are put into quarantine then, and stay unlearned until `headrace integrity release WINDOW`." in said
    with EventProducer(fresh_topics) as producer:
        producer.send(STEPS.name, encode(held(200_000, at_ms=60_000)), b"", 0)
    assert not any(row.hold for row in followers(fresh_topics))
