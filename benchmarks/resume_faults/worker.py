"""The product's learner as a process that says where it is: ``python -m benchmarks.resume_faults.worker SETTINGS PIPE``.

Functions of the product, and of torch, are wrapped from outside; what they do is theirs. SETTINGS is a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from benchmarks.resume_faults import marks
from headrace.folder import RunFolder
from headrace.logs import configure_logs
from headrace.processes import run_learner
from headrace.settings import Settings
from schemas.store import Store
from trainers import checkpoints, rollout
from trainers.journal import Journal


def follow(teller: marks.Teller) -> None:
    """Say which phase it is, whenever that changes.

    The learner is imported only here, so that whoever in it takes a function by its name takes the one that tells.
    """
    teller.during(rollout, "sample", marks.ROLLOUT)
    from trainers.learner import Learner

    for owner, name, phase in (
        (Learner, "resume", marks.RECOVERY),
        (Learner, "wait_for_step", marks.WAITING),
        (Learner, "step", marks.STEP),
        (Learner, "checkpoint", marks.FILES),
        (Learner, "publish", marks.PUBLICATION),
        (Journal, "append", marks.JOURNAL),
        (torch.Tensor, "backward", marks.BACKWARD),
        (torch.optim.AdamW, "step", marks.OPTIMISER),
    ):
        teller.during(owner, name, phase)
    teller.during(Store, "write", marks.MANIFEST, lambda _, path, *__: path.endswith(checkpoints.MANIFEST))


def main() -> None:
    """Learn until SIGTERM."""
    settings, pipe = map(Path, sys.argv[1:])
    configure_logs()
    follow(marks.Teller(pipe))
    run_learner(RunFolder(settings.parent), Settings.model_validate_json(settings.read_text()))


if __name__ == "__main__":
    main()
