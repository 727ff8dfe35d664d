"""Pooling members: non-negative weights on link-scale scores, which is ensembling and calibration in one convex fit.

The weights need not sum to one: their sum is a temperature (Guo et al. 2017, "On Calibration of Modern Neural
Networks"). A quadratic pull toward equal weights keeps small tables stable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelworks.core.task import TaskKind
from modelworks.training.problem import Floats, Problem, Rows, sigmoid, softmax

_STEPS = 30
_MOST = 4.0


def pool_weights(
    scores: Sequence[Floats], problem: Problem, rows: Rows, *, pull: float = 1.0, floor: float = 0.0
) -> Floats:
    """Fit one non-negative weight per member.

    Args:
        scores: Out-of-fold scores of each member on ``rows``, ``[len(rows), outputs]``.
        problem: Target and weights.
        rows: Row numbers the scores belong to.
        pull: Strength of the pull to ``1 / members``, in rows.
        floor: Weights below this share of the sum become 0 and the rest are fitted again.
    """
    members = len(scores)
    active = list(range(members))
    while True:
        found = _fit([scores[index] for index in active], problem, rows, pull)
        keep = found >= floor * max(found.sum(), 1e-9)
        if keep.all() or not keep.any() or floor == 0.0:
            break
        active = [index for index, kept in zip(active, keep, strict=True) if kept]
    weights = np.zeros(members)
    weights[active] = found
    return weights


def pooled(scores: Sequence[Floats], weights: Floats) -> Floats:
    """Return the weighted sum of member scores."""
    total = np.zeros_like(scores[0], dtype=np.float64)
    for score, weight in zip(scores, weights, strict=True):
        if weight:
            total += weight * score
    return total


def _fit(scores: Sequence[Floats], problem: Problem, rows: Rows, pull: float) -> Floats:
    members = len(scores)
    stack = np.stack(scores)
    if problem.kind is TaskKind.MULTICLASS:
        stack = stack - stack.mean(axis=2, keepdims=True)
    weight = problem.row_weight(rows)
    prior = np.full(members, 1.0 / members)
    strength = pull * members

    def value(point: Floats) -> float:
        losses = problem.row_losses(np.tensordot(point, stack, 1), rows)
        scale = 0.5 if problem.kind is TaskKind.REGRESSION else 1.0
        return float(scale * (weight @ losses) + 0.5 * strength * np.square(point - prior).sum())

    point = prior.copy()
    current = value(point)
    for _ in range(_STEPS):
        gradient, hessian = _derivatives(stack, point, problem, rows, weight)
        gradient = gradient + strength * (point - prior)
        hessian = hessian + (strength + 1e-9 * np.trace(hessian)) * np.eye(members)
        target = _bounded_quadratic(hessian, gradient - hessian @ point, point)
        step, length = target - point, 1.0
        while length > 1e-4:
            candidate = point + length * step
            new = value(candidate)
            if new <= current:
                break
            length *= 0.5
        else:
            return point
        gain, point, current = current - new, candidate, new
        if gain < 1e-7 * len(rows):
            break
    return point


def _derivatives(
    stack: Floats, point: Floats, problem: Problem, rows: Rows, weight: Floats
) -> tuple[Floats, Floats]:
    total = np.tensordot(point, stack, 1)
    residual = problem.residuals(total, rows) * weight[:, None]
    gradient = np.tensordot(stack, residual, 2)
    if problem.kind is TaskKind.REGRESSION:
        curved = stack * weight[:, None]
    elif problem.kind is TaskKind.MULTICLASS:
        shares = softmax(total)
        mean = (stack * shares).sum(axis=2, keepdims=True)
        curved = shares * (stack - mean) * weight[:, None]
    else:
        chance = sigmoid(total)
        known = 1.0 if problem.known is None else problem.known[rows]
        curved = stack * (chance * (1 - chance) * known * weight[:, None])
    hessian = np.tensordot(stack, curved, ([1, 2], [1, 2]))
    return gradient, 0.5 * (hessian + hessian.T)


def _bounded_quadratic(hessian: Floats, linear: Floats, start: Floats) -> Floats:
    """Minimise ``x H x / 2 + linear x`` over ``0 <= x <= 4`` by cyclic coordinate descent."""
    point = start.copy()
    for _ in range(200):
        moved = 0.0
        for index in range(len(point)):
            slope = hessian[index] @ point + linear[index]
            new = min(max(point[index] - slope / hessian[index, index], 0.0), _MOST)
            moved = max(moved, abs(new - point[index]))
            point[index] = new
        if moved < 1e-8:
            break
    return point
