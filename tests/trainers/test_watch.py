"""What is done about the guards' alarms, without a broker: when training goes back, and what a restart remembers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from schemas.checkpoints import Alarm, Manifest
from schemas.connections import Connections
from schemas.errors import InvalidEvent, LearningError
from schemas.journal import GuardAlarm, JournalRecord, StepIntent, StepResult
from schemas.quarantine import Reason
from schemas.store import Store
from schemas.topics import STEPS
from schemas.weights import RewardWeights
from trainers import recollection
from trainers.exposition import Exposition
from trainers.guards import reach
from trainers.journal import Journal
from trainers.lines import Line
from trainers.recollection import seen_until, unbroken
from trainers.settings import GuardSettings
from trainers.watch import Watch

BAD = {"not_finite": 1.0}


class Told(list[JournalRecord]):
    """A journal in memory."""


def watching(**changes: object) -> tuple[Watch, list[str], Told]:
    """A watch that may roll back, the checkpoints it went back to, and what it told."""
    back, told = list[str](), Told()
    settings = GuardSettings.model_validate({"on_alarm": "roll_back", **changes})
    return Watch(settings, back.append, cast(Journal, told), Exposition("", 0)), back, told


def result(step: int, **metrics: float) -> StepResult:
    """A step under the first weights."""
    return StepResult(step, 1, 1, 1, metrics, 0)


def alarm(step: int, on: bool = True, restored: str = "") -> GuardAlarm:
    """Of the guard of steps that are not finite."""
    return GuardAlarm(step, "not_finite", on, 1.0, 0.0, 0, restored)


def test_after_steps_that_nobody_judged_it_still_goes_back_once() -> None:
    """Three steps are taken again. The next one goes back, those after it do not, until one was finite."""
    watch, back, told = watching()
    for step in (1, 2, 3):
        watch.see(step, BAD, 1)
    for step in (4, 5, 6):
        watch.see(step, BAD, 1)
        watch.judge(step, lambda: "good")
    assert back == ["good"] and [r.step for r in told if isinstance(r, GuardAlarm) and r.restored] == [4]
    watch.see(7, {"loss": 1.0}, 1)
    watch.judge(7, lambda: "good")
    for step in (8, 9):
        watch.see(step, BAD, 1)
        watch.judge(step, lambda: "good")
    assert back == ["good", "good"]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_guard_rings_until_it_knows_the_weights_that_it_went_back_to(restarts: bool) -> None:
    """A policy that has collapsed (0.01 nats), judged by three steps, goes back at the third. Nothing is published while fewer of the
    weights gone back to are known: as certain as the others, they ring anew at the sixth; varied ones (2 nats) end it at the ninth.
    A learner that starts after any step, from a checkpoint made then, goes the same way."""
    watch, _, journal = watching(steps=3)
    seen: list[StepResult | GuardAlarm] = []
    told: list[GuardAlarm] = []
    ringing = []
    for step in range(1, 11):
        if restarts:
            alarms = watch.alarms
            watch, _, journal = watching(steps=3)
            watch.recall(alarms, seen, [])
        one = result(step, **{"entropy.1": 0.01 if step <= 6 else 2.0})
        watch.see(step, one.metrics, 1)
        watch.judge(step, lambda: "good")
        new = [record for record in journal[len(told) * (not restarts) :] if isinstance(record, GuardAlarm)]
        told += new
        seen += [one, *(record for record in new if record.restored)]
        ringing.append(not watch.quiet)
    assert ringing == [False] * 2 + [True] * 6 + [False] * 2
    assert [(alarm.step, alarm.on, alarm.restored) for alarm in told] == [
        (3, True, "good"), (6, True, "good"), (9, False, ""),
    ]  # fmt: skip


def test_a_learner_that_was_told_to_hold_goes_back_once_it_is_told_to() -> None:
    """A policy that collapsed rings under `hold`. Started again with `roll_back`, training goes back at the next step, once."""
    watch, back, _ = watching(steps=3, on_alarm="hold")
    seen = [result(step, **{"entropy.1": 0.01}) for step in (1, 2, 3)]
    for one in seen:
        watch.see(one.step, one.metrics, 1)
        watch.judge(one.step, lambda: "good")
    assert not watch.quiet and back == []
    again, back, told = watching(steps=3)
    again.recall(watch.alarms, seen, [])
    for step in (4, 5):
        again.see(step, {"entropy.1": 0.01}, 1)
        again.judge(step, lambda: "good")
    assert back == ["good"] and not again.quiet
    assert [(one.step, one.restored) for one in told if isinstance(one, GuardAlarm)] == [(4, "good")]


def test_nobody_waits_for_what_is_measured_no_more() -> None:
    """The learner went back, and continues with supervised learning alone, which has no entropy: as long as steps are remembered."""
    watch, _, _ = watching(steps=3)
    for step in (1, 2, 3):
        watch.see(step, {"entropy.1": 0.01}, 1)
        watch.judge(step, lambda: "good")
    ringing = []
    for step in range(4, 5 + reach(GuardSettings(steps=3))):
        watch.see(step, {"loss": 1.0}, 1)
        watch.judge(step, lambda: "good")
        ringing.append(not watch.quiet)
    assert ringing == [True] * (len(ringing) - 2) + [False] * 2


def test_after_a_jump_there_is_nothing_to_compare_with() -> None:
    """Rewards of about 1 jump to 9: training goes back at the fifteenth, the first of which twelve before and three recent ones are
    known. Three steps later rewards of 9 are what there is. A further jump, of which one step moves the mean of three by 8 / 3, or
    27 deviations of 0.1, rings at once."""
    watch, back, told = watching(steps=3)
    wobble = [0.9, 1.1]
    for step in range(1, 16):
        watch.see(step, {"reward": wobble[step % 2] + 8 * (step > 12)}, 1)
        watch.judge(step, lambda: "good")
    assert [(one.step, one.on) for one in told if isinstance(one, GuardAlarm)] == [(15, True)]
    for step in range(16, 33):
        watch.see(step, {"reward": wobble[step % 2] + 8 + 8 * (step > 30)}, 1)
        watch.judge(step, lambda: "good")
    assert [(one.step, one.on) for one in told if isinstance(one, GuardAlarm)][1:] == [(18, False), (31, True)]
    assert back == ["good"] * 2


@pytest.mark.parametrize("every", [1, 2, 3])
def test_what_lies_within_reach_is_all_that_the_guards_judge_by(every: int) -> None:
    """A learner that has taken 40 steps, and one that starts after each of them: one step in so many measures something."""
    settings: dict[str, object] = {"steps": 2, "reward_jump": 1e-9, "max_left_out": 1}
    watch, *_ = watching(**settings)
    results, rung = list[StepResult](), set[str]()
    for step in range(1, 41):
        measured = {"reward": float(step), "entropy.1": 1 / step**2} if step % every == 0 else {}
        results.append(result(step, **measured))
        watch.see(step, results[-1].metrics, results[-1].measure)
        again, *_ = watching(**settings)
        again.recall([], results[-again.reach :], [])
        assert again._guards.alarms() == watch._guards.alarms()
        rung |= {alarm.guard for alarm in watch._guards.alarms()}
    assert rung == ({"reward_jump", "entropy_collapse"} if every < 3 else {"entropy_collapse"})


@pytest.mark.parametrize("checkpoint", [0, 2, 3, 4, 5])
def test_a_run_of_such_steps_is_counted_over_a_restart(checkpoint: int) -> None:
    """Steps 1 to 5 were not finite, and at the second training was sent back. Wherever the checkpoint lay, the next learner does not
    go back again, ends beyond the bound, and does so for no step that it takes again."""
    records: list[StepResult | GuardAlarm] = [result(1, **BAD), alarm(1), result(2, **BAD), alarm(2, restored="good")]
    records += [result(step, **BAD) for step in (3, 4, 5)]
    before = [record for record in records if record.step <= checkpoint]
    watch, back, told = watching(max_left_out=5)
    watch.recall([], before, records if not before else records[len(before) :])
    for record in records[len(before) :]:
        if isinstance(record, StepResult):
            watch.see(record.step, {}, 1)  # what it was then counts
        elif record.restored:
            watch.gone_back()
    watch.judge(5, lambda: "good")
    watch.check()
    watch.see(6, BAD, 1)
    watch.judge(6, lambda: "good")
    assert back == []
    with pytest.raises(LearningError, match="6 steps in a row"):
        watch.check()
    assert all(isinstance(record, GuardAlarm) and record.on and not record.restored for record in told)


def test_what_rings_is_what_the_checkpoint_and_the_journal_say() -> None:
    """To the last digit; later alarms count more."""
    watch, _, _ = watching()
    lag, not_finite = Alarm("lag", 123_456.0, 100_000.0, 5_000), Alarm("not_finite", 2.0, 0.0, 6_000)
    watch.recall((lag, not_finite), [], [])
    assert watch.alarms == (lag, not_finite) and not watch.quiet
    watch.recall((lag, not_finite), [], [alarm(4, on=False), GuardAlarm(4, "reward_jump", True, 7.0, 6.0, 7_000)])
    assert watch.alarms == (lag, Alarm("reward_jump", 7.0, 6.0, 7_000))
    watch.recall((), [], [])
    assert watch.quiet and watch.alarms == ()


def test_how_long_a_guard_rings_is_counted_over_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It began 60 s ago, by the checkpoint or the journal, and is told again on the way: neither a restart nor a rollback begins anew.
    Of an alarm that does not say, from the restart on; once quiet, 0."""
    monkeypatch.setattr(time, "time", lambda: 100.0)
    watch, _, _ = watching(steps=2)
    value = partial(watch._exposition.registry.get_sample_value, "headrace_learner_guard_seconds")
    again = GuardAlarm(3, "not_finite", True, 2.0, 0.0, 90_000, "good")
    for ringing, since in (
        ([Alarm("not_finite", 1.0, 0.0, 40_000)], [again]),
        ([], [GuardAlarm(2, "not_finite", True, 1.0, 0.0, 40_000), again]),
    ):
        watch.recall(ringing, [], since)
        assert value({"guard": "not_finite"}) == 60
    watch.see(4, BAD, 1)
    watch.judge(4, lambda: "good")
    assert value({"guard": "not_finite"}) == 60 and [one.since_ms for one in watch.alarms] == [40_000]
    monkeypatch.setattr(time, "time", lambda: 105.0)
    assert value({"guard": "not_finite"}) == 65  # no step has been taken since
    for step in (5, 6):
        watch.see(step, {"loss": 1.0}, 1)
        watch.judge(step, lambda: "good")
    assert value({"guard": "not_finite"}) == 0
    monkeypatch.setattr(time, "time", lambda: 100.0)
    watch.recall([Alarm("lag", 9.0, 8.0)], [], [])
    assert value({"guard": "lag"}) == 0 and [one.since_ms for one in watch.alarms] == [100_000]


