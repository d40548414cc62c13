"""The rows that the decoder has to see, against a plain reading of every identifier."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers import policy_toys as toys
from trainers.frontier import TOGETHER, Frontier
from trainers.identifiers.trie import Trie
from trainers.noise import Noise
from trainers.policies.restricted import TrieTables
from trainers.rollout import sample

torch.set_num_threads(1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 4))
def test_rows_are_the_distinct_prefixes_with_a_choice_left(seed: int, items: int, depth: int) -> None:
    """Open: more than one identifier begins so. Each open rollout's row has its own prefix, rows differ, and none is spare."""
    trie = toys.toy_trie(seed, items)
    catalogue = sorted({tuple(sid) for sid in trie.sids_NL.tolist()})
    random = np.random.default_rng(seed)
    drawn = [[catalogue[n] for n in random.integers(0, len(catalogue), 7)] for _ in range(3)]
    alive_BG = torch.from_numpy(random.random((3, 7)) < 0.8)
    tables = TrieTables.of(trie, torch.device("cpu"))
    nodes_BG = tables.path(torch.tensor(drawn))[..., depth]
    now = Frontier.of(tables, depth, nodes_BG, alive_BG)
    widths = []
    for b, sids in enumerate(drawn):
        prefixes = [sid[:depth] for sid in sids]
        below = [[sid for sid in catalogue if sid[:depth] == prefix] for prefix in prefixes]
        is_open = [len(found) > 1 and bool(alive_BG[b, g]) for g, found in enumerate(below)]
        assert now.open_BG[b].tolist() == is_open
        rows = {int(now.row_BG[b, g]): prefixes[g] for g in range(7) if is_open[g]}
        assert sorted(rows) == list(range(len({prefixes[g] for g in range(7) if is_open[g]})))
        assert all(rows[int(now.row_BG[b, g])] == prefixes[g] for g in range(7) if is_open[g])
        assert all(prefixes[int(now.leader_BR[b, row])] == prefix for row, prefix in rows.items())
        widths.append(len(rows))
        if depth < 5:
            child_G, code_G = tables.first_child(depth, nodes_BG[b])
            for g, found in enumerate(below):
                if len(found) == 1:
                    assert int(code_G[g]) == found[0][depth]
                    assert int(child_G[g]) == int(tables.path(torch.tensor(found[0]))[depth + 1])
    assert now.width == max(widths)
    assert now.rows is not None
    filled = now.rows.pad(now.rows.flatten(torch.ones(3, now.width))[:, None]).sum(dim=(1, 2)).tolist()
    room = sum(now.width - width for width in widths if width)
    assert sum(filled) == sum(widths) + min(-sum(widths) % TOGETHER, room)
    assert all(width <= full <= (now.width if width else 0) for width, full in zip(widths, filled, strict=True))


def test_the_decoder_sees_no_prefix_twice_and_nothing_that_is_certain() -> None:
    """A group of 200 over 24 identifiers: each level's rows are at most its prefixes with more than one identifier below."""
    policy, trie = toys.toy_policy(), toys.toy_trie()
    rows = toys.decoder_rows(policy)
    sample(policy, toys.toy_prompts(policy), trie, 200, 50.0, Noise(1, 0, range(3)))
    found = toys.open_prefixes(trie)
    assert rows == +Counter(
        {depth: 3 * n for depth, n in enumerate(found)}
    )  # at so high a temperature every identifier is drawn
    assert rows[0] == 3 and max(rows.values()) < 3 * 24


def test_one_identifier_needs_no_decoder() -> None:
    """Its codes are certain: log-probability and entropy 0 at every level."""
    policy, trie = toys.toy_policy(), Trie.build([[1, 2, 0, 1, 0]], toys.SIZES)
    drawn = sample(policy, toys.toy_prompts(policy), trie, 4, 1.0, Noise(1, 0, range(3)))
    assert drawn.sids_BGL.tolist() == [[[1, 2, 0, 1, 0]] * 4] * 3
    assert not drawn.logp_BGL.any() and not drawn.entropy_BGL.any()
