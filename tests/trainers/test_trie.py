"""The flat trie, and what changes beside it, say exactly what a trie of nested dictionaries says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.trie import ABSENT, MERGE, Trie

SIZES = (3, 2, 20)  # the last level has bitmaps and lists, and does not fill its last byte
Sid = tuple[int, ...]
sid = st.tuples(*(st.integers(0, size - 1) for size in SIZES))
sids_lists = st.lists(sid, min_size=0, max_size=30)


def nested(sids: list[Sid | None]) -> dict:
    """The oracle: dictionaries of dictionaries, the last one holding lists of rows; None is an absent row."""
    root: dict = {}
    for row, codes in enumerate(sids):
        if codes is not None:
            node = root
            for code in codes[:-1]:
                node = node.setdefault(code, {})
            node.setdefault(codes[-1], []).append(row)
    return root


def walk(trie: Trie, node: dict | list, depth: int, number: int, mask: NDArray[np.bool_], masks: list) -> bool:
    """Compare a node with the oracle's, children and all; returns whether an available item is below."""
    if depth == trie.levels:
        assert trie.items(number).tolist() == node
        assert trie.leaf_of(node).tolist() == [number] * len(node)
        available = any(mask[row] for row in node)
    else:
        allowed = trie.allowed_mask(depth, [number])[0]
        assert set(np.flatnonzero(allowed).tolist()) == set(node)
        owner, child = trie.children(depth, [number, number])
        assert trie.codes_of(depth, child).tolist() == [
            code for _ in range(2) for code in trie.codes_of(depth, child[owner == 0])
        ]
        below = {
            code: walk(trie, under, depth + 1, int(trie.child(depth, [number], [code])[0]), mask, masks)
            for code, under in node.items()
        }
        assert set(trie.codes_of(depth, child).tolist()) == set(node)
        filtered = trie.allowed_mask(depth, [number], masks)[0]
        assert set(np.flatnonzero(filtered).tolist()) == {code for code, open_ in below.items() if open_}
        available = any(below.values())
    assert masks[depth][number] == available
    return available


def agree(trie: Trie, sids: list[Sid | None], mask: NDArray[np.bool_]) -> None:
    """The trie is that of the nested dictionaries, and its masks too, however they are made."""
    masks = trie.node_mask(mask)
    assert [m.tolist() for m in masks] == [m.tolist() for m in trie.node_mask_of(np.flatnonzero(mask))]
    walk(trie, nested(sids), 0, trie.root, mask, masks)
    assert len(trie) == len(sids)
    assert trie.empty == (not nested(sids))
    assert [None if row[0] == ABSENT else tuple(row) for row in trie.sids_NL.tolist()] == sids
    assert trie.sids_of(np.arange(len(sids))[::-1]).tolist() == trie.sids_NL[::-1].tolist()
    assert trie.leaf_of_item_N.tolist() == trie.leaf_of(np.arange(len(sids))).tolist()
    everything = np.array(np.meshgrid(*map(range, SIZES))).reshape(3, -1).T
    assert {tuple(s) for s in everything[trie.contains(everything)].tolist()} == {s for s in sids if s is not None}


@settings(deadline=None, max_examples=60)
@given(sids_lists, st.randoms(use_true_random=False))
def test_agrees_with_nested_dictionaries(sids: list[Sid | None], random: object) -> None:
    """Children, items, availability and node counts are those of the nested dictionaries."""
    mask = np.array([random.random() < 0.4 for _ in sids], dtype=bool)  # type: ignore[attr-defined]
    trie = Trie.build(np.array(sids, dtype=np.int32).reshape(-1, 3), SIZES)
    agree(trie, sids, mask)
    assert [trie.nodes(depth) for depth in range(4)] == [
        len({s[:depth] for s in [*sids, *[()] * (depth == 0)]}) for depth in range(4)
    ]


changes = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(sid, min_size=1, max_size=4)),
        st.tuples(st.just("remove"), st.lists(st.integers(0, 60), min_size=1, max_size=6, unique=True)),
        st.tuples(st.just("move"), st.tuples(st.integers(0, 60), sid)),
        st.tuples(st.just("merge"), st.none()),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=80)
