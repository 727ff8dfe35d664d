"""Scaled inputs for members that measure distances: robustly centred numbers, indicators, missing flags.

Numbers are scaled by their interquartile range and squashed smoothly (Holzmüller et al. 2024, "Better by
Default", section 3), so that outliers keep their order but not their pull.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.algorithms.tables.basis import Basis

_NORMAL_QUARTILES = 1.349
_SQUASH = 3.0
_INDICATOR = 0.7


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Scales of the numeric columns; indicators and missing flags are those of the basis.

    Attributes:
        basis: Gives the columns, their fill values, indicators and missing flags.
        centre, scale: float32 per numeric column.
    """

    basis: Basis
    centre: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @property
    def columns(self) -> int:
        """Number of scaled columns."""
        return len(self.centre) + len(self.basis.hot) + len(self.basis.gaps)

    def transform(self, table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the scaled inputs ``[rows, columns]`` of an encoded table."""
        basis = self.basis
        filled = table[:, basis.numeric]
        filled = np.where(np.isnan(filled), basis.fill, filled)
        numbers = (filled - self.centre) / self.scale
        numbers /= np.sqrt(1 + np.square(numbers / np.float32(_SQUASH)))
        hot = (table[:, basis.hot] == basis.value) * np.float32(_INDICATOR)
        gaps = np.isnan(table[:, basis.gaps]) * np.float32(_INDICATOR)
        return np.concatenate([numbers, hot, gaps], axis=1, dtype=np.float32)

    def write(self, graph: Graph, table: str) -> str:
        """Add the scaling to a graph; returns the float32 tensor ``[rows, columns]``."""
        basis, parts = self.basis, []
        if len(basis.numeric):
            moved = graph.op("Sub", basis.write_filled(graph, table), _row(graph, self.centre))
            number = graph.op("Div", moved, _row(graph, self.scale))
            third = graph.op("Div", number, graph.constant(_SQUASH, np.float32))
            under = graph.op("Add", graph.op("Mul", third, third), graph.constant(1.0, np.float32))
            parts.append(graph.op("Div", number, graph.op("Sqrt", under)))
        if len(basis.hot):
            parts.append(_indicator(graph, basis.write_hot(graph, table)))
        if len(basis.gaps):
            parts.append(_indicator(graph, basis.write_gaps(graph, table)))
        return graph.concat(parts)


def _row(graph: Graph, values: npt.NDArray[np.float32]) -> str:
    return graph.constant(values[None, :], np.float32)


def _indicator(graph: Graph, flags: str) -> str:
    return graph.op("Mul", graph.cast(flags, FLOAT), graph.constant(_INDICATOR, np.float32))


def fit_scaling(table: npt.NDArray[np.float32], basis: Basis) -> Scaling:
    """Learn the scales from an encoded table (labels are not looked at)."""
    filled = table[:, basis.numeric]
    filled = np.where(np.isnan(filled), basis.fill, filled)
    low, centre, high = (
        np.quantile(filled, [0.25, 0.5, 0.75], axis=0) if len(basis.numeric) else np.zeros((3, 0))
    )
    deviation = filled.std(axis=0, dtype=np.float64)
    scale = (high - low) / _NORMAL_QUARTILES
    scale = np.where(scale < 0.2 * deviation, deviation, scale)
    scale[scale == 0] = 1.0
    return Scaling(basis=basis, centre=centre.astype(np.float32), scale=scale.astype(np.float32))
