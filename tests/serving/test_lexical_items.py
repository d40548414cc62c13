"""The server's lexical items follow the catalogue as the learner's do: the same prompt from the same records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import Any

import pytest

from reward.snapshot import PosteriorSnapshot
from reward.text import stems
from schemas.events import ItemAdded
from schemas.examples import TrainingExample
from schemas.views import ViewStatus
from schemas.weights import RewardWeights
from serving.engine import SearchEngine
from serving.requests import SearchRequest, impression
from serving.settings import EngineSettings
from trainers.identifiers.assortment import Assortment
from trainers.policies.base import context_of
from trainers.policies.prompts import PromptBuilder

Shop = Any
PROMPT = {"prompt": {"lexical_items": 4, "query_tokens": 4}}


def longest(shop: Shop) -> str:
    """A query that is cut."""
    return max((query.text for query in shop.world.queries), key=len)


def unused(shop: Shop) -> Iterator[tuple[int, ...]]:
    """Identifiers that no item has."""
    taken = set(map(tuple, shop.identifiers.sids_NL.tolist()))
    return (sid for sid in product(*map(range, shop.identifiers.level_sizes)) if sid not in taken)


def records(shop: Shop) -> list[ItemAdded]:
    """One comes and gets another title, one of the run's is called like it, another is gone, and a third is as it was."""
    free, version, ts = unused(shop), shop.identifiers.version, shop.world.live_ms
    items, titles = shop.world.catalogue.items, shop.world.catalogue.titles
    own, query = tuple(shop.identifiers.sids_NL[2].tolist()), longest(shop)
    return [
        ItemAdded(ts, "x", "purple thing", next(free), version),
        ItemAdded(ts, items[0], f"{query} aquarium", next(free), version),
        ItemAdded(ts, items[1], "", (), version),
        ItemAdded(ts, items[2], query, own, version),
        ItemAdded(ts, "x", query, next(free), version),
        ItemAdded(ts, items[2], titles[2], own, version),
    ]


def engine(shop: Shop, **changes: object) -> SearchEngine:
    catalogue, identifiers = shop.world.catalogue, shop.identifiers
    return SearchEngine(
        shop.policy(1, **changes), identifiers.trie, catalogue, identifiers, shop.truth(catalogue), shop.encoder,
        EngineSettings(exploration=0),
    )  # fmt: skip


def learner(shop: Shop, known: Sequence[ItemAdded]) -> PromptBuilder:
    """The learner's builder at the end of these records, as `trainers.stock.stocked` makes it."""
    policy, first = shop.policy(1, **PROMPT), Assortment(shop.world.catalogue, shop.identifiers.trie)
    builder = PromptBuilder.of(
        policy.tokenizer, policy.settings.prompt, shop.identifiers, shop.encoder, first.sid_of, first.catalogue
    )
    return builder.over(first.after(known), {record.item for record in known})


def asked(shop: Shop, query: str) -> SearchRequest:
    return SearchRequest("r", shop.world.end_ms, "u", query, 5)


def learned(request: SearchRequest, server: SearchEngine, prior: PosteriorSnapshot) -> TrainingExample:
    """What the learner is told of the page that the server showed."""
    answer = server.answer([request], RewardWeights(), prior)[0]
    assert answer.query_truncated
    page = impression(request, answer)
    assert page.query == request.query
    return TrainingExample("e", "r", ViewStatus.FINAL, 1, page.ts, page.ts, "u", page.query, (), "r", 0)


def test_server_and_learner_write_the_same_prompt_of_what_there_is_now(shop: Shop, prior: PosteriorSnapshot) -> None:
    """Records one by one here, all at once there; of a query that is cut, too, whose lexical items go by all of its words."""
    known, query = records(shop), longest(shop)
    server = engine(shop, **PROMPT)
    before = server.prompts([context_of(asked(shop, query))]).tokens_BS[0].tolist()
    for record in known:
        server = server.with_items([record], shop.truth)
    ours = server.prompts([context_of(asked(shop, query))]).tokens_BS[0].tolist()
    theirs = learner(shop, known).build([context_of(learned(asked(shop, query), server, prior))]).tokens_BS[0].tolist()
    assert ours == theirs != before
    tokenizer, at = server.policy.tokenizer, 1 + 5 + 4
    assert ours[at : at + 10] == tokenizer.sid(known[4].sid) + tokenizer.sid(known[1].sid)


@pytest.mark.parametrize("late", [False, True])
def test_a_checkpoint_with_lexical_items_meets_the_index_that_the_learner_has(shop: Shop, late: bool) -> None:
    """Whether the checkpoint before it had them or not: words are as rare as in the catalogue of the preparation, though since
    then the rarer of two became the more frequent one."""
    titles = Counter(word for title in shop.world.catalogue.titles for word in set(stems(title)))
    (rare, _), (common, _) = min(titles.items(), key=lambda t: (t[1], t[0])), titles.most_common(1)[0]
    free, known = unused(shop), records(shop)
    came = [rare] * len(titles) + [common]
    known += [
        ItemAdded(shop.world.live_ms, f"n{n}", title, sid, shop.identifiers.version)
        for n, (title, sid) in enumerate(zip(came, islice(free, 5, None), strict=False))
    ]
    server = engine(shop, **({} if late else PROMPT))
    server = server.with_items(known, shop.truth).with_policy(shop.policy(1, **PROMPT), "next")
    for query in (longest(shop), f"{rare} {common}"):
        context = context_of(asked(shop, query))
        assert server.prompts([context]).tokens_BS.tolist() == learner(shop, known).build([context]).tokens_BS.tolist()
