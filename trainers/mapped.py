"""A checkpoint's large files on the disk: as bytes they would lie in memory beside the training state, several times its weights."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path


def mapped(path: Path) -> memoryview:
    """A file's content, read where it is needed. The file may be deleted, but not written to."""
    with path.open("rb") as file:
        if not path.stat().st_size:  # nothing cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def written(write: Callable[[Path], object]) -> memoryview:
    """The content of the file that ``write`` makes at the path that it is given."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        path = Path(folder) / "file"
        write(path)
        return mapped(path)
