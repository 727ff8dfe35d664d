"""A small network beside a linear map: trained in numpy on the weighted absolute error, written as graph nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph

Rows = npt.NDArray[np.float32]

BATCH = 256
CORNER = np.float32(0.05)
"""Below this error the loss is squared, so that its slope is smooth at zero (Huber)."""


@dataclass(frozen=True)
class Network:
    """``x A + relu(relu(x B) C) D`` on rows whose last column is one.

    Attributes:
        direct: A, float32 [features, outputs].
        first, second, last: B, C and D.
    """

    direct: Rows
    first: Rows
    second: Rows
    last: Rows

    def predict(self, rows: Rows) -> Rows:
        """Return float32 [rows, outputs]."""
        hidden = np.maximum(rows @ self.first, 0)
        return np.asarray(rows @ self.direct + np.maximum(hidden @ self.second, 0) @ self.last)

    def nodes(self, graph: Graph, source: str) -> str:
        """Add the network to a graph; ``source`` is without the column of ones."""
        hidden = graph.op("Relu", affine(graph, source, self.first))
        hidden = graph.op("Relu", graph.op("MatMul", hidden, graph.constant(self.second)))
        last = graph.op("MatMul", hidden, graph.constant(self.last))
        return graph.op("Add", affine(graph, source, self.direct), last)


def affine(graph: Graph, source: str, matrix: Rows, *, biased: bool = True) -> str:
    """Add a product whose matrix has the bias as its last row."""
    if not biased:
        return graph.op("MatMul", source, graph.constant(matrix))
    found = graph.op("MatMul", source, graph.constant(matrix[:-1]))
    return graph.op("Add", found, graph.constant(matrix[-1:]))


def flops(rows: int, features: int, outputs: int, hidden: int, epochs: int) -> float:
    """Return the floating point operations of a training."""
    size = features * (hidden + outputs) + hidden * (hidden + outputs)
    return 6.0 * rows * size * epochs


def train_network(
    rows: Rows,
    targets: Rows,
    weight: Rows,
    start: Rows,
    *,
    hidden: int,
    epochs: int,
    seed: int,
    check: Callable[[], None],
    rate: float = 1e-3,
) -> Network:
    """Train from a linear solution on, by Adam with a cosine schedule (Kingma and Ba, ICLR 2015).

    Args:
        rows: float32 [rows, features], last column one.
        targets: float32 [rows, outputs].
        weight: float32 [rows], weight of a row's absolute error.
        start: Linear solution [features, outputs] the direct path begins with.
        hidden: Width of both hidden layers.
        epochs: Passes over the rows.
        seed: Seed of weights and order.
        check: Called between steps; raises to stop.
        rate: Highest learning rate.
    """
    rng = np.random.default_rng(seed)
    features, outputs = rows.shape[1], targets.shape[1]
    parameters = [
        start.astype(np.float32),
        (rng.normal(size=(features, hidden)) / np.sqrt(features)).astype(np.float32),
        (rng.normal(size=(hidden, hidden)) / np.sqrt(hidden)).astype(np.float32),
        (rng.normal(size=(hidden, outputs)) * 0.01).astype(np.float32),
    ]
    moments = [(np.zeros_like(item), np.zeros_like(item)) for item in parameters]
    share = (weight / weight.mean()).astype(np.float32)[:, None]
    batch = min(BATCH, len(rows))
    steps = epochs * (len(rows) // batch)
    step = 0
    for _ in range(epochs):
        order = rng.permutation(len(rows))
        for begin in range(0, len(rows) - batch + 1, batch):
            check()
            part = order[begin : begin + batch]
            slopes = _slopes(parameters, rows[part], targets[part], share[part])
            step += 1
            pace = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
            _adam(parameters, moments, slopes, step, np.float32(pace))
    return Network(*parameters)


def _slopes(parameters: list[Rows], rows: Rows, targets: Rows, share: Rows) -> list[Rows]:
    direct, first, second, last = parameters
    one = np.maximum(rows @ first, 0)
    two = np.maximum(one @ second, 0)
    error = rows @ direct + two @ last - targets
    slope = np.clip(error / CORNER, -1, 1) * share / np.float32(len(rows))
    back = (slope @ last.T) * (two > 0)
    deep = (back @ second.T) * (one > 0)
    return [rows.T @ slope, rows.T @ deep, one.T @ back, two.T @ slope]


def _adam(
    parameters: list[Rows], moments: list[tuple[Rows, Rows]], slopes: list[Rows], step: int, pace: np.float32
) -> None:
    for parameter, (mean, square), slope in zip(parameters, moments, slopes, strict=True):
        mean += np.float32(0.1) * (slope - mean)
        square += np.float32(0.001) * (slope * slope - square)
        unbiased = np.sqrt(square / np.float32(1 - 0.999**step)) + np.float32(1e-8)
        parameter -= pace * (mean / np.float32(1 - 0.9**step)) / unbiased
