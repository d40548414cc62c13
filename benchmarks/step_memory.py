"""Memory of a step: what is resident at its peak, and what its forward pass keeps for the backward one. Linux alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes(field: str = "VmRSS") -> int:
    """Resident memory of this process now, or by another field of its status."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def peak_bytes(deed: Callable[[], object]) -> int:
    """The most that was resident while it was done."""
    CLEAR.write_text("5")  # sets the peak to what is resident now
    deed()
    return resident_bytes("VmHWM")


def kept_bytes(deed: Callable[[], object], module: nn.Module) -> int:
    """The most bytes that autograd keeps at once while it is done, each storage once, the module's own left out."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    count, now, most = Counter[int](), 0, 0

    class Kept:
        """A tensor until its node of the graph lets go of it."""

        def __init__(self, tensor: Tensor) -> None:
            nonlocal now, most
            self.tensor, storage = tensor, tensor.untyped_storage()
            self.where, self.size = storage.data_ptr(), storage.nbytes()
            count[self.where] += 1
            if count[self.where] == 1 and self.where not in own:
                now += self.size
                most = max(most, now)

        def __del__(self) -> None:
            nonlocal now
            count[self.where] -= 1
            if count[self.where] == 0 and self.where not in own:
                now -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        deed()
    return most
