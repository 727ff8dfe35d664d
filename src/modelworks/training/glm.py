"""Ridge-penalised generalised linear models: one Gram matrix for all folds, penalties, outputs and tasks.

Regression is solved in closed form. Logistic and softmax models are fitted by L-BFGS preconditioned with the
inverse of Böhning's bound on the Hessian (Böhning 1992, "Multinomial logistic regression algorithm"), which
depends on the features only and so is shared by every step and output.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.budget import Budget
from modelworks.core.task import TaskKind
from modelworks.training.problem import Floats, Problem, Rows
from modelworks.training.triangular import inverse_of_lower

_CURVATURE = {TaskKind.BINARY: 0.25, TaskKind.MULTILABEL: 0.25, TaskKind.MULTICLASS: 0.5}
_MEMORY = 8
_LINE_STEPS = 12


class Design:
    """A feature matrix with a constant column, and its Gram matrix per fold.

    Args:
        features: float32 ``[rows, columns]``.
        problem: Gives folds and weights.
    """

    def __init__(self, features: npt.NDArray[np.float32], problem: Problem) -> None:
        self.matrix = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
        self._problem = problem
        self._fold_grams: dict[int, Floats] = {}
        self._total: Floats | None = None

    @property
    def columns(self) -> int:
        """Number of columns, the constant included."""
        return int(self.matrix.shape[1])

    def _gram_of(self, fold: int) -> Floats:
        known = self._fold_grams.get(fold)
        if known is None:
            rows = self._problem.parts(fold)[1]
            part = self.matrix[rows]
            if self._problem.weight is not None:
                part = part * np.sqrt(self._problem.row_weight(rows)).astype(np.float32)[:, None]
            known = self._fold_grams[fold] = (part.T @ part).astype(np.float64)
        return known

    def gram(self, without: int | None = None) -> Floats:
        """Return the weighted Gram matrix of all rows, or of the rows outside one fold."""
        if self._total is None:
            self._total = np.sum([self._gram_of(fold) for fold in self._problem.fold_numbers], axis=0)
        return self._total if without is None else np.asarray(self._total - self._gram_of(without))


@dataclass(frozen=True, kw_only=True)
class LinearFit:
    """Coefficients ``[columns, outputs]`` (the last row is the constant) and the penalty they were fitted with."""

    coefficients: Floats
    penalty: float

    def scores(self, features: npt.NDArray[np.float32]) -> Floats:
        """Return ``[rows, outputs]`` for features without the constant column."""
        weights = self.coefficients[:-1].astype(np.float32)
        return np.asarray((features @ weights).astype(np.float64) + self.coefficients[-1])


def fit_glm(
    matrix: npt.NDArray[np.float32],
    problem: Problem,
    rows: Rows,
    *,
    gram: Floats,
    penalty: float,
    start: LinearFit | None = None,
    budget: Budget | None = None,
    steps: int = 40,
    tolerance: float = 1e-4,
) -> LinearFit:
    """Fit on some rows.

    Args:
        matrix: float32 ``[len(rows), columns]``, the features of ``rows``, the last column constant.
        problem: Target and weights.
        rows: Row numbers in the problem.
        gram: Weighted Gram matrix of ``matrix``.
        penalty: Ridge penalty on every coefficient but the constant.
        start: Warm start.
        budget: Checked at every step.
        steps: Most L-BFGS steps.
        tolerance: Stop when a step gains less than this share of a nat per row.
    """
    columns = matrix.shape[1]
    ridge = np.full(columns, penalty)
    ridge[-1] = 1e-8 * max(1.0, float(gram[-1, -1]))
    weight = problem.row_weight(rows)[:, None]
    dense = problem.dense_target[rows]
    if problem.kind is TaskKind.REGRESSION:
        right = (matrix.T @ (weight * dense).astype(np.float32)).astype(np.float64)
        return LinearFit(
            coefficients=np.asarray(np.linalg.solve(gram + np.diag(ridge), right)), penalty=penalty
        )
    solve = _solver(_CURVATURE[problem.kind] * gram + np.diag(ridge))
    if start is None:
        first = np.zeros((columns, problem.outputs))
        first[-1] = problem.base_scores(rows)
    else:
        first = start.coefficients

    def objective(flat: Floats) -> tuple[float, Floats]:
        if budget is not None:
            budget.check()
        beta = flat.reshape(columns, problem.outputs)
        scores = (matrix @ beta.astype(np.float32)).astype(np.float64)
        losses = problem.row_losses(scores, rows)
        value = float(weight[:, 0] @ losses) + 0.5 * float(ridge @ np.square(beta).sum(1))
        residual = (weight * problem.residuals(scores, rows)).astype(np.float32)
        gradient = (matrix.T @ residual).astype(np.float64) + ridge[:, None] * beta
        return value, gradient.ravel()

    def precondition(flat: Floats) -> Floats:
        return solve(flat.reshape(columns, problem.outputs)).ravel()

    flat = minimise(objective, first.ravel(), precondition, steps=steps, tolerance=tolerance * len(rows))
    return LinearFit(coefficients=flat.reshape(first.shape), penalty=penalty)


def _solver(curvature: Floats) -> Callable[[Floats], Floats]:
    """Return the map of ``[columns, outputs]`` to the inverse of ``curvature`` times it."""
    try:
        root = inverse_of_lower(np.linalg.cholesky(curvature))
    except (
        np.linalg.LinAlgError
    ):  # Gram matrices of dependent columns in float32 have eigenvalues just below zero.
        inverse = np.linalg.inv(curvature)
        return lambda values: np.asarray(inverse @ values)
    return lambda values: np.asarray(root.T @ (root @ values))


def best_on_path(count: int, first: int, loss_at: Callable[[int], float]) -> int:
    """Return the best of ``count`` ordered settings, walking downhill from ``first`` (the loss is unimodal)."""
    losses = {first: loss_at(first)}
    best = first
    for step in (1, -1):
        here = best
        while 0 <= here + step < count:
            here += step
            losses[here] = loss_at(here)
            if losses[here] >= losses[best]:
                break
            best = here
        if best != first:
            break
    return best


def minimise(
    objective: Any, start: Floats, precondition: Any, *, steps: int = 100, tolerance: float = 1e-6
) -> Floats:
    """Minimise a smooth convex function by preconditioned L-BFGS with backtracking.

    Source: Nocedal and Wright, "Numerical Optimization", algorithm 7.4 and section 3.1.

    Args:
        objective: Flat parameters -> (value, gradient).
        start: First parameters.
        precondition: Flat gradient -> approximately inverse-Hessian times gradient.
        steps: Most steps.
        tolerance: Stop when two steps in a row gain less than this.
    """
    point = start.copy()
    value, gradient = objective(point)
    pairs: deque[tuple[Floats, Floats, float]] = deque(maxlen=_MEMORY)
    small_gains = 0
    for _ in range(steps):
        direction = -_two_loops(gradient, pairs, precondition)
        slope = float(direction @ gradient)
        if slope >= 0:
            pairs.clear()
            direction = -precondition(gradient)
            slope = float(direction @ gradient)
        length = 1.0
        for _ in range(_LINE_STEPS):
            candidate = point + length * direction
            new_value, new_gradient = objective(candidate)
            if new_value <= value + 1e-4 * length * slope:
                break
            length *= 0.5
        else:
            return point
        step, change = candidate - point, new_gradient - gradient
        curvature = float(step @ change)
        if curvature > 1e-12:
            pairs.append((step, change, 1.0 / curvature))
        gain = value - new_value
        point, value, gradient = candidate, new_value, new_gradient
        small_gains = small_gains + 1 if gain < tolerance else 0
        if small_gains >= 2:
            break
    return point


def _two_loops(gradient: Floats, pairs: deque[tuple[Floats, Floats, float]], precondition: Any) -> Floats:
    vector = gradient.copy()
    factors = []
    for step, change, inverse in reversed(pairs):
        factor = inverse * float(step @ vector)
        factors.append(factor)
        vector -= factor * change
    vector = precondition(vector)
    for (step, change, inverse), factor in zip(pairs, reversed(factors), strict=True):
        vector += step * (factor - inverse * float(change @ vector))
    return np.asarray(vector)
