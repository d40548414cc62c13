"""`headrace schemas` in a repository of its own: write, check, release, and what the check says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app
from schemas.errors import Corrupt, HeadraceError, Incompatible, Unavailable


class Repository:
    """The two folders; `run` gives the command's result, or raises what Headrace raised."""

    def __init__(self, root: Path) -> None:
        self.docs, self.released, self.result = root / "docs", root / "released", root / "result.json"

    def run(self, command: str, *options: str) -> Result:
        folders = {
            "write": ["--docs", self.docs],
            "check": ["--docs", self.docs, "--released", self.released],
            "release": ["--released", self.released],
            "list": ["--released", self.released],
        }
        words = ["schemas", command, *map(str, folders[command]), *options, "--json", str(self.result)]
        done = CliRunner().invoke(app, words)
        if isinstance(done.exception, HeadraceError):
            raise done.exception
        return done

    def json(self) -> Any:
        return msgspec.json.decode(self.result.read_bytes())

    def change(self, folder: Path, topic: str, was: str, now: str) -> None:
        """Change a file, in exactly one place."""
        path = folder / f"{topic}.json"
        text = msgspec.json.format(path.read_bytes(), indent=0).decode()
        assert text.count(was) == 1, text
        path.write_text(text.replace(was, now))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Written and released just now."""
    made = Repository(tmp_path)
    assert made.run("write").exit_code == made.run("release").exit_code == 0
    return made


def test_what_was_written_and_released_passes(repository: Repository) -> None:
    """Nothing to say, and nothing to do a second time."""
    checked = repository.run("check")
    assert checked.exit_code == 0 and repository.json() == {"stale": [], "breaks": [], "allowed": []}
    assert f"{len(list(repository.docs.iterdir()))} documents in {repository.docs} are" in checked.output
    assert f"schema in {repository.released} (0 allowed" in checked.output
    assert repository.run("write").exit_code == 0 and repository.json() == {"changed": []}
    assert repository.run("list").exit_code == 0
    row = {"topic": "search.orders", "record": "Return", "writes": 1, "reads": [1], "since_release": []}
    assert row in repository.json()


def test_a_stale_a_missing_and_a_left_over_document_are_told_and_mended(repository: Repository) -> None:
    """The line names topic, record, field, what was and what is."""
    repository.change(repository.docs, "search.clicks", '"maximum": 10000', '"maximum": 9000')
    (repository.docs / "search.views.json").unlink()
    (repository.docs / "search.gone.json").write_text("{}")
    (repository.docs / "asyncapi.json").write_text("<<<<<<< mine")
    (repository.docs / "search.orders.json").write_text("<<<<<<< mine")
    assert repository.run("check").exit_code == 1
    said = repository.json()["stale"]
    told = {name: next(line for line in said if f"{name}.json" in line) for name in ("clicks", "views", "gone", "asyncapi")}
    assert "Click.position: bound widened: was maximum 9000, is maximum 10000" in told["clicks"]
    assert "is missing" in told["views"] and "is of no topic" in told["gone"]
    assert len(said) == 5 and all(line.endswith("run `headrace schemas write`") for line in said)
    repository.run("write")
    assert repository.run("check").exit_code == 0


def test_a_break_of_the_released_schema_is_refused_until_it_is_forced(repository: Repository) -> None:
    """The release took positions up to 20,000 and today's does not: told with its remedy, not released by accident."""
    repository.change(repository.released, "search.clicks", '"maximum": 10000', '"maximum": 20000')
    assert repository.run("check").exit_code == 1
    (line,) = repository.json()["breaks"]
    assert line.startswith(
        "search.clicks: Click.position: bound narrowed: was maximum 20000, is maximum 10000; widen the bound"
    )
    with pytest.raises(Incompatible, match=r"Click\.position.*--force"):
        repository.run("release")
    assert repository.run("release", "--force").exit_code == 0 and repository.json() == {"changed": ["search.clicks.json"]}
    assert repository.run("check").exit_code == 0


def test_an_allowed_change_is_listed_and_released(repository: Repository) -> None:
    """The release took fewer positions."""
    repository.change(repository.released, "search.clicks", '"maximum": 10000', '"maximum": 9000')
    assert repository.run("check").exit_code == 0
    said = "search.clicks: Click.position: bound widened: was maximum 9000, is maximum 10000"
    assert repository.json() == {"stale": [], "breaks": [], "allowed": [said]}
    assert repository.run("list").exit_code == 0
    assert [row["record"] for row in repository.json() if row["since_release"] == [said]] == ["Click"]
    assert repository.run("release").exit_code == 0


def test_a_check_without_a_release_or_with_a_broken_one_says_so(repository: Repository) -> None:
    """Nothing to compare with is no pass; a folder that is not there is not told as so many missing documents."""
    with pytest.raises(Unavailable, match=r"/nope is no folder; run this in the repository's root, or name.*--docs"):
        repository.run("check", "--docs", "/nope")
    (repository.released / "search.clicks.json").write_text("{")
    with pytest.raises(Corrupt, match="restore it from version control"):
        repository.run("check")
    for path in repository.released.glob("*.json"):
        path.unlink()
    with pytest.raises(Unavailable, match="has none"):
        repository.run("check")
