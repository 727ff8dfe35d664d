"""Members of a forecast: a view of the window (scaled, perhaps logged) and a map or network on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.series.network import Network, affine

Rows = npt.NDArray[np.float32]

FARTHEST = np.float32(1.25)
"""A scaled forecast may leave the range of the training targets by a quarter at most."""


@dataclass(frozen=True, kw_only=True)
class View:
    """How a window is looked at before a map reads it.

    Attributes:
        length: Last values of the window that are read.
        mode: ``plain`` (as it is), ``level`` (less its mean, over one constant) or ``shape`` (less its mean, over its
            own deviation, as in reversible instance normalisation; Kim et al., ICLR 2022).
        logged: Whether the logarithm is taken first.
        floor: Smallest value that is logged.
        unit: The constant of ``level``, the smallest deviation of ``shape``.
        extras: Whether calendar and covariates are read too.
    """

    length: int
    mode: str
    logged: bool = False
    floor: float = 1e-6
    unit: float = 1.0
    extras: bool = True

    @property
    def name(self) -> str:
        bare = "" if self.extras or self.mode == "plain" else ", without extras"
        return f"{self.mode}{' of logs' if self.logged else ''}, {self.length} steps{bare}"

    def look(self, history: Rows, extras: Rows) -> tuple[Rows, Rows, Rows]:
        """Return features [rows, d] with a last column of ones, and location and scale [rows, 1].

        Args:
            history: Filled windows, float32 [rows, length or more].
            extras: Calendar and covariates, float32 [rows, k].
        """
        values = self.logs(history[:, -self.length :])
        place, scale = self.place(values)
        parts = [(values - place) / scale]
        if self.extras:
            parts.append(extras)
        if self.mode != "plain":
            parts.append(np.ones((len(values), 1), np.float32))
        return np.concatenate(parts, axis=1), place, scale

    def logs(self, values: Rows) -> Rows:
        return np.log(np.maximum(values, np.float32(self.floor))) if self.logged else values

    def place(self, values: Rows) -> tuple[Rows, Rows]:
        one = np.ones((len(values), 1), np.float32)
        if self.mode == "plain":
            return 0 * one, one
        mean = values.mean(axis=1, keepdims=True, dtype=np.float32)
        if self.mode == "level":
            return mean, one * np.float32(self.unit)
        square = np.square(values - mean).mean(axis=1, keepdims=True, dtype=np.float32)
        return mean, np.sqrt(square) + np.float32(self.unit)

    def nodes(self, graph: Graph, filled: str, length: int, extras: str | None) -> tuple[str, str, str]:
        """Add ``look`` without its column of ones; ``filled`` is [rows, length]."""
        axes = graph.constant(np.array([1], np.int64))
        values = filled
        if self.length < length:
            values = graph.op(
                "Slice",
                filled,
                graph.constant(np.array([length - self.length], np.int64)),
                graph.constant(np.array([length], np.int64)),
                axes,
            )
        if self.logged:
            values = graph.op(
                "Log", graph.op("Max", values, graph.constant(np.array([[self.floor]], np.float32)))
            )
        if self.mode == "plain":
            zero, one = (graph.constant(np.array([[value]], np.float32)) for value in (0.0, 1.0))
            parts = [values] + ([extras] if self.extras and extras else [])
            return graph.concat(parts), zero, one
        place = graph.op("ReduceMean", values, axes)
        moved = graph.op("Sub", values, place)
        unit = graph.constant(np.array([[self.unit]], np.float32))
        scale = unit
        if self.mode == "shape":
            square = graph.op("ReduceMean", graph.op("Mul", moved, moved), axes)
            scale = graph.op("Add", graph.op("Sqrt", square), unit)
        scaled = graph.op("Div", moved, scale)
        parts = [scaled] + ([extras] if self.extras and extras else [])
        return graph.concat(parts), place, scale


@dataclass(frozen=True, kw_only=True)
class Member:
    """A view and what reads it.

    Attributes:
        name: For people.
        view: The view.
        map: Linear map [features, horizon], or a network.
        bounds: Range that scaled forecasts are cut to, or ``None``.
        naive: Whether it repeats earlier values as they are.
    """

    name: str
    view: View
    map: Rows | Network
    bounds: tuple[float, float] | None = None
    naive: bool = False

    def predict(self, history: Rows, extras: Rows) -> Rows:
        """Return forecasts float32 [rows, horizon] of filled windows."""
        features, place, scale = self.view.look(history, extras)
        found = self.map.predict(features) if isinstance(self.map, Network) else features @ self.map
        if self.bounds is not None:
            found = np.clip(found, np.float32(self.bounds[0]), np.float32(self.bounds[1]))
        found = found * scale + place
        return np.exp(found) if self.view.logged else found

    def nodes(self, graph: Graph, looked: tuple[str, str, str]) -> str:
        """Add the member to a graph behind its view."""
        features, place, scale = looked
        if isinstance(self.map, Network):
            found = self.map.nodes(graph, features)
        else:
            found = affine(graph, features, self.map, biased=self.view.mode != "plain")
        if self.bounds is not None:
            low, high = (graph.constant(np.float32(end)) for end in self.bounds)
            found = graph.op("Clip", found, low, high)
        found = graph.op("Add", graph.op("Mul", found, scale), place)
        return graph.op("Exp", found) if self.view.logged else found


def target_bounds(targets: Rows) -> tuple[float, float]:
    """Return the range of scaled forecasts that training targets allow."""
    low, high = float(np.quantile(targets, 1e-4)), float(np.quantile(targets, 1 - 1e-4))
    middle, half = (low + high) / 2, (high - low) / 2
    return middle - float(FARTHEST) * half, middle + float(FARTHEST) * half


def ridge_maps(features: Rows, targets: Rows, penalties: tuple[float, ...]) -> list[Rows]:
    """Return ridge solutions [features, outputs], one per penalty (a share of the rows), from one decomposition."""
    gram = features.T @ features
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    turned = vectors.T @ (features.T @ targets).astype(np.float64)
    rows = len(features)
    return [
        (vectors @ (turned / (np.maximum(values, 0.0) + penalty * rows)[:, None])).astype(np.float32)
        for penalty in penalties
    ]
