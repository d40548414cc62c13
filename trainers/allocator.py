"""Keeps the memory that a step frees for the next one, which asks for the same again.

glibc hands a block of 32 MiB and more back to the system at once, and smaller ones when they lie at the heap's end; whoever asks anew gets
pages that the kernel clears one by one. A step of a GPT-2 frees and asks for its gradients, 580 MB: a fifth of its CPU time.
"""

from __future__ import annotations

import ctypes

#: Blocks from this size on are handed back all the same (bytes); also how much may lie free at the heap's end.
KEPT_BYTES = 1 << 30

#: Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """For the rest of this process; False where the C library has no such call (macOS, musl), and nothing is changed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(what, ctypes.c_int(KEPT_BYTES)) == 1 for what in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
