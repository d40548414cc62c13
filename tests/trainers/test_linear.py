"""oneDNN's products are torch's, and are left to torch where a gradient is wanted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.trainers import policy_toys as toys
from trainers.policies.linear import ACTIVATIONS, WORTH_IT, Linear
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


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("rows", [3, 100])
def test_an_activation_may_follow(name: str, rows: int) -> None:
    """Of the product, whether oneDNN computes it (100 rows) or torch."""
    torch.manual_seed(0)
    layer, x = Linear(512, 1024), torch.randn(rows, 512)
    then = ACTIVATIONS[name]
    assert (x.numel() * 1024 >= WORTH_IT) == (rows == 100)
    expected = then.function(x.double() @ layer.weight.double().T + layer.bias.double())
    with torch.no_grad():
        torch.testing.assert_close(layer(x, then).double(), expected, rtol=1e-5, atol=1e-5)
    assert layer(x, then).requires_grad


def test_gradients_are_torchs() -> None:
    """Large enough for oneDNN, with gradient: bit for bit torch's own layer."""
    torch.manual_seed(0)
    layer, x = Linear(512, 1024), torch.randn(100, 512)
    plain = nn.Linear(512, 1024)
    assert x.numel() * 1024 >= WORTH_IT
    plain.load_state_dict(layer.state_dict())
    layer(x).square().sum().backward()
    plain(x).square().sum().backward()
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


def test_a_bfloat16_policy_samples_what_it_says() -> None:
    """The whole policy in bfloat16: recomputed log-probabilities are the sampled ones up to the format's two to three digits."""
    policy = toys.toy_policy()
    policy.module.to(torch.bfloat16)
    prompts, trie = toys.toy_prompts(policy), toys.toy_trie()
    drawn = sample(policy, prompts, trie, 64, 1.0, torch.Generator().manual_seed(3))
    again = policy.logprobs(prompts, drawn.sids_BGL, trie).detach()
    torch.testing.assert_close(drawn.logp_BGL, again.float(), rtol=0.05, atol=0.1)
    assert drawn.logp_BGL.dtype == torch.float32
