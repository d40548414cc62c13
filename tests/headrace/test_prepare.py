"""`run_prepare` on a small shop: what a teacher is told reaches the warm start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from headrace.folder import RunFolder
from headrace.prepare import run_prepare, teacher_keywords
from headrace.settings import load_settings
from headrace.worlds import open_run_world
from schemas.artefacts import Artefacts
from schemas.store import Store
from streams.keywords.settings import WriterSettings
from trainers.identifiers.build import Identifiers

SHOP = {"items": 120, "users": 40, "queries": 20, "history_impressions": 150, "live_requests": 10}


@pytest.mark.slow
def test_a_teacher_is_told_what_the_keyword_worker_would_write(tmp_path: Path) -> None:
    """A word misspelt, and what the items that it means have in common. With distillation the warm start is another one; the same
    again is the same. What is said of items that come later changes nothing."""

    def prepared(name: str, distillation: float) -> tuple[str, RunFolder]:
        folder = RunFolder(tmp_path / name)
        warm = {"seconds": 0, "steps": 3, "batch": 16, "distillation": distillation}
        settings = load_settings(store=str(folder.store), seed=2, now_ms=10**12, shop=SHOP, trainers={"warm_start": warm})
        run_prepare(folder, settings, lambda *_: None)
        return Artefacts.load(Store(str(folder.store))).frozen, folder

    plain, folder = prepared("plain", 0.0)
    assert prepared("told", 1.0)[0] == prepared("again", 1.0)[0] != plain
    store = Store(str(folder.store))
    identifiers = Identifiers.load(store, Artefacts.load(store).identifiers)
    world = open_run_world(load_settings(seed=2, now_ms=10**12, shop=SHOP))
    words = teacher_keywords(world.catalogue, world.live_ms, identifiers, WriterSettings())
    known = [one for one in identifiers.enhancer.lexicon.phrases if one.text.isalpha() and len(one.text) > 6]
    told = {one.text: words(one.text[:-1]) for one in known}
    assert any(word in meant and len(meant) > 1 for word, meant in told.items())
    assert words(known[0].text) is words(known[0].text)
    later_N = world.catalogue.available_from_N > world.live_ms
    titles = [known[0].text if late else title for title, late in zip(world.catalogue.titles, later_N, strict=True)]
    foreseen = teacher_keywords(replace(world.catalogue, titles=tuple(titles)), world.live_ms, identifiers, WriterSettings())
    assert later_N.any() and {text: foreseen(text[:-1]) for text in told} == told
