"""An immutable posterior snapshot: one file, built from counts at one event time, the same bytes for the same counts.

Layout: magic, length of the header, JSON header (scalars, calibrator, place of each array), arrays aligned to 8 bytes.
Everything is in sorted order, so that a file can be searched where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward import posterior
from reward.calibration import IDENTITY, Calibrator
from reward.counts import Counts
from reward.settings import PosteriorSettings
from schemas.errors import Corrupt
from schemas.posteriors import SnapshotPointer
from schemas.store import Store

MAGIC: Final = b"HRPOST01"

Floats = NDArray[np.float64]


class Ctr(NamedTuple):
    """Per item: calibrated ``mean_N`` in (0, 1), its ``variance_N``, and ``ess_N``, the decayed examined positions of
    exactly this (query, item): 0 when the value stands on the item or the whole alone."""

    mean_N: Floats
    variance_N: Floats
    ess_N: Floats


class _Header(msgspec.Struct, frozen=True):
    stamp: int
    mean: float
    variance: float
    item_strength: float
    pair_strength: float
    calibrator_version: int
    calibrator_x: list[float]
    calibrator_y: list[float]
    arrays: dict[str, tuple[str, int, int]]  # name -> dtype, offset after the header, length
    v: int = 1


class PosteriorSnapshot:
    """Reads a snapshot. ``stamp`` is its event time (ms), ``pairs`` the number of (query, item) it holds."""

    def __init__(self, data: bytes) -> None:
        try:
            header, body = _split(data)
            arrays = {
                name: np.frombuffer(body, dtype, length, offset) for name, (dtype, offset, length) in header.arrays.items()
            }
            self._queries = _strings(arrays["queries"])
            self._items = _strings(arrays["items"])
            self._start_Q1, self._item_P = arrays["query_start"], arrays["pair_item"]
            self._pair: tuple[Floats, Floats, Floats] = (arrays["pair_mean"], arrays["pair_variance"], arrays["pair_n"])
            self._item: tuple[Floats, Floats] = (arrays["item_mean"], arrays["item_variance"])
        except (ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
            raise Corrupt("posterior snapshot", str(error), "use the snapshot before it") from error
        self.stamp, self.pairs = header.stamp, len(self._item_P)
        self.strengths = {"item": header.item_strength, "pair": header.pair_strength}
        self.calibrator = Calibrator(header.calibrator_version, np.array(header.calibrator_x), np.array(header.calibrator_y))
        self._mean, self._variance = header.mean, header.variance

    @staticmethod
    def build(counts: Counts, stamp: int, settings: PosteriorSettings, calibrator: Calibrator = IDENTITY) -> bytes:
        """The snapshot of ``counts`` at event time ``stamp`` (ms). Equal counts give equal bytes."""
        sums = counts.sums(stamp, settings)
        fitted = posterior.fit(sums, settings)
        arrays: dict[str, NDArray[Any]] = {
            "queries": _packed(sums.queries),
            "items": _packed(sums.items),
            "query_start": np.searchsorted(sums.query_P, np.arange(len(sums.queries) + 1)).astype(np.int64),
            "pair_item": sums.item_P.astype(np.int64),
            "pair_mean": fitted.pairs.mean_C,
            "pair_variance": fitted.pairs.variance_C,
            "pair_n": sums.n_P,
            "item_mean": fitted.items.mean_C,
            "item_variance": fitted.items.variance_C,
        }
        places: dict[str, tuple[str, int, int]] = {}
        body = bytearray()
        for name, array in arrays.items():
            places[name] = (array.dtype.newbyteorder("<").str, len(body), len(array))
            body += array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            body += bytes(-len(body) % 8)
        header = msgspec.json.encode(
            _Header(
                stamp=stamp,
                mean=fitted.mean,
                variance=fitted.variance,
                item_strength=fitted.items.strength,
                pair_strength=fitted.pairs.strength,
                calibrator_version=calibrator.version,
                calibrator_x=calibrator.x_K.tolist(),
                calibrator_y=calibrator.y_K.tolist(),
                arrays=places,
            )
        )
        header += b" " * (-(len(header) + len(MAGIC) + 8) % 8)
        return MAGIC + len(header).to_bytes(8, "little") + header + bytes(body)

    @classmethod
    def prior(cls, settings: PosteriorSettings) -> PosteriorSnapshot:
        """Version 0: what is believed before any event."""
        return cls(cls.build(Counts(), 0, settings))

    @classmethod
    def read(cls, store: Store, pointer: SnapshotPointer) -> PosteriorSnapshot:
        """The snapshot that ``pointer`` names; raises as `load`."""
        return cls.load(store, pointer.path, pointer.sha256)

    @classmethod
    def load(cls, store: Store, path: str, checksum: str) -> PosteriorSnapshot:
        """The snapshot at ``path``, checked against its sha256.

        Raises:
            Unavailable: the file is missing.
            Corrupt: it is not the file that was published.
        """
        return cls(store.read(path, checksum))

    def ctr(self, query_key: str, items: Sequence[str]) -> Ctr:
        """CTR of each item under the normalised query; falls to the item's level, then to the whole, where unseen."""
        raw = self.raw(query_key, items)
        mean_N = np.clip(self.calibrator.apply(raw.mean_N), posterior.FLOOR, 1 - posterior.FLOOR)
        return Ctr(mean_N, raw.variance_N * (mean_N / raw.mean_N) ** 2, raw.ess_N)

    def raw(self, query_key: str, items: Sequence[str]) -> Ctr:
        """As `ctr`, before calibration: what the next calibrator is fitted on."""
        count = len(items)
        find = self._items.get
        row_N = np.fromiter((find(item, -1) for item in items), np.int64, count)
        mean_N = np.full(count, self._mean)
        spread_N = np.full(count, self._variance + self._mean * (1 - self._mean) / (self.strengths["item"] + 1))
        ess_N = np.zeros(count)
        known_N = row_N >= 0
        if not known_N.any():
            return Ctr(mean_N, spread_N, ess_N)
        item_mean, item_variance = self._item
        mean_N[known_N] = item_mean[row_N[known_N]]
        spread_N[known_N] = item_variance[row_N[known_N]]
        spread_N += np.where(known_N, mean_N * (1 - mean_N) / (self.strengths["pair"] + 1), 0.0)
        query = self._queries.get(query_key)
        if query is not None:
            start, stop = int(self._start_Q1[query]), int(self._start_Q1[query + 1])
            place_N = start + np.searchsorted(self._item_P[start:stop], row_N)
            place_N[place_N == stop] = start
            hit_N = known_N & (self._item_P[place_N] == row_N)
            pair_mean, pair_variance, pair_n = self._pair
            mean_N[hit_N] = pair_mean[place_N[hit_N]]
            spread_N[hit_N] = pair_variance[place_N[hit_N]]
            ess_N[hit_N] = pair_n[place_N[hit_N]]
        return Ctr(mean_N, spread_N, ess_N)


def _split(data: bytes) -> tuple[_Header, bytes]:
    start = len(MAGIC) + 8
    if data[: len(MAGIC)] != MAGIC or len(data) < start:
        raise ValueError(f"it begins with {data[: len(MAGIC)]!r}, not {MAGIC!r}")
    end = start + int.from_bytes(data[len(MAGIC) : start], "little")
    return msgspec.json.decode(data[start:end], type=_Header), data[end:]


def _packed(names: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(msgspec.msgpack.encode(list(names)), np.uint8)


def _strings(packed: NDArray[Any]) -> dict[str, int]:
    names: list[str] = msgspec.msgpack.decode(packed.tobytes(), type=list[str])
    return {name: row for row, name in enumerate(names)}
