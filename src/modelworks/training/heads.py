"""Many linear heads on one set of embeddings: one factorisation, leave-one-out choice, calibration for all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import DataError
from modelworks.training.calibration import log_sum_exp, platt_many, vector_scaling
from modelworks.training.ridge import Factor, Ridge, factorise, fit_complete, fit_masked

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MISSING = 255
DEFAULT_PENALTIES = tuple(float(10.0**power) for power in range(-4, 4))
PATTERNS = 3
"""So many patterns of missing labels get a factorisation of their own; beyond that they share one."""


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
    def labelled(self) -> Mask:
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


def fit_heads(
    embeddings: Floats, tasks: Sequence[HeadTask], *, penalties: Sequence[float] = DEFAULT_PENALTIES
) -> list[LinearHead]:
    """Fit a ridge head for every task in one pass and calibrate it on its leave-one-out predictions.

    Tasks that are labelled on the same samples share one eigendecomposition (of the smaller of the covariance and the
    Gram matrix). Where many tasks lack labels of their own, they share the one of all samples (``ridge.fit_masked``);
    a task with few labels has a small problem of its own. The penalty of each task is the one with the least
    leave-one-out squared error; class scores become probabilities by Platt scaling (binary) or vector scaling
    (multiclass) on the left-out scores.

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
    shared: list[int] = []
    whole: Factor | None = None
    for indices in groups.values():
        labelled = tasks[indices[0]].labelled
        if _shares(labelled, embeddings.shape[1], len(groups)):
            shared += indices
            continue
        own = [tasks[index] for index in indices]
        factor = factorise(embeddings if labelled.all() else embeddings[labelled])
        whole = factor if labelled.all() else whole
        targets, blocks = _stacked(own, labelled)
        fitted = fit_complete(factor, targets, blocks, penalties)
        found = _calibrated(own, blocks, fitted, np.ones((len(targets), len(own)), bool), labelled)
        heads.update(zip(indices, found, strict=True))
    if shared:
        shared.sort()
        own = [tasks[index] for index in shared]
        everything = np.ones(len(embeddings), bool)
        targets, blocks = _stacked(own, everything)
        known = np.stack([task.labelled for task in own], axis=1)
        wide = np.repeat(known, [block.stop - block.start for block in blocks], axis=1)
        fitted = fit_masked(whole or factorise(embeddings), targets, wide, blocks, penalties)
        heads.update(zip(shared, _calibrated(own, blocks, fitted, known, everything), strict=True))
    return [heads[index] for index in range(len(tasks))]


def _shares(labelled: Mask, width: int, patterns: int) -> bool:
    """Say whether a pattern of labels uses the factorisation of all samples: its own would cost more."""
    return patterns > PATTERNS and not labelled.all() and 2 * int(labelled.sum()) > min(len(labelled), width)


def _check(task: HeadTask, rows: int) -> None:
    if len(task.labels) != rows:
        raise DataError(
            f"Task '{task.name}' has {len(task.labels)} labels for {rows} embeddings.", code="MW1181"
        )
    present = task.labels[task.labelled]
    several = len(present) > 0 and present.min() < present.max()
    if len(present) < 2 or (task.classes and not several):
        raise DataError(
            f"Task '{task.name}' has {len(present)} labelled samples of {len(np.unique(present))} class(es).",
            code="MW1182",
            hint="label at least two samples of each of two classes",
        )


def _stacked(tasks: Sequence[HeadTask], rows: Mask) -> tuple[Floats, list[slice]]:
    """Stack all tasks as columns: -1/+1 for binary, one column per class, the value for regression."""
    widths = [task.classes if task.classes > 2 else 1 for task in tasks]
    ends = np.cumsum(widths)
    blocks = [slice(int(end) - width, int(end)) for end, width in zip(ends, widths, strict=True)]
    columns = np.empty((int(rows.sum()), int(ends[-1])), np.float32)
    for task, block in zip(tasks, blocks, strict=True):
        labels = task.labels[rows]
        if task.classes == 2:
            columns[:, block.start] = np.where(labels == 1, 1.0, -1.0)
        elif task.classes:
            columns[:, block] = labels[:, None] == np.arange(task.classes)
        else:
            columns[:, block.start] = np.where(np.isfinite(labels), labels, 0.0)
    return columns, blocks


def _calibrated(
    tasks: Sequence[HeadTask], blocks: Sequence[slice], fitted: Ridge, known: Mask, rows: Mask
) -> list[LinearHead]:
    """Turn fitted columns into heads; ``known [rows, tasks]``."""
    slope, shift = np.ones(fitted.weights.shape[1]), np.zeros(fitted.weights.shape[1])
    loss = np.zeros(len(tasks))
    scores = fitted.left_out.astype(np.float64)
    labels = [task.labels[rows] for task in tasks]
    binary = [index for index, task in enumerate(tasks) if task.classes == 2]
    if binary:
        columns = [blocks[index].start for index in binary]
        positive = np.stack([labels[index] == 1 for index in binary], axis=1)
        mask = known[:, binary]
        slope[columns], shift[columns] = platt_many(scores[:, columns], positive, mask)
        margin = np.where(positive, 1.0, -1.0) * (scores[:, columns] * slope[columns] + shift[columns])
        loss[binary] = (np.logaddexp(0.0, -margin) * mask).sum(axis=0) / mask.sum(axis=0)
    for index, task in enumerate(tasks):
        block, present = blocks[index], known[:, index]
        if task.classes == 0:
            loss[index] = float(((scores[present, block.start] - labels[index][present]) ** 2).mean())
        elif task.classes > 2:
            truth = labels[index][present].astype(np.int64)
            slope[block], shift[block] = vector_scaling(scores[present][:, block], truth)
            logits = scores[present][:, block] * slope[block] + shift[block]
            loss[index] = float((log_sum_exp(logits) - logits[np.arange(len(truth)), truth]).mean())
    weights = (fitted.weights * slope).astype(np.float32)
    bias = (fitted.bias * slope + shift).astype(np.float32)
    left_out = (scores * slope + shift).astype(np.float32)
    complete = bool(known.all())
    return [
        LinearHead(
            name=task.name,
            weights=weights[:, block],
            bias=bias[block],
            penalty=float(fitted.penalties[block.start]),
            left_out=left_out[:, block] if complete else left_out[known[:, index]][:, block],
            loss=float(loss[index]),
            rows=int(known[:, index].sum()),
        )
        for index, (task, block) in enumerate(zip(tasks, blocks, strict=True))
    ]
