"""The flat trie says exactly what a trie of nested dictionaries says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.trie import Trie

SIZES = (3, 2, 4)
sids_lists = st.lists(st.tuples(*(st.integers(0, size - 1) for size in SIZES)), min_size=0, max_size=30)


def nested(sids: list[tuple[int, ...]]) -> dict:
    """The oracle: dictionaries of dictionaries, the last one holding lists of rows."""
    root: dict = {}
    for row, sid in enumerate(sids):
        node = root
        for code in sid[:-1]:
            node = node.setdefault(code, {})
        node.setdefault(sid[-1], []).append(row)
    return root


def walk(trie: Trie, node: dict | list, depth: int, number: int, mask: NDArray[np.bool_], seen: list[int]) -> bool:
    """Compare a node with the oracle's, children and all; returns whether an available item is below."""
    masks = trie.node_mask(mask)
    seen[depth] += 1
    if depth == trie.levels:
        assert trie.items(number).tolist() == node
        assert all(trie.leaf_of_item_N[row] == number for row in node)
        available = any(mask[row] for row in node)
    else:
        allowed = trie.allowed_mask(depth, [number])[0]
        assert set(np.flatnonzero(allowed).tolist()) == set(node)
        below = {
            code: walk(trie, child, depth + 1, int(trie.child(depth, [number], [code])[0]), mask, seen)
            for code, child in node.items()
        }
        filtered = trie.allowed_mask(depth, [number], masks)[0]
        assert set(np.flatnonzero(filtered).tolist()) == {code for code, open_ in below.items() if open_}
        available = any(below.values())
    assert masks[depth][number] == available
    return available


@settings(deadline=None, max_examples=150)
@given(sids_lists, st.randoms(use_true_random=False))
def test_agrees_with_nested_dictionaries(sids: list[tuple[int, ...]], random: object) -> None:
    """Children, items, availability and node counts are those of the nested dictionaries."""
    mask = np.array([random.random() < 0.4 for _ in sids], dtype=bool)  # type: ignore[attr-defined]
    trie = Trie.build(np.array(sids, dtype=np.int32).reshape(-1, 3), SIZES)
    seen = [0] * 4
    walk(trie, nested(sids), 0, trie.root, mask, seen)
    assert [trie.nodes(depth) for depth in range(4)] == seen


@settings(deadline=None, max_examples=60)
@given(sids_lists, sids_lists)
def test_extending_is_building_with_more_rows(first: list[tuple[int, ...]], more: list[tuple[int, ...]]) -> None:
    """A trie extended by items equals the trie built from all of them."""
    extended = Trie.build(np.array(first, dtype=np.int32).reshape(-1, 3), SIZES).extended(more)
    whole = Trie.build(np.array(first + more, dtype=np.int32).reshape(-1, 3), SIZES)
    assert np.array_equal(extended.sids_NL, whole.sids_NL)
    assert np.array_equal(extended.leaf_of_item_N, whole.leaf_of_item_N)
    for a, b in zip(extended.codes, whole.codes, strict=True):
        assert np.array_equal(a, b)


def test_batches_answer_each_prefix_by_itself() -> None:
    """Row p of a mask belongs to node p, also when nodes repeat and come in any order."""
    trie = Trie.build([[0, 0, 1], [0, 1, 2], [2, 1, 3], [2, 1, 3]], SIZES)
    assert trie.allowed_mask(0, [0, 0]).tolist() == [[True, False, True]] * 2
    # depth 1 holds prefixes (0,) and (2,) as nodes 0 and 1
    assert trie.allowed_mask(1, [1, 0, 1]).tolist() == [[False, True], [True, True], [False, True]]
    assert trie.path([[2, 1, 3], [0, 1, 2]]).tolist() == [[0, 1, 2, 2], [0, 0, 1, 1]]
    assert trie.items(2).tolist() == [2, 3]
    owner, rows = trie.items_of([2, 0])
    assert owner.tolist() == [0, 0, 1] and rows.tolist() == [2, 3, 0]


def test_contains_only_whole_identifiers_of_items() -> None:
    """A mix of two items' codes is not an identifier, nor is a code of another level's range."""
    trie = Trie.build([[0, 0, 1], [1, 1, 2]], SIZES)
    assert trie.contains([[0, 0, 1], [0, 0, 2], [0, 1, 2], [1, 1, 2], [0, 0, 9], [-1, 0, 1]]).tolist() == [
        True, False, False, True, False, False,
    ]  # fmt: skip


def test_an_absent_row_keeps_its_number_and_is_nowhere() -> None:
    """Rows stay the catalogue's rows when an item has no identifier."""
    trie = Trie.build([[0, 0, 1], [-1, -1, -1], [0, 0, 1]], SIZES)
    assert trie.leaf_of_item_N.tolist() == [0, -1, 0]
    assert trie.items(0).tolist() == [0, 2]
    assert [mask.tolist() for mask in trie.node_mask([False, True, False])] == [[False]] * 4


def test_bad_codes_and_missing_children_are_errors() -> None:
    """Nothing outside the trie is followed or stored in silence."""
    with pytest.raises(InvalidValue, match="row 1"):
        Trie.build([[0, 0, 0], [0, 2, 0]], SIZES)
    with pytest.raises(InvalidValue, match="row 0"):
        Trie.build([[-1, 0, 0]], SIZES)
    with pytest.raises(InvalidValue, match="level sizes"):
        Trie.build(np.zeros((0, 2), dtype=np.int32), (2**40, 2**40))
    trie = Trie.build([[0, 0, 1]], SIZES)
    with pytest.raises(InvalidValue, match="token of level 0"):
        trie.child(0, [0], [2])
    with pytest.raises(InvalidValue, match="mask"):
        trie.node_mask([True, False])
