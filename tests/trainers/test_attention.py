"""Attention is softmax(q k / sqrt(C) + bias) v, whichever way it is computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainers.policies.attention import HANDFUL, add_mixed, attention

torch.set_num_threads(1)


def written_out(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """In float64, by the definition."""
    score = torch.einsum("bhqc,bhxc->bhqx", query.double(), key.double()) * scale
    share = (score if bias is None else score + bias.double()).softmax(dim=-1)
    return torch.einsum("bhqx,bhxc->bhqc", share, value.double())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("queries", [1, 5, HANDFUL + 1])
@pytest.mark.parametrize("bias_per", [None, {"prompt"}, {"query"}, {"prompt", "query"}])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("tiles", [False, True])
def test_as_defined(
    dtype: torch.dtype,
    tolerance: float,
    queries: int,
    bias_per: set[str] | None,
    gradient: bool,
    tiles: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Heads that lie between the tokens in memory; the bias hides some keys, as padding and causal order do."""
    monkeypatch.setattr("trainers.policies.attention.HAS_TILES", tiles)
    torch.manual_seed(0)
    query = torch.randn(3, queries, 2, 4, dtype=dtype).transpose(1, 2).requires_grad_(gradient)
    key, value = (torch.randn(3, 7, 2, 4, dtype=dtype).transpose(1, 2) for _ in range(2))
    bias = None
    if bias_per is not None:
        bias_shape = (3 if "prompt" in bias_per else 1, 1, queries if "query" in bias_per else 1, 7)
        bias = torch.zeros(bias_shape).masked_fill(torch.rand(bias_shape) < 0.5, torch.finfo(dtype).min)
        bias[..., 0] = 0.0
    expected = written_out(query, key, value, bias, 0.7)
    with torch.set_grad_enabled(gradient):
        found = attention(query, key, value, bias, 0.7)
    assert found.shape == query.shape and found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    if gradient:
        (theirs,) = torch.autograd.grad(expected.square().sum(), query)
        (ours,) = torch.autograd.grad(found.double().square().sum(), query)
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-2)])
def test_values_are_added_by_their_shares(dtype: torch.dtype, tolerance: float) -> None:
    """Two query heads of one key head have the same values and shares of their own; what is there already stays."""
    torch.manual_seed(0)
    mixed, share, value = torch.randn(3, 2, 2, 4), torch.rand(3, 2, 2, 5), torch.randn(3, 2, 1, 5, 4)
    given = [part.to(dtype).requires_grad_() for part in (mixed, share, value)]
    exact = [part.detach().double().requires_grad_() for part in given]
    found = add_mixed(given[0].clone(), given[1], given[2])
    expected = exact[0] + torch.einsum("pngt,pntc->pngc", exact[1], exact[2][:, :, 0])
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    theirs = torch.autograd.grad(expected.square().sum(), exact)
    for mine, other in zip(torch.autograd.grad(found.square().sum(), given), theirs, strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=10 * tolerance, atol=10 * tolerance)