def test_only_the_steps_that_lead_to_the_checkpoint_are_remembered() -> None:
    """Without those of a line before it that bear no name, those after it, and alarms that changed no weight."""
    mine = [result(1), result(2), alarm(2, restored="good"), result(3)]
    others = [result(1), result(2), result(3), alarm(3, restored="other"), result(4)]
    assert unbroken([*others, *mine, alarm(3), result(4), alarm(4, restored="later")], 3) == mine
    assert unbroken([*mine[2:], result(4)], 3) == mine[2:]


def manifest(step: int, behind: int) -> Manifest:
    """A checkpoint of a step, whose journal goes on at ``behind``."""
    return Manifest(
        f"{step:08d}-x", step, "", 0, {}, {STEPS.name: {0: behind}}, 1, 0, "rel", "cb", 0, 0, "tpma", {}, start="frozen"
    )


def test_it_reads_as_far_back_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five results lie among many records; a warm start has none, and a record that cannot be read ends the search alone."""
    said: list[JournalRecord] = []
    for step in range(1, 21):
        intent = StepIntent(step, {}, RewardWeights(), None, 0, step, 0)
        said += [intent, *[alarm(step, on=False)] * 20, result(step)]
    starts: list[int] = []

    line = Line(Store(str(tmp_path)), "frozen")

    def read(_: Connections, start: int, asked: Line) -> Sequence[JournalRecord]:
        assert asked is line
        starts.append(start)
        return said[start:]

    monkeypatch.setattr(recollection, "read_journal", read)
    found = seen_until(Connections(), manifest(20, len(said)), line, 5)
    assert [record.step for record in found][-5:] == [16, 17, 18, 19, 20]
    assert len(starts) > 1 and starts[-1] > 0 and all(isinstance(record, StepResult) for record in found)
    assert [record.step for record in seen_until(Connections(), manifest(3, 66), line, 5)] == [1, 2, 3]
    assert seen_until(Connections(), manifest(0, 66), line, 5) == []

    def torn(*_: object) -> Sequence[JournalRecord]:
        raise InvalidEvent(Reason.UNREADABLE, "record", "torn", "valid JSON")

    monkeypatch.setattr(recollection, "read_journal", torn)
    assert seen_until(Connections(), manifest(20, len(said)), line, 5) == []
