"""The judge and the facts: order of arrival and restarts do not matter; what is carried, what stands, what is released."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import decode, encode
from schemas.events import Tick
from schemas.integrity import Facts, Release, Sample, Verdict
from schemas.quarantine import Quarantined
from schemas.topics import FACTS, QUARANTINE, VERDICTS, VIEWS
from schemas.views import View, ViewItem, ViewStatus
from streams.integrity.judge_core import JudgeCore
from streams.integrity.settings import IntegritySettings
from streams.integrity.views_core import ViewFactsCore
from streams.runtime.core import Output, Record

#: Windows of 10 s, pages up to 5 s before their clicks.
WIDTH, CLICK = 10, 5
SETTINGS = IntegritySettings(least=100)


def judge() -> JudgeCore:
    return JudgeCore(1, SETTINGS, WIDTH, CLICK)


def ctr(stamp: int, clicked: int, shown: int = 1_000, source: int = 0) -> list[msgspec.Struct]:
    """Window ``stamp`` (its number) of one source, whole."""
    sample = (Sample(f"r{stamp}", VIEWS.name, source, stamp),)
    return [
        Facts(source, "join", stamp * 10_000),
        Facts(source, "views", stamp * 10_000, {"ctr": (clicked, shown)}, {"ctr": sample}),
    ]


def feed(core: JudgeCore, *events: Iterable[msgspec.Struct]) -> list[Verdict]:
    flat = [event for some in events for event in some]
    core.apply(FACTS.name, [Record(n, 0, None, encode(event)) for n, event in enumerate(flat)])
    return [decode(Verdict, o.value) for o in core.drain()[0] if o.topic == VERDICTS.name]


def healthy(core: JudgeCore, windows: int = 5) -> list[Verdict]:
    return feed(core, *(ctr(n, 70) for n in range(1, windows + 1)))


def test_a_broken_window_names_check_events_and_the_pages_it_touches() -> None:
    """7 % before, 30 % now; a window begins at 50 s, and a page 5 s before has its clicks in it, and goes out a second later."""
    core = judge()
    assert [verdict.broken for verdict in healthy(core)] == [False] * 5
    (verdict,) = feed(core, ctr(6, 300))
    assert (verdict.start, verdict.end, verdict.since, verdict.broken) == (50_000, 60_000, 44_000, True)
    (check,) = verdict.failed
    assert (check.name, check.value, check.observed) == ("ctr", 0.3, 1_000)
    assert check.samples == (Sample("r6", VIEWS.name, 0, 6),)


def test_broken_windows_do_not_enter_the_past() -> None:
    """However often it is told, 30 % does not become usual; 7 % is healthy at once."""
    core = judge()
    healthy(core)
    assert all(verdict.broken for verdict in feed(core, *(ctr(n, 300) for n in range(6, 30))))
    assert not feed(core, ctr(30, 70))[0].broken


def test_too_little_is_carried_until_it_is_enough() -> None:
    """40, 40 and 40 items: the third window judges all 120, of which 60 are clicked."""
    core = judge()
    healthy(core)
    first, second, third = feed(core, ctr(6, 20, 40), ctr(7, 20, 40), ctr(8, 20, 40))
    assert not first.checks and not second.checks
    assert third.broken and third.failed[0].observed == 120
    assert [sample.id for sample in third.failed[0].samples] == ["r6", "r7", "r8"]


def test_what_broke_stays_broken_until_it_has_judged_again() -> None:
    """A window with 40 items cannot clear the check that the one before broke; the next with 100 does."""
    core = judge()
    healthy(core)
    broken, small, cleared = feed(core, ctr(6, 300), ctr(7, 3, 40), ctr(8, 7, 100))
    assert broken.broken and small.broken and not cleared.broken
    assert small.failed == broken.failed


def test_a_release_leaves_the_past_and_so_every_later_verdict_as_it_is() -> None:
    """30 % was a fault, and is released: 7 % stays healthy, the same fault is found again, with the same bounds as by a judge
    that was told of no release."""
    core, other = judge(), judge()
    later = [ctr(7, 70), ctr(8, 300), ctr(9, 70), ctr(10, 60)]
    for one in (core, other):
        healthy(one)
        feed(one, ctr(6, 300))
    (released,) = feed(core, [Release(50_000, "ann", "only the examples", 1, new_normal=False)])
    assert released.broken and not released.stands
    found = feed(core, *later)
    assert [verdict.broken for verdict in found] == [False, True, False, False]
    assert found == feed(other, *later)


def test_a_released_finding_breaks_no_later_window_but_a_later_finding_does() -> None:
    """40 items are too few to judge: after the sixth window is released they are healthy, unless the seventh broke as well."""
    for between, broken in (((), False), (ctr(7, 300), True)):
        core = judge()
        healthy(core)
        feed(core, ctr(6, 300), between, [Release(50_000, "ann", "only the examples", 1, new_normal=False)])
        (verdict,) = feed(core, ctr(8, 3, 40))
        assert verdict.broken is broken


@pytest.mark.parametrize("field", ["", ',"new_normal":true'])
def test_a_window_released_as_the_new_normal_is_told_again_and_is_how_things_are(field: str) -> None:
    """30 % was a sale: it is the past; the next 30 % is healthy, and 7 % no longer is. Records from before the field mean that."""
    core = judge()
    healthy(core)
    feed(core, ctr(6, 300))
    raw = f'{{"type":"release","start":50000,"author":"ann","reason":"a sale","created_ms":1{field},"v":1}}'
    (released,) = feed(core, [decode(FACTS.kind, raw.encode())])
    assert (released.start, released.released_by, released.reason) == (50_000, "ann", "a sale")
    assert released.broken and not released.stands
    assert not feed(core, ctr(7, 300))[0].broken
    assert feed(core, ctr(8, 70))[0].broken


@pytest.mark.parametrize("start", [0, 50_000, 2**60])
def test_a_release_of_a_window_that_is_not_broken_goes_to_quarantine(start: int) -> None:
    core = judge()
    healthy(core, 6)
    core.apply(FACTS.name, [Record(9, 0, None, encode(Release(start, "ann", "why", 1)))])
    (output,) = core.drain()[0]
    assert output.topic == QUARANTINE.name and decode(Quarantined, output.value).reason == "invalid"
    assert core.counters["quarantined.invalid"] == 1


def test_a_window_waits_for_every_source_and_stage() -> None:
    core = JudgeCore(2, SETTINGS, WIDTH, CLICK)
    join, views = ctr(1, 70)
    assert feed(core, [join, views], ctr(1, 70, source=1)[1:]) == []
    (verdict,) = feed(core, ctr(1, 70, source=1)[:1])
    assert verdict.checks[0].observed == 2_000


facts = st.tuples(st.integers(1, 6), st.integers(0, 1), st.sampled_from([0, 70, 300]), st.sampled_from([40, 1_000]))


@given(st.lists(facts, unique_by=lambda f: f[:2]), st.randoms(use_true_random=False))
def test_verdicts_do_not_depend_on_how_sources_interleave_nor_on_restarts(
    told: list[tuple[int, int, int, int]], rng: random.Random
) -> None:
    """Each source's facts in their order, then the end; whatever comes between them."""
    queues: list[list[msgspec.Struct]] = []
    for source in range(2):
        mine = sorted(one for one in told if one[1] == source)
        windows = [ctr(stamp, clicked * shown // 1_000, shown, source) for stamp, _, clicked, shown in mine]
        end = [Facts(source, "join", 90_000), Facts(source, "views", 90_000)]
        queues += [[w[0] for w in windows] + end[:1], [w[1] for w in windows] + end[1:]]
    plain = feed(JudgeCore(2, SETTINGS, WIDTH, CLICK), *queues)
    core, found = JudgeCore(2, SETTINGS, WIDTH, CLICK), list[Verdict]()
    while any(queues):
        queue = rng.choice([q for q in queues if q])
        found += feed(core, [queue.pop(0)])
        again = JudgeCore(2, SETTINGS, WIDTH, CLICK)
        again.load(core.dump())
        core = again
    assert found == plain


def page(n: int, at: int, clicked: int = 0, support: int = 0, revision: int = 1) -> View:
    """Two items with propensities 0.5 and 0.02 (below the floor), the first ``clicked`` of them clicked."""
    items = tuple(ViewItem(i, k, p, clicks=int(k <= clicked)) for k, (i, p) in enumerate((("a", 0.5), ("b", 0.02)), 1))
    return View(f"r{n}:x", f"r{n}", ViewStatus.PROVISIONAL, revision, at - 5, at, "u", "q", items, support=support)


def told(messages: Sequence[msgspec.Struct | bytes]) -> list[Facts]:
    """What a core says, restarted after every record."""
    core, outputs = ViewFactsCore(0, WIDTH), list[Output]()
    for n, message in enumerate(messages):
        core.apply(VIEWS.name, [Record(n, 0, None, message if isinstance(message, bytes) else encode(message))])
        outputs += core.drain()[0]
        again = ViewFactsCore(0, WIDTH)
        again.load(core.dump())
        core = again
    return [decode(Facts, o.value) for o in outputs if o.topic == FACTS.name]


def test_facts_of_views_count_first_revisions_and_draws_of_known_support() -> None:
    """Three pages in the window: 1 + 0 + 2 of 6 items clicked; one of known support, 1 / 0.5 of it above the floor."""
    start = [Tick(50_000)]
    pages = [page(1, 51_000, 1, support=3), page(2, 52_000), page(3, 53_000, 2), page(1, 54_000, 2, revision=2)]
    opening, facts = told([*start, *pages, b"{", Tick(60_000)])
    assert (opening.stamp, opening.sums) == (50_000, {})
    assert (facts.stamp, facts.sums) == (60_000, {"propensities": (2, 2.0, 3), "ctr": (3, 6)})
    assert [sample.id for sample in facts.samples["ctr"]] == ["r3", "r1", "r2"]
    assert [(s.id, s.offset) for s in facts.samples["propensities"]] == [("r1", 1)]


def test_a_view_at_the_end_of_a_window_is_in_the_next() -> None:
    """Windows are [start, end)."""
    found = told([Tick(50_000), page(1, 59_999), page(2, 60_000), Tick(95_000)])
    assert [(f.stamp, f.sums.get("ctr")) for f in found] == [
        (50_000, None), (60_000, (0, 2)), (70_000, (0, 2)), (90_000, None),
    ]  # fmt: skip
