"""`headrace up` ends when it is told to, whatever it is in the midst of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import psutil
import pytest

from headrace.folder import RunFolder
from headrace.processes import until_stopped
from headrace.settings import Settings
from headrace.stack import Stack
from headrace.story import Story
from headrace.supervisor import Supervisor
from headrace.up import stay_up
from schemas.errors import InvalidSetting

SMALL = {
    "HEADRACE_SHOP__HISTORY_IMPRESSIONS": "1200", "HEADRACE_SHOP__QUERIES": "80", "HEADRACE_SHOP__USERS": "200",
    "HEADRACE_SERVING__PORT": "0", "HEADRACE_CONSOLE__PORT": "0",
}  # fmt: skip


@contextmanager
def going_up(run: Path, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`headrace up` over a small new run, what it says in a file; killed at the end if it has not ended."""
    command = [sys.executable, "-m", "headrace.cli", "up", "--run", str(run), "--items", "300"]
    with said.open("wb") as out:
        up = subprocess.Popen(command, cwd=run.parent, stdout=out, stderr=out, env={**os.environ, **SMALL})
    try:
        yield up
    finally:
        up.kill()
        up.wait()


@pytest.mark.services
@pytest.mark.parametrize("begun", ["kafka.log", "prepare.log"])
def test_sigterm_before_it_is_up_ends_it_and_all_that_it_has_started(begun: str, tmp_path: Path) -> None:
    """While its services start, and while a new run is prepared: exit status 0, nothing is left, the folder can be held again."""
    run, said = tmp_path / "run", tmp_path / "said"
    with going_up(run, said) as up:
        until(lambda: (run / "logs" / begun).exists(), up, said)
        began = psutil.Process(up.pid).children(recursive=True)
        assert began
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0, said.read_text()
        gone, left = psutil.wait_procs(began, timeout=10)
        assert len(gone) == len(began) and not left
        assert "stopping" in said.read_text() and "Traceback" not in said.read_text()
        assert not list((run / "pids").glob("*"))


@pytest.mark.services
def test_a_second_ctrl_c_ends_at_once_what_the_first_one_waits_for(tmp_path: Path) -> None:
    """A broker that stands still hears no SIGTERM: its name is said, and it is killed long before its grace of 20 s is over."""
    run, said = tmp_path / "run", tmp_path / "said"
    with going_up(run, said) as up:
        noted = run / "pids" / "kafka"
        until(lambda: noted.exists() and noted.read_text().endswith("}"), up, said)
        broker = psutil.Process(json.loads(noted.read_text())["pid"])
        broker.suspend()
        until(lambda: broker.status() == psutil.STATUS_STOPPED, up, said)  # else it may take the SIGTERM first
        up.send_signal(signal.SIGINT)
        until(lambda: "waiting for kafka" in said.read_text(), up, said)
        assert "Ctrl-C kills at once" in " ".join(said.read_text().split())
        began = time.monotonic()
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0, said.read_text()
        assert time.monotonic() - began < 15 and not broker.is_running()
        assert "Traceback" not in said.read_text()


def test_an_end_goes_on_though_nobody_reads_what_it_waits_for(tmp_path: Path) -> None:
    """Ctrl-C ends the reader of a pipe as well: what is told when the first child takes long may not keep the next from its end."""
    ends = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep({}), sys.exit({}))); print('on', flush=True); time.sleep(600)"
    program = f"""
import sys
from pathlib import Path
from headrace.logs import configure_logs
from headrace.services.child import Child
from headrace.story import Story
from headrace.supervisor import Supervisor
from headrace.up import patience_of

def child(name, script):
    log = Path(sys.argv[1]) / "logs" / f"{{name}}.log"
    return Child(name, (sys.executable, "-c", script), ready=lambda: "on" in log.read_text())

configure_logs(Path(sys.argv[1], "headrace.log"))
with Supervisor(Path(sys.argv[1]), patience=patience_of(Story())) as supervisor:
    supervisor.start(child("first", {ends.format(0, 5)!r}), child("slow", {ends.format(2, 6)!r}))
Path(sys.argv[1], "exits").write_text(str([state.last_exit for state in supervisor.states()]))
"""
    nobody, stdout = os.pipe()
    os.close(nobody)
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], stdout=stdout, timeout=120, check=False)
    os.close(stdout)
    assert (tmp_path / "exits").read_text() == "[5, 6]"


def until(holds: Callable[[], bool], up: subprocess.Popen[bytes], said: Path) -> None:
    """Wait for it while ``up`` runs."""
    deadline = time.monotonic() + 180
    while not holds():
        assert up.poll() is None and time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)


def test_it_ends_with_what_ended_its_clock(tmp_path: Path) -> None:
    """Without ticks no view closes: a clock whose certificates cannot be read is told, not missed."""
    (no_pem := tmp_path / "ca.pem").write_text("nothing")
    security = {"protocol": "ssl", "ca_file": str(no_pem)}
    settings = Settings.model_validate({"kafka": "127.0.0.1:1", "kafka_security": security})
    with Supervisor(tmp_path) as supervisor, pytest.raises(InvalidSetting, match=r"ca_file.*ca\.pem"):
        stay_up(Story(), Stack(RunFolder(tmp_path), settings, supervisor), Event())


def test_a_second_signal_is_told_apart_from_the_first() -> None:
    """Ctrl-C and then SIGTERM, as `headrace up` hears them once it is up."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = until_stopped(again := Event())
        signal.raise_signal(signal.SIGINT)
        assert (stop.is_set(), again.is_set()) == (True, False)
        signal.raise_signal(signal.SIGTERM)
        assert again.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
