"""Kill the learner anywhere: what it becomes is, to the last bit, what it would have become."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from benchmarks.resume_faults.undisturbed import compare
from schemas.artefacts import Artefacts
from schemas.campaigns import Campaign, Multipliers
from schemas.checkpoints import Candidate, Promotion
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Incompatible, InvalidRequest
from schemas.events import ItemAdded
from schemas.journal import JournalRecord, StepIntent, StepResult
from schemas.store import Store
from schemas.topics import CANDIDATES, EXAMPLES, ITEMS, PROMOTED, QUARANTINE, WEIGHTS
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_toys import tools, view
from tests.trainers.learner_worker import SETTINGS, open_learner
from trainers import checkpoints
from trainers.batches import is_held_out
from trainers.journal import read_journal, read_topic
from trainers.lineage import lineage
from trainers.remake import remake
from trainers.state import Versions, save_warm_start

ROOT = Path(__file__).parents[2]
VIEWS = 400
LEFT = 40  #: of the first round's: they come once a second learner is there
VERSIONS = Versions("rel", "cb1")
#: In force from the emission of view 330 on (`learner_toys.view`).
SALE = Campaign("sale", 1, "sale", "me", starts_ms=2_330, relevance=4, multipliers=Multipliers(new_items=2))
#: Of the catalogue, by round: an item comes, one goes, one moves, the new one gets another title and identifier.
FREE = sorted(set(product(*map(range, policy_toys.SIZES))) - set(map(tuple, policy_toys.toy_sids().tolist())))
LIFE = (
    (),
    (ItemAdded(1_100, "new", "red lamp", FREE[0], "cb1"), ItemAdded(1_100, "i1", "title 1", (), "cb1")),
    (ItemAdded(1_200, "i2", "title 2", FREE[1], "cb1"),),
    (ItemAdded(1_300, "new", "blue rug", FREE[2], "cb1", FREE[0]),),
)
BOOK = RewardWeights(version=2, ctr=5, created_ms=1, campaigns=(SALE,), before=RewardWeights())


@contextmanager
def worker(connections: Connections, frozen: str, log: Path, settings: str = "first") -> Iterator[subprocess.Popen[bytes]]:
    """The learner as a child process; killed at the end if it still runs."""
    with log.open("ab") as file:
        child = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.trainers.learner_worker", connections.model_dump_json(), frozen, settings],
            cwd=ROOT, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            yield child
        finally:
            child.kill()
            child.wait()


def send(producer: KafkaProducer, first: int, last: int) -> None:
    """Views first..last - 1, each followed three views later by a revision with an order, over two partitions."""
    for number in range(first, last):
        records = [view(number, clicked=[1])]
        if number >= first + 3:
            records.append(view(number - 3, 2, clicked=[1], ordered=[2]))
        for record in records:
            where = int(record.request_id[1:]) % 2
            producer.send(EXAMPLES.name, key=record.user.encode(), value=encode(record), partition=where)
    producer.flush()


def wait_for(condition: Callable[[], bool], child: subprocess.Popen[bytes], log: Path) -> None:
    """Until it holds; the child must be alive."""
    deadline = time.monotonic() + 120
    while not condition():
        assert child.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.15)


def steps_reported(connections: Connections) -> list[int]:
    """Steps whose results are in the journal, in order."""
    return [record.step for record in read_journal(connections) if isinstance(record, StepResult)]


def tear_newest(store: Store) -> None:
    """Cut the newest manifest short, as a full disk would."""
    whole = [name for name in store.names(checkpoints.ROOT) if store.exists(f"{checkpoints.path_of(name)}/manifest.json")]
    assert len(whole) > 2, "too few checkpoints to lose one"
    path = store.folder(checkpoints.path_of(whole[-1])) / "manifest.json"
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.services
def test_an_intent_names_its_scorer_and_is_not_taken_again_under_another(fresh_topics: Connections) -> None:
    """A learner decides on a step and is gone before it has taken it; the next one comes with another scorer of relevance."""
    frozen = save_warm_start(Store(fresh_topics.store), policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint
    first = open_learner(fresh_topics, frozen)
    try:
        first.resume()
        assert first.intend().relevance_version == "rel"
    finally:
        first.close()
    second = open_learner(fresh_topics, frozen, relevance="other")
    try:
        with pytest.raises(Incompatible, match="journalled step 1: expected 'rel', found 'other'"):
            second.resume()
    finally:
        second.close()


@pytest.mark.services
@pytest.mark.slow
def test_a_learner_killed_again_and_again_makes_the_same_weights(fresh_topics: Connections, tmp_path: Path) -> None:
    """Three kill -9 at random moments, a second learner that takes over, a torn manifest, a change of weights, one of settings,
    items that come, move and go: every checkpoint equals the undisturbed one.

    The change has a campaign that begins in the event time of the last round. The reference is one process that takes the journalled steps from the warm start without a break.
    """
    store, log, dice = Store(fresh_topics.store), tmp_path / "learner.log", random.Random(11)
    frozen = save_warm_start(store, policy_toys.toy_policy(), 0, VERSIONS, {}).checkpoint
    untouched = tmp_path / "untouched"
    shutil.copytree(fresh_topics.store, untouched)
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    producer.send(EXAMPLES.name, key=b"u", value=b"{broken", partition=0)
    kills = 3
    wanted = sum(not is_held_out(f"r{n}", SETTINGS.learner.held_out_share) for n in range(VIEWS))
    for round_ in range(kills + 1):
        first, last = round_ * VIEWS // (kills + 1), (round_ + 1) * VIEWS // (kills + 1)
        send(producer, first, last - LEFT if round_ == 0 else last)
        for item in LIFE[round_]:
            producer.send(ITEMS.name, key=item.item.encode(), value=encode(item), partition=0)
        if round_ == 2:
            producer.send(WEIGHTS.name, key=b"global", value=encode(BOOK), partition=0)
            producer.flush()
            tear_newest(store)
        with worker(fresh_topics, frozen, log, "changed" if round_ >= 2 else "first") as child:
            if round_ < kills:
                before = len(steps_reported(fresh_topics))
                wait_for(lambda known=before: len(steps_reported(fresh_topics)) > known + 9, child, log)  # type: ignore[misc]
                time.sleep(dice.uniform(0.0, 0.3))
                if round_ == 0:
                    check_a_second_learner_takes_over(
                        fresh_topics, frozen, log, child, partial(send, producer, last - LEFT, last)
                    )
                child.send_signal(signal.SIGKILL)
                child.wait()
                continue
            wait_for(lambda: sum(r.examples for r in results(fresh_topics)) >= wanted, child, log)
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=90) == 0, log.read_text()[-3000:]
    producer.close()
    check_journal(fresh_topics, wanted)
    check_publication(fresh_topics, store)
    check_lineage(fresh_topics, store, Store(str(tmp_path / "remade")), frozen)
    check_against_undisturbed(fresh_topics, store, untouched, frozen)  # last: it reports every step once more


def check_a_second_learner_takes_over(
    connections: Connections, frozen: str, log: Path, first: subprocess.Popen[bytes], send_more: Callable[[], None]
) -> None:
    """As one on another machine would (no lock is held in these tests): the first one ends at its next step, and says why."""
    before = len(steps_reported(connections))
    with worker(connections, frozen, log) as second:
        wait_for(lambda: log.read_text().count("resumed ") == 2, second, log)
        send_more()
        wait_for(lambda: first.poll() is not None, second, log)
        assert first.returncode == 1 and "is held by another learner, process" in log.read_text()
        wait_for(lambda: len(steps_reported(connections)) > before + 3, second, log)
        second.send_signal(signal.SIGKILL)


def results(connections: Connections) -> list[StepResult]:
    """All results in the journal."""
    return [record for record in read_journal(connections) if isinstance(record, StepResult)]


def check_journal(connections: Connections, wanted: int) -> None:
    """Each step was decided once and reported once; every view became a prompt once; the weights changed once."""
    journal: list[JournalRecord] = read_journal(connections)
    intents = [record.step for record in journal if isinstance(record, StepIntent)]
    assert intents == list(range(1, len(intents) + 1))
    assert sorted(r.step for r in results(connections)) == intents
    assert sum(r.examples for r in results(connections)) == wanted
    versions = [record.weights.version for record in journal if isinstance(record, StepIntent)]
    assert set(versions) == {1, 2}
    assert versions == sorted(versions)
    known = [record.catalogue_offset for record in journal if isinstance(record, StepIntent)]
    assert known == sorted(known) and {0, 2, 3, 4} <= {*known, 0} and known[-1] == sum(map(len, LIFE))
    campaigns = [record.weights.campaigns for record in journal if isinstance(record, StepIntent)]
    open_sale = msgspec.structs.replace(SALE, starts_ms=0)
    assert campaigns[0] == () and campaigns[-1] == (open_sale,) and set(map(len, campaigns)) == {0, 1}
    assert len({(q.partition, q.offset, q.reason) for q in read_topic(connections, QUARANTINE)}) == 1


def check_publication(connections: Connections, store: Store) -> None:
    """What was announced exists and is whole (but for the torn one); only announced checkpoints were promoted."""
    refused: list[str] = []
    assert checkpoints.newest(store, lambda name, _: refused.append(name)) is not None
    candidates: list[Candidate] = read_topic(connections, CANDIDATES)
    promotions: list[Promotion] = read_topic(connections, PROMOTED)
    assert {p.checkpoint for p in promotions} <= {c.checkpoint for c in candidates}
    assert promotions
    for candidate in candidates:
        assert store.exists(candidate.path)


def check_against_undisturbed(connections: Connections, store: Store, untouched: Path, frozen: str) -> None:
    """Take the journalled steps in one go: at every checkpoint's step the files are the same, byte by byte, and each step's metrics."""
    learner = open_learner(connections.model_copy(update={"store": str(untouched)}), frozen)
    try:
        verdict = compare(connections, store, learner)
    finally:
        learner.close()
    assert verdict.difference == ""
    assert verdict.checkpoints >= 3
    assert len(verdict.refused) <= 4  # the torn one, and at most one a kill that fell into its writing
    newest = checkpoints.newest(store, lambda *_: None)
    assert newest is not None and newest.step == verdict.identical == verdict.steps
    assert len(newest.absorbed) == 3  # defaults, the book without its campaign, the book with it


def check_lineage(connections: Connections, store: Store, scratch: Store, frozen: str) -> None:
    """The newest checkpoint's line goes back to the warm start without a gap, names the changed settings, and can be remade."""
    newest = checkpoints.newest(store, lambda *_: None)
    assert newest is not None
    line = lineage(store, read_journal(connections), newest.checkpoint)
    assert line[-1].checkpoint == frozen and line[-1].parent == ""
    for one, parent in pairwise(line):
        assert one.parent == parent.checkpoint and one.first_step == parent.last_step + 1
        assert all(low == parent.offsets.get(p, (0, 0))[1] for p, (low, _) in one.offsets.items())
    (changed,) = (one for one in line if one.settings_changed)
    assert changed.settings_changed == ("group", "learning_rate", "window_size")
    assert sum(one.prompts for one in line) == sum(r.prompts for r in results(connections))
    assert {v for one in line for v in one.weights_versions} == {1, 2}
    artefacts = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen)
    told: list[tuple[int, int]] = []
    made = remake(
        connections, store, scratch, artefacts, line[2].checkpoint, newest.checkpoint, tools, lambda *at: told.append(at)
    )
    assert made.differing == () and made.manifest.checkpoint == newest.checkpoint
    assert told == [(n, made.steps) for n in range(1, made.steps + 1)] and made.steps == newest.step - line[2].last_step
    with pytest.raises(InvalidRequest, match="a checkpoint that"):
        remake(connections, store, scratch, artefacts, newest.checkpoint, line[1].checkpoint, tools)
