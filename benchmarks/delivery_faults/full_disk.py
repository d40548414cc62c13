"""The disk runs full once, on a small file system of this process alone.

``python -m benchmarks.delivery_faults.full_disk FOLDER SEED`` is started with mounts of its own (``unshare --mount``), so that
nothing is left mounted, whatever ends it. It exits 0 when the output was identical, 1 when not.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.delivery_faults.kinds import DISK
from benchmarks.delivery_faults.stage import Tally, stage
from benchmarks.plane.worker import ROOT

SIZE = "size=192m"
#: What gives a process mounts of its own: as root, or as a user where the kernel lets users.
WAYS = (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user"))


def survive(folder: Path, seed: int) -> Tally | None:
    """One full disk; None where no small file system can be mounted."""
    way = _way(folder)
    if way is None:
        return None
    command = (*way, sys.executable, "-m", "benchmarks.delivery_faults.full_disk", str(folder), str(seed))
    done = subprocess.run(command, cwd=ROOT, check=False)
    return Tally(DISK.name, 1, int(done.returncode == 0), DISK.events)


def _way(folder: Path) -> tuple[str, ...] | None:
    mount = folder / "kafka"
    mount.mkdir(parents=True, exist_ok=True)
    for way in WAYS:
        if shutil.which(way[0]) and subprocess.run((*way, *_mount(mount)), capture_output=True, check=False).returncode == 0:
            return way
    return None


def _mount(where: Path) -> tuple[str, ...]:
    return ("mount", "-t", "tmpfs", "-o", SIZE, "headrace", str(where))


def main(folder: Path, seed: int) -> int:
    """Mount, fill, compare."""
    subprocess.run(_mount(folder / "kafka"), check=True)
    with stage(folder, seed) as one:
        tally = one.round(DISK, 1)
        whole = one.close()
    return 0 if whole and tally.survived else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
