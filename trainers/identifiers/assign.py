"""Who gets which identifier: its nearest code, or the next nearest free one.

Two items may share an identifier only if the settings allow it and their text is the same. What was given at the build is
one sorted array of integers; what was given or freed since lies beside it. Letters: N items, L levels, P candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.codebook import Codebook
from trainers.identifiers.kmeans import Centroids
from trainers.identifiers.points import Points, rows_of
from trainers.identifiers.settings import RESIDUAL_LEVELS
from trainers.identifiers.sids import Sid, pack, pack_one, unpack

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]


class Assigner:
    """Identifiers in use and the text that holds each. Assigning never touches an identifier given before.

    ``share``: whether equal texts share; an empty text never does.
    """

    def __init__(
        self,
        codebook: Codebook,
        share: bool = False,
        given_NL: NDArray[np.integer] | None = None,
        text: Callable[[int], str] = lambda row: "",
    ) -> None:
        """``given_NL``: identifiers in use already; ``text`` gives the text of each row of it."""
        self.codebook, self.share = codebook, share
        self.moved = 0  #: items that did not get their nearest code, because another item held it
        self._sizes = codebook.level_sizes
        keys_N = pack(np.zeros((0, len(self._sizes)), np.int32) if given_NL is None else given_NL, self._sizes)
        rows_N = np.argsort(keys_N, kind="stable")
        self._given = keys_N[rows_N]
        self._given_text: Callable[[int], str] = lambda at: text(int(rows_N[at]))
        self._holders: dict[int, int] = {}  # of every identifier that was given or freed since
        self._text: dict[int, str] = {}

    def assign(self, emb_D: FloatArray, text: str, codes: Sid | None = None) -> Sid:
        """The identifier of a new item, remembered as taken.

        Args:
            emb_D: the item's (enhanced) embedding.
            text: decides who may share.
            codes: its nearest codes, if known; else they are computed.

        Raises:
            InvalidValue: every identifier below its first two codes is taken.
        """
        wanted = codes or tuple(self.codebook.encode(emb_D[None, :])[0].tolist())
        key = self._first_free(np.array([pack_one(wanted, self._sizes)]), text)
        if key is None:
            self.moved += 1
            searched = (self._first_free(keys_P, text) for keys_P in nearest_keys(self.codebook, emb_D, wanted))
            key = next((found for found in searched if found is not None), None)
        if key is None:
            taken = f"none below {wanted[: RESIDUAL_LEVELS - 1]}"
            raise InvalidValue("free identifiers", taken, "at least one", "rebuild with larger level sizes")
        self._hold(key, text)
        return unpack(key, self._sizes)

    def claim(self, sid: Sid, text: str) -> None:
        """An identifier that was given elsewhere: one holder more."""
        self._hold(pack_one(sid, self._sizes), text)

    def release(self, sid: Sid) -> None:
        """One holder less; without any the identifier is free again.

        Raises:
            InvalidValue: nobody holds it.
        """
        key = pack_one(sid, self._sizes)
        count = self._count(key)
        if count < 1:
            raise InvalidValue("identifier to free", sid, "one in use", "free what was given")
        self._holders[key] = count - 1

    def _hold(self, key: int, text: str) -> None:
        self._holders[key] = self._count(key) + 1
        if self.share:
            self._text[key] = text

    def _count(self, key: int) -> int:
        if key in self._holders:
            return self._holders[key]
        low, high = np.searchsorted(self._given, [key, key + 1]).tolist()
        return int(high - low)

    def _first_free(self, keys_P: IntArray, text: str) -> int | None:
        """The first of these identifiers that this text may have."""
        at_P = np.searchsorted(self._given, keys_P)
        given_P = np.append(self._given, -1)[at_P] == keys_P if len(self._given) else np.zeros(len(keys_P), np.bool_)
        for key, at, given in zip(keys_P.tolist(), at_P.tolist(), given_P.tolist(), strict=True):
            if not self._holders.get(key, given):
                return int(key)
            if self.share and text and text == (self._text[key] if key in self._text else self._given_text(at)):
                return int(key)
        return None


def assign_all(
    codebook: Codebook, emb_ND: Points, codes_NL: NDArray[np.int32], text: Callable[[int], str], share: bool = False
) -> tuple[NDArray[np.int32], int]:
    """Identifiers [N, L] of N items from their nearest codes, and how many did not get those.

    Of the items with the same codes the first row keeps them; then the others, in row order, get the nearest free ones.
    """
    keys_N = pack(codes_NL, codebook.level_sizes)
    _, first = np.unique(keys_N, return_index=True)  # of equal ones the first row
    others = np.setdiff1d(np.arange(len(keys_N)), first, assume_unique=True)
    first.sort()
    assigner = Assigner(codebook, share, codes_NL[first], lambda at: text(int(first[at])))
    sids_NL = codes_NL.copy()
    for row in others.tolist():
        sids_NL[row] = assigner.assign(rows_of(emb_ND, slice(row, row + 1))[0], text(row), tuple(codes_NL[row].tolist()))
    return sids_NL, assigner.moved


def nearest_keys(codebook: Codebook, emb_D: FloatArray, codes: Sid) -> Iterator[IntArray]:
    """Packed identifiers from the nearest to the farthest of ``codes``' own neighbourhood, in several arrays.

    First every last code, by distance; then every pair of the two fine codes; then the same pairs below every other
    code of level 3, nearest first. The first two levels stay: they carry the meaning.
    """
    sizes, last = codebook.level_sizes, RESIDUAL_LEVELS - 1
    before_1D = codebook.residual_after(emb_D[None, :], np.array([codes]), last)
    to_last_K = _to_all(codebook.fine_centroids[-1], before_1D - codebook.residual[last][codes[last]])
    yield pack_one(codes, sizes) - codes[-1] + np.argsort(to_last_K, kind="stable")
    thirds = codebook.residual_centroids[last].few(before_1D, 0, sizes[last])[0][0].tolist()
    thirds.remove(codes[last])
    for third in (codes[last], *thirds):
        left_1D = before_1D - codebook.residual[last][third]
        to_first_K, to_last_K = (_to_all(half, left_1D) for half in codebook.fine_centroids)
        pairs = np.argsort((to_first_K[:, None] + to_last_K[None, :]).ravel(), kind="stable")
        yield pack_one((*codes[:last], third), sizes[:RESIDUAL_LEVELS]) * len(pairs) + pairs


def _to_all(centroids: Centroids, point_1D: FloatArray) -> NDArray[np.float64]:
    """Squared distances [K] of one point to every centroid: those of `Centroids.exact`, without a copy of either for each."""
    left_KD = point_1D.astype(np.float64) - centroids.centroids_KD
    np.multiply(left_KD, left_KD, out=left_KD)
    distance_K: NDArray[np.float64] = left_KD.sum(axis=1)
    return distance_K
