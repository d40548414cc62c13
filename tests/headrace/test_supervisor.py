"""The supervisor starts, restarts, gives up and stops as it says."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import pytest

from headrace.memory import resident
from headrace.process import Status
from headrace.services.child import Child, Restart
from headrace.supervisor import Patience, Supervisor
from schemas.errors import Conflict, ServiceFailed

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(600)")


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for it, or fail."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    """Another pid, one restart counted, the killing signal told."""
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(Child("sleeper", SLEEP))
        supervisor.watch()
        first = supervisor.pid("sleeper")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: supervisor.restarts["sleeper"] == 1 and supervisor.pid("sleeper") is not None)
        assert supervisor.pid("sleeper") != first
        assert supervisor.states()[0].last_exit == -signal.SIGKILL
    assert supervisor.states()[0].status is Status.STOPPED


def test_a_child_that_always_ends_is_given_up_and_reported(tmp_path: Path) -> None:
    """One start and two restarts are tried, then `failures` names the child, what it said last, and its log."""
    end = Child(
        "ender",
        (sys.executable, "-S", "-c", "print('no such thing\\n'); raise SystemExit(3)"),
        restart=Restart(most=2, first_s=0.01, longest_s=0.01),
    )
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(end, wait=False)
        supervisor.watch()
        until(lambda: bool(supervisor.failures()))
        (failure,) = supervisor.failures()
        assert "ender is not available: ended 3 times, given up; it said last: no such thing; its log" in str(failure)
        assert failure.log == str(tmp_path / "logs" / "ender.log")
        assert supervisor.states()[0].last_exit == 3


def test_delays_double_up_to_a_longest() -> None:
    """0.5, 1, 2, then 3 s for ever."""
    policy = Restart(first_s=0.5, longest_s=3)
    assert [policy.delay_s(n) for n in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_start_waits_for_readiness_and_says_when_it_never_comes(tmp_path: Path) -> None:
    """`start` returns when `ready` says yes; without that it raises with the log's path."""
    flag = tmp_path / "flag"
    script = f"import time, pathlib; time.sleep(0.3); pathlib.Path({str(flag)!r}).touch(); time.sleep(600)"
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(Child("slow", (sys.executable, "-c", script), ready=flag.exists))
        assert flag.exists()
        with pytest.raises(ServiceFailed, match=r"never is not available: not ready after 0.3 s; its log is .*never.log"):
            supervisor.start(Child("never", SLEEP, ready=lambda: False, ready_timeout_s=0.3))


def test_children_stop_in_reverse_order_and_a_deaf_one_is_killed(tmp_path: Path) -> None:
    """The last started ends first; what ignores SIGTERM is killed after its grace."""
    order = tmp_path / "order"
    polite = (
        "import signal, sys, time\n"
        "def end(*_):\n    open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('on', flush=True); time.sleep(600)"
    )
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"

    def child(name: str, *argv: str, grace_s: float = 10) -> Child:
        seen = tmp_path / "logs" / f"{name}.log"
        return Child(name, (sys.executable, *argv), ready=lambda: "on" in seen.read_text(), grace_s=grace_s)

    with Supervisor(tmp_path) as supervisor:
        supervisor.start(child("a", "-c", polite, str(order), "a"), child("b", "-c", polite, str(order), "b"))
        supervisor.start(child("deaf", "-c", deaf, grace_s=0.3))
        supervisor.watch()
    assert order.read_text() == "ba"
    assert {state.name: state.last_exit for state in supervisor.states()} == {"a": 0, "b": 0, "deaf": -signal.SIGKILL}


def test_children_beside_each_other_end_together_and_before_what_they_stand_on(tmp_path: Path) -> None:
    """Each of three ends only when all three have been told; one after the other, the first would be killed after its grace. The
    one that was started before them is told when they have ended."""
    (told := tmp_path / "told").mkdir()
    meets = (
        "import os, signal, sys, time\n"
        "def end(*_):\n"
        "    open(sys.argv[1] + '/' + sys.argv[2], 'w').close()\n"
        "    while len(os.listdir(sys.argv[1])) < 3: time.sleep(0.01)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('on', flush=True); time.sleep(600)"
    )
    counts = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(10 + len(os.listdir(sys.argv[1]))))\n"
        "print('on', flush=True); time.sleep(600)"
    )

    def child(name: str, script: str, beside: bool) -> Child:
        argv, seen = (sys.executable, "-c", script, str(told), name), tmp_path / "logs" / f"{name}.log"
        return Child(name, argv, ready=lambda: "on" in seen.read_text(), beside=beside)

    with Supervisor(tmp_path) as supervisor:
        supervisor.start(child("service", counts, False), *(child(name, meets, True) for name in "abc"))
    assert {state.name: state.last_exit for state in supervisor.states()} == {"service": 13, "a": 0, "b": 0, "c": 0}


def test_who_is_waited_for_is_told_and_killed_once_the_patience_is_over(tmp_path: Path) -> None:
    """The grace of a minute is not waited out, neither by those that are waited for nor by those whose turn comes after."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    heard, over = list[list[str]](), Event()

    def tell(names: Sequence[str]) -> None:
        heard.append(list(names))
        over.set()

    def child(name: str) -> Child:
        seen = tmp_path / "logs" / f"{name}.log"
        return Child(
            name, (sys.executable, "-c", deaf), ready=lambda: "on" in seen.read_text(), grace_s=60, beside=name != "a"
        )

    with Supervisor(tmp_path, patience=Patience(over, tell)) as supervisor:
        supervisor.start(child("a"), child("b"), child("c"))
        began = time.monotonic()
    assert time.monotonic() - began < 50
    assert heard == [["c", "b"]] and {state.last_exit for state in supervisor.states()} == {-signal.SIGKILL}


def test_a_stopped_child_stays_down_until_it_is_started(tmp_path: Path) -> None:
    """`stop` is no end to be repaired, and a name that runs is not taken twice."""
    with Supervisor(tmp_path, every_s=0.01) as supervisor:
        supervisor.start(Child("one", SLEEP))
        supervisor.watch()
        with pytest.raises(Conflict, match="the name one is held by process"):
            supervisor.start(Child("one", SLEEP))
        supervisor.stop("one")
        time.sleep(0.3)
        assert supervisor.pid("one") is None and supervisor.restarts == {"one": 0}
        supervisor.start(Child("one", SLEEP))
        assert supervisor.pid("one") is not None


def test_memory_counts_children_and_keeps_the_peak(tmp_path: Path) -> None:
    """A child that holds 50 MB adds them, and they stay in the peak after its end."""
    seen = tmp_path / "logs" / "big.log"
    script = "import time; x = b'x' * 50_000_000; print('on', flush=True); time.sleep(600)"
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(Child("big", (sys.executable, "-c", script), ready=lambda: "on" in seen.read_text()))
        memory = supervisor.memory()
        assert 50_000_000 < memory.by_name["big"] < 100_000_000
        assert memory.total == memory.by_name["big"] + memory.by_name["self"]
        assert supervisor.peak_bytes >= memory.total
        resident_bytes = resident({"big": supervisor.states()[0].pid or 0}).by_name["big"]
        assert memory.by_name["big"] < resident_bytes, "what it shares with this interpreter counts once"
        supervisor.stop("big")
        assert supervisor.memory().total < supervisor.peak_bytes
