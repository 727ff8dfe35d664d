"""What a detector looks at in a window of streams: surprise, level and shape of the newest values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph

Rows = npt.NDArray[np.float32]

SHAPES = 384


@dataclass(frozen=True, kw_only=True)
class Part:
    """One look at standardised windows: a map, then the distance of the result from one or more centres.

    Attributes:
        name: What it looks at.
        map: float32 [channels x length, k].
        centres: float32 [centres, k]; the nearest counts.
    """

    name: str
    map: Rows
    centres: Rows

    def value(self, seen: Rows) -> Rows:
        """Return the distance to the nearest centre over the square root of k, float32 [rows]."""
        looked = seen.reshape(len(seen), -1) @ self.map
        square = (
            (looked**2).sum(axis=1)[:, None] - 2 * looked @ self.centres.T + (self.centres**2).sum(axis=1)
        )
        nearest = np.maximum(square.min(axis=1), 0) / np.float32(looked.shape[1])
        return np.asarray(np.sqrt(nearest), dtype=np.float32)

    def nodes(self, graph: Graph, flat: str) -> str:
        """Add ``value`` for a tensor [rows, channels x length]; [rows, 1]."""
        looked = graph.op("MatMul", flat, graph.constant(self.map))
        one = graph.constant(np.array([1], np.int64))
        own = graph.op("ReduceSumSquare", looked, one, keepdims=1)
        cross = graph.op("MatMul", looked, graph.constant(np.ascontiguousarray(-2 * self.centres.T)))
        sizes = graph.constant((self.centres**2).sum(axis=1)[None])
        square = graph.op("ReduceMin", graph.op("Sum", own, cross, sizes), one, keepdims=1)
        share = graph.scaled(graph.op("Relu", square), 1.0 / self.map.shape[1])
        return graph.op("Sqrt", share)


def surprise(seen: Rows) -> Part:
    """Return the error of the newest values against a ridge forecast from the window, whitened."""
    rows, channels, length = seen.shape
    before = seen[:, :, :-1].reshape(rows, -1).astype(np.float64)
    now = seen[:, :, -1].astype(np.float64)
    mean = before.mean(axis=0)
    centred = before - mean
    gram = centred.T @ centred
    gram[np.diag_indices_from(gram)] += 1e-2 * np.trace(gram) / len(gram) + 1e-6
    weights = np.linalg.solve(gram, centred.T @ (now - now.mean(axis=0)))
    error = now - now.mean(axis=0) - centred @ weights
    spread = np.maximum(np.quantile(np.abs(error), 0.9, axis=0), 1e-3)
    full = np.zeros((channels, length, channels))
    full[:, :-1] = -weights.reshape(channels, length - 1, channels)
    full[np.arange(channels), -1, np.arange(channels)] += 1.0
    full = full.reshape(channels * length, channels) / spread
    centre = (now.mean(axis=0) - mean @ weights) / spread
    return Part(name="surprise", map=full.astype(np.float32), centres=centre[None].astype(np.float32))


def level(seen: Rows, steps: int) -> Part:
    """Return the whitened distance of the mean of the newest values from the usual level (Hotelling's T2)."""
    _, channels, length = seen.shape
    recent = seen[:, :, -steps:].mean(axis=2).astype(np.float64)
    mean = recent.mean(axis=0)
    covariance = np.atleast_2d(np.cov(recent.T)) + 1e-2 * np.eye(channels)
    values, vectors = np.linalg.eigh(covariance)
    white = vectors / np.sqrt(values)
    full = np.zeros((channels, length, channels))
    full[:, -steps:] = white[:, None, :] / steps
    return Part(
        name="level",
        map=full.reshape(channels * length, channels).astype(np.float32),
        centres=(mean @ white)[None].astype(np.float32),
    )


def shape(seen: Rows, steps: int, seed: int) -> Part:
    """Return the distance of the newest values, on their main components, from the nearest of the kept shapes."""
    rows, channels, length = seen.shape
    recent = seen[:, :, -steps:].reshape(rows, -1).astype(np.float64)
    mean = recent.mean(axis=0)
    _, values, vectors = np.linalg.svd((recent - mean)[:2000], full_matrices=False)
    kept = max(1, min(16, int((values > 1e-6 * max(values[0], 1e-12)).sum())))
    main = vectors[:kept].T
    full = np.zeros((channels, length, kept))
    full[:, -steps:] = main.reshape(channels, steps, kept)
    drawn = np.random.default_rng(seed).permutation(rows)[:SHAPES]
    return Part(
        name="shape",
        map=full.reshape(channels * length, kept).astype(np.float32),
        centres=(recent[np.sort(drawn)] @ main).astype(np.float32),
    )
