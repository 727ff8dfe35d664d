"""Penalised logistic and softmax regressions as the columns of one stack, solved by nonlinear conjugate gradients.

In the principal axes of the shared samples every column's Hessian is close to a diagonal one: divided by it, gradients
of a handful of steps, each one product with the samples and one with their transpose, reach the minimum.

Source: Polak & Ribière (1969); Nocedal & Wright (2006), Numerical optimization, 5.2; Böhning (1992), Multinomial
logistic regression algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelworks.training.calibration import softplus
from modelworks.training.heads.task import Doubles, Floats

STEPS = 40
"""Steps at most; columns that stand still are left out of them."""
_STILL = 1e-4
_NEAR = 1e-2
"""Share of the loss that a step along the gradient still promises where a column may be called still."""
_HALVINGS = 10


@dataclass(frozen=True)
class Stack:
    """The problems of a stack.

    Attributes:
        axes: Samples ``[n, rank]``, uncorrelated in the whole.
        variance: Of each axis ``[rank]``.
        truth: ``[n, columns, outputs]``: 0 or 1; one output is logistic, several are softmax.
        weight: Of each row in each column ``[n, columns]``, summing to 1.
        penalty: Half of this times the squared weights is added to each column's loss ``[columns]``.
    """

    axes: Floats
    variance: Doubles
    truth: Floats
    weight: Floats
    penalty: Floats


def minimise(stack: Stack, steps: int = STEPS) -> Floats:
    """Return the weights of least penalised log loss of every column.

    Args:
        stack: The problems.
        steps: Steps at most.

    Returns:
        ``[rank + 1, columns, outputs]``, the intercept last.
    """
    n, columns, outputs = stack.truth.shape
    design = np.hstack([stack.axes, np.ones((n, 1), np.float32)])
    found = np.zeros((design.shape[1], columns, outputs), np.float32)
    share = np.clip(np.einsum("nc,nco->co", stack.weight, stack.truth), 1e-3, 1 - 1e-3)
    found[-1] = np.log(share / (1 - share)) if outputs == 1 else np.log(share)
    active = np.arange(columns)
    moving = _Moving(design, stack, found.copy(), active)
    for _ in range(steps):
        still = moving.step()
        if still.any():
            found[:, active[still]] = moving.solved[:, still]
            active = active[~still]
            if not len(active):
                return found
            moving.keep(~still)
    found[:, active] = moving.solved
    return found


class _Moving:
    """The columns that still move; they start from the class shares alone."""

    def __init__(self, design: Floats, stack: Stack, solved: Floats, active: np.ndarray) -> None:
        self.design, self.variance = design, np.append(stack.variance, 1.0).astype(np.float32)[:, None, None]
        self.truth, self.weight, self.solved = stack.truth, stack.weight, solved
        self.ridge = np.zeros((len(solved), len(active), 1), np.float32)
        self.ridge[:-1] = stack.penalty[:, None]
        self.scores = np.broadcast_to(solved[-1], self.truth.shape)
        self.loss = _loss(self.scores, self.truth, self.weight, self.solved, self.ridge)
        self.direction = np.zeros_like(solved)
        self.gradient = np.zeros_like(solved)
        self.power = np.full(len(active), np.inf, np.float32)
        self.straight = np.ones(len(active), bool)

    def keep(self, chosen: np.ndarray) -> None:
        """Go on with some of the columns."""
        for name in ("truth", "weight", "solved", "ridge", "scores", "direction", "gradient"):
            setattr(self, name, getattr(self, name)[:, chosen])
        self.loss, self.power, self.straight = self.loss[chosen], self.power[chosen], self.straight[chosen]

    def step(self) -> np.ndarray:
        """Take a step in every column; returns which of them stand still.

        With many classes a step may be too long and the direction after it lead nowhere. A column that hardly moved is
        still only if its gradient promises little too, or if the step went along the gradient; else the next one does.
        """
        weight, p = self.weight[..., None], _chances(self.scores)
        bend = weight * p * (1 - p)
        gradient = _back(self.design, weight * (p - self.truth)) + self.ridge * self.solved
        diagonal = self.variance * bend.sum(axis=0) + self.ridge + 1e-6
        z = gradient / diagonal
        turn = _dot(gradient - self.gradient, z) / self.power
        direction = z + np.maximum(turn, 0)[:, None] * self.direction
        self.gradient, self.power = gradient, np.maximum(_dot(gradient, z), 1e-30)
        ahead = _forward(self.design, direction)
        curve = np.einsum("nco,nco,nco->c", bend, ahead, ahead)
        if p.shape[2] > 1:
            # Classes share one sum: what they have in common does not bend the loss.
            mean = np.einsum("nco,nco->nc", p, ahead)
            curve = np.einsum("nc,nco,nco->c", self.weight, p, (ahead - mean[..., None]) ** 2)
        curve = curve + np.einsum("rco,rco->c", self.ridge * direction, direction)
        size = (_dot(gradient, direction) / np.maximum(curve, 1e-30)).astype(np.float32)
        for _ in range(_HALVINGS):
            solved, scores = self.solved - size[:, None] * direction, self.scores - size[:, None] * ahead
            loss = _loss(scores, self.truth, self.weight, solved, self.ridge)
            worse = ~(loss <= self.loss + 1e-7)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        else:
            size = np.where(worse, 0, size)
            solved, scores = self.solved - size[:, None] * direction, self.scores - size[:, None] * ahead
            loss = np.where(worse, self.loss, loss)
        floor = np.maximum(loss, 1e-3)
        stuck = self.loss - loss <= _STILL * floor
        still = np.asarray(stuck & (self.straight | (self.power <= _NEAR * floor)))
        self.solved, self.scores, self.loss, self.straight = solved, scores, loss, stuck
        self.direction = np.where(stuck[:, None], 0, direction).astype(np.float32)
        return still


def _dot(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.einsum("rco,rco->c", one, other), np.float32)


def _forward(design: Floats, weights: Floats) -> Floats:
    return (design @ weights.reshape(len(weights), -1)).reshape(len(design), *weights.shape[1:])


def _back(design: Floats, values: Floats) -> Floats:
    return (design.T @ values.reshape(len(values), -1)).reshape(design.shape[1], *values.shape[1:])


def _chances(scores: Floats) -> Floats:
    if scores.shape[2] == 1:
        return np.asarray(1 / (1 + np.exp(-np.clip(scores, -60, 60))), np.float32)
    raised = np.exp(scores - scores.max(axis=2, keepdims=True))
    return np.asarray(raised / raised.sum(axis=2, keepdims=True), np.float32)


def _loss(scores: Floats, truth: Floats, weight: Floats, solved: Floats, ridge: Floats) -> Doubles:
    if scores.shape[2] == 1:
        rows = (softplus(scores) - truth * scores)[..., 0]
    else:
        top = scores.max(axis=2)
        rows = (
            top
            + np.log(np.exp(scores - top[..., None]).sum(axis=2))
            - np.einsum("nco,nco->nc", truth, scores)
        )
    return np.asarray(
        np.einsum("nc,nc->c", weight, rows, dtype=np.float64)
        + 0.5 * np.einsum("rco,rco->c", ridge * solved, solved, dtype=np.float64)
    )
