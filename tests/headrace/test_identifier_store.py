"""Stores that were damaged or only half written: the file and the check that failed are named, and what is whole is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from schemas.errors import Corrupt
from tests.headrace.identifier_toys import headrace, refused, result, write_shop
from trainers.identifiers.build import FOLDER

RECORD = {"type": "item_added", "ts": 1, "item": "hat", "title": "blue hat", "sid": [1, 2, 3, 4, 5], "v": 1}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of one build: it is copied, never changed."""
    root = tmp_path_factory.mktemp("built")
    result(root, "build", "--data", write_shop(root / "mine"), "--store", root / "store")
    return root / "store"


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "store"))


def version_of(store: Path) -> Path:
    """The folder of its one version."""
    return next((store / FOLDER).iterdir())


@pytest.mark.parametrize("name", ["codebook.npz", "arrays.npz", "summary.json", "lexicon.json", "items.parquet"])
def test_a_damaged_file_of_a_version_is_named(store: Path, name: str) -> None:
    """Empty, cut short, altered in its midst or something else: never used, and no error of a library."""
    file = version_of(store) / name
    whole = file.read_bytes()
    half = len(whole) // 2
    for damaged in (b"", whole[:half], whole[:-1], b"\xff" * len(whole)):
        file.write_bytes(damaged)
        refused(Corrupt, rf"store/{FOLDER}/\w+/{name} failed its check \(.+\)", "inspect", "hammer", "--store", store)


def test_a_file_of_other_arrays_is_named_with_what_it_lacks(store: Path) -> None:
    """It is an npz file, and whole."""
    shutil.copy(version_of(store) / "arrays.npz", version_of(store) / "codebook.npz")
    refused(Corrupt, r"codebook\.npz .*lacks the array residual_0", "show", "--store", store)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "line 2: record .*valid JSON"),
        ({"sid": [1, 2]}, r"line 2: identifier of item hat is \(1, 2\), but must be 5 codes"),
        ({"sid": [1, 2, 3, 4, 99]}, "line 2: identifier of item hat .*below 8, 8, 8, 8, 8"),
        ({"codebook_version": "another"}, "line 2: codebook of item hat"),
        ({"ts": -1}, "line 2: record"),
    ],
)
def test_a_line_of_changes_that_cannot_be_used_is_named(store: Path, change: dict | None, said: str) -> None:
    """By the checks that the records of a run go through; nothing is added to such a file."""
    version = version_of(store)
    result(store, "assign", "--item", "cap", "--title", "red cap", "--store", store)
    file = version / "changes.jsonl"
    with file.open("a") as out:
        out.write(
            "{broken\n" if change is None else json.dumps({**RECORD, "codebook_version": version.name, **change}) + "\n"
        )
    damaged = file.read_bytes()
    for command in (("inspect", "hammer"), ("drift",), ("assign", "--item", "hat", "--title", "blue hat")):
        refused(Corrupt, said, *command, "--store", store)
    assert file.read_bytes() == damaged


def test_what_is_no_version_is_passed_over(store: Path, tmp_path: Path) -> None:
    """A folder whose writer was killed has no summary, as that is written last; a file is none at all."""
    version = version_of(store)
    half = Path(shutil.copytree(version, store / FOLDER / "000000000000"))
    (half / "summary.json").unlink()
    (store / FOLDER / "notes.txt").write_text("mine")
    assert list(result(tmp_path, "show", "--store", store)["versions"]) == [version.name]
    result(tmp_path, "assign", "--item", "hat", "--title", "blue hat", "--store", store)
    assert result(tmp_path, "inspect", "hat", "--store", store)["tree"]["items"] == 61
    for none in (half.name, "notes.txt"):
        assert f"there are {version.name}" in str(headrace("drift", "--version", none, "--store", store).exception)
