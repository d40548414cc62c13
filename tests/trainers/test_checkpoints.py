"""Checkpoints: the manifest proves every byte, and a bad one is named and passed over."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from schemas.checkpoints import Manifest
from schemas.errors import Corrupt, Incompatible, Unavailable
from schemas.store import Store, sha256
from trainers import checkpoints
from trainers.lines import Line

FILES = {"model/model.safetensors": b"weights", "policy.json": b"{}", "optimizer.pt": b"moments"}


def draft(step: int) -> Manifest:
    """A manifest as the learner fills it, before it is written."""
    return Manifest(
        checkpoint="", step=step, parent="", created_ms=1, files={}, offsets={"training.examples": {0: 7, 1: 9}},
        weights_version=1, snapshot_version=2, relevance_version="r", codebook_version="c", catalogue_offset=0, seed=3,
        learner="tpma", libraries={"torch": "2"}, metrics={"reward": 1.5},
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(str(tmp_path))


def test_a_checkpoint_reads_back_as_written(store: Store) -> None:
    """Its id is the step and the first digits of the checksum over the policy's files, each with its own checksum."""
    written = checkpoints.write(store, FILES, draft(12))
    sums = f"model/model.safetensors {sha256(b'weights')}\npolicy.json {sha256(b'{}')}\n"
    assert written.checkpoint == f"00000012-{sha256(sums.encode())[:8]}"
    assert checkpoints.verify(store, written.checkpoint) == written
    assert (checkpoints.policy_folder(store, written.checkpoint) / "policy.json").read_bytes() == b"{}"


def test_training_state_does_not_name_the_checkpoint(store: Store) -> None:
    """The same weights with other moments are the same model."""
    one = checkpoints.write(store, FILES, draft(1)).checkpoint
    assert checkpoints.write(store, {**FILES, "optimizer.pt": b"other"}, draft(1)).checkpoint == one
    assert checkpoints.write(store, {**FILES, "policy.json": b"[]"}, draft(1)).checkpoint != one


