"""From scores to probabilities: Platt scaling for one task or hundreds at once, vector scaling for several classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

BINS = 256
"""Scores of one task are pooled into so many before they are fitted, each bin at its mean score."""
_STEPS = 50


def platt_scaling(scores: Doubles, positive: npt.NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """Fit ``P(positive) = sigmoid(slope * score + shift)`` by Newton's method with Platt's smoothed targets.

    Returns:
        ``slope [1]`` (never negative) and ``shift [1]``.

    Source: Platt (1999); Lin, Lin & Weng (2007), A note on Platt's probabilistic outputs.
    """
    slope, shift = platt_many(scores[:, None], positive[:, None], np.ones((len(scores), 1), bool))
    return slope, shift


def platt_many(
    scores: Doubles, positive: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
) -> tuple[Doubles, Doubles]:
    """Fit Platt's scaling to many tasks at once.

    Args:
        scores: ``[rows, tasks]``.
        positive: Truth ``[rows, tasks]``.
        known: Which rows are labelled for a task ``[rows, tasks]``.

    Returns:
        ``slope [tasks]`` (never negative) and ``shift [tasks]``.
    """
    positive = positive & known
    # In units of their spread: steps from a slope of one are lost where scores are in the hundreds.
    spread = np.maximum(
        np.where(known, np.abs(scores), 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), 1e-12
    )
    scores = scores / spread
    count, total = positive.sum(axis=0, dtype=np.float64), known.sum(axis=0, dtype=np.float64)
    high, low = (count + 1) / (count + 2), 1 / (total - count + 2)
    base = np.log((count + 1) / (total - count + 1))
    values, weight, targets = _pooled(scores, positive, known, high, low)
    slope, shift = np.ones(len(count)), base.copy()
    current = _loss(values, weight, targets, slope, shift)
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(values * slope + shift, -40, 40)))
        error, bend = weight * p - targets, weight * p * (1 - p)
        g_slope, g_shift = (error * values).sum(axis=0), error.sum(axis=0)
        aa, ab, bb = (
            (bend * values**2).sum(axis=0) + 1e-9,
            (bend * values).sum(axis=0),
            bend.sum(axis=0) + 1e-9,
        )
        determinant = np.maximum(aa * bb - ab**2, 1e-18)
        d_slope = (bb * g_slope - ab * g_shift) / determinant
        d_shift = (aa * g_shift - ab * g_slope) / determinant
        size = np.ones(len(count))
        found = _loss(values, weight, targets, slope - d_slope, shift - d_shift)
        while (worse := (found > current + 1e-12) & (size > 1e-6)).any():
            size = np.where(worse, size / 2, size)
            found = _loss(values, weight, targets, slope - size * d_slope, shift - size * d_shift)
        slope, shift = slope - size * d_slope, shift - size * d_shift
        still = current - found >= 1e-9 * (1 + np.abs(found))
        current = found
        if not still.any():
            break
    turned = slope < 0
    return np.where(turned, 0.0, slope / spread), np.where(turned, base, shift)


def _pooled(
    scores: Doubles,
    positive: npt.NDArray[np.bool_],
    known: npt.NDArray[np.bool_],
    high: Doubles,
    low: Doubles,
) -> tuple[Doubles, Doubles, Doubles]:
    """Return score, weight and summed targets ``[bins or rows, tasks]``."""
    rows, tasks = scores.shape
    if rows <= 4 * BINS:
        weight = known.astype(np.float64)
        return np.where(known, scores, 0.0), weight, np.where(positive, high, low) * weight
    lowest = np.where(known, scores, np.inf).min(axis=0)
    width = np.maximum(np.where(known, scores, -np.inf).max(axis=0) - lowest, 1e-12)
    place = np.clip((scores - lowest) * (BINS / width), 0, BINS - 1).astype(np.int64)
    place += np.arange(tasks) * BINS
    flat, size = place[known], BINS * tasks
    weight = np.bincount(flat, minlength=size).astype(np.float64)
    total = np.bincount(flat, scores[known], minlength=size)
    hits = np.bincount(place[positive], minlength=size).astype(np.float64)

    def shaped(values: npt.NDArray[Any]) -> Doubles:
        return np.ascontiguousarray(values.reshape(tasks, BINS).T)

    hits, weight = shaped(hits), shaped(weight)
    return shaped(total) / np.maximum(weight, 1), weight, hits * high + (weight - hits) * low


def _loss(values: Doubles, weight: Doubles, targets: Doubles, slope: Doubles, shift: Doubles) -> Doubles:
    z = values * slope + shift
    return np.asarray((weight * np.logaddexp(0.0, z) - targets * z).sum(axis=0))


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
        normaliser = log_sum_exp(logits)
        error = np.exp(logits - normaliser[:, None]) - hot
        loss = float((normaliser - (logits * hot).sum(axis=1)).sum() + 0.5 * (values[1:] ** 2).sum())
        slope = float((error * scores).sum() * np.exp(values[0]))
        return loss, np.concatenate([[slope], error.sum(axis=0) + values[1:]])

    start = np.zeros(classes + 1)
    start[0] = np.log(4.0)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(-3, 6)] + [(-8, 8)] * classes)
    return np.full(classes, float(np.exp(found.x[0]))), np.asarray(found.x[1:])


def log_sum_exp(logits: Doubles) -> Doubles:
    """Return ``log(sum(exp(logits)))`` of every row."""
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
