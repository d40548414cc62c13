"""Memory of a step: what is resident at its peak, and what its forward pass keeps for the backward one. Linux alone."""

from __future__ import annotations

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
    """Bytes that autograd keeps while it is done, each storage once, the module's own left out."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = max(storage.nbytes(), kept.get(storage.data_ptr(), 0))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        deed()
    return sum(kept.values())
