"""Self-distillation and R-Drop as pure losses: values by hand, slow loops, gradients, and who gets none."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from schemas.errors import NotFinite
from trainers.losses.distillation import distillation_loss, r_drop_loss

LOG_3 = math.log(3)


def rows(*logits: float) -> Tensor:
    """One code of one prompt."""
    return torch.tensor([[list(logits)]], dtype=torch.float64)


def slow_kl(p_BLV: Tensor, q_BLV: Tensor) -> float:
    """Mean over codes of sum p log(p / q), by loops."""
    total = 0.0
    for p_LV, q_LV in zip(p_BLV.tolist(), q_BLV.tolist(), strict=True):
        for p_V, q_V in zip(p_LV, q_LV, strict=True):
            p_sum, q_sum = sum(map(math.exp, p_V)), sum(map(math.exp, q_V))
            for p, q in zip(p_V, q_V, strict=True):
                total += math.exp(p) / p_sum * math.log((math.exp(p) / p_sum) / (math.exp(q) / q_sum))
    return total / (p_BLV.shape[0] * p_BLV.shape[1])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Two tensors of logits of one shape."""
    shape = [draw(st.integers(1, 3)) for _ in range(3)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    one, other = (torch.randn(shape, generator=generator, dtype=torch.float64) * 2 for _ in range(2))
    return one, other


def test_a_teacher_of_three_to_one() -> None:
    """(3/4, 1/4) against (1/2, 1/2): 3/4 log 3/2 + 1/4 log 1/2, and not the other way round. At temperature 2 the odds are
    3^(1/2) to 1, and the sum counts four times."""
    loss, metrics = distillation_loss(rows(LOG_3, 0), rows(0, 0))
    assert loss.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert metrics["distillation"] == loss and not metrics["distillation"].requires_grad
    p = 3**0.5 / (1 + 3**0.5)
    softer = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert distillation_loss(rows(LOG_3, 0), rows(0, 0), 2.0)[0].item() == pytest.approx(softer)
    both = (0.75 * math.log(1.5) + 0.25 * math.log(0.5) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    assert r_drop_loss(rows(LOG_3, 0), rows(0, 0))[0].item() == pytest.approx(both)


@settings(max_examples=40, deadline=None)
@given(pairs(), st.sampled_from([0.5, 1.0, 2.0]))
def test_they_are_the_slow_ones(given_: tuple[Tensor, Tensor], tau: float) -> None:
    """In value, and in the gradient of each logit: tau (q - p) / (B L) of a softmax, from the teacher's p to the student's q."""
    teacher, student = given_
    student = student.clone().requires_grad_()
    loss, _ = distillation_loss(teacher, student, tau)
    assert loss.item() == pytest.approx(slow_kl(teacher / tau, student / tau) * tau**2, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, student)
    expected = tau * ((student / tau).softmax(-1) - (teacher / tau).softmax(-1)) / (student.shape[0] * student.shape[1])
    torch.testing.assert_close(gradient, expected)
    both = (slow_kl(teacher, student) + slow_kl(student, teacher)) / 2
    assert r_drop_loss(teacher, student)[0].item() == pytest.approx(both, abs=1e-12)
    assert r_drop_loss(student, teacher)[0].item() == pytest.approx(both, abs=1e-12)
    assert gradcheck(lambda q: distillation_loss(teacher, q, tau)[0], (student,))
    assert gradcheck(lambda p, q: r_drop_loss(p, q)[0], (teacher.clone().requires_grad_(), student))


def test_the_teacher_is_not_taught() -> None:
    teacher, student = rows(1, 0).requires_grad_(), rows(0, 0).requires_grad_()
    distillation_loss(teacher, student)[0].backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None and student.grad is not None
    with pytest.raises(NotFinite, match="distillation"):
        distillation_loss(rows(math.nan, 0), rows(0, 0))
    with pytest.raises(NotFinite, match="R-Drop"):
        r_drop_loss(rows(0, 0), rows(math.inf, 0))
