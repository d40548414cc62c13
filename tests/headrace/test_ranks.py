"""`headrace learn --ranks`: children that know their place, and do not outlive rank 0."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.run import parse_args

from headrace.ranks import VARIABLE, others
from schemas.errors import InvalidRequest

CHILD = """
import os, sys
open(sys.argv[1] + os.environ["RANK"], "w").write(os.environ["WORLD_SIZE"] + " " + os.environ["MASTER_PORT"])
"""
PARENT = """
import sys, time
from headrace.ranks import others
child = "from headrace.ranks import end_with_rank_0; import sys, time, os; end_with_rank_0(); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
with others(2, (sys.executable, "-c", child, sys.argv[1])):
    time.sleep(60)
"""
WAITING = """
import sys, time
from headrace import ranks
ranks.NOTICE_S = 0.3
with ranks.others(2, (sys.executable, "-c", "import sys; sys.exit(3)")):
    time.sleep(600)
"""


def test_each_child_is_a_rank_of_one_group(tmp_path: Path) -> None:
    """Three ranks, two of them children, which are waited for; a rank starts no further ones."""
    with others(3, (sys.executable, "-c", CHILD, f"{tmp_path}/")):
        said = f"3 {os.environ['MASTER_PORT']}"
        with pytest.raises(InvalidRequest, match="let torchrun alone start the ranks"), others(2, ("true",)):
            pass
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"1": said, "2": said}
    assert "RANK" not in os.environ


def test_an_error_of_rank_0_ends_the_others() -> None:
    with pytest.raises(KeyError), others(2, (sys.executable, "-c", "import time; time.sleep(600)")):
        raise KeyError


def test_a_child_that_fails_before_all_have_met_ends_rank_0() -> None:
    """Which waits for it in gloo, up to ten minutes: it says which rank has ended how, and ends too."""
    done = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "a rank of the learner has ended" in done.stdout and "rank=1" in done.stdout and "exit=3" in done.stdout


def test_a_child_ends_in_good_order_while_rank_0_lives() -> None:
    """Exit status 0 and not a word, though it still watches."""
    command = [sys.executable, "-c", "from headrace.ranks import end_with_rank_0; end_with_rank_0()"]
    with subprocess.Popen(
        command, env={**os.environ, VARIABLE: "1"}, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.wait(60) == 0
        assert child.stderr is not None and child.stderr.read() == b""


def test_a_child_does_not_outlive_rank_0(tmp_path: Path) -> None:
    """Rank 0 is killed; its child, which sleeps, is gone soon after."""
    file = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(file)]) as parent:
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parent.send_signal(signal.SIGKILL)
    child = int(file.read_text())
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_torchrun_takes_the_command_of_the_page() -> None:
    """Its own parser leaves what is the learner's to the learner, where it would take `--run` for an option of its own."""
    page = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text()
    (command,) = re.findall(r"`torchrun (.*?)`", page)
    arguments = parse_args(command.split())
    assert (arguments.training_script, arguments.training_script_args) == ("headrace.cli", ["learn", "--run", "FOLDER"])