@given(sids_lists, changes, st.randoms(use_true_random=False))
def test_any_sequence_of_changes_agrees_with_the_dictionaries_built_anew(
    first: list[Sid | None], steps: list, random: object
) -> None:
    """Items come, go, move and come back; every trie on the way stays what it was when the next one is made."""
    sids, trie = list(first), Trie.build(np.array(first, dtype=np.int32).reshape(-1, 3), SIZES)
    seen = [(trie, list(sids))]
    for kind, what in steps:
        if kind == "add":
            trie, sids = trie.extended(what), [*sids, *what]
        elif kind == "remove":
            rows = [row for row in what if row < len(sids)]
            trie, sids = trie.without(rows), [None if row in rows else s for row, s in enumerate(sids)]
        elif kind == "move" and what[0] < len(sids):
            trie = trie.changed([what[0]], [what[1]])
            sids = [what[1] if row == what[0] else s for row, s in enumerate(sids)]
        elif kind == "merge":
            trie = trie.merged()
            assert not len(trie.changes)
        seen.append((trie, list(sids)))
    for trie, expected in seen:
        agree(trie, expected, np.array([random.random() < 0.4 for _ in expected], dtype=bool))  # type: ignore[attr-defined]


def test_masks_of_a_large_trie_with_changes() -> None:
    """Bitmaps, lists, further nodes and dead ones in one batch: the mask is the set of children, prefix by prefix."""
    rng = np.random.default_rng(4)
    sizes = (20, 40, 300)
    sids = np.stack([np.minimum(rng.geometric(8 / k, 3_000) - 1, k - 1) for k in sizes], axis=1)
    trie = (
        Trie.build(sids, sizes)
        .without(rng.permutation(3_000)[:1_500])
        .extended(np.stack([rng.integers(0, k, 200) for k in sizes], axis=1))
    )
    there = trie.sids_NL[trie.sids_NL[:, 0] >= 0]
    assert all(len(crowded) > 0 for crowded in trie.flat.crowded)
    assert len(trie.flat.crowded[2]) < trie.flat.nodes(2)
    nodes_PL = trie.path(there)
    for level, size in enumerate(sizes):
        expected = np.zeros((len(there), size), dtype=bool)
        for prefix in np.unique(there[:, :level], axis=0):
            same = (there[:, :level] == prefix).all(axis=1)
            expected[np.ix_(same, np.unique(there[same, level]))] = True
        assert np.array_equal(trie.allowed_mask(level, nodes_PL[:, level]), expected)
        bits = trie.packed_mask(level, nodes_PL[:, level])
        assert bits.shape == (len(there), -(-size // 8))
        assert np.array_equal(bits, np.packbits(expected, axis=1, bitorder="little"))


def test_a_mask_of_half_the_items_is_that_of_each_row() -> None:
    """Many rows climb by range, few by node: the same masks."""
    rng = np.random.default_rng(5)
    sids = np.stack([rng.integers(0, k, 4_000) for k in (8, 16, 300)], axis=1)
    trie = Trie.build(sids, (8, 16, 300)).without(np.arange(0, 4_000, 7)).extended(sids[:50])
    mask = rng.random(len(trie)) < 0.5
    masks = trie.node_mask(mask)
    leaf_N, sids_NL = trie.leaf_of_item_N, trie.sids_NL
    on = np.flatnonzero(mask & (leaf_N >= 0))
    expected = [{tuple(s) for s in sids_NL[on, :depth].tolist()} for depth in range(4)]
    nodes = trie.path(sids_NL[on])
    for depth in range(4):
        assert set(np.flatnonzero(masks[depth]).tolist()) == set(nodes[:, depth].tolist())
        assert masks[depth].sum() == len(expected[depth])


def test_changes_are_merged_once_they_are_many() -> None:
    """Up to a thousand, or the two-thousandth part of the items, they stay beside the trie; then it is built anew, unchanged."""
    sids = np.stack([np.arange(4_000) % 3, np.arange(4_000) % 2, np.arange(4_000) % 20], axis=1)
    trie = Trie.build(sids, SIZES).without(np.arange(MERGE))
    assert trie.tidied() is trie
    more = trie.without([MERGE])
    assert not len(more.tidied().changes)
    assert np.array_equal(more.tidied().sids_NL, more.sids_NL)


def test_batches_answer_each_prefix_by_itself() -> None:
    """Row p of a mask belongs to node p, also when nodes repeat and come in any order."""
    trie = Trie.build([[0, 0, 1], [0, 1, 2], [2, 1, 3], [2, 1, 3]], (3, 2, 4))
    assert trie.allowed_mask(0, [0, 0]).tolist() == [[True, False, True]] * 2
    assert trie.packed_mask(0, [0, 0]).tolist() == [[0b101]] * 2
    # depth 1 holds prefixes (0,) and (2,) as nodes 0 and 1
    assert trie.allowed_mask(1, [1, 0, 1]).tolist() == [[False, True], [True, True], [False, True]]
    assert trie.path([[2, 1, 3], [0, 1, 2]]).tolist() == [[0, 1, 2, 2], [0, 0, 1, 1]]
    assert trie.items(2).tolist() == [2, 3]
    owner, rows = trie.items_of([2, 0])
    assert owner.tolist() == [0, 0, 1] and rows.tolist() == [2, 3, 0]


def test_parents_come_in_the_order_of_the_nodes_that_are_asked_for() -> None:
    """Nodes of the flat trie and nodes that came later, in any order: at every depth they are those of the paths."""
    trie = Trie.build([[0, 0, 1], [1, 0, 0]], SIZES).extended([[0, 1, 2], [2, 0, 0]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        path = trie.path(trie.sids_of(order))
        for level in range(len(SIZES)):
            assert trie.parents(level, path[:, level + 1]).tolist() == path[:, level].tolist()


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
    with pytest.raises(InvalidValue, match=r"row 1 is .*codes below"):
        trie.extended([[0, 2, 0]])
    with pytest.raises(InvalidValue, match="without a gap"):
        trie.changed([2], [[0, 0, 0]])
    with pytest.raises(InvalidValue, match="each row once"):
        trie.changed([0, 0], [[0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("wrong", [[[0, 0]], [[0, 0, 0, 0]], [0, 0, 0, 0, 0, 0], [[0.0, 0.0, 1.0]], [[[0, 0, 1]]]])
def test_identifiers_of_another_shape_are_refused(wrong: object) -> None:
    """Six codes in a row would pass for two identifiers of three."""
    trie = Trie.build([[0, 0, 1]], SIZES)
    for call in (
        lambda: Trie.build(wrong, SIZES),
        lambda: trie.extended(wrong),
        lambda: trie.path(wrong),
        lambda: trie.contains(wrong),
    ):
        with pytest.raises(InvalidValue, match=r"identifiers is .*shape \(N, 3\)"):
            call()
    assert Trie.build([], SIZES).empty and trie.contains([0, 0, 1]).tolist() == [True]


@pytest.mark.parametrize("changes", [False, True])
def test_numbers_that_are_not_there_are_refused_with_changes_and_without(changes: bool) -> None:
    """One item on a path of its own; with changes another that came and went: 2 rows, 2 nodes a depth."""
    trie = Trie.build([[0, 0, 1]], SIZES)
    if changes:
        trie = trie.extended([[1, 1, 0]]).without([1])
    rows = len(trie)
    for number in (-1, 99):
        for rowwise in (trie.leaf_of, trie.sids_of, trie.node_mask_of):
            with pytest.raises(InvalidValue, match=f"row is {number}, but must be 0 to {rows - 1}"):
                rowwise([number])
        for nodewise in (trie.children, trie.allowed_mask, trie.packed_mask):
            with pytest.raises(InvalidValue, match=f"node at depth 1 is {number}"):
                nodewise(1, [number])
        with pytest.raises(InvalidValue, match=f"node at depth 3 is {number}"):
            trie.items_of([number])
        assert not trie.find_child(1, [number], [0])[1].any()
