"""Self-distillation and R-Drop: two distributions of the same codes, drawn together (V2 Eq. 4 and 6).

Both take logits of which each row predicts the code in its own place (`Policy.full_logits`, for every backbone). The paper's release
forgets the shift of a decoder-only model, and never distils its first code.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax

from trainers.losses.terms import Metrics, finite


def distillation_loss(teacher_BLV: Tensor, student_BLV: Tensor, tau: float = 1.0) -> tuple[Tensor, Metrics]:
    """KL(softmax(teacher / tau) || softmax(student / tau)) tau^2, mean over all codes (Eq. 4). No gradient reaches the teacher.

    Args:
        teacher_BLV: logits of the prompt that has the keywords.
        student_BLV: logits of the same codes under the prompt as it is.
        tau: temperature of both, above 0.

    Raises:
        NotFinite: the loss.
    """
    loss = _kl(teacher_BLV.detach() / tau, student_BLV / tau) * tau**2
    return finite(loss, "distillation loss"), {"distillation": loss.detach()}


def r_drop_loss(one_BLV: Tensor, other_BLV: Tensor) -> tuple[Tensor, Metrics]:
    """1/2 [KL(one || other) + KL(other || one)], mean over all codes (Eq. 6), of two passes that dropped other activations.

    Raises:
        NotFinite: the loss.
    """
    loss = (_kl(one_BLV, other_BLV) + _kl(other_BLV, one_BLV)) / 2
    return finite(loss, "R-Drop loss"), {"r_drop": loss.detach()}


def _kl(p_BLV: Tensor, q_BLV: Tensor) -> Tensor:
    """KL(softmax(p) || softmax(q)), mean over B and L."""
    logp_BLV, logq_BLV = log_softmax(p_BLV, dim=-1), log_softmax(q_BLV, dim=-1)
    return (logp_BLV.exp() * (logp_BLV - logq_BLV)).sum(dim=-1).mean()
