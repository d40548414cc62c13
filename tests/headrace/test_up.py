"""`headrace up` ends when it is told to, whatever it is in the midst of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import psutil
import pytest

from headrace.folder import RunFolder
from headrace.settings import Settings
from headrace.stack import Stack
from headrace.story import Story
from headrace.supervisor import Supervisor
from headrace.up import stay_up
from schemas.errors import InvalidSetting

SMALL = {"HEADRACE_SHOP__HISTORY_IMPRESSIONS": "1200", "HEADRACE_SHOP__QUERIES": "80", "HEADRACE_SHOP__USERS": "200"}


@pytest.mark.services
@pytest.mark.parametrize("begun", ["kafka.log", "prepare.log"])
def test_sigterm_before_it_is_up_ends_it_and_all_that_it_has_started(begun: str, tmp_path: Path) -> None:
    """While its services start, and while a new run is prepared: exit status 0, nothing is left, the folder can be held again."""
    run, said = tmp_path / "run", tmp_path / "said"
    with said.open("wb") as out:
        up = subprocess.Popen(
            [sys.executable, "-m", "headrace.cli", "up", "--run", str(run), "--items", "300"],
            cwd=tmp_path, stdout=out, stderr=out, env={**os.environ, **SMALL},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 180
        while not (run / "logs" / begun).exists():
            assert up.poll() is None and time.monotonic() < deadline, said.read_text()
            time.sleep(0.05)
        began = psutil.Process(up.pid).children(recursive=True)
        assert began
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0, said.read_text()
        gone, left = psutil.wait_procs(began, timeout=10)
        assert len(gone) == len(began) and not left
        assert "stopping" in said.read_text() and "Traceback" not in said.read_text()
        assert not list((run / "pids").glob("*"))
    finally:
        up.kill()
        up.wait()


def test_it_ends_with_what_ended_its_clock(tmp_path: Path) -> None:
    """Without ticks no view closes: a clock whose certificates cannot be read is told, not missed."""
    (no_pem := tmp_path / "ca.pem").write_text("nothing")
    security = {"protocol": "ssl", "ca_file": str(no_pem)}
    settings = Settings.model_validate({"kafka": "127.0.0.1:1", "kafka_security": security})
    with Supervisor(tmp_path) as supervisor, pytest.raises(InvalidSetting, match=r"ca_file.*ca\.pem"):
        stay_up(Story(), Stack(RunFolder(tmp_path), settings, supervisor), Event())
