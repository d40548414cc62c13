"""Beam search against brute force over all items, with and without filters, in every scoring."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InvalidValue, NotFinite
from tests.trainers import policy_toys as toys
from tests.trainers.table_policy import TablePolicy, normaliser, wave
from trainers.beam import Beams, beam_search
from trainers.identifiers.trie import Trie

torch.set_num_threads(1)
POLICY = toys.toy_policy()
PROMPTS = toys.toy_prompts(POLICY)
SIZES = (3, 2, 20)
TABLE: Any = TablePolicy(SIZES)
WIDE = 3 * 2 * 20  # as many beams as there are identifiers: nothing is ever cut
Sid = tuple[int, ...]

catalogues = st.lists(st.tuples(*(st.integers(0, k - 1) for k in SIZES)), min_size=1, max_size=30)
scorings = st.sampled_from(["trie", "level", "vocabulary"])


def found(beams: Beams, row: int) -> list[Sid]:
    """Valid identifiers of one request, best first."""
    valid = beams.valid_BW[row]
    assert not bool(valid[int(valid.sum()) :].any()), "valid ones come first"
    return [tuple(sid) for sid in beams.sids_BWL[row][valid].tolist()]


def brute(prompt: int, catalogue: list[Sid], width: int, keep: set[Sid], scoring: str) -> list[tuple[float, Sid]]:
    """Textbook beam search: all prefixes, by looking at every item; only those with an available item are followed."""
    beams: list[tuple[float, Sid]] = [(0.0, ())]
    for level in range(len(SIZES)):
        longer = []
        for score, prefix in beams:
            allowed = sorted({sid[level] for sid in catalogue if sid[:level] == prefix})
            left = normaliser(TABLE, prompt, prefix, allowed, scoring)
            for code in allowed:
                if any(sid[: level + 1] == (*prefix, code) for sid in keep):
                    longer.append((score + TABLE._logit(prompt, prefix, code) - left, (*prefix, code)))
        beams = sorted(longer, reverse=True)[:width]
    return beams


@settings(max_examples=80, deadline=None)
@given(catalogues, catalogues, st.integers(1, WIDE), scorings, st.data())
def test_a_search_is_the_textbook_search_and_never_runs_short(
    catalogue: list[Sid], more: list[Sid], width: int, scoring: Any, data: st.DataObject
) -> None:
    """Same identifiers, scores and order, for requests of different filters in one batch, over a trie that has changed.

    Never an unavailable item; k of them whenever k exist. A width that cuts nothing gives the enumeration of what is there.
    """
    gone = data.draw(st.lists(st.integers(0, len(catalogue) - 1), max_size=10, unique=True))
    rows = [None if n in gone else sid for n, sid in enumerate(catalogue)] + more
    there = [sid for sid in rows if sid is not None]
    trie = Trie.build(np.array(catalogue), SIZES).without(gone).extended(more)
    filters = [data.draw(st.none() | st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))) for _ in range(3)]
    masks = [None if flags is None else trie.node_mask(np.array(flags)) for flags in filters]
    beams = beam_search(TABLE, TABLE.prompts(3), trie, width, masks, scoring=scoring)
    for prompt, flags in enumerate(filters):
        keep = {sid for n, sid in enumerate(rows) if sid is not None and (flags is None or flags[n])}
        sids = found(beams, prompt)
        assert set(sids) <= keep
        assert len(sids) == len(set(sids)) == min(width, len(keep))
        expected = brute(prompt, there, width, keep, scoring)
        scores = beams.score_BW[prompt][: len(sids)].tolist()
        assert scores == pytest.approx([score for score, _ in expected], abs=1e-4)
        if all(a - b > 1e-4 for a, b in pairwise(scores)):
            assert sids == [sid for _, sid in expected]
        leaves = beams.leaf_BW[prompt][: len(sids)].tolist()
        assert [trie.path([sid])[0, -1] for sid in sids] == leaves


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_policys_scores_are_transformers_own_renormalised_over_the_catalogue(seed: int) -> None:
    """A real policy, a filter, every identifier: the score is the slow reading's, filtered or not."""
    sids = toys.toy_sids(seed)
    catalogue, trie = sorted({tuple(s) for s in sids.tolist()}), Trie.build(sids, toys.SIZES)
    flags = np.random.default_rng(seed).random(len(sids)) < 0.5
    with torch.no_grad():
        score_BN = toys.enumerate_scores(POLICY, PROMPTS, catalogue)
    beams = beam_search(POLICY, PROMPTS, trie, len(sids), [None, trie.node_mask(flags), None])
    for row, keep in enumerate([set(catalogue), {tuple(s) for s in sids[flags].tolist()}, set(catalogue)]):
        scores = beams.score_BW[row][beams.valid_BW[row]].tolist()
        assert scores == sorted(scores, reverse=True)
        expected = {sid: float(score) for sid, score in zip(catalogue, score_BN[row], strict=True) if sid in keep}
        assert dict(zip(found(beams, row), scores, strict=True)) == pytest.approx(expected, abs=1e-4)


