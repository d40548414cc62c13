"""Rows of embeddings that need not fit into memory: arrays, memory-mapped files, and what is made of them on the way.

Letters: N points, D width.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Rows = slice | NDArray[np.integer]

#: Rows read at once where a pass goes over all of them.
BLOCK = 16_384
#: Rows from which on it pays to give pages back.
_GIVE_BACK = 1_024


class Points(Protocol):
    """N rows of width D. An array is one, and so is a ``np.memmap``, of any float type; only rows asked for are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    def __getitem__(self, rows: Any, /) -> Any:
        """The rows of a slice or of an index array, [n, D]."""


@dataclass(frozen=True, eq=False)
class Stacked:
    """Points one behind the other: those of ``first``, then those of ``second``."""

    first: Points
    second: Points

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D) of both together."""
        return (self.first.shape[0] + self.second.shape[0], self.first.shape[1])

    def __getitem__(self, rows: Rows) -> FloatArray:
        """The rows of a slice or of an index array, [n, D]."""
        index = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else np.asarray(rows)
        border = self.first.shape[0]
        before = index < border
        if before.all():
            return rows_of(self.first, index)
        out = np.empty((len(index), self.shape[1]), dtype=np.float32)
        out[before] = rows_of(self.first, index[before])
        out[~before] = rows_of(self.second, index[~before] - border)
        return out


@dataclass(frozen=True, eq=False)
class Picked:
    """Some of the points, by their row numbers."""

    points: Points
    rows_N: NDArray[np.integer]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D) of the picked ones."""
        return (len(self.rows_N), self.points.shape[1])

    def __getitem__(self, rows: Rows) -> FloatArray:
        """The rows of a slice or of an index array, [n, D]."""
        return rows_of(self.points, self.rows_N[rows])


def rows_of(points: Points, rows: Rows) -> FloatArray:
    """Some rows in float32, [n, D], in one piece of memory; do not write into it.

    Of a file that is mapped for reading the pages are given back after a block: else the process would seem to grow by the
    whole file, and count against a container's bound.
    """
    out_ND = np.ascontiguousarray(points[rows], dtype=np.float32)
    if isinstance(points, np.memmap) and points.mode == "r" and len(out_ND) >= _GIVE_BACK:
        if np.shares_memory(out_ND, points):
            out_ND = out_ND.copy()
        mapped: Any = points.base
        while isinstance(mapped, np.ndarray):
            mapped = mapped.base
        if isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_DONTNEED)
    return out_ND


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``count`` rows in order."""
    for low in range(0, count, size):
        yield slice(low, min(low + size, count))
