"""A supervised problem without its features: target, weights, folds, and the loss every member is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.task import TaskKind

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

MISSING_LABEL = 255
_LOGIT_BOUND = 30.0


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What members learn and how their scores are judged.

    Scores live on the link scale, ``[rows, outputs]``: a logit for binary, one logit per class for
    multiclass (softmax), one per label for multilabel, and the standardised target for regression.

    Attributes:
        kind: binary, multiclass, multilabel or regression.
        target: int64 codes | uint8 [rows, labels] (255 = missing) | float64, standardised for regression.
        weight: float64 row weights with mean 1, or ``None``.
        folds: int8 fold number per row.
        classes: Number of classes or labels; 0 for regression.
        centre, spread: ``raw = centre + spread * standardised`` for regression.
    """

    kind: TaskKind
    target: npt.NDArray[Any]
    folds: npt.NDArray[np.int8]
    classes: int
    weight: Floats | None = None
    centre: float = 0.0
    spread: float = 1.0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.folds)

    @property
    def outputs(self) -> int:
        """Number of score columns."""
        return self.classes if self.kind in (TaskKind.MULTICLASS, TaskKind.MULTILABEL) else 1

    @cached_property
    def fold_numbers(self) -> tuple[int, ...]:
        """The folds that hold rows, in order."""
        return tuple(int(fold) for fold in np.unique(self.folds))

    def parts(self, fold: int) -> tuple[Rows, Rows]:
        """Return the row numbers outside and inside ``fold``."""
        inside = self.folds == fold
        return np.flatnonzero(~inside), np.flatnonzero(inside)

    def row_weight(self, rows: Rows | slice) -> Floats:
        """Return the weights of some rows (ones if the problem has none)."""
        if self.weight is None:
            return np.ones(len(self.target[rows]))
        return self.weight[rows]

    @cached_property
    def dense_target(self) -> Floats:
        """The target as ``[rows, outputs]``: 0/1 per class or label, or the standardised number."""
        if self.kind is TaskKind.MULTICLASS:
            dense = np.zeros((self.rows, self.classes))
            dense[np.arange(self.rows), self.target] = 1.0
            return dense
        if self.kind is TaskKind.MULTILABEL:
            return np.where(self.target == MISSING_LABEL, 0, self.target).astype(np.float64)
        return self.target.astype(np.float64)[:, None]

    @cached_property
    def known(self) -> Floats | None:
        """For multilabel 1 where a label is known, else ``None``."""
        if self.kind is not TaskKind.MULTILABEL:
            return None
        return np.asarray(self.target != MISSING_LABEL, dtype=np.float64)

    def base_scores(self, rows: Rows | slice = slice(None)) -> Floats:
        """Return the scores ``[outputs]`` of the best constant prediction on some rows (add-one smoothed)."""
        weight = self.row_weight(rows)[:, None]
        dense = self.dense_target[rows]
        if self.kind is TaskKind.REGRESSION:
            return np.asarray((weight * dense).sum(0) / weight.sum())
        if self.kind is TaskKind.MULTICLASS:
            counts = (weight * dense).sum(0) + 0.5
            return np.asarray(np.log(counts / counts.sum()))
        known = np.ones_like(dense) if self.known is None else self.known[rows]
        positive = (weight * dense * known).sum(0) + 0.5
        negative = (weight * (1 - dense) * known).sum(0) + 0.5
        return np.asarray(np.log(positive / negative))

    def row_losses(self, scores: Floats, rows: Rows | slice = slice(None)) -> Floats:
        """Return the loss per row: log loss in nats (mean over known labels) or squared error."""
        if self.kind is TaskKind.REGRESSION:
            return np.asarray(np.square(scores[:, 0] - self.target[rows]))
        if self.kind is TaskKind.MULTICLASS:
            codes = self.target[rows]
            top = scores.max(axis=1)
            total = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top
            return np.asarray(total - scores[np.arange(len(codes)), codes])
        dense = self.dense_target[rows]
        losses = np.logaddexp(0.0, scores) - dense * scores
        if self.known is None:
            return np.asarray(losses[:, 0])
        known = self.known[rows]
        return np.asarray((losses * known).sum(1) / np.maximum(known.sum(1), 1.0))

    def loss(self, scores: Floats, rows: Rows | slice = slice(None)) -> float:
        """Return the weighted mean of ``row_losses`` (for regression: mean squared standardised error)."""
        return float(np.average(self.row_losses(scores, rows), weights=self.row_weight(rows)))

    def reported(self, loss: float) -> float:
        """Return a mean loss in the unit people read: nats, or RMSE in the target's unit."""
        return float(np.sqrt(loss) * self.spread) if self.kind is TaskKind.REGRESSION else loss

    def residuals(self, scores: Floats, rows: Rows | slice = slice(None)) -> Floats:
        """Return the gradient of the row losses by the scores, ``[rows, outputs]`` (not weighted)."""
        dense = self.dense_target[rows]
        if self.kind is TaskKind.REGRESSION:
            return scores - dense
        if self.kind is TaskKind.MULTICLASS:
            return softmax(scores) - dense
        gradient = sigmoid(scores) - dense
        return gradient if self.known is None else gradient * self.known[rows]


def sigmoid(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``1 / (1 + exp(-scores))`` without overflow."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scores, -_LOGIT_BOUND, _LOGIT_BOUND))))


def softmax(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the softmax over the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
