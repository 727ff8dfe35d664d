"""Many linear heads on one set of embeddings: one factorisation, exact leave-one-out, calibration for all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import DataError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

MISSING = 255
DEFAULT_PENALTIES = tuple(float(10.0**power) for power in range(-4, 4))


@dataclass(frozen=True, kw_only=True)
class HeadTask:
    """One task on shared embeddings.

    Attributes:
        name: Name of the task.
        labels: ``int64 [n]`` class codes with -1 for a sample that is not labelled, or ``float64 [n]`` targets
            with NaN for one that is not.
        classes: Number of classes; 0 for regression.
    """

    name: str
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    classes: int

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Which samples carry a label for this task."""
        if self.classes:
            return np.asarray(self.labels >= 0)
        return np.isfinite(self.labels)


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """A fitted head: ``logits = embeddings @ weights + bias``.

    Attributes:
        name: Name of its task.
        weights: ``[d, outputs]``; one output for binary tasks and regression.
        bias: ``[outputs]``.
        penalty: Ridge penalty chosen by leave-one-out, relative to the mean eigenvalue of the covariance.
        left_out: Calibrated leave-one-out logits (predictions for regression) ``[labelled rows, outputs]``.
        loss: Leave-one-out log loss, or mean squared error for regression.
        rows: Number of labelled samples.
    """

    name: str
    weights: Floats
    bias: Floats
    penalty: float
    left_out: Floats
    loss: float
    rows: int


@dataclass(frozen=True)
class _Factor:
    """Centred samples as ``left * sqrt(values) @ right.T``."""

    mean: Doubles
    left: Doubles
    values: Doubles
    right: Doubles


def fit_heads(
    embeddings: Floats, tasks: Sequence[HeadTask], *, penalties: Sequence[float] = DEFAULT_PENALTIES
) -> list[LinearHead]:
    """Fit a ridge head for every task in one pass and calibrate it on its exact leave-one-out predictions.

    Tasks that are labelled on the same samples share one eigendecomposition (of the smaller of the covariance and the
    Gram matrix) and one matrix product per penalty. The penalty of each task is the one with the least leave-one-out
    squared error; class scores become probabilities by Platt scaling (binary) or vector scaling (multiclass) on the
    left-out scores.

    Args:
        embeddings: ``[n, d]``.
        tasks: Tasks over the same ``n`` samples; each may leave samples unlabelled.
        penalties: Ridge penalties to choose from, relative to the mean eigenvalue of the covariance.

    Returns:
        One head per task, in the order of ``tasks``.

    Raises:
        DataError: A task has fewer than two labelled samples or only one class.

    Source: Allen (1974), PRESS; Rifkin & Lippert (2007), Notes on regularized least squares; Platt (1999);
    Guo et al. (2017), On calibration of modern neural networks.
    """
    groups: dict[bytes, list[int]] = {}
    for index, task in enumerate(tasks):
        _check(task, len(embeddings))
        groups.setdefault(np.packbits(task.labelled).tobytes(), []).append(index)
    heads: dict[int, LinearHead] = {}
    for indices in groups.values():
        labelled = tasks[indices[0]].labelled
        rows = embeddings if labelled.all() else embeddings[labelled]
        factor = _factorise(rows)
        heads.update(_fit_group(factor, [(index, tasks[index]) for index in indices], labelled, penalties))
    return [heads[index] for index in range(len(tasks))]


def _check(task: HeadTask, rows: int) -> None:
    if len(task.labels) != rows:
        raise DataError(
            f"Task '{task.name}' has {len(task.labels)} labels for {rows} embeddings.", code="MW1110"
        )
    present = task.labels[task.labelled]
    if len(present) < 2 or (task.classes and len(np.unique(present)) < 2):
        raise DataError(
            f"Task '{task.name}' has {len(present)} labelled samples of {len(np.unique(present))} class(es).",
            code="MW1111",
            hint="label at least two samples of each of two classes",
        )


def _factorise(rows: Floats) -> _Factor:
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = rows - mean.astype(np.float32)
    if len(rows) >= rows.shape[1]:
        values, right = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        keep = values > max(values[-1], 1e-30) * 1e-7
        values, right = values[keep], right[:, keep]
        left = (centred @ (right / np.sqrt(values)).astype(np.float32)).astype(np.float64)
    else:
        values, left = np.linalg.eigh((centred @ centred.T).astype(np.float64))
        keep = values > max(values[-1], 1e-30) * 1e-7
        values, left = values[keep], left[:, keep]
        right = (centred.T @ (left / np.sqrt(values)).astype(np.float32)).astype(np.float64)
    return _Factor(mean=mean, left=left, values=values, right=right)


def _targets(tasks: Sequence[HeadTask], labelled: npt.NDArray[np.bool_]) -> tuple[Doubles, list[slice]]:
    """Stack all tasks as columns: -1/+1 for binary, one column per class, the value for regression."""
    columns: list[Doubles] = []
    slices: list[slice] = []
    for task in tasks:
        labels = task.labels[labelled]
        if task.classes == 2:
            block = np.where(labels == 1, 1.0, -1.0)[:, None]
        elif task.classes:
            block = (labels[:, None] == np.arange(task.classes)).astype(np.float64)
        else:
            block = labels.astype(np.float64)[:, None]
        start = sum(part.shape[1] for part in columns)
        columns.append(block)
        slices.append(slice(start, start + block.shape[1]))
    return np.hstack(columns), slices


