"""`headrace replay --into`, `diff-topics` and `switch-topics` as they are typed: exit status, result file, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app
from headrace.folder import RunFolder
from headrace.settings import load_settings
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.events import Click, Impression, ShownItem
from schemas.topics import VIEWS

pytestmark = pytest.mark.services

START = 1_000_000_000_000


@pytest.fixture
def headrace(fresh_topics: Connections, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command on a run that uses the session's broker."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.save(load_settings(kafka=fresh_topics.kafka, redis=fresh_topics.redis, store=fresh_topics.store))
    return lambda *words: CliRunner().invoke(app, [*words, "--run", str(folder.root)])


def test_a_file_is_replayed_its_views_rebuilt_and_compared(
    headrace: Callable[..., Result], unique: Callable[[str], str], tmp_path: Path
) -> None:
    """One view with a click, closed by the ticks of the file: no worker has run, so it is in the rebuilt topic alone."""
    log, result, name = tmp_path / "log.jsonl", tmp_path / "result.json", unique("views")
    events = (Impression(START, "r1", "u", "shoe", (ShownItem("a", 1),)), Click(START + 5, "u", "a", "r1"))
    log.write_bytes(b"\n".join(msgspec.json.encode(event) for event in events))
    sent = headrace("replay", str(log))
    assert sent.exit_code == 0 and "sent 14 records" in sent.output  # 2 events; 2 ticks to 2 partitions of 3 topics

    rebuilt = headrace("replay", "--topic", VIEWS.name, "--into", name, "--json", str(result))
    assert rebuilt.exit_code == 0, rebuilt.output
    made = json.loads(result.read_text())
    assert (made["topic"], made["of"], made["read"]) == (name, VIEWS.name, 14) and made["written"] >= 1
    assert f"Next: headrace diff-topics {VIEWS.name} {name} --run {tmp_path / 'run'}" in rebuilt.output
    later = headrace("replay", "--topic", VIEWS.name, "--from", "2001-09-09T01:46:41", "--into", name, "--overwrite")
    assert later.exit_code == 0, later.output
    assert headrace("diff-topics", VIEWS.name, name).exit_code == 0  # nothing of that time in either
    assert headrace("replay", "--topic", VIEWS.name, "--into", name, "--overwrite").exit_code == 0

    compared = headrace("diff-topics", VIEWS.name, name, "--json", str(result))
    found = json.loads(result.read_text())
    assert compared.exit_code == 1 and (found["equal"], found["same"], found["only_a"], found["only_b"]) == (False, 0, 0, 1)
    assert found["examples"]["only_b"][0]["b"]["items"][0]["clicks"] == 1
    assert f"only in {name}:\n  r1\n" in compared.output
    assert headrace("diff-topics", name, name).exit_code == 0
    assert headrace("switch-topics", VIEWS.name, name, "--dry-run").exit_code == 0  # attribution never ran: nothing to do
    again = headrace("replay", "--topic", "search.clicks", "--from", "1")
    assert again.exit_code == 0 and "to search.clicks" in again.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("replay",), "exactly one of PATH and --topic"),
        (("replay", "log.jsonl", "--from", "5"), "a whole file"),
        (("replay", "--topic", "search.views"), "rebuilt with --into"),
        (("replay", "--topic", "search.views", "--overwrite"), "with it for --upstream"),
        (("replay", "--topic", "search.clicks", "--into", "x"), "one of search.views"),
        (("replay", "--topic", "search.views", "--into", "search.views"), "in use"),
        (("switch-topics", "training.examples", "x"), "follows their corrections"),
    ],
)
def test_what_makes_no_sense_is_refused(headrace: Callable[..., Result], words: tuple[str, ...], said: str) -> None:
    """The message names the bound or the remedy."""
    done = headrace(*words)
    assert isinstance(done.exception, InvalidRequest) and said in str(done.exception)
