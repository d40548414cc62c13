"""`headrace prepare` makes what the store lacks, and makes it again only when asked to."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import headrace.prepare
from headrace.cli import app
from headrace.folder import RunFolder
from headrace.prepare import Prepared
from headrace.settings import load_settings
from schemas.artefacts import Artefacts
from schemas.store import Store


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A folder whose store has nothing yet."""
    folder = RunFolder(tmp_path)
    folder.save(load_settings(store=str(folder.store)))
    return folder


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    """The runs that were prepared; the preparation itself writes one small file."""
    runs: list[RunFolder] = []

    def prepared(folder: RunFolder, settings: object, tell: object) -> Prepared:
        runs.append(folder)
        Artefacts(frozen=f"start{len(runs)}").save(Store(str(folder.store)))
        return Prepared({}, {}, {}, {})

    monkeypatch.setattr(headrace.prepare, "run_prepare", prepared)
    return runs


def test_a_prepared_store_is_left_alone_unless_asked(run: RunFolder, made: list[RunFolder]) -> None:
    """A second start of the same containers must not replace the identifiers and the warm start that the first one trains."""
    command, runner = ["prepare", "--run", str(run.root)], CliRunner()
    assert runner.invoke(app, command).exit_code == 0
    assert made == [run]
    again = runner.invoke(app, command)
    assert again.exit_code == 0 and "artefacts.json" in again.output and "--again" in again.output
    assert made == [run] and Artefacts.load(Store(str(run.store))).frozen == "start1"
    assert runner.invoke(app, [*command, "--again"]).exit_code == 0
    assert made == [run, run] and Artefacts.load(Store(str(run.store))).frozen == "start2"


def test_who_starts_it_as_an_errand_gets_a_result(
    run: RunFolder, made: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`headrace up` has looked already, and a demo prepares always."""
    monkeypatch.setenv("HEADRACE_ERRAND", "1")
    told: list[object] = []
    monkeypatch.setattr("headrace.errand.give_result", told.append)
    Artefacts().save(Store(str(run.store)))
    assert CliRunner().invoke(app, ["prepare", "--run", str(run.root)]).exit_code == 0
    assert made == [run] and told == [Prepared({}, {}, {}, {})]