def test_of_a_remote_store_the_policy_is_fetched_whole_whatever_a_kill_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched is checked, what lies there damaged is fetched again, moments stay where they are, and old ones go."""
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    remote = Store(f"memory://{tmp_path.name}")
    made = checkpoints.write(remote, FILES, draft(1)).checkpoint
    folder = checkpoints.policy_folder(remote, made)
    shutil.rmtree(folder / "model")  # a kill came before it
    (folder / "policy.json").write_bytes(b"")
    assert checkpoints.policy_folder(remote, made) == folder
    assert checkpoints.folder_files(folder) == {name: data for name, data in FILES.items() if name != "optimizer.pt"}
    fetched = [checkpoints.write(remote, {**FILES, "policy.json": b"%d" % n}, draft(n)).checkpoint for n in range(2, 12)]
    for one in (made, *fetched):
        os.utime(checkpoints.policy_folder(remote, one), (0, int(one.partition("-")[0])))
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted(fetched[-checkpoints.FETCHED :])
    with pytest.raises(Corrupt, match=r"policy\.json"):
        remote.write(f"checkpoints/{made}/policy.json", b"[]")
        checkpoints.policy_folder(remote, made)


def test_every_byte_of_a_manifest_is_guarded(store: Store, tmp_path: Path) -> None:
    """Cutting it anywhere, or changing any one byte, is refused."""
    name = checkpoints.write(store, FILES, draft(5)).checkpoint
    path = tmp_path / "checkpoints" / name / "manifest.json"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at])
        with pytest.raises(Corrupt, match=r"manifest\.json"):
            checkpoints.read(store, name)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Corrupt, match=r"manifest\.json"):
            checkpoints.read(store, name)


def test_the_newest_good_one_is_taken_and_each_bad_one_named(store: Store, tmp_path: Path) -> None:
    """Step 4 has a torn manifest, step 3 an altered weight file, step 2 lost a file, step 5 never got its manifest."""
    names = {
        step: checkpoints.write(store, {**FILES, "policy.json": b"%d" % step}, draft(step)).checkpoint
        for step in range(1, 6)
    }
    folder = tmp_path / "checkpoints"
    (folder / names[5] / "manifest.json").unlink()
    torn = folder / names[4] / "manifest.json"
    torn.write_bytes(torn.read_bytes()[:-10])
    (folder / names[3] / "model/model.safetensors").write_bytes(b"altered")
    (folder / names[2] / "optimizer.pt").unlink()
    refused: dict[str, str] = {}
    found = checkpoints.newest(store, lambda name, error: refused.update({name: str(error)}))
    assert found is not None
    assert found.step == 1
    assert list(refused) == [names[5], names[4], names[3], names[2]]
    assert "has no manifest.json" in refused[names[5]]
    assert "torn" in refused[names[4]]
    assert "model/model.safetensors" in refused[names[3]]
    assert "sha256" in refused[names[3]]
    assert "optimizer.pt" in refused[names[2]]
    assert "missing" in refused[names[2]]


def test_accept_chooses_the_line_of_training(store: Store) -> None:
    """Checkpoints of another line are skipped without being called bad."""
    checkpoints.write(store, FILES, draft(1))
    checkpoints.write(store, FILES, msgspec.structs.replace(draft(2), learner="grpo"))
    found = checkpoints.newest(store, lambda *_: pytest.fail("refused"), lambda m: m.learner == "tpma")
    assert found is not None
    assert found.step == 1


def test_no_checkpoint_at_all(store: Store) -> None:
    """An empty store has no newest one; asking for one by name says so."""
    assert checkpoints.newest(store, lambda *_: None) is None
    with pytest.raises(Unavailable):
        checkpoints.read(store, "00000001-00000000")


def test_other_identifiers_are_named_with_the_checkpoint_that_has_its_own(store: Store) -> None:
    """Where one of the line is there, but made with others than those in force: not "there is none"."""
    one = checkpoints.write(store, FILES, draft(1))
    line = Line(store, "")
    with pytest.raises(Incompatible, match=f"identifiers of checkpoint {one.checkpoint}: expected 'new', found 'c'"):
        checkpoints.newest_of(store, line, "new")
    with pytest.raises(Unavailable, match="none is good"):
        checkpoints.newest_of(Store(f"{store.url}/empty"), line, "c")


def test_a_place_that_cannot_be_written_is_told_by_its_name() -> None:
    """Nobody makes folders in /proc; a full disk is the same to the store."""
    with pytest.raises(Unavailable, match=r"/proc/nope/checkpoints/.*name another store"):
        checkpoints.write(Store("/proc/nope"), FILES, draft(1))


def test_old_checkpoints_are_reduced_to_their_manifests(store: Store, tmp_path: Path) -> None:
    """Of eight the newest two stay whole, the first of the line and the last promoted one; a torn manifest is left alone, and a
    second walk finds nothing to do. When another is promoted, the one before it goes, though it lies behind the reduced."""
    made = [checkpoints.write(store, {"policy.json": str(n).encode()}, draft(n)) for n in range(8)]
    names = [manifest.checkpoint for manifest in made]
    torn = tmp_path / "checkpoints" / names[4] / "manifest.json"
    torn.write_bytes(torn.read_bytes()[:-9])
    (tmp_path / "checkpoints" / "notes").mkdir()

    def whole() -> list[int]:
        return [n for n, name in enumerate(names) if store.exists(f"checkpoints/{name}/policy.json")]

    def prune(*promoted: int) -> list[str]:
        line = Line(store, names[0])
        return checkpoints.prune(store, line, made[7], 2, [names[n] for n in promoted], fallbacks=1)

    assert prune(0, 3) == [names[1], names[2], names[5]]
    assert whole() == [0, 3, 4, 6, 7]
    assert checkpoints.read(store, names[1]).step == 1
    with pytest.raises(Corrupt, match="file is missing"):
        checkpoints.verify(store, names[1])
    assert prune(0, 3) == []
    assert prune(0, 4, 3) == []  # torn, and just behind the fallbacks
    assert prune(0, 3, 7) == [names[3]]
    assert whole() == [0, 4, 6, 7]


@pytest.mark.parametrize("removals", range(7))
def test_what_a_kill_leaves_whole_is_found_by_the_next(store: Store, monkeypatch: pytest.MonkeyPatch, removals: int) -> None:
    """Of eight, three are to stay now and two of the promoted have left the fallbacks, one of them among the reduced. However far
    the first call came, the second brings it to the same end."""
    made = [
        checkpoints.write(store, {"policy.json": str(n).encode(), "optimizer.pt": b"moments"}, draft(n)) for n in range(8)
    ]
    names = [manifest.checkpoint for manifest in made]
    line, promoted = Line(store, names[0]), [names[n] for n in (0, 2, 4, 7)]
    checkpoints.prune(store, line, made[3], 2, promoted[:2], fallbacks=1)
    remove, left = Store.remove, iter(range(removals))

    def killed(store: Store, path: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        remove(store, path)

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(Store, "remove", killed)
        checkpoints.prune(store, line, made[7], 3, promoted, fallbacks=1)
    checkpoints.prune(store, line, made[7], 3, promoted, fallbacks=1)
    there = {n: [file for file in made[n].files if store.exists(f"checkpoints/{names[n]}/{file}")] for n in range(8)}
    assert [n for n, files in there.items() if files] == [0, 5, 6, 7]


@pytest.mark.parametrize(("every", "newer"), [(20, 5), (10, 10), (10, 15)])
def test_a_line_keeps_its_own_newest_whatever_steps_another_has(store: Store, every: int, newer: int) -> None:
    """A line of many steps, reduced as it grew; then another warm start's, from step 0 on past them all. At each of its checkpoints
    the newest three are whole, and no older one; the first line keeps what it had."""

    def whole(line: list[Manifest]) -> list[int]:
        return [m.step for m in line if store.exists(f"checkpoints/{m.checkpoint}/policy.json")]

    def grow(first: bytes, between: int, count: int) -> list[Manifest]:
        made = [checkpoints.write(store, {"policy.json": first}, draft(0))]
        line = Line(store, made[0].checkpoint)
        for n in range(1, count):
            content = {"policy.json": first + b"%d" % n}
            named = msgspec.structs.replace(draft(n * between), start=line.start, parent=made[-1].checkpoint)
            made.append(checkpoints.write(store, content, named))
            checkpoints.prune(store, line, made[-1], 3, [line.start])
            assert whole(made) == sorted({0, *(m.step for m in made[-3:])})
        return made

    old = grow(b"a", every, 12)
    grow(b"b", newer, 40)
    assert whole(old) == [0, *(every * n for n in (9, 10, 11))]


def test_a_checkpoint_that_follows_a_refused_one_keeps_its_files(store: Store) -> None:
    """Training went on from before checkpoints whose files are harmed: these are of later steps, and as many as are kept."""
    made = [checkpoints.write(store, {"policy.json": b"%d" % n}, draft(n)) for n in (0, 10, 20, 30, 40)]
    after = checkpoints.write(store, {"policy.json": b"15"}, draft(15))
    assert checkpoints.prune(store, Line(store, made[0].checkpoint), after, 2, []) == []
    assert checkpoints.verify(store, after.checkpoint) == after
