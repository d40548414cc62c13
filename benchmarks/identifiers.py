"""Identifiers at scale: fitting and encoding from a memory-mapped file, the slope of time and memory, and one new item.

Vectors have a cluster structure like that of titles: a few hundred heaps of uneven size, smaller heaps inside them, and
noise. They lie in a temporary file in float16 and are deleted afterwards. Each size is built in a process of its own, so
that its peak memory is its own. The peer of the encoding is faiss' exact search over the same centroids, level by level.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import faiss
import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Result, Row, finish, paired_times, parser, row, scaled
from trainers.identifiers.assign import Assigner, assign_all
from trainers.identifiers.balanced import even_capacity
from trainers.identifiers.codebook import Codebook, fit_codebook
from trainers.identifiers.points import blocks, rows_of
from trainers.identifiers.quality import measure
from trainers.identifiers.settings import RESIDUAL_LEVELS, IdentifierSettings

FloatArray = NDArray[np.float32]
#: Vectors that the encoders are raced over.
RACED = 20_000
PEER = "faiss.knn, level by level"
#: Memory that 10 million vectors may take.
ALLOWED_GIB = 8.0


class Run(msgspec.Struct, frozen=True):
    """One build. ``peak_gib`` is the process's largest resident memory, pages of the mapped file included."""

    vectors: int
    level_sizes: tuple[int, ...]
    fit_s: float
    encode_s: float
    unique_s: float
    peak_gib: float
    file_gib: float
    largest_share: float  #: fullest cell of level 3 over an even share
    icr: float
    error: float


def write_vectors(path: Path, count: int, width: int, seed: int) -> None:
    """Unit rows [N, D] in float16, written in blocks."""
    rng = np.random.default_rng(seed)
    heaps = rng.normal(size=(400, width)).astype(np.float32)
    inner = rng.normal(size=(20_000, width)).astype(np.float32)
    share = np.arange(1.0, len(heaps) + 1) ** -0.5
    out_ND = np.memmap(path, np.float16, "w+", shape=(count, width))
    for at in blocks(count):
        size = at.stop - at.start
        heap = rng.choice(len(heaps), size, p=share / share.sum())
        cell = heap * 50 + rng.integers(0, 50, size)
        emb_BD = heaps[heap] + 0.8 * inner[cell] + 0.9 * rng.normal(size=(size, width)).astype(np.float32)
        out_ND[at] = emb_BD / np.linalg.norm(emb_BD, axis=1, keepdims=True)
    out_ND.flush()


def build_once(path: Path, count: int, width: int, sample: int, seed: int) -> Run:
    """What `trainers.identifiers.build` does once texts are embedded and enhanced."""
    points = np.memmap(path, np.float16, "r", shape=(count, width))
    settings = IdentifierSettings(max_training_points=sample)
    sizes, random, started = settings.sizes(count), np.random.default_rng(seed), time.perf_counter()
    rows = np.sort(random.choice(count, min(count, sample), replace=False))
    codebook = fit_codebook(rows_of(points, rows), sizes, settings, seed)
    fitted = time.perf_counter()
    capacity = even_capacity(count, sizes[RESIDUAL_LEVELS - 1], settings.capacity_slack)
    codes_NL = codebook.encode_within(points, capacity)
    encoded = time.perf_counter()
    sids_NL, _ = assign_all(codebook, points, codes_NL, str)
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    quality = measure(sids_NL, sizes)
    largest = np.bincount(codes_NL[:, RESIDUAL_LEVELS - 1]).max() / (count / sizes[RESIDUAL_LEVELS - 1])
    error = float(codebook.error(points[:RACED], sids_NL[:RACED]).mean())
    times = fitted - started, encoded - fitted, ended - encoded
    return Run(count, sizes, *times, peak, path.stat().st_size / 2**30, float(largest), quality.icr, error)


def in_process(path: Path, count: int, options: argparse.Namespace) -> Run:
    """`build_once` in a fresh process; it alone decides how many threads it has."""
    words = [str(path), str(count), str(options.width), str(options.sample), str(options.seed)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "OPENBLAS_NUM_THREADS": str(options.threads)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.identifiers", "--build", *words], env=environment, capture_output=True, check=True
    )
    return msgspec.json.decode(done.stdout, type=Run)


def faiss_encode(codebook: Codebook, emb_ND: FloatArray) -> NDArray[np.int64]:
    """The nearest codes [N, L] with faiss: all distances of a level by its own blocked search, in float32."""
    left_ND, codes = emb_ND, []
    for centroids_KD in codebook.residual:
        codes.append(faiss.knn(left_ND, centroids_KD, 1)[1][:, 0])
        left_ND = left_ND - centroids_KD[codes[-1]]
    for half, centroids_KD in zip(np.split(left_ND @ codebook.rotation_DD.T, 2, axis=1), codebook.fine, strict=True):
        codes.append(faiss.knn(np.ascontiguousarray(half), centroids_KD, 1)[1][:, 0])
    return np.stack(codes, axis=1)


