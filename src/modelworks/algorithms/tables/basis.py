"""A smooth basis for linear members: piecewise-linear pieces of numbers, indicators of levels, missing flags.

Source of the piecewise-linear encoding: Gorishniy et al. 2022, "On Embeddings for Numerical Features in
Tabular Deep Learning". A ridge penalty on the pieces penalises slopes, so a linear model on them is a smooth
additive model.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.algorithms.tables.encoder import Feature

MAX_COLUMNS = 384
TERM_SCALE = 3.0
_LEVELS_EACH = 60
_SPREADS = 4.0


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Columns of the basis, all derived from the encoded table.

    Attributes:
        numeric: Columns of the table that are numbers.
        fill: float32 per numeric column: its median.
        centre, scale: float32 per numeric column.
        piece: int64, which numeric column a piece belongs to; ``low`` and ``width`` float32 are its ends.
        hot, value: int64 and float32: indicator of ``table[:, hot] == value``.
        gaps: Columns of the table with a missing flag.
        terms: Columns of the table that are weights of words, taken as they are (times ``TERM_SCALE``).
    """

    numeric: npt.NDArray[np.int64]
    fill: npt.NDArray[np.float32]
    centre: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    piece: npt.NDArray[np.int64]
    low: npt.NDArray[np.float32]
    width: npt.NDArray[np.float32]
    hot: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]
    gaps: npt.NDArray[np.int64]
    terms: npt.NDArray[np.int64]

    @property
    def columns(self) -> int:
        """Number of basis columns."""
        return len(self.numeric) + len(self.piece) + len(self.hot) + len(self.gaps) + len(self.terms)

    def transform(self, table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the basis ``[rows, columns]`` of an encoded table."""
        rows = len(table)
        result = np.empty((rows, self.columns), dtype=np.float32)
        numbers, pieces = len(self.numeric), len(self.piece)
        filled = table[:, self.numeric]
        filled = np.where(np.isnan(filled), self.fill, filled)
        result[:, :numbers] = np.clip((filled - self.centre) / self.scale, -_SPREADS, _SPREADS)
        result[:, numbers : numbers + pieces] = np.clip((filled[:, self.piece] - self.low) / self.width, 0, 1)
        result[:, numbers + pieces : numbers + pieces + len(self.hot)] = table[:, self.hot] == self.value
        rest = self.columns - len(self.gaps) - len(self.terms)
        result[:, rest : rest + len(self.gaps)] = np.isnan(table[:, self.gaps])
        result[:, rest + len(self.gaps) :] = table[:, self.terms] * np.float32(TERM_SCALE)
        return result

    def write_filled(self, graph: Graph, table: str) -> str:
        """Add the numeric columns with gaps filled, ``[rows, numbers]``."""
        numbers = graph.columns(table, self.numeric)
        fill = graph.constant(self.fill[None, :], np.float32)
        return graph.op("Where", graph.op("IsNaN", numbers), fill, numbers)

    def write_hot(self, graph: Graph, table: str) -> str:
        """Add the indicators of levels as BOOL ``[rows, indicators]``."""
        value = graph.constant(self.value[None, :], np.float32)
        return graph.op("Equal", graph.columns(table, self.hot), value)

    def write_gaps(self, graph: Graph, table: str) -> str:
        """Add the missing flags as BOOL ``[rows, flags]``."""
        return graph.op("IsNaN", graph.columns(table, self.gaps))

    def write(self, graph: Graph, table: str) -> str:
        """Add the basis to a graph; returns the float32 tensor ``[rows, columns]``."""
        parts = []
        if len(self.numeric):
            filled = self.write_filled(graph, table)
            parts.append(_clipped(graph, filled, self.centre, self.scale, -_SPREADS, _SPREADS))
            if len(self.piece):
                pieces = graph.columns(filled, self.piece)
                parts.append(_clipped(graph, pieces, self.low, self.width, 0.0, 1.0))
        if len(self.hot):
            parts.append(graph.cast(self.write_hot(graph, table), FLOAT))
        if len(self.gaps):
            parts.append(graph.cast(self.write_gaps(graph, table), FLOAT))
        if len(self.terms):
            scale = graph.constant(TERM_SCALE, np.float32)
            parts.append(graph.op("Mul", graph.columns(table, self.terms), scale))
        return graph.concat(parts)


def _clipped(
    graph: Graph,
    tensor: str,
    centre: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    low: float,
    high: float,
) -> str:
    moved = graph.op("Sub", tensor, graph.constant(centre[None, :], np.float32))
    divided = graph.op("Div", moved, graph.constant(scale[None, :], np.float32))
    return graph.op("Clip", divided, graph.constant(low, np.float32), graph.constant(high, np.float32))


def fit_basis(
    table: npt.NDArray[np.float32], features: tuple[Feature, ...], *, max_columns: int = MAX_COLUMNS
) -> Basis:
    """Choose the pieces and indicators from an encoded table (labels are not looked at)."""
    numeric = [index for index, feature in enumerate(features) if feature.kind not in ("code", "term")]
    hot, value = _indicators(table, features, max_columns - 4 * len(numeric))
    room = max_columns - len(hot) - len(numeric)
    pieces = int(np.clip(room / max(1, len(numeric)), 3, 16))
    fill: list[float] = []
    centre: list[float] = []
    scale: list[float] = []
    piece: list[int] = []
    low: list[float] = []
    width: list[float] = []
    for position, index in enumerate(numeric):
        present = table[:, index]
        present = present[~np.isnan(present)]
        if not len(present):
            present = np.zeros(1, np.float32)
        middle = float(np.median(present))
        fill.append(middle)
        centre.append(float(present.mean(dtype=np.float64)))
        scale.append(max(float(present.std(dtype=np.float64)), 1e-6 * (1.0 + abs(middle))))
        edges = np.unique(np.quantile(present, np.linspace(0, 1, pieces + 1)).astype(np.float32))
        for left, right in pairwise(edges.tolist()):
            piece.append(position)
            low.append(left)
            width.append(right - left)
    gaps = [index for index, feature in enumerate(features) if feature.missing]
    return Basis(
        numeric=np.array(numeric, dtype=np.int64),
        fill=np.array(fill, dtype=np.float32),
        centre=np.array(centre, dtype=np.float32),
        scale=np.array(scale, dtype=np.float32),
        piece=np.array(piece, dtype=np.int64),
        low=np.array(low, dtype=np.float32),
        width=np.array(width, dtype=np.float32),
        hot=np.array(hot, dtype=np.int64),
        value=np.array(value, dtype=np.float32),
        gaps=np.array(gaps, dtype=np.int64),
        terms=np.array(
            [index for index, feature in enumerate(features) if feature.kind == "term"], dtype=np.int64
        ),
    )


def _indicators(
    table: npt.NDArray[np.float32], features: tuple[Feature, ...], room: int
) -> tuple[list[int], list[int]]:
    """Return column and code of the levels that get an indicator: frequent ones, at most ``room`` of them."""
    least = max(3, round(len(table) * 0.0005))
    found = []
    for index, feature in enumerate(features):
        if feature.kind == "code":
            codes = table[:, index]
            counts = np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=1)[:_LEVELS_EACH]
            found += [(int(counts[code]), index, int(code)) for code in np.flatnonzero(counts >= least)]
    kept = sorted(found, reverse=True)[: max(room, MAX_COLUMNS // 4)]
    ordered = sorted((index, code) for _, index, code in kept)
    return [index for index, _ in ordered], [code for _, code in ordered]
