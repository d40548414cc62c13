"""What is made on the disk has the bytes it would have in memory, and does not lie there."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tests.trainers import policy_toys
from trainers.mapped import mapped, written
from trainers.optimiser import Optimiser
from trainers.policies.folder import dump_weights
from trainers.settings import LearnerSettings

ROOM = 64  # numbers, in MiB of float32


def anonymous_mib() -> float:
    """Memory of this process that is no file's."""
    found = [line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("Anonymous:")]
    return int(found[0].split()[1]) / 1024


def test_a_file_outlives_its_name_and_nothing_can_be_mapped_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"weights", b""):
        path.write_bytes(content)
        found = mapped(path)
        path.unlink()
        assert found == content and len(found) == len(content)


def test_optimiser_and_weights_are_the_same_files_as_ever() -> None:
    """Given a path, torch would write its name into the file."""
    policy = policy_toys.toy_policy()
    optimiser, file = Optimiser(policy.module, LearnerSettings()), io.BytesIO()
    torch.save(optimiser._whole_state(), file)
    assert optimiser.dump() == file.getvalue()
    assert dump_weights(policy.dense) == save({name: part.detach() for name, part in policy.dense.state_dict().items()})


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_what_is_written_lies_on_the_disk() -> None:
    """64 MiB of it are not in memory."""
    numbers = torch.ones(ROOM << 18)
    before = anonymous_mib()
    held = written(lambda path: path.write_bytes(numbers.numpy().data))
    assert len(held) == ROOM << 20 and anonymous_mib() - before < ROOM / 4