def raced(path: Path, count: int, options: argparse.Namespace, repeats: int) -> list[Row]:
    """Encoding against faiss, and a new item against encoding it and searching all identifiers for free ones."""
    points = rows_of(np.memmap(path, np.float16, "r", shape=(count, options.width)), slice(0, RACED))
    settings = IdentifierSettings(iterations=4, opq_iterations=2)
    codebook = fit_codebook(points, settings.sizes(count), settings, options.seed)
    ours, theirs = codebook.encode(points), faiss_encode(codebook, points)
    if (agree := float((ours == theirs).all(axis=1).mean())) < 0.99:
        raise AssertionError(f"the codes agree for {agree:.1%} of the vectors")
    size = f"{'/'.join(map(str, codebook.level_sizes))}, width {options.width}"
    encode = paired_times(lambda: codebook.encode(points), lambda: faiss_encode(codebook, points), repeats)
    sids_NL, _ = assign_all(codebook, points, ours, str)
    taken, assigner, turn = set(map(tuple, sids_NL.tolist())), Assigner(codebook, given_NL=sids_NL), iter(range(10**9))

    def assign() -> None:
        assigner.assign(points[next(turn) % len(points)], "")

    def listed() -> None:
        """The obvious way: nearest codes by all distances in float64, then identifiers from a set, until one is free."""
        left_D = points[next(turn) % len(points)].astype(np.float64)
        codes = []
        for centroids_KD in codebook.residual:
            codes.append(int(((centroids_KD.astype(np.float64) - left_D) ** 2).sum(axis=1).argmin()))
            left_D = left_D - centroids_KD[codes[-1]]
        halves = np.split(codebook.rotation_DD.astype(np.float64) @ left_D, 2)
        codes += [int(((c - half) ** 2).sum(axis=1).argmin()) for half, c in zip(halves, codebook.fine, strict=True)]
        order = ((codebook.fine[1] - halves[1]) ** 2).sum(axis=1).argsort().tolist()
        taken.add(next((sid for code in order if (sid := (*codes[:4], code)) not in taken), tuple(codes)))

    new = scaled(paired_times(assign, listed, max(repeats, 31)), 1e3)
    return [
        row(f"encode {len(points) / 1000:g}k vectors, {size}", encode, PEER, "s"),
        row(f"assign a new item, {size}", new, "all distances in float64, a set", "ms"),
    ]


def main(arguments: Sequence[str] | None = None) -> Result | None:
    """Measure, print, write."""
    options = parser("identifiers", __doc__)
    options.add_argument("--vectors", type=int, help="vectors of the largest build; default 1,000,000, quick 20,000")
    options.add_argument("--width", type=int, default=384, help="width of a vector")
    options.add_argument("--sample", type=int, help="vectors that the codebook is fitted on; default 200,000, quick 5,000")
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of a build")
    options.add_argument("--seed", type=int, default=1, help="of vectors and codebook")
    options.add_argument("--build", nargs=5, help=argparse.SUPPRESS)  # a build's own process: file, N, D, sample, seed
    chosen = options.parse_args(arguments)
    if chosen.build:
        path, *numbers = chosen.build
        sys.stdout.buffer.write(msgspec.json.encode(build_once(Path(path), *map(int, numbers))))
        return None
    count = chosen.vectors or (20_000 if chosen.quick else 1_000_000)
    chosen.sample = chosen.sample or (5_000 if chosen.quick else 200_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.f16"
        write_vectors(path, count, chosen.width, chosen.seed)
        runs = [in_process(path, size, chosen) for size in (count // 4, count // 2, count)]
        rows = grown(*runs[-2:]) + raced(path, count, chosen, 5 if chosen.quick else 11)
    return finish("identifiers", rows, chosen, [*map(_told, runs), _slope(runs[-2], runs[-1])])


def grown(half: Run, whole: Run) -> list[Row]:
    """What twice as many vectors take: time a vector, and memory beside what 10 million may have."""
    ours, peer = ((run.fit_s + run.encode_s + run.unique_s) / run.vectors * 1e6 for run in (whole, half))
    size = f"build {whole.vectors:,} vectors"
    return [
        Row(f"{size}, a vector", ours, peer, "half as many", peer / ours, "us", 1),
        Row(
            f"{size}, peak memory",
            whole.peak_gib,
            ALLOWED_GIB,
            "allowed for 10 million",
            ALLOWED_GIB / whole.peak_gib,
            "GiB",
            1,
        ),
    ]


def _told(run: Run) -> str:
    return (
        f"{run.vectors:,} vectors, sizes {'/'.join(map(str, run.level_sizes))}: fit {run.fit_s:.1f} s, encode {run.encode_s:.1f} s, "
        f"one owner each {run.unique_s:.1f} s; peak {run.peak_gib:.2f} GiB with a file of {run.file_gib:.2f}; fullest cell of "
        f"level 3 {run.largest_share:.2f} times an even share, ICR {run.icr:.2%}, error {run.error:.4f}"
    )


def _slope(half: Run, whole: Run) -> str:
    """What 10 million would take at this slope: encoding costs by vector and by code, the fit by code alone."""
    more = 1e6 / (whole.vectors - half.vectors)
    work = sum(IdentifierSettings().sizes(10_000_000)) / sum(whole.level_sizes)
    encode_s = 10 * whole.encode_s / whole.vectors * 1e6 * work
    return (
        f"slope: encode {whole.encode_s / whole.vectors * 1e6:.1f} s and {(whole.peak_gib - half.peak_gib) * more:.2f} GiB a million "
        f"vectors (pages of the file among them); at the sizes of 10 million the encoding would take about {encode_s / 60:.0f} minutes"
    )


if __name__ == "__main__":
    main()
