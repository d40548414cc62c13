"""Beam search against enumeration of the whole trie, with and without filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InvalidValue
from tests.trainers import policy_toys as toys
from trainers.beam import Beams, beam_search
from trainers.identifiers.trie import Trie
from trainers.policies.bart import BartPolicy
from trainers.policies.base import PromptBatch

torch.set_num_threads(1)
POLICY = toys.toy_policy()
PROMPTS = toys.toy_prompts(POLICY)
WIDE = 4 * 3 * 3 * 2 * 2  # as many beams as there are identifiers: nothing is ever cut

catalogues = st.lists(st.tuples(*(st.integers(0, k - 1) for k in toys.SIZES)), min_size=1, max_size=30)


def found(beams: Beams, row: int) -> list[tuple[int, ...]]:
    """Valid identifiers of one request, best first."""
    valid = beams.valid_BW[row]
    assert not bool(valid[int(valid.sum()) :].any()), "valid ones come first"
    return [tuple(sid) for sid in beams.sids_BWL[row][valid].tolist()]


def slow_beam(
    policy: BartPolicy, prompts: PromptBatch, row: int, catalogue: list[tuple[int, ...]], width: int, keep: set[int]
) -> list:
    """Textbook beam search of one prompt over the catalogue, following only branches with an available item."""
    alone = prompts.rows(torch.tensor([row]))
    beams: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for level in range(5):
        longer = []
        for score, prefix in beams:
            members = [n for n, sid in enumerate(catalogue) if sid[:level] == prefix]
            for code in {catalogue[n][level] for n in members}:
                below = [n for n in members if catalogue[n][level] == code]
                if any(n in keep for n in below):
                    sids = torch.tensor(catalogue[below[0]])[None, None]
                    logp = toys.slow_logprobs(policy, alone, sids, catalogue)[0, 0, level]
                    longer.append((score + float(logp.detach()), (*prefix, code)))
        beams = sorted(longer, reverse=True)[:width]
    return beams


@settings(max_examples=25, deadline=None)
@given(catalogues, st.data())
def test_a_wide_beam_is_the_enumeration_of_what_is_available(catalogue: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Same identifiers, same scores, same order; the filter's scores are those without it, never renormalised."""
    trie = Trie.build(np.array(catalogue), toys.SIZES)
    filters = [
        data.draw(st.none() | st.lists(st.booleans(), min_size=len(catalogue), max_size=len(catalogue))) for _ in range(3)
    ]
    masks = [None if flags is None else trie.node_mask(np.array(flags)) for flags in filters]
    with torch.no_grad():
        score_BN = toys.enumerate_scores(POLICY, PROMPTS, catalogue)
    distinct = sorted(set(catalogue))
    beams = beam_search(POLICY, PROMPTS, trie, WIDE, masks)
    for row, flags in enumerate(filters):
        open_sids = {sid for n, sid in enumerate(catalogue) if flags is None or flags[n]}
        expected = {sid: float(score) for sid, score in zip(distinct, score_BN[row], strict=True) if sid in open_sids}
        sids = found(beams, row)
        assert set(sids) == open_sids
        assert len(sids) == len(open_sids)
        scores = beams.score_BW[row][: len(sids)].tolist()
        assert scores == sorted(scores, reverse=True)
        assert scores == pytest.approx([expected[sid] for sid in sids], abs=1e-4)
        leaves = beams.leaf_BW[row][: len(sids)].tolist()
        assert all(sid == catalogue[trie.items(leaf)[0]] for sid, leaf in zip(sids, leaves, strict=True))


@settings(max_examples=12, deadline=None)
@given(catalogues, st.integers(1, 6), st.data())
def test_a_narrow_beam_is_the_textbook_search_and_never_runs_short(
    catalogue: list[tuple[int, ...]], width: int, data: st.DataObject
) -> None:
    trie = Trie.build(np.array(catalogue), toys.SIZES)
    flags = data.draw(st.lists(st.booleans(), min_size=len(catalogue), max_size=len(catalogue)))
    beams = beam_search(POLICY, PROMPTS, trie, width, [None, trie.node_mask(np.array(flags)), None])
    for row, keep in enumerate(
        [set(range(len(catalogue))), {n for n, flag in enumerate(flags) if flag}, set(range(len(catalogue)))]
    ):
        available = {catalogue[n] for n in keep}
        sids = found(beams, row)
        assert len(sids) == min(width, len(available))
        assert set(sids) <= available
        expected = slow_beam(POLICY, PROMPTS, row, catalogue, width, keep)
        assert beams.score_BW[row][: len(sids)].tolist() == pytest.approx([score for score, _ in expected], abs=1e-4)


def test_scoring_inside_the_filter_would_rank_wrongly() -> None:
    """The ranking trap: renormalised over two candidates, an only child costs nothing. Ours keeps the catalogue's score."""
    catalogue = [tuple(sid) for sid in toys.toy_sids().tolist()]
    trie = Trie.build(np.array(catalogue), toys.SIZES)
    keep = np.zeros(len(catalogue), dtype=bool)
    keep[[0, 5]] = True
    whole = beam_search(POLICY, PROMPTS, trie, WIDE)
    part = beam_search(POLICY, PROMPTS, trie, WIDE, [trie.node_mask(keep)] * 3)
    small = beam_search(POLICY, PROMPTS, Trie.build(np.array(catalogue)[keep], toys.SIZES), WIDE)
    for row in range(3):
        everywhere = dict(zip(found(whole, row), whole.score_BW[row].tolist(), strict=False))
        for sid, score in zip(found(part, row), part.score_BW[row].tolist(), strict=False):
            assert score == pytest.approx(everywhere[sid], abs=1e-5)
        assert float(small.score_BW[row].exp().sum()) == pytest.approx(1.0, abs=1e-5)
        assert float(part.score_BW[row].exp().sum()) < 0.9


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


def test_what_cannot_be_searched_raises() -> None:
    with pytest.raises(InvalidValue, match="beam width is 0"):
        beam_search(POLICY, PROMPTS, toys.toy_trie(), 0)
    with pytest.raises(InvalidValue, match="number of filters is 1"):
        beam_search(POLICY, PROMPTS, toys.toy_trie(), 4, [None])


def test_a_search_and_a_gradient_share_the_trie() -> None:
    """The gate searches in the learner's process, over the learner's trie."""
    trie = toys.toy_trie(seed=8)
    sids_BGL = beam_search(POLICY, PROMPTS, trie, 4).sids_BWL
    policy = toys.toy_policy()
    policy.logprobs(PROMPTS, sids_BGL, trie).sum().backward()
    assert float(policy.dense.weight.grad.abs().max()) > 0
