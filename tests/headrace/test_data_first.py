"""What is wrong with the data is told before anything is started or made."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def headrace(place: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command line, run in that folder; lines are not wrapped."""
    command = [sys.executable, "-m", "headrace.cli", *arguments]
    environment = os.environ | {"COLUMNS": "1000"} | (env or {})
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("command", ["demo", "up"])
def test_a_folder_that_is_not_there_is_told_at_once(command: str, tmp_path: Path) -> None:
    """Value, bound and remedy, and no run folder: neither Kafka nor anything else was begun."""
    done = headrace(tmp_path, command, "--data", "/nowhere")
    assert done.returncode == 2
    assert "/nowhere" in done.stderr and "'shop' or an existing folder" in done.stderr and "docs/data.md" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["demo", "up"])
def test_a_folder_that_is_not_as_documented_is_told_at_once(command: str, tmp_path: Path) -> None:
    """The file that cannot be read is named."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "items.parquet").write_bytes(b"hello")
    done = headrace(tmp_path, command, "--data", "mine")
    assert done.returncode != 0
    assert "mine/items.parquet" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_port_that_is_taken_is_told_before_a_run_is_prepared(tmp_path: Path) -> None:
    """A preparation takes a minute at least; none was begun."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = headrace(tmp_path, "up", env={"HEADRACE_SERVING__PORT": str(port), "HEADRACE_CONSOLE__PORT": "0"})
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"port {port} of the search server" in done.stderr and "serving.port" in done.stderr
    assert list(tmp_path.glob("runs/*/logs/kafka*")) and not list(tmp_path.glob("runs/*/logs/prepare*"))
