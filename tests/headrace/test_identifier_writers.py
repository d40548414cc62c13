"""Who may change identifiers, and what is said of changes that cannot be asked for: one writer at a time, of what is in force."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.folder import RunFolder
from headrace.identifier_place import Place, alone
from headrace.settings import load_settings
from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.errors import Conflict
from schemas.store import Store
from tests.headrace.identifier_toys import headrace, refused, result, write_shop

HAT = ("assign", "--item", "hat", "--title", "blue wool hat")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "mine")


def live_run(root: Path, shop: Path, kafka: str) -> tuple[RunFolder, str]:
    """A run on a broker of somebody else, and the version that is in force in it."""
    folder = RunFolder(root)
    folder.create()
    folder.save(load_settings(data=str(shop), store=str(folder.store), kafka=kafka))
    version = str(result(root, "build", "--data", shop, "--store", folder.store)["version"])
    Artefacts(identifiers=version).save(Store(str(folder.store)))
    return folder, version


def test_a_second_writer_of_a_store_is_refused_until_the_first_has_ended(shop: Path, tmp_path: Path) -> None:
    """However the store's path is written; another store has a writer of its own."""
    store = tmp_path / "store"
    for where in (store, tmp_path / "other"):
        result(tmp_path, "build", "--data", shop, "--store", where)
    (tmp_path / "link").symlink_to(store)
    with alone(Place(Store(str(store)), load_settings(), None)):
        for same in (store, tmp_path / "link", f"{tmp_path}/mine/../store"):
            refused(Conflict, rf"held by process {os.getpid()} .*try again", *HAT, "--store", same)
        assert headrace(*HAT, "--store", tmp_path / "other").exit_code == 0
    assert headrace(*HAT, "--store", store).exit_code == 0


def test_a_second_writer_of_a_run_is_refused(shop: Path, tmp_path: Path, fresh_topics: Connections) -> None:
    """By its Kafka, as that is where the records are."""
    folder, _ = live_run(tmp_path / "run", shop, fresh_topics.kafka)
    with alone(Place(Store("memory://elsewhere"), load_settings(), fresh_topics)):
        refused(Conflict, rf"held by process {os.getpid()} ", *HAT, "--run", folder.root)
    assert headrace(*HAT, "--run", folder.root).exit_code == 0
