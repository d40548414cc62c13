"""Our identifiers beside the customary ones, on the same catalogue, queries, level sizes and candidate budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.identifier_data import Source, rows_of_clicks
from schemas.errors import InvalidData
from trainers.evaluation import paired_bootstrap
from trainers.identifiers.baselines import Coded, residual_kmeans
from trainers.identifiers.build import build_identifiers
from trainers.identifiers.quality import Quality, measure
from trainers.identifiers.recall import prefix_recall
from trainers.identifiers.rqvae import RqVaeSettings, rq_vae
from trainers.identifiers.settings import IdentifierSettings

FloatArray = NDArray[np.float32]
#: (done, of)
Tell = Callable[[int, int], None]

OURS: Final = "ours"


class Compared(msgspec.Struct, frozen=True):
    """One method, means over the seeds. ``gain``: our recall less its, with the interval of 95 %, paired and by query."""

    method: str
    icr: float
    cur: tuple[float, float, float]
    error: float
    recall: float
    interval: tuple[float, float]
    gain: float
    gain_interval: tuple[float, float]
    recall_of_seeds: tuple[float, ...]
    seconds: float  #: to fit and encode, one seed


class Comparison(msgspec.Struct, frozen=True):
    """What `headrace identifiers compare` found. ``wins``: the method with the best recall."""

    data: str
    items: int
    queries: int  #: with clicks
    clicked: int  #: distinct pairs of query and clicked item
    level_sizes: tuple[int, ...]
    budget: int
    seeds: tuple[int, ...]
    methods: list[Compared]
    wins: str


class Embedded(NamedTuple):
    """Unit embeddings of a source's titles and queries."""

    items_ND: FloatArray
    queries_MD: FloatArray


class _Trial(NamedTuple):
    quality: Quality
    error: float
    recall_Q: NDArray[np.float64]
    seconds: float


def check_clicks(source: Source) -> None:
    """Recall is of what was clicked.

    Raises:
        InvalidData: fewer than two queries have a click.
    """
    if len(source.clicks) < 2:
        raise InvalidData(
            source.name,
            None,
            "clicks",
            f"of {len(source.clicks)} queries",
            "clicks for at least 2 queries: a folder with a log",
        )


def compare(
    source: Source,
    emb: Embedded,
    settings: IdentifierSettings,
    vae: RqVaeSettings,
    seeds: Sequence[int],
    budget: int,
    tell: Tell,
) -> Comparison:
    """Fit every method with every seed and measure it.

    Raises:
        InvalidData: as `check_clicks`.
    """
    check_clicks(source)
    asked_Q, wanted_Q = rows_of_clicks(source)
    sizes = settings.sizes(len(source.catalogue))
    trials: dict[str, list[_Trial]] = {}
    methods = _methods(source, emb, settings, vae, sizes)
    for number, seed in enumerate(seeds):
        for place, (name, method) in enumerate(methods.items()):
            tell(number * len(methods) + place, len(seeds) * len(methods))
            started = time.perf_counter()
            coded = method(seed)
            seconds = time.perf_counter() - started
            recall_Q = prefix_recall(coded.query_codes_ML[asked_Q], wanted_Q, coded.item_codes_NL, coded.level_sizes, budget)
            quality = measure(coded.item_codes_NL, coded.level_sizes)
            trials.setdefault(name, []).append(_Trial(quality, coded.error, recall_Q, seconds))
    rows = [_compared(name, tried, trials[OURS], asked_Q) for name, tried in trials.items()]
    return Comparison(
        source.name, len(source.catalogue), len(asked_Q), sum(map(len, wanted_Q)), sizes, budget, tuple(seeds), rows,
        max(rows, key=lambda row: row.recall).method,
    )  # fmt: skip


def _methods(
    source: Source, emb: Embedded, settings: IdentifierSettings, vae: RqVaeSettings, sizes: tuple[int, ...]
) -> Mapping[str, Callable[[int], Coded]]:
    def built(how: IdentifierSettings, seed: int) -> Coded:
        catalogue, queries = source.catalogue, source.queries
        made = build_identifiers(catalogue, emb.items_ND, queries, emb.queries_MD, how, seed=seed, known_ms=2**62)
        return Coded(made.sids_NL, made.query_sids(queries, emb.queries_MD), made.level_sizes, made.quality.error)

    plain = settings.model_copy(update={"keyword_share": 0.0})
    return {
        OURS: lambda seed: built(settings, seed),
        "without keywords": lambda seed: built(plain, seed),
        "RQ k-means": lambda seed: residual_kmeans(emb.items_ND, emb.queries_MD, sizes, settings, seed),
        "RQ-VAE": lambda seed: rq_vae(emb.items_ND, emb.queries_MD, sizes, settings, seed, vae),
    }


def _compared(name: str, tried: Sequence[_Trial], ours: Sequence[_Trial], asked_Q: NDArray[np.int64]) -> Compared:
    recall_Q, ours_Q = (np.mean([trial.recall_Q for trial in trials], axis=0) for trials in (tried, ours))
    own = paired_bootstrap(recall_Q, np.zeros_like(recall_Q), asked_Q.tolist())
    gain = paired_bootstrap(ours_Q, recall_Q, asked_Q.tolist())
    quality = [trial.quality for trial in tried]
    return Compared(
        method=name,
        icr=float(np.mean([q.icr for q in quality])),
        cur=(
            float(np.mean([q.cur_l1 for q in quality])),
            float(np.mean([q.cur_l1l2 for q in quality])),
            float(np.mean([q.cur_total for q in quality])),
        ),
        error=float(np.mean([trial.error for trial in tried])),
        recall=own.diff,
        interval=(own.low, own.high),
        gain=gain.diff,
        gain_interval=(gain.low, gain.high),
        recall_of_seeds=tuple(float(trial.recall_Q.mean()) for trial in tried),
        seconds=float(np.median([trial.seconds for trial in tried])),
    )
