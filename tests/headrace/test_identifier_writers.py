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
from schemas.errors import Conflict, InvalidRequest, Unavailable
from schemas.store import Store
from schemas.topics import ITEMS
from tests.headrace.identifier_toys import headrace, refused, result, write_shop
from trainers.journal import read_topic

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


def test_a_run_is_given_identifiers_of_the_version_in_force_alone(
    shop: Path, tmp_path: Path, fresh_topics: Connections
) -> None:
    """Of another every reader refuses the records: nothing is published."""
    folder, version = live_run(tmp_path / "run", shop, fresh_topics.kafka)
    other = result(tmp_path, "build", "--run", folder.root, "--seed", 2)["version"]
    refused(InvalidRequest, f"is '{other}', but must be {version}", *HAT, "--run", folder.root, "--version", other)
    assert not read_topic(fresh_topics, ITEMS)
    assert result(tmp_path, *HAT, "--run", folder.root, "--version", version)["published"] == ITEMS.name


def test_a_run_that_is_not_up_gives_no_changes_for_none(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Kafka, in which they are, went with it: a mapping would lack them, and what is shown is said to be as built."""
    folder, version = live_run(tmp_path / "run", shop, "")
    folder.save(load_settings(data=str(shop), store=str(folder.store), kafka="127.0.0.1:1", embedded=("kafka",)))
    refused(Unavailable, "headrace up", "build", "--run", folder.root, "--replaces", version)
    for command in (("inspect", "hammer"), ("drift",)):
        done = headrace(*command, "--run", folder.root)
        assert done.exit_code == 0 and "without the changes since" in done.stderr and str(folder.root) in done.stderr
    for command in (("show", "--run", folder.root), ("drift", "--store", folder.store)):
        assert not headrace(*command).stderr
    monkeypatch.setenv("HEADRACE_SETTINGS", str(folder.settings_file))
    refused(Unavailable, "headrace up", "build", "--data", shop, "--replaces", version)


def test_a_run_beside_a_store_or_data_is_refused(shop: Path, tmp_path: Path) -> None:
    """It would be passed over."""
    for command in (HAT, ("show",), ("inspect", "hammer"), ("drift",)):
        refused(InvalidRequest, "left out with --store", *command, "--store", tmp_path / "store", "--run", tmp_path)
    for command in ("build", "compare"):
        refused(InvalidRequest, "left out with --data", command, "--data", shop, "--run", tmp_path)
