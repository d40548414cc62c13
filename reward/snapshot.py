"""An immutable posterior snapshot: one file, built from counts at one event time, the same bytes for the same counts.

It holds two tables by key, pairs and items (those of the catalogue that nobody saw stand on their prefix), and in its head
what belongs to all: the whole's rate, strengths, calibrator, examination, and the version of each.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward import posterior
from reward.calibration import IDENTITY, Calibrator
from reward.counts import Counts, Sums
from reward.examination import Examination
from reward.keys import REST, Keys, key, keys, pair_keys
from reward.posterior import Posterior, Step
from reward.prefixes import Prefixes
from reward.settings import PosteriorSettings
from reward.snapshot_file import REMEDY, ROW, Data, SnapshotFile, pack
from schemas.errors import Corrupt
from schemas.posteriors import SnapshotPointer
from schemas.store import Store

Floats = NDArray[np.float64]


class Ctr(NamedTuple):
    """Per item: calibrated ``mean_N`` in (0, 1), its ``variance_N``, and ``ess_N``, the decayed examined positions of
    exactly this (query, item): 0 when the value stands on the item, its prefix or the whole alone."""

    mean_N: Floats
    variance_N: Floats
    ess_N: Floats


class _About(msgspec.Struct, frozen=True):
    stamp: int
    pairs: int
    mean: float
    variance: float
    strengths: dict[str, float]
    identifiers: str
    calibrator_version: int
    calibrator_x: list[float]
    calibrator_y: list[float]
    corrector: float
    examination_version: int
    theta: list[float]
    position_power: float


class PosteriorSnapshot:
    """Reads a snapshot. ``stamp`` is its event time (ms), ``pairs`` the number of (query, item) it holds.

    Raises:
        Corrupt, Incompatible: as `SnapshotFile`, here and at the first look-up that touches what is altered.
    """

    def __init__(self, data: Data, name: str = "posterior snapshot") -> None:
        self._file = SnapshotFile(data, name)
        about = msgspec.json.decode(self._file.head.about, type=_About)
        self.stamp, self.pairs, self.identifiers = about.stamp, about.pairs, about.identifiers
        self.strengths = about.strengths
        x_K, y_K = np.array(about.calibrator_x), np.array(about.calibrator_y)
        self.calibrator = Calibrator(about.calibrator_version, x_K, y_K, about.corrector)
        self.examination = Examination(about.examination_version, np.array(about.theta), about.position_power)
        self._mean, self._variance = about.mean, about.variance

    @staticmethod
    def build(
        counts: Counts,
        stamp: int,
        settings: PosteriorSettings,
        calibrator: Calibrator = IDENTITY,
        version: int = 1,
        prefixes: Prefixes | None = None,
    ) -> bytes:
        """The snapshot of ``counts`` at event time ``stamp`` (ms). Equal counts give equal bytes.

        ``version`` names the examination that is estimated here; ``prefixes`` is the level between item and whole.
        """
        examination = counts.examination(stamp, version, settings)
        sums = counts.sums(stamp, settings, examination)
        step = Step(prefixes.find(sums.item_I), prefixes.size + 1) if prefixes else None
        fitted = posterior.fit(sums, settings, step)
        pairs = _rows(sums.pair_P, fitted.pairs.mean_C, sums.n_P)[~sums.rest_P]
        levels = {"pair": fitted.pairs, "item": fitted.items} | ({"prefix": fitted.prefixes} if fitted.prefixes else {})
        about = _About(
            stamp=stamp,
            pairs=len(pairs),
            mean=float(fitted.whole.mean_C[0]),
            variance=float(fitted.whole.variance_C[0]),
            strengths={name: level.strength for name, level in levels.items()},
            identifiers=prefixes.version if prefixes else "",
            calibrator_version=calibrator.version,
            calibrator_x=calibrator.x_K.tolist(),
            calibrator_y=calibrator.y_K.tolist(),
            corrector=calibrator.corrector,
            examination_version=examination.version,
            theta=examination.theta_T.tolist(),
            position_power=examination.power,
        )
        return pack(about, {"pairs": pairs, "items": _item_rows(sums, fitted, prefixes)})

    @classmethod
    def prior(cls, settings: PosteriorSettings) -> PosteriorSnapshot:
        """Version 0: what is believed before any event."""
        return cls(cls.build(Counts(), 0, settings))

    @classmethod
    def read(cls, store: Store, pointer: SnapshotPointer) -> PosteriorSnapshot:
        """The snapshot that ``pointer`` names, as a memory map: opened without reading it, its pages shared by processes.

        Raises:
            Unavailable: the file is missing.
            Corrupt, Incompatible: it is not the file that was published; what a look-up never touches is not read (`verify`).
        """
        path = store.local_file(pointer.path)
        name = f"{store.url}/{pointer.path}"
        with path.open("rb") as file:
            try:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise Corrupt(name, "it is empty, but must have a head", REMEDY) from error
        snapshot = cls(data, name)
        if snapshot.sha256 != pointer.sha256:
            raise Corrupt(name, f"sha256 of its head is {snapshot.sha256}, but must be {pointer.sha256}", REMEDY)
        return snapshot

    @property
    def sha256(self) -> str:
        """What a pointer names it by."""
        return self._file.sha256

    def verify(self) -> None:
        """Check every byte against the head (`Corrupt`), which takes about a second per GB."""
        self._file.verify()

    def ctr(self, query_key: str, items: Sequence[str]) -> Ctr:
        """CTR of each item under the normalised query; falls to the item's level, its prefix, the whole, where unseen."""
        return self._calibrated(self.raw(query_key, items))

    def ctr_by_key(self, pair_N: Keys, item_N: Keys) -> Ctr:
        """As `ctr`, of pairs and their items by key: many queries at once."""
        return self._calibrated(self.raw_by_key(pair_N, item_N))

    def _calibrated(self, raw: Ctr) -> Ctr:
        mean_N = np.clip(self.calibrator.apply(raw.mean_N), posterior.FLOOR, 1 - posterior.FLOOR)
        return Ctr(mean_N, raw.variance_N * (mean_N / raw.mean_N) ** 2, raw.ess_N)

    def raw(self, query_key: str, items: Sequence[str]) -> Ctr:
        """As `ctr`, before calibration."""
        item_N = keys(items)
        return self.raw_by_key(pair_keys(np.array([key(query_key)], np.uint64), item_N), item_N)

    def raw_by_key(self, pair_N: Keys, item_N: Keys) -> Ctr:
        """As `raw`, of pairs and their items by key: what the next calibrator is fitted on."""
        mean, variance = self._mean, self._variance
        for level in ("prefix", "item"):
            if level in self.strengths:
                variance += mean * (1 - mean) / (self.strengths[level] + 1)
        row_N, known_N = self._file.find("items", item_N)
        mean_N = np.where(known_N, row_N["mean"].astype(np.float64), mean)
        doubt_N = mean_N * (1 - mean_N) / (self.strengths["item"] + row_N["n"] + 1)
        spread_N = np.where(known_N, doubt_N, variance)
        row_N, hit_N = self._file.find("pairs", pair_N)
        mean_N = np.where(hit_N, row_N["mean"], mean_N)
        n_N = np.where(hit_N, row_N["n"].astype(np.float64), 0.0)
        own_N = mean_N * (1 - mean_N) / (self.strengths["pair"] + n_N + 1)
        return Ctr(mean_N, np.where(hit_N, own_N, spread_N + own_N), n_N)


def _rows(key_N: Keys, mean_N: Floats, n_N: Floats) -> NDArray[np.void]:
    rows = np.zeros(len(key_N), ROW)
    rows["key"], rows["mean"], rows["n"] = key_N, np.clip(mean_N, posterior.FLOOR, 1 - posterior.FLOOR), n_N
    return rows


def _item_rows(sums: Sums, fitted: Posterior, prefixes: Prefixes | None) -> NDArray[np.void]:
    """Items that were seen, and those of the catalogue that were not, on their prefix."""
    named = sums.item_I != np.uint64(REST)
    seen = _rows(sums.item_I[named], fitted.items.mean_C[named], fitted.items.n_C[named])
    if prefixes is None or fitted.prefixes is None:
        return seen
    unseen_I = ~np.isin(prefixes.item_I, sums.item_I)
    mean_I = fitted.prefixes.mean_C[prefixes.prefix_I[unseen_I]]
    rows = np.concatenate([seen, _rows(prefixes.item_I[unseen_I], mean_I, np.zeros(len(mean_I)))])
    order = np.argsort(rows["key"], kind="stable")
    return cast("NDArray[np.void]", rows[order])
