"""A run that brings its own Kafka and is not up says so at once, and says what to type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.commands.common import open_live_run, stopped
from headrace.folder import RunFolder
from headrace.services.lock import hold, is_held
from headrace.settings import load_settings
from schemas.errors import Unavailable


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run as it looks when it has ended: addresses of services that are gone."""
    made = RunFolder(tmp_path)
    made.save(load_settings(kafka="127.0.0.1:1", redis="redis://127.0.0.1:1/0", embedded=("kafka", "redis")))
    return made


@pytest.mark.parametrize(
    "command", [["status"], ["topics"], ["doctor"], ["quarantine", "list"], ["weights", "set", "order=5", "--why", "x"]]
)
def test_commands_name_the_remedy_and_ask_no_broker(folder: RunFolder, command: list[str]) -> None:
    """Port 1 has no broker: a command that asked it would say something else, half a minute later."""
    done = CliRunner().invoke(app, [*command, "--run", str(folder.root)])
    assert done.exit_code != 0
    said = str(done.exception) + done.output
    assert f"headrace up --run {folder.root}" in re.sub(r"\s+", " ", said) and "bootstrap" not in said


def test_a_held_run_and_one_with_services_elsewhere_are_opened(folder: RunFolder, tmp_path: Path) -> None:
    """The lock tells, before, during and after; a run on somebody's broker has nothing to hold."""
    assert stopped(folder, folder.settings()) and not is_held(folder.root)
    with hold(folder.root):
        assert open_live_run(folder.root, needs_kafka=False)[1].kafka == "127.0.0.1:1"
    with pytest.raises(Unavailable):
        open_live_run(folder.root)
    elsewhere = RunFolder(tmp_path / "other")
    elsewhere.create()
    elsewhere.save(load_settings(kafka="127.0.0.1:1", redis="redis://127.0.0.1:1/0"))
    assert open_live_run(elsewhere.root, needs_kafka=False)[1].embedded == ()


def test_what_asks_kafka_alone_needs_no_run_where_the_environment_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run below this folder: HEADRACE_KAFKA is enough for status and topics, and not for what needs a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADRACE_SETTINGS", raising=False)
    monkeypatch.delenv("HEADRACE_STORE", raising=False)
    monkeypatch.setenv("HEADRACE_KAFKA", "127.0.0.1:1")
    assert open_live_run(None, kafka_alone=True, needs_kafka=False)[1].kafka == "127.0.0.1:1"
    with pytest.raises(Unavailable, match="HEADRACE_SETTINGS"):
        open_live_run(None)
