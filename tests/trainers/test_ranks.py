"""Several processes take a learner's steps together: the weights are those of one, to the last bit, whoever dies on the way."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from schemas.artefacts import Artefacts
from schemas.checkpoints import Manifest
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Conflict, Corrupt, LearningError, Unavailable
from schemas.events import ItemAdded
from schemas.journal import GuardAlarm, JournalRecord, StepIntent, StepResult
from schemas.single import single
from schemas.store import Store
from schemas.topics import ITEMS, WEIGHTS
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_worker import SETTINGS, open_learner
from tests.trainers.rank_worker import divided, group, learner, sums
from tests.trainers.test_resume import FREE, VERSIONS, send
from trainers import checkpoints
from trainers.journal import read_journal
from trainers.journalled import intents_after
from trainers.orders import Lead
from trainers.ranks import Ranks, answering
from trainers.running import lead_or_follow
from trainers.state import save_state, save_warm_start
from trainers.tools import Tools


def results(connections: Connections) -> list[StepResult]:
    """All results in the journal."""
    return [record for record in read_journal(connections) if isinstance(record, StepResult)]


def wait_for(condition: Callable[[], bool], ranks: Sequence[ForkServerProcess], log: Path) -> None:
    """Until it holds; all ranks must be alive."""
    deadline = time.monotonic() + 240
    while not condition():
        assert all(rank.is_alive() for rank in ranks), log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.15)


def ended(rank: ForkServerProcess) -> int | None:
    """Its exit status; None when it does not end."""
    rank.join(120)
    return rank.exitcode


@pytest.fixture
def producer(fresh_topics: Connections) -> Iterator[KafkaProducer]:
    """Of page views and of what changes."""
    with closing(KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")) as made:
        yield made


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(600)  # on a crowded machine
def test_two_ranks_killed_and_started_again_make_the_weights_of_one(
    fresh_topics: Connections, producer: KafkaProducer, tmp_path: Path
) -> None:
    """Rank 1 is killed, then rank 0, while weights, items and settings change and a guard sends training back; then rank 1 alone
    is asked to stop. In the middle they divide the optimiser. One process that takes the journal again has the same files at
    every checkpoint, and goes on."""
    store, log = Store(fresh_topics.store), tmp_path / "ranks.log"
    frozen = save_warm_start(store, policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint
    untouched = tmp_path / "untouched"
    shutil.copytree(fresh_topics.store, untouched)
    for round_, name in enumerate(("first", "changed", "strict")):
        send(producer, 100 * round_, 100 * (round_ + 1))
        if round_ == 1:
            item = ItemAdded(1_100, "new", "red lamp", FREE[0], "cb1")
            producer.send(ITEMS.name, key=b"new", value=encode(item), partition=0)
            producer.send(WEIGHTS.name, key=b"global", value=encode(RewardWeights(version=2, ctr=5)), partition=0)
            producer.flush()
        with group(2, log, learner, fresh_topics, frozen, name) as ranks:
            before = len(results(fresh_topics))
            wait_for(lambda known=before: len(results(fresh_topics)) > known + 11, ranks, log)  # type: ignore[misc]
            if round_ < 2:
                victim, left = ranks[1 - round_], ranks[round_]
                victim.kill()
                assert ended(left) == 1, log.read_text()[-3000:]
                assert "another rank of the learner is not available" in log.read_text()
                log.write_text("")
            else:
                ranks[1].terminate()
                assert [ended(rank) for rank in ranks] == [0, 0], log.read_text()[-3000:]
                told = [msgspec.json.decode(line) for line in log.read_text().splitlines()]
                assert {line.get("rank") for line in told if "step" in line} == {0, 1}
    check_journal(read_journal(fresh_topics))
    check_against_one_process(fresh_topics, store, untouched, frozen, producer)


def check_journal(journal: Sequence[JournalRecord]) -> None:
    """Each step was decided once, for two ranks, and reported once; what was to happen on the way happened."""
    intents = [record for record in journal if isinstance(record, StepIntent)]
    assert [intent.step for intent in intents] == list(range(1, len(intents) + 1))
    assert sorted(r.step for r in journal if isinstance(r, StepResult)) == [intent.step for intent in intents]
    assert {intent.ranks for intent in intents} == {2}
    assert {intent.weights.version for intent in intents} == {1, 2} and intents[-1].catalogue_offset == 1
    assert any(record.restored for record in journal if isinstance(record, GuardAlarm))


def check_against_one_process(
    connections: Connections, store: Store, untouched: Path, frozen: str, producer: KafkaProducer
) -> None:
    """A learner without ranks resumes from the warm start; at every checkpoint's step the files are the same, byte by byte."""
    made: dict[int, Manifest] = {}
    for name in store.names(checkpoints.ROOT):
        with suppress(Corrupt, Unavailable):  # one that a kill cut short
            manifest = checkpoints.verify(store, name)
            made[manifest.step] = manifest
    alone = open_learner(connections.model_copy(update={"store": str(untouched)}), frozen)
    shutil.copytree(store.folder(checkpoints.ROOT), untouched / checkpoints.ROOT, dirs_exist_ok=True)  # the one gone back to
    scratch = Store(str(untouched.parent / "scratch"))
    try:
        for intent in intents_after(read_journal(connections), 0):
            alone.retake(intent, report=False)
            if intent.step in made:
                alone._go_back()  # which the next step would do
                again = save_state(scratch, alone.state, intent, SETTINGS.learner, VERSIONS, {})
                assert again.files == made[intent.step].files, f"they differ at step {intent.step}"
        assert max(made) == alone.state.step > 30
        send(producer, 300, 320)
        while not alone.wait_for_step():
            pass
        intent = alone.intend()
        alone.step(intent)
        assert intent.ranks == 1 and "gradient_norm" in results(connections)[-1].metrics
    finally:
        alone.close()


