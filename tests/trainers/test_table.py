"""Reads of one matrix give it the gradient that torch's own give it, in one matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainers import policy_toys as toys
from trainers.policies.table import Table

torch.set_num_threads(1)

ROWS, WIDTH = 9, 4


def reads(weight_VD: Tensor, cuts: list[tuple[int, int]], indices: list[Tensor]) -> Tensor:
    """Something that every read has a part of, by torch alone."""
    parts = [functional.embedding(index, weight_VD) for index in indices] + [weight_VD[a:b] for a, b in cuts]
    return sum((part.sin().sum() * (n + 1) for n, part in enumerate(parts)), start=weight_VD.new_zeros(()))


def reads_of_table(weight_VD: Tensor, cuts: list[tuple[int, int]], indices: list[Tensor]) -> Tensor:
    """The same by a table."""
    table = Table(weight_VD)
    parts = [table.rows(index) for index in indices] + [table.cut(a, b) for a, b in cuts]
    return sum((part.sin().sum() * (n + 1) for n, part in enumerate(parts)), start=weight_VD.new_zeros(()))


@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(1, 3))
def test_the_gradient_is_torchs(seed: int, lookups: int, slices: int) -> None:
    """Rows read once, often and never; with none of either kind too; twice over the same graph."""
    random = torch.Generator().manual_seed(seed)
    weight_VD = torch.randn(ROWS, WIDTH, dtype=torch.float64, generator=random, requires_grad=True)
    indices = [torch.randint(ROWS, (2, 5), generator=random) for _ in range(lookups)]
    cuts = [(n, n + 3) for n in range(slices)]
    expected = reads(weight_VD, cuts, indices)
    found = reads_of_table(weight_VD, cuts, indices)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    (theirs,) = torch.autograd.grad(expected, weight_VD)
    for keep in (True, False):
        (ours,) = torch.autograd.grad(found, weight_VD, retain_graph=keep)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradcheck() -> None:
    """In float64, by differences."""
    torch.manual_seed(0)
    weight_VD = torch.randn(ROWS, WIDTH, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[1, 1, 4], [0, 8, 1]])
    assert torch.autograd.gradcheck(lambda weight: reads_of_table(weight, [(2, 6)], [index]), weight_VD)


def test_gradients_add_up_over_passes_as_ever() -> None:
    """Two passes before the optimiser moves, each with a table of its own."""
    torch.manual_seed(0)
    ours, theirs = (torch.ones(ROWS, WIDTH, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for index in (torch.tensor([1, 2, 2]), torch.tensor([2, 7])):
        reads_of_table(ours, [(0, 2)], [index]).backward()  # type: ignore[no-untyped-call]
        reads(theirs, [(0, 2)], [index]).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_without_gradient_it_is_the_weights() -> None:
    """Made outside or read inside: nothing is recorded, and a cut is no copy."""
    weight_VD = torch.randn(ROWS, WIDTH, requires_grad=True)
    table = Table(weight_VD)
    with torch.no_grad():
        for read in (table, Table(weight_VD)):
            assert read.rows(torch.tensor([1])).grad_fn is None and read.cut(1, 3).grad_fn is None
            assert read.cut(1, 3).data_ptr() == weight_VD[1:].data_ptr()


class Made(TorchDispatchMode):
    """Where in memory what has this shape was made."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shape, self.found = shape, list[Tensor]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.shape == self.shape and all(out.data_ptr() != t.data_ptr() for t in self.found):
            self.found.append(out)  # kept, so that no other takes its place
        return out


@pytest.mark.parametrize("name", toys.NAMES)
def test_a_pass_makes_one_gradient_of_the_matrix_size(name: str) -> None:
    """Prompts, prefixes and heads all read it."""
    policy, trie = toys.toy_policy(name=name), toys.toy_trie()
    sids_BGL = torch.from_numpy(trie.sids_NL).long().view(3, -1, trie.levels)
    loss = policy.logprobs(toys.toy_prompts(policy), sids_BGL, trie).sum()
    with Made(policy.embeddings().shape) as made:
        loss.backward()  # type: ignore[no-untyped-call]
    assert len(made.found) == 1 and made.found[0].shape == policy.embeddings().shape
    gradient = policy.embeddings().grad
    assert gradient is not None and gradient.data_ptr() == made.found[0].data_ptr()
