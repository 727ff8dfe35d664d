"""The feature matrices members ask for by name, for training rows, new rows and in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.algorithms.tables.basis import Basis
from modelworks.algorithms.tables.encoder import Encoder
from modelworks.algorithms.tables.scaling import Scaling

Singles = npt.NDArray[np.float32]

TABLE, BRANCHES, BASIS, SCALED = "table", "branches", "basis", "scaled"


@dataclass(frozen=True, kw_only=True)
class Views:
    """Fitted encodings; every one is free of labels.

    Attributes:
        encoder: Raw columns to the encoded table, which trees split (``table``); with the basis's indicators
            of levels behind it (``branches``).
        basis: Encoded table to the additive basis of linear members (``basis``).
        scaling: Encoded table to inputs that distances and nets need (``scaled``).
    """

    encoder: Encoder
    basis: Basis
    scaling: Scaling

    def matrix(self, name: str, table: Singles) -> Singles:
        """Return the view ``name`` of an encoded table."""
        if name == BASIS:
            return self.basis.transform(table)
        if name == SCALED:
            return self.scaling.transform(table)
        if name == BRANCHES:
            return np.concatenate(
                [table, table[:, self.basis.hot] == self.basis.value], axis=1, dtype=np.float32
            )
        return table

    def of_columns(self, columns: Mapping[str, npt.NDArray[Any]], rows: int) -> ViewedRows:
        """Return every view of raw columns."""
        return ViewedRows(self, self.encoder.transform(columns, rows))


@dataclass
class ViewedRows:
    """Some rows, seen through the views; each view is computed on first use and kept."""

    views: Views
    table: Singles
    _known: dict[str, Singles] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Singles:
        if name not in self._known:
            self._known[name] = self.views.matrix(name, self.table)
        return self._known[name]


@dataclass
class WrittenViews:
    """The views as tensors of one graph; each is written on first use."""

    views: Views
    graph: Graph
    _known: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = self._write(name)
        return self._known[name]

    def _write(self, name: str) -> str:
        if name == TABLE:
            return self.views.encoder.write(self.graph)
        if name == BASIS:
            return self.views.basis.write(self.graph, self[TABLE])
        if name == BRANCHES:
            if not len(self.views.basis.hot):
                return self[TABLE]
            hot = self.views.basis.write_hot(self.graph, self[TABLE])
            return self.graph.concat([self[TABLE], self.graph.cast(hot, FLOAT)])
        return self.views.scaling.write(self.graph, self[TABLE])
