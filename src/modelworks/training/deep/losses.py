"""Losses of dense targets: hard labels, mixed pairs and a teacher's chances go through the same lines."""

from __future__ import annotations

from typing import Any

from modelworks.training.deep.examples import Loss
from modelworks.training.deep.library import load_torch


def row_losses(scores: Any, target: Any, known: Any, loss: Loss, smoothing: float = 0.0) -> Any:
    """Return the loss per row, ``[n]``, in nats (or Huber loss of standardised numbers).

    The cross entropy is linear in its target, so a target that is a mixture of a label and a teacher's chances is
    distillation at temperature one (Hinton, Vinyals & Dean 2015).

    Args:
        scores: ``[n, outputs]``.
        target, known: As in ``Examples``.
        loss: Which loss.
        smoothing: Share of the target that is spread over the outputs (Szegedy et al. 2016).
    """
    functional = load_torch().nn.functional
    scores = scores.float()
    if loss == "softmax":
        spread = target * (1 - smoothing) + smoothing / target.shape[1]
        return -(spread * functional.log_softmax(scores, dim=1)).sum(1)
    if loss == "sigmoid":
        spread = target * (1 - smoothing) + smoothing / 2
        losses = functional.binary_cross_entropy_with_logits(scores, spread, reduction="none")
    else:
        losses = functional.huber_loss(scores, target, reduction="none", delta=2.0)
    return (losses * known).sum(1) / known.sum(1).clamp_min(1.0)
