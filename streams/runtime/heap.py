"""Hands back to the system what a dumped state took.

glibc keeps freed memory for the next allocation. A snapshot and its copies in the producer are by far a worker's largest;
without this a burst of them leaves the process larger for good.
"""

from __future__ import annotations

import ctypes
from functools import cache


def trim() -> None:
    """Return free pages of every arena; nothing where the C library has no such call (macOS, musl)."""
    if (call := _malloc_trim()) is not None:
        call(0)


@cache
def _malloc_trim() -> ctypes._FuncPointer | None:
    found: ctypes._FuncPointer | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
