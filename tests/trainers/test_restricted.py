"""The trie as tensors says what the trie says, also where it changed since it was built."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InvalidValue
from trainers.identifiers.trie import Trie
from trainers.policies import restricted
from trainers.policies.restricted import TrieTables

SIZES = (3, 2, 20)
sids_lists = st.lists(st.tuples(*(st.integers(0, size - 1) for size in SIZES)), min_size=1, max_size=25)


@pytest.mark.parametrize("limit", [0, restricted.TABLE_LIMIT], ids=["made when needed", "kept"])
@settings(deadline=None, max_examples=40)
@given(first=sids_lists, more=sids_lists, data=st.data())
def test_tables_are_the_trie(limit: int, first: list, more: list, data: st.DataObject) -> None:
    """Children, masks, finding and counting, of every node in turn, by the identifiers that lie below it."""
    gone = data.draw(st.lists(st.integers(0, len(first) - 1), unique=True))
    trie = Trie.build(np.array(first), SIZES).without(gone).extended(more)
    there = {sid for row, sid in enumerate(first) if row not in gone} | set(more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restricted, "TABLE_LIMIT", limit)
        tables = TrieTables(trie, torch.device("cpu"))
        for depth in range(3):
            prefixes = sorted({sid[:depth] for sid in there})
            nodes = torch.zeros(len(prefixes), dtype=torch.int64)
            for level in range(depth):
                nodes = tables.child(level, nodes, torch.tensor([prefix[level] for prefix in prefixes]))
            below = [sorted({sid[depth] for sid in there if sid[:depth] == prefix}) for prefix in prefixes]
            bias = tables.bias(depth, nodes[:, None])[:, 0]
            children = tables.children(depth, nodes)
            first_code = tables.first_child(depth, nodes)[1].tolist()
            for n, codes in enumerate(below):
                assert (bias[n] == 0).nonzero().flatten().tolist() == codes
                assert torch.isneginf(bias[n]).sum() == SIZES[depth] - len(codes)
                assert sorted(children.code[n][children.there[n]].tolist()) == codes
                at, found = tables.find(depth, nodes[n].expand(SIZES[depth] + 2), torch.arange(-1, SIZES[depth] + 1))
                assert (found.nonzero().flatten() - 1).tolist() == codes
                assert set(at[found].tolist()) == set(children.node[n][children.there[n]].tolist())
                assert first_code[n] in codes
            expected = [len({sid for sid in there if sid[:depth] == prefix}) for prefix in prefixes]
            assert tables.leaves(depth, nodes).tolist() == expected
        assert np.array_equal(tables.path(torch.tensor(sorted(there))).numpy(), trie.path(sorted(there)))
        assert tables.leaves(3, tables.path(torch.tensor(sorted(there)))[:, -1]).tolist() == [1] * len(there)
        with pytest.raises(InvalidValue, match="code of level 0 after node 0"):
            tables.child(0, torch.zeros(1, dtype=torch.int64), torch.tensor([3]))


def test_what_comes_to_an_empty_trie_is_found() -> None:
    """All items went, the trie was built anew without any, and then one came."""
    trie = Trie.build(np.array([[0, 1, 2]]), SIZES).without([0]).merged().extended([[1, 0, 7]])
    tables = TrieTables.of(trie, torch.device("cpu"))
    assert tables.path(torch.tensor([1, 0, 7])).tolist() == trie.path([[1, 0, 7]])[0].tolist()
    assert not tables.find(0, torch.zeros(2, dtype=torch.int64), torch.tensor([0, 2]))[1].any()