@pytest.mark.parametrize("name", policy_toys.NAMES)
def test_ranks_that_divide_the_optimiser_make_the_weights_of_one_that_is_whole(name: str, tmp_path: Path) -> None:
    """Three ranks, steps and files, and a checkpoint's weights taken over; a gradient that is not finite moves nothing."""
    log = tmp_path / "log"
    with group(3, log, divided, name) as ranks:
        assert [ended(rank) for rank in ranks] == [0, 0, 0], log.read_text()[-3000:]


def test_sums_have_the_order_of_ranks_and_silence_has_an_end(tmp_path: Path) -> None:
    """Three ranks' numbers of different sizes, of which another order has another float32 sum; then rank 1 does not answer for
    longer than allowed."""
    log = tmp_path / "log"
    with group(3, log, sums) as ranks:
        assert [ended(ranks[0]), ended(ranks[2])] == [7, 7], log.read_text()


def test_ranks_that_come_apart_make_no_checkpoint() -> None:
    """One bit of one weight is enough."""

    class Apart(Ranks):
        size = 2

        def exchange(self, own: Any) -> list[Any]:
            return [own, own + 1 if isinstance(own, int) else False]

    policy = policy_toys.toy_policy()
    Lead(Ranks()).compare(policy)
    with pytest.raises(LearningError, match=r"the weights of ranks \[1\] are not those of rank 0"):
        Lead(Apart()).compare(policy)


def test_a_second_learner_of_a_machine_is_refused_before_it_touches_anything() -> None:
    """There is no broker and no store here, and it does not ask for them."""
    here, store = Connections(kafka="nobody:1"), Store("memory://nothing")

    def unused(policy: object, settings: object) -> Tools:
        raise AssertionError

    with single(here.kafka, "learner", "", ""):
        said = rf"the learner of this Kafka is held by process {os.getpid()} .*headrace up"
        with pytest.raises(Conflict, match=said):
            lead_or_follow(here, store, Artefacts(), SETTINGS, unused, Event())


def test_what_gloo_says_is_told_in_its_first_sentence() -> None:
    """Without the place in its source, and what follows."""
    told = RuntimeError(
        "[/a/gloo/pair.cc:561] Connection closed by peer [127.0.0.1]:41635. This is typically caused by a crash."
    )
    with (
        pytest.raises(Unavailable, match=r"is not available: Connection closed by peer \[127\.0\.0\.1\]:41635; this one"),
        answering(),
    ):
        raise told
