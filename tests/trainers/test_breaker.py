"""Training while the log is broken: it stands still, goes on by itself, loses nothing, and replays whatever came when."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec
import pytest
from kafka import KafkaProducer

from schemas.artefacts import Artefacts
from schemas.codec import encode
from schemas.connections import Connections
from schemas.examples import TrainingExample
from schemas.integrity import Check, Sample, Verdict
from schemas.journal import StepIntent, StepResult, TrainingHold
from schemas.store import Store
from schemas.topics import EXAMPLES, QUARANTINE, VERDICTS
from tests.trainers import policy_toys
from tests.trainers.learner_toys import tools, view
from tests.trainers.learner_worker import SETTINGS, open_learner
from trainers.batches import choose, compose, draws, is_held_out
from trainers.breaker import MEMORY_MS, Breaker, merged
from trainers.exposition import Exposition
from trainers.follow import Arrival
from trainers.holding import Holding
from trainers.journal import Journal, read_journal, read_topic
from trainers.journalled import intents_after
from trainers.learner import Learner
from trainers.settings import BreakerSettings, LearnerSettings
from trainers.state import Versions, save_state, save_warm_start
from trainers.window import Window

WIDTH = 20
SAMPLE = Sample("r5", "search.views", 1, 77)
VERSIONS = Versions("rel", "cb1")


def verdict(start: int, broken: bool = True, released: str = "") -> Verdict:
    """On ``[start, start + 20)``; pages from 5 ms before are touched."""
    checks = (Check("ctr", 0.5, 0.1, 0.05, 0.2, 900, "look", broken, (SAMPLE,)),)
    return Verdict(start, start + WIDTH, start - 5, broken, checks, released)


def following(*verdicts: Verdict, **settings: str) -> Breaker:
    breaker = Breaker(BreakerSettings(**settings))  # type: ignore[arg-type]
    for one in verdicts:
        breaker.follow(one)
    return breaker


def test_training_is_held_by_the_newest_window_until_it_is_healthy_or_released() -> None:
    first, second = verdict(100), verdict(120)
    assert following().holding is None
    assert following(first).holding == first and following(first, second).holding == second
    assert following(first, verdict(120, broken=False)).holding is None
    assert following(first, second, verdict(120, released="ann")).holding is None
    assert following(first, second, verdict(100, released="ann")).holding == second
    assert following(first, on_broken="skip_window").holding is None


def test_what_broken_windows_touch_is_put_aside_until_they_are_released() -> None:
    """Windows next to each other are one stretch, as each reaches 5 ms back; after a fortnight they are forgotten."""
    assert following(verdict(100), verdict(120), verdict(200)).aside == ((95, 140), (195, 220))
    assert following(verdict(100), verdict(120), verdict(100, released="ann")).aside == ((115, 140),)
    assert following(verdict(100), verdict(120, broken=False)).aside == ((95, 120),)
    assert following(verdict(100), verdict(120 + MEMORY_MS, broken=False)).aside == ()


@pytest.mark.parametrize("broken", [True, False])
def test_how_long_training_stands_still_is_counted_over_restarts(monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    """Since 60 s, first for one window, then for the next. A restart tells nothing twice, and of the end what has ended meanwhile."""
    monkeypatch.setattr(time, "time", lambda: 100.0)
    told, exposition = list[TrainingHold](), Exposition("", 0)
    holding = Holding(following(verdict(120, broken)), cast(Journal, told), exposition)
    before = [TrainingHold(3, True, 60, (), 10_000), TrainingHold(3, False, 80, (), 20_000)]
    holding.recall([*before, TrainingHold(3, True, 100, (), 40_000), TrainingHold(3, True, 120, (), 50_000)])
    assert holding.on(3) is holding.still is broken
    assert exposition.registry.get_sample_value("headrace_learner_held_seconds") == (60 if broken else 0)
    assert [one.held for one in told] == ([] if broken else [False])


def test_stretches_that_touch_are_one() -> None:
    assert merged([(5, 9), (1, 3), (3, 4), (6, 7)]) == ((1, 4), (5, 9))


def test_examples_wait_for_their_verdict_only_if_they_are_told_to() -> None:
    healthy = verdict(100, broken=False)
    assert [following(healthy, unjudged="wait").unjudged(ts) for ts in (119, 120)] == [False, True]
    assert following(unjudged="wait").unjudged(0) and not following(healthy).unjudged(500)
    records = [Arrival(0, n, view(n, ts=ts)) for n, ts in enumerate((101, 125, 102))]
    settings = LearnerSettings(prompts=4, fresh_share=1.0, held_out_share=0)
    assert choose(records, {0: 0}, settings, following(healthy, unjudged="wait")) == ({0: 1}, 1)
    assert choose(records, {0: 0}, settings, following(healthy)) == ({0: 3}, 3)


def test_what_is_put_aside_is_no_prompt_and_not_kept() -> None:
    """Views 1 to 4 shown at 1,001 to 1,004; the stretch [1,002, 1,004) holds 2 and 3. View 2 was in the window before, and a
    later revision of it is put aside too; view 9 stays."""
    window, settings = Window(10), LearnerSettings(prompts=4, fresh_share=1.0, held_out_share=0)
    for number in (2, 9):
        window.insert(view(number))
    records = [Arrival(0, n, one) for n, one in enumerate((view(1), view(3), view(4), view(2, 2)))]
    batch = compose(records, window, Window(2), settings, draws(0, 0), ((1_002, 1_004),))
    assert [record.offset for record in batch.broken] == [1, 3]
    assert [one.request_id for one in batch.views] == ["r1", "r4", "r9"] and batch.fresh == 2
    assert [one.request_id for one in window.newest(9)] == ["r4", "r1", "r9"]


def test_a_window_that_forgot_goes_on_as_a_ring() -> None:
    """Of a full ring of three that has turned by one, the middle one goes; two more push out the oldest."""
    window = Window(3, [view(n) for n in range(4)])
    window.forget(lambda example: example.request_id == "r2")
    assert [one.request_id for one in window.newest(9)] == ["r3", "r1"] and "r2" not in window
    for number in (7, 8):
        window.insert(view(number))
    assert [one.request_id for one in window.newest(9)] == ["r8", "r7", "r3"]
    assert window.revise(view(7, 2)) and window.newest(9)[1].revision == 2


VIEWS = 60
EXAMPLE_LOG = [view(number, clicked=[1]) for number in range(VIEWS)]
#: Touches the pages shown from 1,015 to 1,040: views 15 to 39.
BROKEN = verdict(1_020)
TOUCHED = {example.example_id for example in EXAMPLE_LOG if BROKEN.since <= example.ts < BROKEN.end}


def send(connections: Connections, topic: str, records: Sequence[msgspec.Struct]) -> None:
    producer = KafkaProducer(bootstrap_servers=connections.kafka, acks="all")
    for record in records:
        producer.send(topic, key=b"k", value=encode(record), partition=0)
    producer.flush()
    producer.close()


def wait_for(learner: Learner, condition: Callable[[Learner], object], polls: int = 300) -> None:
    """Poll until it holds: the log, or a verdict, has come."""
    for _ in range(polls):
        if condition(learner):
            return
        learner._feed.poll(0.1)
    raise AssertionError("it does not come")


def log_is_here(learner: Learner) -> bool:
    return len(learner._feed.waiting) == VIEWS


def learn_all(learner: Learner) -> None:
    """Steps until every example is taken."""
    while learner.state.offsets.get(0, 0) < VIEWS:
        if learner.wait_for_step():
            learner.step(learner.intend())


def files(learner: Learner, scratch: Store) -> dict[str, str]:
    return save_state(scratch, learner.state, None, SETTINGS.learner, VERSIONS, {}).files


@pytest.fixture
def start(fresh_topics: Connections) -> tuple[Connections, str]:
    """The topic full, and a warm start to begin from."""
    send(fresh_topics, EXAMPLES.name, EXAMPLE_LOG)
    frozen = save_warm_start(Store(fresh_topics.store), policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint
    return fresh_topics, frozen


@pytest.mark.services
@pytest.mark.slow
def test_held_and_released_it_becomes_what_it_would_have_become(start: tuple[Connections, str], tmp_path: Path) -> None:
    """Undisturbed first. Then the same log with a broken verdict: not one step, nothing taken; released: the same bytes."""
    connections, frozen = start
    learner = open_learner(connections, frozen)
    try:
        wait_for(learner, log_is_here)
        learn_all(learner)
        undisturbed = files(learner, Store(str(tmp_path / "one")))
    finally:
        learner.close()
    steps = len([r for r in read_journal(connections) if isinstance(r, StepResult)])
    send(connections, VERDICTS.name, [BROKEN])
    learner = open_learner(connections, frozen)
    try:
        wait_for(learner, lambda it: log_is_here(it) and it._breaker.holding)
        assert not any(learner.wait_for_step() for _ in range(5))
        assert learner._feed.taken[0] == 0 and len(learner._feed.waiting) == VIEWS
        assert learner._exposition.registry.get_sample_value("headrace_learner_held_seconds") > 0  # type: ignore[operator]
        send(connections, VERDICTS.name, [msgspec.structs.replace(BROKEN, released_by="ann")])
        wait_for(learner, lambda it: not it._breaker.holding)
        learn_all(learner)
        assert files(learner, Store(str(tmp_path / "two"))) == undisturbed
        assert learner._exposition.registry.get_sample_value("headrace_learner_held_seconds") == 0
    finally:
        learner.close()
    journal = read_journal(connections)
    assert len([r for r in journal if isinstance(r, StepResult)]) == 2 * steps
    held, went_on = [record for record in journal if isinstance(record, TrainingHold)]
    assert (held.held, held.step, held.window) == (True, 0, 1_020) and held.checks == BROKEN.failed
    assert held.checks[0].samples == (SAMPLE,)
    assert (went_on.held, went_on.checks) == (False, ())
    assert read_topic(connections, QUARANTINE) == []


@pytest.mark.services
def test_after_a_healthy_window_it_goes_on_and_puts_the_broken_one_aside(
    start: tuple[Connections, str], tmp_path: Path
) -> None:
    """Every example is learned, held out, or in quarantine with its reason. A learner that is started again replays these steps
    to the same bytes, although by now the window has been released."""
    connections, frozen = start
    untouched = tmp_path / "untouched"
    shutil.copytree(connections.store, untouched)
    send(connections, VERDICTS.name, [BROKEN])
    learner = open_learner(connections, frozen)
    try:
        learner.resume()
        wait_for(learner, log_is_here)
        assert not any(learner.wait_for_step() for _ in range(3))
        send(connections, VERDICTS.name, [verdict(1_040, broken=False)])
        wait_for(learner, lambda it: not it._breaker.holding)
        learn_all(learner)
        made = files(learner, Store(str(tmp_path / "one")))
    finally:
        learner.close()
    put_aside = read_topic(connections, QUARANTINE)
    assert {(q.topic, q.reason) for q in put_aside} == {(EXAMPLES.name, "broken_window")}
    assert {msgspec.json.decode(q.raw, type=TrainingExample).example_id for q in put_aside} == TOUCHED
    assert [EXAMPLE_LOG[q.offset].ts for q in put_aside] == list(range(BROKEN.since, BROKEN.end))
    results = [record for record in read_journal(connections) if isinstance(record, StepResult)]
    wanted = [e for e in EXAMPLE_LOG if not is_held_out(e.request_id, SETTINGS.learner.held_out_share)]
    assert sum(r.examples for r in results) == sum(e.example_id not in TOUCHED for e in wanted)
    assert sum(r.metrics["aside"] for r in results) == len(TOUCHED) == 25
    send(connections, VERDICTS.name, [msgspec.structs.replace(BROKEN, released_by="ann")])
    again = open_learner(connections.model_copy(update={"store": str(untouched)}), frozen)
    try:
        again.resume()
        assert again.state.step == len(results)
        assert files(again, Store(str(tmp_path / "two"))) == made
    finally:
        again.close()
    assert len(read_topic(connections, QUARANTINE)) == len(TOUCHED)
    intents = intents_after(read_journal(connections), 0)
    assert {intent.aside for intent in intents if isinstance(intent, StepIntent)} == {((1_015, 1_040),)}


@pytest.mark.services
def test_with_skip_window_it_never_stands_still(start: tuple[Connections, str]) -> None:
    """The newest verdict is broken; the rest is learned all the same."""
    connections, frozen = start
    send(connections, VERDICTS.name, [BROKEN])
    settings = SETTINGS.model_copy(
        update={"learner": SETTINGS.learner.model_copy(update={"breaker": BreakerSettings(on_broken="skip_window")})}
    )
    artefacts = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen)
    learner = Learner(connections, Store(connections.store), artefacts, settings, tools)
    try:
        wait_for(learner, lambda it: log_is_here(it) and it._breaker.newest)
        learn_all(learner)
    finally:
        learner.close()
    assert len(read_topic(connections, QUARANTINE)) == len(TOUCHED)
    assert not [record for record in read_journal(connections) if isinstance(record, TrainingHold)]