def test_renormalising_over_the_filter_would_rank_wrongly() -> None:
    """The trap. Of ten items the first code 0 has nine, with even chances, and code 1 one; the model is 3 : 1 for code 0.

    By the catalogue, item (0, 0) has 3/4 * 1/9 = 1/12 and (1, 0) has 1/4. Filtered to these two, a search that renormalises
    makes both only children: 3/4 against 1/4, and the worse one leads. Ours keeps the catalogue's numbers and order.
    """
    policy: Any = TablePolicy((2, 9), lambda _, prefix, code: 0.0 if prefix or code else float(np.log(3)))
    catalogue = [(0, code) for code in range(9)] + [(1, 0)]
    trie, keep = Trie.build(np.array(catalogue), (2, 9)), [0, 9]
    ours = beam_search(policy, policy.prompts(1), trie, 2, [trie.node_mask_of(keep)])
    assert found(ours, 0) == [(1, 0), (0, 0)]
    assert ours.score_BW[0].exp().tolist() == pytest.approx([1 / 4, 1 / 12])
    inside = beam_search(policy, policy.prompts(1), Trie.build(np.array(catalogue)[keep], (2, 9)), 2)
    assert found(inside, 0) == [(0, 0), (1, 0)]
    assert inside.score_BW[0].exp().tolist() == pytest.approx([3 / 4, 1 / 4])


def test_a_filter_that_leaves_nothing_returns_nothing() -> None:
    trie = toys.toy_trie()
    nothing = trie.node_mask(np.zeros(len(trie), dtype=bool))
    beams = beam_search(POLICY, PROMPTS, trie, 5, [None, nothing, None])
    assert beams.valid_BW.sum(dim=1).tolist() == [5, 0, 5]


def test_a_request_gets_the_same_answer_alone_and_in_a_batch() -> None:
    trie = toys.toy_trie()
    together = beam_search(POLICY, PROMPTS, trie, 6)
    for row in range(3):
        alone = beam_search(POLICY, PROMPTS.rows(torch.tensor([row])), trie, 6)
        assert found(alone, 0) == found(together, row)
        torch.testing.assert_close(alone.score_BW[0], together.score_BW[row], rtol=1e-5, atol=1e-5)


def test_the_decoder_sees_nothing_that_is_certain() -> None:
    """Every identifier is found; a level's rows are its prefixes with more than one identifier below, if scored by the trie."""
    policy, trie = toys.toy_policy(), toys.toy_trie()
    rows = toys.decoder_rows(policy)
    beam_search(policy, PROMPTS, trie, WIDE)
    assert rows == +Counter({depth: 3 * count for depth, count in enumerate(toys.open_prefixes(trie))})
    rows.clear()
    beam_search(policy, PROMPTS, trie, WIDE, scoring="vocabulary")
    prefixes = [{tuple(sid[:depth]) for sid in trie.sids_NL.tolist()} for depth in range(5)]
    assert all(rows[depth] >= 3 * len(level) for depth, level in enumerate(prefixes))


def test_what_cannot_be_searched_raises() -> None:
    with pytest.raises(InvalidValue, match="beam width is 0"):
        beam_search(POLICY, PROMPTS, toys.toy_trie(), 0)
    with pytest.raises(InvalidValue, match="scoring is 'vocab', but must be trie or level or vocabulary"):
        beam_search(POLICY, PROMPTS, toys.toy_trie(), 4, scoring="vocab")  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="number of filters is 1"):
        beam_search(POLICY, PROMPTS, toys.toy_trie(), 4, [None])
    with pytest.raises(InvalidValue, match="identifiers in the trie is 0"):
        beam_search(POLICY, PROMPTS, toys.toy_trie().without(np.arange(24)), 4)


@pytest.mark.parametrize("scoring", ["trie", "level", "vocabulary"])
def test_a_probability_that_is_no_number_is_an_error(scoring: Any) -> None:
    """That of one code after one prefix is enough: its branch would be lost, or come first."""

    def holed(prompt: int, prefix: Sequence[int], code: int) -> float:
        return math.nan if prefix == [1] and code == 0 else wave(prompt, prefix, code)

    policy: Any = TablePolicy(SIZES, holed)
    trie = Trie.build([[0, 0, 1], [0, 1, 2], [1, 0, 3], [1, 1, 4]], SIZES)
    with pytest.raises(NotFinite, match="a probability of the policy is not finite"):
        beam_search(policy, policy.prompts(2), trie, 3, scoring=scoring)


def test_a_search_and_a_gradient_share_the_trie() -> None:
    """The gate searches in the learner's process, over the learner's trie."""
    trie = toys.toy_trie(seed=8)
    sids_BGL = beam_search(POLICY, PROMPTS, trie, 4).sids_BWL
    policy = toys.toy_policy()
    policy.logprobs(PROMPTS, sids_BGL, trie).sum().backward()
    assert float(policy.dense.weight.grad.abs().max()) > 0
