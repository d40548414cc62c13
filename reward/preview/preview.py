"""A draft of the weights over stored pages: what it would do to rewards, to the order of pages, and to what they bring.

Pure: the same pages, pools and books give the same preview, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from reward.campaigns.facts import ItemFacts
from reward.campaigns.force import in_force
from reward.campaigns.weighing import Weighing
from reward.desk.meeting import overlaps
from reward.preview.expected import expected_effect
from reward.preview.moves import largest, moves_of, places
from reward.preview.pages import Floats, Ints, Pages
from reward.preview.pools import Pools
from reward.preview.rates import Rates
from reward.preview.results import Expected, Move, Preview, Support, Touched
from reward.preview.shifts import item_rewards, ranking, reward_terms, shares_of
from reward.preview.touched import THROUGH_LEARNING, not_estimated, pooled_alone, touched
from reward.preview.unmet import none_met
from reward.settings import PreviewSettings, RewardSettings
from schemas.decisions import Overlap
from schemas.examples import TrainingExample
from schemas.pools import Pool
from schemas.weights import RewardWeights

#: What an item without a category is listed under.
NAMELESS: Final = "(no category)"


def preview(
    examples: Sequence[TrainingExample], pools: Mapping[str, Pool], current: RewardWeights, draft: RewardWeights,
    row: Mapping[str, int], facts: ItemFacts, settings: RewardSettings, at_ms: int, rates: Rates,
) -> Preview:  # fmt: skip
    """Compare two books.

    Args:
        examples: stored pages; of several revisions of one page the newest counts.
        pools: what pages were drawn from, by request id; a page without one is left out where it is needed.
        row, facts: the catalogue's rows by item id, and what campaigns ask of them.
        at_ms: event time at which a campaign must run to count. Items are as new as they were on their page.
        rates: what the learner's next step would ask.

    Raises:
        InvalidRequest: no examples.
    """
    pages = rates.on(Pages.of(examples, row))
    drawn = Pools.of(pools, pages, row)
    all_facts = facts.with_blank()
    before, after = (Weighing(in_force(book, at_ms), all_facts) for book in (current, draft))
    terms = reward_terms(pages, before, rates.examination), reward_terms(pages, after, rates.examination)
    rewards = terms[0].sum(axis=-1), terms[1].sum(axis=-1)
    first, scores = None, list[Floats]()
    if drawn is not None:
        scores = [drawn.scores(book, settings.serving) for book in (before, after)]
        first = drawn.first(scores[0]), drawn.first(scores[1])
    by_category, by_query = _moves(pages, rewards, drawn, first, all_facts)
    served = Weighing(current, all_facts)
    support, expected = expected_effect(pages, drawn, scores, served, rewards[1], settings)
    met, same = touched(pages, drawn, before, after), _content(before) == _content(after)
    meetings, unmet = _meetings(current, draft, facts, at_ms), ""
    if not same and not met.pages:
        pooled = bool(met.pools)
        unmet = pooled_alone(met, len(pages)) if pooled else none_met(pages, current, draft, at_ms, meetings, all_facts)
    why = not_estimated(met, scores, unmet, same)
    count, unknown = settings.preview.moves, int((pages.row_P == len(row)).sum())
    return Preview(
        current=current.version,
        at_ms=at_ms,
        from_ms=int(pages.ts_M[0]),
        to_ms=int(pages.ts_M[-1]),
        pages=len(pages),
        queries=len(pages.queries),
        unknown_items=unknown,
        snapshot_version=rates.version,
        interaction="observed" if rates.examination is None else "expected",
        examination_version=0 if rates.examination is None else rates.examination.version,
        rewards=item_rewards(*rewards),
        term_shares_before=shares_of(pages, terms[0]),
        term_shares_after=shares_of(pages, terms[1]),
        ranking=ranking(pages, *rewards),
        places=None if first is None else places(*first),
        categories=largest(by_category, lambda move: move.gain, count),
        categories_by_places=None if first is None else largest(by_category, lambda move: move.places_gain, count),
        by_query=largest(by_query, lambda move: move.gain, count),
        overlaps=meetings,
        support=support,
        touched=met,
        expected=() if why else expected,
        not_estimated=why,
        warnings=tuple(_warnings(support, expected, met, unmet, bool(why), same, unknown, settings.preview)),
    )


def _moves(
    pages: Pages, rewards: tuple[Floats, Floats], drawn: Pools | None, first: tuple[Ints, Ints] | None, facts: ItemFacts
) -> tuple[list[Move], list[Move]]:
    """Of categories and of queries."""
    names = (*facts.categories, NAMELESS)
    nameless_N = np.isin(facts.category_N, (-1, facts.categories.get("", -1)))
    of_row = np.where(nameless_N, len(names) - 1, facts.category_N)
    holders = None
    if drawn is not None and first is not None:
        holders = of_row[drawn.row_X[first[0][first[0] >= 0]]], of_row[drawn.row_X[first[1][first[1] >= 0]]]
    by_category = moves_of(names, of_row[pages.row_P], pages, rewards, holders)
    return by_category, moves_of(pages.queries, pages.query_M[pages.page_P], pages, rewards)


def _meetings(current: RewardWeights, draft: RewardWeights, facts: ItemFacts, at_ms: int) -> tuple[Overlap, ...]:
    known = {campaign.id: campaign for campaign in current.campaigns}
    fresh = {campaign.id for campaign in draft.campaigns if known.get(campaign.id) != campaign}
    return tuple(one for one in overlaps(draft, facts, at_ms) if one.wins and fresh & {one.first, one.second})


def _content(book: Weighing) -> RewardWeights:
    """What a book in force decides, whoever decided it and when."""
    return msgspec.structs.replace(book.weights, version=0, created_ms=0, author="", reason="")


def _warnings(
    support: Support, expected: Sequence[Expected], met: Touched, unmet: str, untold: bool, same: bool, unknown: int,
    settings: PreviewSettings,
) -> Iterator[str]:  # fmt: skip
    if same:
        yield "nothing that is in force at this time changes: the same weights, or a campaign whose period is another"
    elif unmet:
        yield unmet
    if unknown:
        yield f"{unknown:,} shown items are not in the catalogue: campaigns on categories, brands or margin pass them by"
    for count, why in (
        (support.without_pool, "have no stored pool (serving.pool_share, or too old)"),
        (support.sorted_pages, "were served without exploration, which leaves nothing to estimate from"),
        (support.foreign, "show items that their pool lacks"),
        (support.inconsistent, "have other propensities than the weights give that are said to have ordered them"),
        (support.clipped, "have a propensity too small to be exact"),
    ):
        if count:
            yield f"{count:,} of {support.pages:,} pages {why}; they are left out of the expected effect"
    if untold:
        return  # nothing is estimated that could be doubted
    if met.learned and expected:
        yield f"the expected effect has nothing of what {THROUGH_LEARNING}"
    for one in expected:
        if one.effective < settings.least_effective:
            yield (
                f"{one.estimator}: thin support, {one.effective:,.0f} effective pages of {support.used:,} "
                f"(at least {settings.least_effective:,.0f} wanted): do not trust this estimate"
            )
        if one.largest > settings.most_of_one:
            yield (
                f"{one.estimator}: one page has {100 * one.largest:.0f} % of the weight "
                f"(at most {100 * settings.most_of_one:.0f} % wanted)"
            )
    if not expected:
        yield "no page can be used for an expected effect"
