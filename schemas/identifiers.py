"""The part of the identifiers artefact that everybody may read: the codes of the catalogue's items."""

from __future__ import annotations

import io

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import Incompatible
from schemas.store import Store


class _Summary(msgspec.Struct):
    level_sizes: tuple[int, ...]


def read_level_sizes(store: Store, version: str) -> tuple[int, ...]:
    """Codes of each level, from ``identifiers/<version>/summary.json``; none where a run has no identifiers yet.

    Raises:
        Unavailable: there is no such version.
    """
    return (
        msgspec.json.decode(store.read(f"identifiers/{version}/summary.json"), type=_Summary).level_sizes if version else ()
    )


def read_sids(store: Store, version: str, items: int) -> NDArray[np.int32]:
    """Codes [N, L] of the catalogue's ``items``, in its order, from ``identifiers/<version>/arrays.npz``.

    Raises:
        Unavailable: there is no such version.
        Incompatible: they are those of another catalogue.
    """
    with np.load(io.BytesIO(store.read(f"identifiers/{version}/arrays.npz")), allow_pickle=False) as arrays:
        sids_NL = arrays["sids"]
    if len(sids_NL) != items:
        raise Incompatible("items of the identifiers", items, len(sids_NL), "prepare the run again")
    return np.asarray(sids_NL, np.int32)
