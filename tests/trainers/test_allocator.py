"""What is freed is kept, seen by the pages that the kernel has to hand out."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Asks for 64 MB and frees it, ten times; prints the pages that it took, once small blocks no longer cut pieces off what was freed.
CHILD = """
import resource, sys, torch
from trainers.allocator import keep_freed_memory
assert sys.argv[1] == "leave" or keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.ones(16_000_000)
before = faults()
for _ in range(10):
    torch.ones(16_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_a_block_that_was_freed_costs_no_page_again() -> None:
    """64 MB are 15,625 pages of 4 KiB, ten times; a hundredth of that is room for whatever else the process does."""
    pages = 10 * 64_000_000 // 4096

    def taken(deed: str) -> int:
        found = subprocess.run([sys.executable, "-c", CHILD, deed], capture_output=True, text=True, check=True)
        return int(found.stdout)

    assert taken("keep") < pages / 100
    assert taken("leave") > pages / 2
