"""From scores to probabilities: Platt scaling for one task or hundreds at once, vector scaling for several classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

BINS = 128
"""Scores of one task are pooled into so many before they are fitted, each bin at its mean score."""
FAINT = 0.01
"""Slope, over scores in units of their spread, that is left where held-out rows speak against the scores: chances are
those of the class shares, and the order of the scores is kept, since a few rows may err."""
_STEPS = 50
_COUNTED = 50_000


def platt_scaling(scores: Doubles, positive: npt.NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """Fit ``P(positive) = sigmoid(slope * score + shift)`` by Newton's method with Platt's smoothed targets.

    Returns:
        ``slope [1]`` (above 0) and ``shift [1]``.

    Source: Platt (1999); Lin, Lin & Weng (2007), A note on Platt's probabilistic outputs.
    """
    slope, shift = platt_many(scores[:, None], positive[:, None], np.ones((len(scores), 1), bool))
    return slope, shift


def platt_many(
    scores: npt.NDArray[np.floating],
    positive: npt.NDArray[np.bool_],
    known: npt.NDArray[np.bool_],
    trust: float = 0.0,
) -> tuple[Doubles, Doubles]:
    """Fit Platt's scaling to many tasks at once; quickest where the columns are contiguous.

    Args:
        scores: ``[rows, tasks]``.
        positive: Truth ``[rows, tasks]``.
        known: Which rows are labelled for a task ``[rows, tasks]``.
        trust: How far scores are logits already: half of this times the squared distances of the slope from 1 and of
            the shift from 0 is added to the log loss of all rows.

    Returns:
        ``slope [tasks]`` (above 0) and ``shift [tasks]``.
    """
    scores, known = np.ascontiguousarray(scores.T), np.ascontiguousarray(known.T)
    positive = np.ascontiguousarray(positive.T) & known
    count, total = positive.sum(axis=1, dtype=np.float64), known.sum(axis=1, dtype=np.float64)
    # In units of their spread: steps from a slope of one are lost where scores are in the hundreds.
    spread = np.abs(scores).sum(axis=1, where=known, dtype=np.float64) / np.maximum(total, 1)
    spread = np.maximum(spread, 1e-12)
    high, low = (count + 1) / (count + 2), 1 / (total - count + 2)
    base = np.log((count + 1) / (total - count + 1))
    values, weight, hits = _pooled(scores, positive, known)
    values = values / spread[:, None]
    targets = hits * high[:, None] + (weight - hits) * low[:, None]
    slope, shift = np.ones(len(count)), base.copy()
    if trust:
        slope, shift = spread.copy(), np.zeros(len(count))

    def loss(slope: Doubles, shift: Doubles) -> Doubles:
        prior = 0.5 * trust * ((slope / spread - 1) ** 2 + shift**2)
        return np.asarray(_loss(values, weight, targets, slope, shift) + prior)

    current = loss(slope, shift)
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(values * slope[:, None] + shift[:, None], -40, 40)))
        error, bend = weight * p - targets, weight * p * (1 - p)
        bent = bend * values
        g_slope, g_shift = np.einsum("tb,tb->t", error, values), error.sum(axis=1)
        g_slope, g_shift = g_slope + trust * (slope / spread - 1) / spread, g_shift + trust * shift
        aa = np.einsum("tb,tb->t", bent, values) + trust / spread**2 + 1e-9
        ab, bb = bent.sum(axis=1), bend.sum(axis=1) + trust + 1e-9
        determinant = np.maximum(aa * bb - ab**2, 1e-18)
        d_slope = (bb * g_slope - ab * g_shift) / determinant
        d_shift = (aa * g_shift - ab * g_slope) / determinant
        size = np.ones(len(count))
        found = loss(slope - d_slope, shift - d_shift)
        while (worse := (found > current + 1e-12) & (size > 1e-6)).any():
            size = np.where(worse, size / 2, size)
            found = loss(slope - size * d_slope, shift - size * d_shift)
        slope, shift = slope - size * d_slope, shift - size * d_shift
        still = current - found >= 1e-9 * (1 + np.abs(found))
        current = found
        if not still.any():
            break
    turned = slope < FAINT
    return np.where(turned, FAINT, slope) / spread, np.where(turned, base, shift)


def _pooled(
    scores: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
) -> tuple[Doubles, Doubles, Doubles]:
    """Return mean score, number of rows and of positive ones ``[tasks, bins or rows]``; all are ``[tasks, rows]``."""
    tasks, rows = scores.shape
    if rows <= 4 * BINS:
        return np.where(known, scores, 0.0), known.astype(np.float64), positive.astype(np.float64)
    weight, hits, sums = (np.empty((tasks, BINS)) for _ in range(3))
    # A few tasks at a time: what is counted stays in the processor's cache.
    step = max(1, _COUNTED // rows)
    for start in range(0, tasks, step):
        part = slice(start, start + step)
        weight[part], hits[part], sums[part] = _counted(scores[part], positive[part], known[part])
    return sums / np.maximum(weight, 1), weight, hits


def _counted(
    scores: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
) -> tuple[Doubles, Doubles, Doubles]:
    """Return for every bin of every task how many rows, how many positive ones, and the sum of their scores."""
    tasks = len(scores)
    whole = bool(known.all())
    shown = scores if whole else np.where(known, scores, np.inf)
    lowest = shown.min(axis=1)
    highest = scores.max(axis=1) if whole else np.where(known, scores, -np.inf).max(axis=1)
    place = ((scores - lowest[:, None]) * (BINS / np.maximum(highest - lowest, 1e-12))[:, None]).astype(
        np.int64
    )
    np.clip(place, 0, BINS - 1, out=place)
    place += (np.arange(tasks) * BINS)[:, None]
    flat, values = (place.ravel(), scores.ravel()) if whole else (place[known], scores[known])
    size, shape = BINS * tasks, (tasks, BINS)
    counts, hits = np.bincount(flat, minlength=size), np.bincount(place[positive], minlength=size)
    sums: Any = np.bincount(flat, values, minlength=size)
    return (
        counts.reshape(shape).astype(np.float64),
        hits.reshape(shape).astype(np.float64),
        sums.reshape(shape),
    )


def _loss(values: Doubles, weight: Doubles, targets: Doubles, slope: Doubles, shift: Doubles) -> Doubles:
    z = values * slope[:, None] + shift[:, None]
    return np.asarray((weight * softplus(z) - targets * z).sum(axis=1))


def softplus(z: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``log(1 + exp(z))`` in the type of ``z``: several times as fast as ``logaddexp``."""
    small = np.exp(-np.abs(z))
    small += 1
    np.log(small, out=small)
    return np.asarray(np.add(small, np.maximum(z, 0), out=small))


