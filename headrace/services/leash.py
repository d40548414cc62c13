"""Children that die with their parent, even when it is killed with -9.

A child starts as this very file (``python leash.py PARENT ARGV...``): it asks the kernel for SIGKILL at its parent's
death, looks whether the parent is still the one that started it, and only then becomes the real program.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from pathlib import Path

PR_SET_PDEATHSIG = 1


def spawn(argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start ``argv`` on the leash in a session of its own, so that Ctrl-C reaches only us; output is appended to ``log``.

    Raises:
        OSError: the log or the folder cannot be opened.
    """
    done: Future[subprocess.Popen[bytes]] = Future()
    _requests().put((tuple(argv), dict(env), cwd, log, done))
    return done.result()


def end(process: subprocess.Popen[bytes]) -> int | None:
    """Exit code of a child from `spawn` (minus the signal that killed it), None while it runs.

    What it left behind in its session is killed with it, before its pid is given back to the system.
    """
    if process.returncode is None:
        with suppress(ChildProcessError):
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a child from `spawn` now, with all that it has started in its session."""
    process.kill()
    while end(process) is None:
        time.sleep(0.02)


_Request = tuple[tuple[str, ...], dict[str, str], Path, Path, "Future[subprocess.Popen[bytes]]"]


@cache
def _requests() -> queue.SimpleQueue[_Request]:
    # The kernel counts the death of the *thread* that forked as the parent's: all children come from one that never ends.
    requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
    threading.Thread(target=_serve, args=(requests,), name="leash", daemon=True).start()
    return requests


def _serve(requests: queue.SimpleQueue[_Request]) -> None:
    while True:
        argv, env, cwd, log, done = requests.get()
        try:
            done.set_result(_popen(argv, env, cwd, log))
        except OSError as error:
            done.set_exception(error)


def _popen(argv: tuple[str, ...], env: dict[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    wrapper = (sys.executable, "-I", "-S", __file__, str(os.getpid()))
    with log.open("ab") as output:
        return subprocess.Popen(
            (*wrapper, *argv),
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def die_with(parent: int) -> None:
    """This process is killed when the thread of ``parent`` that started it ends; where there is no Linux nothing is done.

    Raises:
        OSError: the kernel refuses.
        SystemExit: ``parent`` has ended already.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # Killed between fork and prctl: the signal was never sent, so look.
    if os.getppid() != parent:
        sys.exit(f"parent {parent} is gone")


def _become(parent: int, argv: list[str]) -> None:
    die_with(parent)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
