"""Makes a run's artefacts from its world: catalogue, embeddings, identifiers, relevance scorer, warm-started policy.

It runs in a process of its own, because it needs torch and the demo's memory should not keep it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.context import with_context
from headrace.folder import RunFolder
from headrace.settings import Settings
from headrace.world import World
from headrace.worlds import open_run_world
from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.events import Impression
from schemas.store import Store
from streams.keywords.settings import WriterSettings
from streams.keywords.writer import CatalogueWriter
from trainers.identifiers.build import Identifiers, build_identifiers
from trainers.lessons import KeywordsOf
from trainers.pair_file import save_pairs
from trainers.pairs import Pair, PairSampler, click_pairs, judgment_pairs, title_pairs

#: (stage, share done in [0, 1], note)
Tell = Callable[[str, float, str], None]
#: Titles embedded between two progress reports.
PIECE = 512
#: Relative weight of the sources of supervised pairs.
SHARES = {"clicks": 1.0, "titles": 0.5, "judgments": 0.5}


class Prepared(msgspec.Struct, frozen=True):
    """What preparation found: numbers for the story and the report."""

    identifiers: dict[str, Any]
    relevance: dict[str, Any]
    warm_start: dict[str, float]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()  #: what was not done as usual, and what was left out; the story and the report say it


def run_prepare(folder: RunFolder, settings: Settings, tell: Tell, world: World | None = None) -> Prepared:
    """Make every artefact the run lacks; ends with `artefacts.json` written. ``world``: in place of the settings' own.

    Raises:
        InvalidData: the world's data are not as documented.
        Unavailable: the store or the sentence model is not there.
    """
    store, seconds, started = Store(settings.store), {}, time.monotonic()
    world = world or open_run_world(settings)
    catalogue = world.catalogue
    checksum = catalogue.save(store)
    model = settings.reward.relevance.model
    encoder = SentenceEncoder(Path(model) if model else None, threads=2)
    emb_ND = _embed(encoder, catalogue.titles, store, tell)
    queries = sorted({e.query for e in world.history() if isinstance(e, Impression)})
    identifiers = build_identifiers(
        catalogue,
        emb_ND,
        queries,
        encoder.encode(queries) if queries else np.zeros((0, encoder.dim), np.float32),
        settings.trainers.identifiers,
        seed=settings.seed,
        known_ms=world.live_ms,
        progress=lambda stage, share: tell("identifiers", 0.6 + 0.3 * share, stage),
    )
    identifiers.save(store)
    quality = msgspec.to_builtins(identifiers.quality)
    tell("identifiers", 0.9, "relevance scorer")
    scorer, report = RelevanceScorer.train(
        world.judgments, catalogue, emb_ND, encoder, settings.reward.relevance, settings.seed
    )
    relevance = scorer.save(store)
    tell("identifiers", 1.0, f"{len(catalogue)} items, ICR {identifiers.quality.icr:.1%}; {report}")
    seconds["identifiers"] = time.monotonic() - started
    started = time.monotonic()
    frozen, metrics = _warm_start(world, settings, store, identifiers, encoder, relevance, tell)
    seconds["warm_start"] = time.monotonic() - started
    Artefacts(checksum, identifiers.version, relevance, frozen).save(store)
    notes = (*world.notes, report.doubt) if report.doubt else world.notes
    return Prepared(quality, msgspec.to_builtins(report), metrics, seconds, notes)


def _embed(encoder: SentenceEncoder, titles: tuple[str, ...], store: Store, tell: Tell) -> NDArray[np.float32]:
    pieces = []
    for start in range(0, len(titles), PIECE):
        tell("identifiers", 0.6 * start / len(titles), f"{start} of {len(titles)} titles embedded")
        pieces.append(encoder.encode(titles[start : start + PIECE]))
    emb_ND = np.concatenate(pieces)
    buffer = io.BytesIO()
    np.save(buffer, emb_ND)
    store.write("catalogue/embeddings.npy", buffer.getvalue())
    return emb_ND


def supervised_pairs(world: World, identifiers: Identifiers) -> dict[str, list[Pair]]:
    """Pairs of the warm start by source: the logged clicks, the titles known by then, and the judgments."""
    row = world.catalogue.row

    def sid_of(item: str) -> tuple[int, ...] | None:
        return tuple(identifiers.sids_NL[row[item]].tolist()) if item in row else None

    return {
        "clicks": click_pairs(with_context(world.history()), sid_of),
        "titles": title_pairs(world.catalogue, sid_of, world.live_ms),
        "judgments": judgment_pairs(world.judgments, sid_of),
    }


def teacher_keywords(catalogue: Catalogue, live_ms: int, identifiers: Identifiers, settings: WriterSettings) -> KeywordsOf:
    """What a teacher is told of a query: the keywords that the catalogue's own writer has for it, as the worker `keywords` keeps them
    before anybody has clicked; without the items that come after ``live_ms``."""
    writer = CatalogueWriter(catalogue.known_by(live_ms), identifiers.enhancer.lexicon, settings)
    return lru_cache(maxsize=None)(lambda query: writer.compose(query, 0).keywords)


def _warm_start(
    world: World,
    settings: Settings,
    store: Store,
    identifiers: Identifiers,
    encoder: SentenceEncoder,
    relevance: str,
    tell: Tell,
) -> tuple[str, dict[str, float]]:
    from trainers.policies.backbones import new_policy
    from trainers.policies.prompts import PromptBuilder, centroids_of
    from trainers.state import Versions, save_warm_start
    from trainers.warm_start import warm_start

    sources, trainers = supervised_pairs(world, identifiers), settings.trainers
    texts = [*world.catalogue.titles, *(pair.context.query for pair in sources["clicks"])]
    policy = new_policy(
        trainers.policy, texts, identifiers.level_sizes, identifiers.version, encoder.dim, settings.seed,
        centroids_of(identifiers),
    )  # fmt: skip
    row, sids_NL = world.catalogue.row, identifiers.sids_NL
    builder = PromptBuilder.of(
        policy.tokenizer,
        policy.settings.prompt,
        identifiers,
        encoder,
        lambda item: sids_NL[row[item]].tolist() if item in row else None,
        world.catalogue,
    )
    report = warm_start(
        policy,
        PairSampler(sources, SHARES, settings.seed),
        builder,
        trainers.warm_start,
        settings.seed,
        lambda p: tell("warm_start", p.share, f"step {p.step}, {p.loss:.3f} nats a code"),
        teacher_keywords(world.catalogue, world.live_ms, identifiers, settings.streams.keywords.writer)
        if trainers.warm_start.teaches
        else None,
    )
    asked = {pair.context.query for pairs in sources.values() for pair in pairs}
    cut = sum(map(builder.cuts, asked))
    metrics = {
        "steps": float(report.steps), "loss": report.loss, "clicks": float(len(sources["clicks"])), "texts_truncated": float(cut)
    }  # fmt: skip
    manifest = save_warm_start(store, policy, settings.seed, Versions(relevance, identifiers.version), metrics)
    save_pairs(store, manifest.checkpoint, sources, SHARES)
    long = f", {cut} of {len(asked)} texts longer than a prompt takes" if cut else ""
    tell("warm_start", 1.0, f"{report.steps} steps, {report.loss:.3f} nats a code{long}, checkpoint {manifest.checkpoint}")
    return manifest.checkpoint, metrics
