"""How far a forecast may be off here: a mix of recent and older changes inside the window, per step ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.data.samples.panel import Floats

Rows = npt.NDArray[np.float32]

SPANS = (4, 16, 64)
"""Newest changes whose mean is looked at, beside the mean over the whole window."""

ROUNDS, STEPS = 3, 200
FEWEST_ORIGINS = 200
"""With fewer origins the mix is one for all steps ahead."""

HIGHEST = 0.99
"""Errors above this share of all do not pull the mix."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The size of an error that the window leads one to expect, per step ahead.

    Attributes:
        length: Values of a window.
        looks: ``(lag, span)``: mean of the newest ``span`` absolute changes over ``lag`` steps, or values (lag 0).
        weights: Not negative, float32 [looks, horizon].
        floor: What is added, so that it is never zero.
    """

    length: int
    looks: tuple[tuple[int, int], ...]
    weights: Rows
    floor: float

    def of(self, history: Rows) -> Rows:
        """Return the spread of filled windows, float32 [rows, horizon]."""
        found = np.full((len(history), self.weights.shape[1]), np.float32(self.floor))
        for lag, means, weights in self._maps():
            found += changes(history, lag) @ means @ weights
        return found

    def nodes(self, graph: Graph, history: str) -> str:
        """Add ``of`` for a tensor [rows, length]."""
        axis = graph.constant(np.array([1], np.int64))
        parts = []
        for lag, means, weights in self._maps():
            moved = history
            if lag:
                cuts = [
                    [graph.constant(np.array([end], np.int64)) for end in ends]
                    for ends in ((lag, self.length), (0, self.length - lag))
                ]
                later, sooner = (graph.op("Slice", history, *ends, axis) for ends in cuts)
                moved = graph.op("Sub", later, sooner)
            seen = graph.op("MatMul", graph.op("Abs", moved), graph.constant(means))
            parts.append(graph.op("MatMul", seen, graph.constant(weights)))
        return graph.op("Add", graph.total(parts), graph.constant(np.array([[self.floor]], np.float32)))

    def _maps(self) -> list[tuple[int, Rows, Rows]]:
        """Return by lag what takes means of its changes, [length - lag, spans], and their weights, [spans, horizon]."""
        found = []
        for lag in dict.fromkeys(lag for lag, _ in self.looks):
            rows = [index for index, look in enumerate(self.looks) if look[0] == lag]
            means = np.zeros((self.length - lag, len(rows)), np.float32)
            for place, index in enumerate(rows):
                span = self.looks[index][1]
                means[-span:, place] = 1 / span
            found.append((lag, means, self.weights[rows]))
        return found


def changes(history: Rows, lag: int) -> Rows:
    """Return absolute changes over ``lag`` steps, float32 [rows, length - lag]; absolute values for lag 0."""
    return np.abs(history[:, lag:] - history[:, :-lag]) if lag else np.abs(history)


def looks_of(length: int, season: int) -> tuple[tuple[int, int], ...]:
    """Return the looks that are mixed; the first is the mean seasonal change over the whole window."""
    main = season if season < length else 1
    spans = sorted({min(span, length - main) for span in (*SPANS, season)} | {length - main})
    found = [(main, span) for span in reversed(spans)]
    if main > 1:
        found += [(1, min(span, length - 1)) for span in (length, *SPANS)]
    return (*dict.fromkeys(found), (0, min(SPANS[0], length)))


def fit_spread(history: Rows, errors: Floats, looks: tuple[tuple[int, int], ...], *, floor: float) -> Spread:
    """Fit the mix to errors at origins no member was fitted on.

    Least squares with weights that are not negative, each row over its present spread (a scale of absolute errors;
    Papadopoulos et al., ECML 2002, and Lei et al., JASA 113, 2018, for intervals scaled by it).

    Args:
        history: Filled windows, float32 [rows, length].
        errors: [rows, horizon], NaN = unknown.
        looks: What is mixed; see ``Spread``.
        floor: Smallest spread.
    """
    length, horizon = history.shape[1], errors.shape[1]
    seen = np.stack([changes(history, lag)[:, -span:].mean(axis=1) for lag, span in looks], axis=1)
    size = seen[:, :1].astype(np.float64) + floor
    shown = seen / size
    known = np.isfinite(errors)
    target = np.where(known, np.abs(errors), 0.0) / size
    if known.any():
        target = np.minimum(target, np.quantile(target[known], HIGHEST))
    if len(history) < FEWEST_ORIGINS:
        shown, target, known = (
            np.repeat(shown, horizon, axis=0), target.reshape(-1, 1), known.reshape(-1, 1)
        )  # fmt: skip
    weights = np.zeros((target.shape[1], len(looks)))
    weights[:, 0] = np.maximum((target * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1), 1e-3)
    weights += 0.01 * weights[:, :1]
    for _ in range(ROUNDS):
        share = known.T / np.maximum(weights @ shown.T, 1e-3) ** 2
        gram = np.einsum("hn,nk,nl->hkl", share, shown, shown, optimize=True)
        aim = np.einsum("hn,nk,nh->hk", share, shown, target, optimize=True)
        for _ in range(STEPS):
            below = np.einsum("hkl,hl->hk", gram, weights)
            weights = weights * aim / np.maximum(below, 1e-12)
    found = np.broadcast_to(weights.T, (len(looks), horizon)) if len(weights) == 1 else weights.T
    return Spread(
        length=length,
        looks=looks,
        weights=np.ascontiguousarray(found, dtype=np.float32),
        floor=floor,
    )
