"""The resume benchmark can fail: its comparison finds what differs, its harms are refused, its marks say where a process died."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from benchmarks import resume
from benchmarks.resume_faults import undisturbed
from benchmarks.resume_faults.marks import (
    BACKWARD,
    BETWEEN,
    MANIFEST,
    OPTIMISER,
    PUBLICATION,
    RECOVERY,
    ROLLOUT,
    STEP,
    WAITING,
    Mark,
    Trail,
)
from benchmarks.resume_faults.news import LATER, with_orders
from benchmarks.resume_faults.stage import Fault
from benchmarks.resume_faults.undisturbed import Verdict
from benchmarks.wishes.feed import as_new
from schemas.checkpoints import Manifest
from schemas.errors import Corrupt
from schemas.journal import JournalRecord, StepIntent, StepResult
from schemas.store import Store
from schemas.topics import EXAMPLES
from schemas.weights import RewardWeights
from tests.trainers.learner_toys import view
from trainers import checkpoints

#: Waits, begins a rollout, says so on its output, and stays in it.
SLEEPER = """
import sys, time
from pathlib import Path
from benchmarks.resume_faults import marks
teller = marks.Teller(Path(sys.argv[1]))
with teller.inside(marks.WAITING):
    time.sleep(0.2)
with teller.inside(marks.STEP), teller.inside(marks.ROLLOUT):
    print("there", flush=True)
    time.sleep(600)