def vector_scaling(
    scores: Doubles, labels: npt.NDArray[np.int64], trust: float = 0.0
) -> tuple[Doubles, Doubles]:
    """Fit ``softmax(slope * scores + shift)`` with one slope for all classes and one shift per class.

    The shifts are pulled to zero so that a class seen a few times keeps its score.

    Args:
        scores: ``[rows, classes]``.
        labels: Class codes ``[rows]``.
        trust: How far scores are logits already: half of this times the squared logarithm of the slope and the squared
            shifts is added to the log loss of all rows. Of 150 classes a fold holds 20 rows each, and shifts that
            follow them say more of those rows than of others.

    Returns:
        ``slope [classes]`` (equal entries) and ``shift [classes]``.

    Source: Guo et al. (2017), On calibration of modern neural networks.
    """
    from scipy.optimize import minimize

    classes, pull = scores.shape[1], max(1.0, trust)
    hot = (labels[:, None] == np.arange(classes)).astype(np.float64)

    def objective(values: Doubles) -> tuple[float, Doubles]:
        logits = scores * np.exp(values[0]) + values[1:]
        normaliser = log_sum_exp(logits)
        error = np.exp(logits - normaliser[:, None]) - hot
        prior = 0.5 * (trust * values[0] ** 2 + pull * (values[1:] ** 2).sum())
        loss = float((normaliser - (logits * hot).sum(axis=1)).sum() + prior)
        slope = float((error * scores).sum() * np.exp(values[0]) + trust * values[0])
        return loss, np.concatenate([[slope], error.sum(axis=0) + pull * values[1:]])

    start = np.zeros(classes + 1)
    start[0] = np.log(4.0)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(-3, 6)] + [(-8, 8)] * classes)
    return np.full(classes, float(np.exp(found.x[0]))), np.asarray(found.x[1:])


def log_sum_exp(logits: Doubles) -> Doubles:
    """Return ``log(sum(exp(logits)))`` of every row."""
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
