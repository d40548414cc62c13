"""What was written before there were lines of training belongs to the warm start that it descends from, and to no later one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from headrace.commands.training import _newest
from headrace.evaluation import run
from schemas.artefacts import Artefacts
from schemas.checkpoints import Manifest, Promotion
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.journal import JournalRecord, LearnerStart
from schemas.store import Store
from tests.trainers.test_checkpoints import draft
from tests.trainers.test_journal import intent
from trainers import checkpoints, journal
from trainers.journal import Raw, read_journal
from trainers.journalled import intents_after
from trainers.lines import Line


def make(
    store: Store, step: int, parent: Manifest | None, made_ms: int, identifiers: str = "c", start: str = ""
) -> Manifest:
    """A checkpoint; without ``start`` as it was written before there were lines."""
    before = parent.checkpoint if parent else ""
    known = {"parent": before, "created_ms": made_ms, "codebook_version": identifiers, "start": start}
    content = f"{step} {made_ms} {identifiers}".encode()
    return checkpoints.write(store, {"policy.json": content}, msgspec.structs.replace(draft(step), **known))


def promotion(manifest: Manifest, start: str = "") -> Promotion:
    """Of a checkpoint, just after it was made."""
    return Promotion(manifest.checkpoint, manifest.step, "p", manifest.created_ms + 1, "r", start)


def steps(monkeypatch: pytest.MonkeyPatch, written: list[tuple[int, int, str]], line: Line) -> list[int]:
    """Steps of the line after step 0, in a journal of steps as (number, time, header of the line)."""
    records: list[tuple[JournalRecord | LearnerStart, int, str]] = [(LearnerStart("1 of a", 1), -1, "")]
    records += [(msgspec.structs.replace(intent(step), created_ms=ms), 0, name) for step, ms, name in written]
    raws = [Raw(offset, encode(record), term, name) for offset, (record, term, name) in enumerate(records)]
    monkeypatch.setattr(journal, "read_raw", lambda connections, topic, start: raws[start:])
    return [one.step for one in intents_after(read_journal(Connections(), 0, line), 0)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Empty."""
    return Store(str(tmp_path))


@pytest.fixture
def old(store: Store) -> list[Manifest]:
    """A warm start of time 10 and its checkpoints of steps 2 and 4, which name no line."""
    made = [make(store, 0, None, 10)]
    for step in (2, 4):
        made.append(make(store, step, made[-1], 10 + step))
    return made


UNNAMED = [(1, 11, ""), (2, 12, ""), (3, 13, ""), (4, 14, ""), (5, 15, "")]


def test_an_undisturbed_run_goes_on_with_everything_it_had(
    store: Store, old: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its newest checkpoint, its steps, its promotions, and what it adds under the name of its line."""
    line = Line(store, old[0].checkpoint)
    assert checkpoints.newest_of(store, line, "c") == old[2]
    assert steps(monkeypatch, [*UNNAMED, (6, 30, old[0].checkpoint)], line) == [1, 2, 3, 4, 5, 6]
    assert all(line.promoted(promotion(one)) for one in old[1:])
    assert [Line.of(store, one).start for one in old] == [old[0].checkpoint] * 3
    assert [line.has_named(one.checkpoint) for one in old] == [True] * 3 and not line.has_named("00000009-torn")


@pytest.mark.parametrize("identifiers", ["c", "rebuilt"])
def test_a_new_warm_start_has_nothing_of_it(
    store: Store, old: list[Manifest], identifiers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither checkpoint nor steps nor promotions, whether the identifiers are the same or not; the old one keeps them."""
    new = make(store, 0, None, 20, identifiers)
    line, written = Line(store, new.checkpoint), [*UNNAMED, (1, 30, new.checkpoint)]
    assert checkpoints.newest_of(store, line, identifiers) == new
    assert steps(monkeypatch, written, line) == [1]
    assert not any(line.promoted(promotion(one)) for one in old[1:])
    assert steps(monkeypatch, written, Line(store, old[0].checkpoint)) == [1, 2, 3, 4, 5]
    assert steps(monkeypatch, UNNAMED, Line(store, "")) == [1, 2, 3, 4, 5]


def test_nor_what_was_added_to_the_old_line_after_it(
    store: Store, old: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before there were lines a learner with the same identifiers went on from the highest step, whatever warm start was new."""
    new = make(store, 0, None, 13)
    line = Line(store, new.checkpoint)
    assert checkpoints.newest_of(store, line, "c") == new
    assert steps(monkeypatch, UNNAMED, line) == []
    assert not line.promoted(promotion(old[2]))
    assert steps(monkeypatch, UNNAMED, Line(store, old[0].checkpoint)) == [1, 2, 3, 4, 5]


def test_first_steps_without_a_checkpoint_are_taken_again(
    store: Store, old: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On rebuilt identifiers, by a learner that was killed before its first checkpoint, and before the update."""
    line = Line(store, make(store, 0, None, 20, "rebuilt").checkpoint)
    assert steps(monkeypatch, [*UNNAMED, (1, 21, ""), (2, 22, "")], line) == [1, 2]


def test_where_manifests_are_lost_the_time_decides(store: Store, old: list[Manifest], tmp_path: Path) -> None:
    """What was made after the warm start may be its."""
    new = make(store, 0, None, 14)
    (tmp_path / "checkpoints" / old[0].checkpoint / "manifest.json").unlink()
    line = Line(store, new.checkpoint)
    assert [line.has(one) for one in old[1:]] == [line.promoted(promotion(one)) for one in old[1:]] == [False, True]
    assert [Line.of(store, one).start for one in old[1:]] == ["", ""]
    ghost = Promotion("00000009-00000000", 9, "p", 12, "r")
    assert [line.promoted(one) for one in (ghost, msgspec.structs.replace(ghost, decided_ms=14))] == [False, True]
    assert Line(store, "00000000-a1057").has(old[1])  # when the warm start was made is not known either


def test_lineage_and_evaluation_take_the_present_warm_start(
    store: Store, old: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default: neither the highest step in the store nor the last promotion in the topic, where these are another line's."""
    entries = [SimpleNamespace(record=promotion(old[2])), SimpleNamespace(record=promotion(old[2], old[0].checkpoint))]
    monkeypatch.setattr(run.log, "scan", lambda *_: iter(entries))
    new = make(store, 0, None, 20, "rebuilt")
    artefacts = Artefacts(frozen=new.checkpoint)
    artefacts.save(store)
    assert _newest(store) == new.checkpoint
    assert run.last_promoted(Connections(), store, artefacts) == ""
    first = make(store, 2, new, 22, "rebuilt", start=new.checkpoint)
    entries[1:1] = [SimpleNamespace(record=promotion(first, new.checkpoint))]
    assert _newest(store) == run.last_promoted(Connections(), store, artefacts) == first.checkpoint
    empty = Store(f"{store.url}/empty")
    artefacts.save(empty)
    with pytest.raises(Unavailable, match="none is in"):
        _newest(empty)