"""
#: Calls what the worker has wrapped, as a learner would.
FOLLOWED = """
import sys, torch
from pathlib import Path
from benchmarks.resume_faults import marks, worker
from schemas.store import Store
from trainers import rollout
worker.follow(marks.Teller(Path(sys.argv[1])))
takers = [module for name, module in sys.modules.items() if name.startswith("trainers.") and hasattr(module, "sample")]
assert len(takers) > 1 and all(module.sample is rollout.sample for module in takers)
one = torch.nn.Parameter(torch.ones(2))
optimiser = torch.optim.AdamW([one])
one.sum().backward()
optimiser.step()
store = Store(sys.argv[2])
store.write("a/policy.json", b"{}")
store.write("a/manifest.json", b"{}")
"""


@contextmanager
def trail_of(tmp_path: Path) -> Iterator[tuple[Trail, Path]]:
    pipe = tmp_path / "marks"
    trail = Trail(pipe)
    try:
        yield trail, pipe
    finally:
        trail.close()


def test_the_last_mark_says_where_a_process_was_killed(tmp_path: Path) -> None:
    """It waited for 0.2 s, and died in a rollout."""
    with trail_of(tmp_path) as (trail, pipe):
        trail.begin()
        with subprocess.Popen([sys.executable, "-c", SLEEPER, str(pipe)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline() == b"there\n"
            child.kill()
        died = trail.last()
        assert (died.path, died.phase) == ((STEP, ROLLOUT), ROLLOUT)
        assert 0.2 <= trail.usual_s(WAITING) < time.monotonic() - died.at + 60
        trail.begin()
        assert trail.last().phase == "start"


def test_the_worker_marks_what_the_product_calls(tmp_path: Path) -> None:
    """Gradients, updates and manifests, not other files; every function that is followed is there, and rollouts are followed wherever
    they are called by name."""
    with trail_of(tmp_path) as (trail, pipe):
        subprocess.run([sys.executable, "-c", FOLLOWED, str(pipe), str(tmp_path / "store")], check=True)
        seen = []
        while (mark := trail.next(0.0)) is not None:
            seen.append(mark.phase)
    assert seen == [BACKWARD, BETWEEN, OPTIMISER, BETWEEN, MANIFEST, BETWEEN]


def test_what_happens_inside_a_recovery_or_a_publication_counts_as_theirs() -> None:
    assert Mark(0.0, (RECOVERY, STEP, ROLLOUT)).phase == RECOVERY
    assert Mark(0.0, (PUBLICATION, "journal")).phase == PUBLICATION
    assert Mark(0.0, ("checkpoint's files", MANIFEST)).phase == MANIFEST
    assert Mark(0.0, ()).phase == BETWEEN


@pytest.mark.parametrize(
    ("kind", "file", "check"),
    [
        ("torn manifest", "manifest.json", "closing checksum"),
        ("altered manifest", "manifest.json", "own sha256"),
        ("truncated optimiser", "optimizer.pt", "sha256"),
    ],
)
def test_every_harm_is_one_that_the_checks_name(tmp_path: Path, kind: str, file: str, check: str) -> None:
    store = Store(str(tmp_path))
    made = checkpoints.write(store, {"policy.json": b"{}", "optimizer.pt": b"moments"}, manifest())
    checkpoints.verify(store, made.checkpoint)
    resume.HARMS[kind](checkpoints.policy_folder(store, made.checkpoint))
    with pytest.raises(Corrupt, match=f"{file}.*{check}"):
        checkpoints.verify(store, made.checkpoint)


def manifest(**changes: object) -> Manifest:
    """Of step 3."""
    plain = Manifest("00000003-ab", 3, "", 7, {"optimizer.pt": "1", "policy.json": "2"}, {EXAMPLES.name: {0: 5}}, 1, 0, "r", "c", 0, 0, "tpma", {}, {"loss": 0.1, "step_s": 1.0})  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"files": {"optimizer.pt": "other", "policy.json": "2"}}, "optimizer.pt of checkpoint 00000003-ab"),
        ({"metrics": {"loss": math.nextafter(0.1, 1), "step_s": 1.0}}, "differs in metrics"),
        ({"offsets": {EXAMPLES.name: {0: 6}}}, "differs in offsets"),
        ({"catalogue_offset": 1}, "differs in catalogue_offset"),
        ({"created_ms": 8, "metrics": {"loss": 0.1, "step_s": 2.0}, "clock_ms": 4}, ""),
    ],
)
def test_a_checkpoint_that_differs_in_what_steps_make_is_found(change: dict[str, object], found: str) -> None:
    """One digit of a metric is enough; when it was written may differ, and how far had been read ahead."""
    said = list(undisturbed._of_checkpoints({3: manifest(**change)}, {3: manifest()}))
    assert [step for step, _ in said] == [3] * bool(found)
    assert not found or found in said[0][1]


def test_a_result_that_differs_or_stands_twice_is_found() -> None:
    """Steps 1 to 4: the same but for its time, another loss, reported twice, decided twice."""

    def result(step: int, loss: float = 1.0, step_s: float = 0.1) -> StepResult:
        return StepResult(step, 8, 2, 1, {"loss": loss, "step_s": step_s, "lag": step_s}, 0)

    intents = [StepIntent(n, {0: n}, RewardWeights(), None, 0, n, 0) for n in (1, 2, 3, 4, 4)]
    journal: list[JournalRecord] = [*intents, result(1, step_s=9), result(2, loss=math.nextafter(1, 2)), result(3), result(3), result(4)]  # fmt: skip
    said = list(undisturbed._of_steps(journal, [result(n) for n in (1, 2, 3, 4)]))
    assert [step for step, _ in said] == [2, 3, 4]
    assert "loss is 1.0000000000000002, undisturbed 1.0" in said[0][1]
    assert "decided 1 times, reported 2 times" in said[1][1] and "decided 2 times" in said[2][1]


def test_a_difference_is_laid_to_the_last_fault_before_it_and_to_all_after() -> None:
    """Faults at steps 10, 20 and 30 of 40. Identical up to 29, step 30 differs: all is well up to the second, not to the third."""
    faults = [Fault("kill -9", at_ms) for at_ms in (105, 205, 305)]
    journal = [StepIntent(n, {0: n}, RewardWeights(), None, 0, n, 10 * n) for n in range(1, 41)]
    at = resume.reached(faults, journal)
    assert at == [10, 20, 30]
    assert resume.survived(at, Verdict(40, 29, 5, (), "step 30")) == [True, False, False]
    assert resume.survived(at, Verdict(40, 39, 5, (), "step 40")) == [True, True, False]
    assert resume.survived(at, Verdict(40, 40, 5, ())) == [True, True, True]


def test_rows_count_what_was_survived_by_where_it_fell() -> None:
    """Of three faults one, a kill in a rollout, was not survived."""
    outcomes = [(Fault("kill -9", 1, ROLLOUT), True), (Fault("kill -9", 2, ROLLOUT), False), (Fault("torn manifest", 3, "", "c"), True)]  # fmt: skip
    rows = {row.case: (row.ours, row.peer, row.ratio, row.repeats) for row in resume.rows_of(outcomes)}
    assert rows == {
        "identical": (2, 3, pytest.approx(2 / 3), 3),
        "identical, kill -9 in rollout": (1, 2, 0.5, 2),
        "identical, torn manifest": (1, 1, 1, 1),
    }


def test_views_come_again_as_new_ones_with_an_order_later() -> None:
    """Two views in turn: f0, f1, f2, f3, then the first one's second revision, whose first item is ordered."""
    stream = with_orders(as_new([view(0), view(1)]))
    seen = [next(stream) for _ in range(LATER + 3)]
    assert [(one.request_id, one.revision) for one in seen] == [
        ("f0", 1),
        ("f1", 1),
        ("f2", 1),
        ("f3", 1),
        ("f0", 2),
        ("f4", 1),
    ]
    assert seen[0].items[1:] == seen[4].items[1:] and seen[4].items[0].orders == 1 and seen[0].items[0].orders == 0