def _fit_group(
    factor: _Factor,
    tasks: Sequence[tuple[int, HeadTask]],
    labelled: npt.NDArray[np.bool_],
    penalties: Sequence[float],
) -> dict[int, LinearHead]:
    targets, slices = _targets([task for _, task in tasks], labelled)
    mean = targets.mean(axis=0)
    centred = targets - mean
    projected = factor.left.T @ centred
    squares = factor.left**2
    best_error = np.full(len(tasks), np.inf)
    best: list[tuple[float, Doubles]] = [(0.0, np.empty((0, 0)))] * len(tasks)
    scale = float(factor.values.mean()) if len(factor.values) else 1.0
    for penalty in penalties:
        shrink = factor.values / (factor.values + penalty * scale)
        leverage = squares @ shrink + 1.0 / len(targets)
        residual = (centred - factor.left @ (shrink[:, None] * projected)) / (1.0 - leverage)[:, None]
        errors = (residual**2).mean(axis=0)
        for position, columns in enumerate(slices):
            error = float(errors[columns].mean())
            if error < best_error[position]:
                best_error[position] = error
                best[position] = (penalty, targets[:, columns] - residual[:, columns])
    chosen = np.concatenate(
        [
            np.full(columns.stop - columns.start, penalty)
            for columns, (penalty, _) in zip(slices, best, strict=True)
        ]
    )
    solved = factor.right @ (
        projected * np.sqrt(factor.values)[:, None] / (factor.values[:, None] + chosen[None, :] * scale)
    )
    offsets = mean - factor.mean @ solved
    return {
        index: _calibrated(task, solved[:, columns], offsets[columns], penalty, scores, labelled)
        for (index, task), columns, (penalty, scores) in zip(tasks, slices, best, strict=True)
    }


def _calibrated(
    task: HeadTask,
    weights: Doubles,
    offset: Doubles,
    penalty: float,
    scores: Doubles,
    labelled: npt.NDArray[np.bool_],
) -> LinearHead:
    labels = task.labels[labelled]
    if task.classes == 0:
        slope, shift = np.ones(1), np.zeros(1)
        loss = float(((scores[:, 0] - labels) ** 2).mean())
    elif task.classes == 2:
        slope, shift = platt_scaling(scores[:, 0], labels == 1)
        margin = np.where(labels == 1, 1.0, -1.0) * (scores[:, 0] * slope[0] + shift[0])
        loss = float(np.logaddexp(0.0, -margin).mean())
    else:
        slope, shift = vector_scaling(scores, labels.astype(np.int64))
        logits = scores * slope + shift
        loss = float((_log_sum_exp(logits) - logits[np.arange(len(labels)), labels.astype(np.int64)]).mean())
    return LinearHead(
        name=task.name,
        weights=(weights * slope).astype(np.float32),
        bias=(offset * slope + shift).astype(np.float32),
        penalty=penalty,
        left_out=(scores * slope + shift).astype(np.float32),
        loss=loss,
        rows=len(labels),
    )


def platt_scaling(scores: Doubles, positive: npt.NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """Fit ``P(positive) = sigmoid(slope * score + shift)`` by Newton's method with Platt's smoothed targets.

    Returns:
        ``slope [1]`` (never negative) and ``shift [1]``.

    Source: Platt (1999); Lin, Lin & Weng (2007), A note on Platt's probabilistic outputs.
    """
    count = float(positive.sum())
    targets = np.where(positive, (count + 1) / (count + 2), 1 / (len(scores) - count + 2))
    design = np.stack([scores, np.ones(len(scores))], axis=1)
    solution = np.array([1.0, np.log((count + 1) / (len(scores) - count + 1))])

    def loss(candidate: Doubles) -> float:
        z = design @ candidate
        return float((np.logaddexp(0.0, z) - targets * z).sum())

    current = loss(solution)
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ solution, -40, 40)))
        gradient = design.T @ (p - targets)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and loss(solution - size * step) > current + 1e-12:
            size /= 2
        solution = solution - size * step
        previous, current = current, loss(solution)
        if previous - current < 1e-9 * (1 + abs(current)):
            break
    if solution[0] < 0:
        return np.zeros(1), np.array([np.log((count + 1) / (len(scores) - count + 1))])
    return solution[:1], solution[1:]


def vector_scaling(scores: Doubles, labels: npt.NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Fit ``softmax(slope * scores + shift)`` with one slope for all classes and one shift per class.

    The shifts are pulled to zero so that a class seen a few times keeps its score.

    Returns:
        ``slope [classes]`` (equal entries) and ``shift [classes]``.

    Source: Guo et al. (2017), On calibration of modern neural networks.
    """
    from scipy.optimize import minimize

    classes = scores.shape[1]
    hot = (labels[:, None] == np.arange(classes)).astype(np.float64)

    def objective(values: Doubles) -> tuple[float, Doubles]:
        logits = scores * np.exp(values[0]) + values[1:]
        normaliser = _log_sum_exp(logits)
        error = np.exp(logits - normaliser[:, None]) - hot
        loss = float((normaliser - (logits * hot).sum(axis=1)).sum() + 0.5 * (values[1:] ** 2).sum())
        slope = float((error * scores).sum() * np.exp(values[0]))
        return loss, np.concatenate([[slope], error.sum(axis=0) + values[1:]])

    start = np.zeros(classes + 1)
    start[0] = np.log(4.0)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(-3, 6)] + [(-8, 8)] * classes)
    return np.full(classes, float(np.exp(found.x[0]))), np.asarray(found.x[1:])


def _log_sum_exp(logits: Doubles) -> Doubles:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
