"""What is decoded ahead of time, against a plain reading of every identifier, and that it changes no search and no sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers import policy_toys as toys
from trainers.beam import beam_search
from trainers.descent import Below
from trainers.distinct import sample_distinct
from trainers.frontier import Frontier
from trainers.identifiers.trie import Trie
from trainers.noise import Noise
from trainers.policies.restricted import TrieTables
from trainers.rollout import sample

torch.set_num_threads(1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 4), st.sampled_from([3, 1_000]))
def test_what_is_looked_ahead_at_are_the_open_prefixes_one_code_on(seed: int, items: int, depth: int, few: int) -> None:
    """Each once, of the row that it continues; none where they are more than few."""
    trie = toys.toy_trie(seed, items)
    catalogue = sorted({tuple(sid) for sid in trie.sids_NL.tolist()})
    random = np.random.default_rng(seed)
    drawn = [[catalogue[n] for n in random.integers(0, len(catalogue), 5)] for _ in range(3)]
    tables = TrieTables.of(trie, torch.device("cpu"))
    nodes_BG = tables.path(torch.tensor(drawn))[..., depth]
    alive_BG = torch.from_numpy(random.random((3, 5)) < 0.8)
    now = Frontier.of(tables, depth, nodes_BG, alive_BG)
    expected = list[set[tuple[int, ...]]]()
    for sids, alive in zip(drawn, alive_BG.tolist(), strict=True):
        rows = {sid[:depth] for sid, there in zip(sids, alive, strict=True) if there}
        longer = [sid[: depth + 1] for sid in catalogue if sid[:depth] in rows]
        expected.append({prefix for prefix in longer if longer.count(prefix) > 1} if depth < 4 else set())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.descent.FEW_AHEAD", few)
        found = Below.few(tables, depth, now, nodes_BG) if now.width else None
    assert (found is not None) == (0 < sum(map(len, expected)) <= few)
    if found is not None and now.count_B is not None:
        ahead, node_BX, last_B1 = found
        after_BG = tables.path(torch.tensor(drawn))[..., depth + 1]
        seen_BG = node_BX.gather(1, found.rows(after_BG)) == after_BG
        assert bool((seen_BG | (tables.leaves(depth + 1, after_BG) == 1) | ~alive_BG).all())
        assert bool((found.rows(after_BG) <= last_B1).all())
        assert last_B1[:, 0].tolist() == [max(0, len(prefixes) - 1) for prefixes in expected]
        for b, sids in enumerate(drawn):
            assert node_BX[b].tolist() == sorted(node_BX[b].tolist())
            count = int((node_BX[b] < tables.level_nodes(depth + 1)).sum())
            elders = [sids[int(now.leader_BR[b, row])][:depth] for row in ahead.row_BX[b]]
            prefixes = [(*elder, int(code)) for elder, code in zip(elders, ahead.code_BX[b], strict=True)]
            assert set(prefixes[:count]) == expected[b] and len(expected[b]) == count
            for prefix, node in zip(prefixes[:count], node_BX[b].tolist(), strict=False):
                whole = next(sid for sid in catalogue if sid[: depth + 1] == prefix)
                assert node == int(tables.path(torch.tensor(whole))[depth + 1])
            own = ahead.rows.pad(ahead.rows.flatten(torch.ones(*node_BX.shape, 1)))[b, :, 0].tolist()
            assert own[:count] == [1] * count and (count or not any(own))
            # What fills gaps continues a row that is there.
            assert not count or int(ahead.row_BX[b].max()) < int(now.count_B[b])


POLICIES = {name: toys.toy_policy(name=name) for name in toys.NAMES}
DRAWS: dict[str, Callable[..., Any]] = {
    "independent": lambda policy, prompts, trie, group: sample(policy, prompts, trie, group, noise=Noise(1, 0, range(3))),
    "distinct": lambda policy, prompts, trie, group: sample_distinct(
        policy, prompts, trie, min(group, len({*map(tuple, trie.sids_NL.tolist())})), noise=Noise(1, 0, range(3))
    ),
    "beams": beam_search,
}


@pytest.mark.parametrize("how", DRAWS)
@pytest.mark.parametrize("name", toys.NAMES)
@given(seed=st.integers(0, 2**32 - 1), items=st.integers(1, 60), group=st.integers(1, 30), few=st.integers(1, 64))
def test_looking_ahead_changes_nothing(name: str, how: str, seed: int, items: int, group: int, few: int) -> None:
    """The same identifiers with the same probabilities, in no more passes."""
    policy, trie, found, passes = POLICIES[name], toys.toy_trie(seed, items), [], []
    for most in (0, few):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("trainers.descent.FEW_AHEAD", most)
            counted = Mock(wraps=policy.step)
            patch.setattr(policy, "step", counted)
            found.append(DRAWS[how](policy, toys.toy_prompts(policy), trie, group))
            passes.append(counted.call_count)
    assert passes[1] <= passes[0]
    for field in fields(found[0]):
        without, ahead = (getattr(one, field.name) for one in found)
        torch.testing.assert_close(ahead, without, rtol=1e-5, atol=1e-5)


def test_five_levels_of_24_identifiers_take_three_passes() -> None:
    """The start with the first codes, the second with the third, the fourth."""
    policy = toys.toy_policy()
    rows = toys.decoder_rows(policy)
    counted = policy.step = Mock(wraps=policy.step)  # type: ignore[method-assign]
    beam_search(policy, toys.toy_prompts(policy), toys.toy_trie(), 120)
    assert sorted(rows) == [0, 1, 2, 3, 4] and counted.call_count == 3


def test_what_fills_a_gap_continues_a_row_that_is_there() -> None:
    """The second prompt has one row, both of whose children are open, and two gaps."""
    trie = Trie.build([[a, b, c, 0, 0] for a in (0, 1) for b in (0, 1) for c in (0, 1)], toys.SIZES)
    tables = TrieTables.of(trie, torch.device("cpu"))
    nodes_BG = tables.path(torch.tensor([[[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], [[0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]]))[..., 1]
    found = Below.few(tables, 1, Frontier.of(tables, 1, nodes_BG), nodes_BG)
    assert found is not None
    assert found.ahead.row_BX.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]]
    assert found.last_B1.tolist() == [[3], [1]]
