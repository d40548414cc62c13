"""oneDNN's products are torch's, gradients included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainers import policy_toys as toys
from trainers.noise import Noise
from trainers.policies.linear import ACTIVATIONS, FEW_ROWS, MANY_ROWS, WORTH_IT, Linear, linear, turned_round
from trainers.rollout import sample

torch.set_num_threads(1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float64, 1e-12)])
@pytest.mark.parametrize("rows", [(1,), (2, 3), (8, 40)])
def test_same_as_torch(rows: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    """Below and above the size from which oneDNN is called, any number of leading axes; float64 stays with torch."""
    torch.manual_seed(0)
    layer = Linear(512, 1024).to(dtype)
    x = torch.randn(*rows, 512, dtype=dtype)
    assert (x.numel() * 1024 >= WORTH_IT) == (rows == (8, 40))
    expected = x.double() @ layer.weight.double().T + layer.bias.double()
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), expected, rtol=tolerance, atol=tolerance)
    assert layer(x).requires_grad


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rows", [1, 7, FEW_ROWS])
def test_few_rows_against_a_large_weight_are_turned_round(rows: int, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 without gradient, and for nothing else."""
    turns: list[int] = []

    def noted(x_PI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        turns.append(len(x_PI))
        return turned_round(x_PI, weight_OI, bias_O)

    monkeypatch.setattr("trainers.policies.linear.turned_round", noted)
    torch.manual_seed(0)
    layer, x = Linear(512, 1024, bias=biased).bfloat16(), torch.randn(rows, 512).bfloat16()
    expected = functional.linear(x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), expected, rtol=2e-2, atol=2e-2)
        assert turns == [rows]
        layer(torch.randn(FEW_ROWS + 1, 512).bfloat16())
        Linear(512, 256).bfloat16()(x)
        Linear(512, 1024)(x.float())
    layer(x)
    assert turns == [rows]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("rows", [3, 100, MANY_ROWS])
def test_an_activation_may_follow(name: str, dtype: torch.dtype, tolerance: float, rows: int) -> None:
    """Of the product, whether oneDNN computes it within (100 rows; as many as there are, in float32) or torch behind it."""
    torch.manual_seed(0)
    layer, x = Linear(512, 1024).to(dtype), torch.randn(rows, 512, dtype=dtype)
    then = ACTIVATIONS[name]
    assert (x.numel() * 1024 >= WORTH_IT) == (rows >= 100)
    expected = then.function(x.double() @ layer.weight.double().T + layer.bias.double())
    with torch.no_grad():
        torch.testing.assert_close(layer(x, then).double(), expected, rtol=tolerance, atol=tolerance)
    assert layer(x, then).requires_grad


@pytest.mark.parametrize("intel", [False, True], ids=["not Intel's", "Intel's"])
@pytest.mark.parametrize("turned", [False, True], ids=["out by in", "in by out"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_gradients_are_torchs(
    dtype: torch.dtype, tolerance: float, turned: bool, intel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large enough for oneDNN, on either kind of processor: of input, weight and bias as torch's in float64, the same bits each time,
    the weight's laid out as the weight is."""
    monkeypatch.setattr("trainers.policies.linear.MKL_IS_FASTER", intel)
    torch.manual_seed(0)
    own = (torch.randn(512, 1024) if turned else torch.randn(1024, 512)).to(dtype)
    x, bias, out = torch.randn(4, 25, 512).to(dtype), torch.randn(1024).to(dtype), torch.randn(4, 25, 1024).to(dtype)
    assert x.numel() * 1024 >= WORTH_IT

    def gradients(product: Callable[..., Tensor], as_type: torch.dtype) -> tuple[Tensor, ...]:
        given = [t.to(as_type).requires_grad_() for t in (x, own, bias)]
        y = product(given[0], given[1].T if turned else given[1], given[2])
        return torch.autograd.grad(y, given, out.to(as_type))

    ours = gradients(linear, dtype)
    for mine, again, theirs in zip(ours, gradients(linear, dtype), gradients(functional.linear, torch.float64), strict=True):
        assert torch.equal(mine, again)
        assert float((mine.double() - theirs).norm() / theirs.norm()) < tolerance
    assert ours[1].stride() == own.stride()


def test_what_nobody_wants_a_gradient_of_costs_none() -> None:
    """A frozen weight and an input without gradient: each alone."""
    x, weight = torch.randn(100, 512), torch.randn(1024, 512)
    for wanted in (x, weight):
        wanted.requires_grad_()
        (found,) = torch.autograd.grad(linear(x, weight, None).sum(), [wanted])
        wanted.requires_grad_(False)
        other = weight if wanted is x else x
        torch.testing.assert_close(found, other.sum(dim=0).expand(found.shape), rtol=1e-4, atol=1e-4)


def test_a_bfloat16_policy_samples_what_it_says() -> None:
    """The whole policy in bfloat16: recomputed log-probabilities are the sampled ones up to the format's two to three digits."""
    policy = toys.toy_policy()
    policy.module.to(torch.bfloat16)
    prompts, trie = toys.toy_prompts(policy), toys.toy_trie()
    drawn = sample(policy, prompts, trie, 64, 1.0, Noise(3, 0, range(len(prompts))))
    again = policy.logprobs(prompts, drawn.sids_BGL, trie).detach()
    torch.testing.assert_close(drawn.logp_BGL, again.float(), rtol=0.05, atol=0.1)
    assert drawn.logp_BGL.dtype == torch.float32
