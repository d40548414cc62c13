"""What a set of identifiers is worth: use of the codebooks, and how many items have one of their own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.sids import below, pack


class Quality(msgspec.Struct, frozen=True):
    """Shares in [0, 1]. ``cur_*`` can only be small where the code space is larger than the catalogue."""

    items: int
    distinct: int  #: distinct identifiers
    cur_l1: float  #: used first codes / K1
    cur_l1l2: float  #: used pairs / (K1 K2)
    cur_total: float  #: distinct prefixes of three / (K1 K2 K3)
    icr: float  #: items whose identifier belongs to them alone / items
    level_use: tuple[float, ...]  #: per level: codes in use / K
    largest_cell: int  #: items below the fullest prefix of three
    moved: int = 0  #: items whose nearest code was held by another item
    error: float = 0.0  #: mean squared distance between embedding and decoded identifier
    error_unseen: float = 0.0  #: the same of items that were kept out of the fit: what to expect of items to come


def measure(
    sids_NL: NDArray[np.integer], level_sizes: Sequence[int], moved: int = 0, error: float = 0.0, error_unseen: float = 0.0
) -> Quality:
    """The quality of N identifiers.

    Raises:
        InvalidValue: there are none.
    """
    if len(sids_NL) == 0:
        raise InvalidValue("identifiers to measure", 0, "at least 1", "build them first")
    keys_N = np.sort(pack(sids_NL, level_sizes))
    prefixes = [_counts(keys_N // below(level_sizes, depth)) for depth in (1, 2, 3)]
    holders = _counts(keys_N)
    spaces = np.cumprod(np.asarray(level_sizes[:3], dtype=np.float64))
    return Quality(
        items=len(sids_NL),
        distinct=len(holders),
        cur_l1=float(len(prefixes[0]) / spaces[0]),
        cur_l1l2=float(len(prefixes[1]) / spaces[1]),
        cur_total=float(len(prefixes[2]) / spaces[2]),
        icr=float((holders == 1).sum() / len(sids_NL)),
        level_use=tuple(len(np.unique(sids_NL[:, level])) / size for level, size in enumerate(level_sizes)),
        largest_cell=int(prefixes[2].max()),
        moved=moved,
        error=error,
        error_unseen=error_unseen,
    )


def _counts(sorted_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each distinct value occurs."""
    return np.diff(np.flatnonzero(np.diff(sorted_N, prepend=-1)), append=len(sorted_N))
