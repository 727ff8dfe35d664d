"""Boosted trees that see target statistics of categories with many levels, as a portfolio member.

A level is replaced by the smoothed mean of the target in it (Micci-Barreca 2001). No row's statistic contains its
own target: training rows are encoded from the other folds, held-out rows from all training rows. In the graph the
statistics are one table that is looked up by level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import INT64, Graph
from modelworks.algorithms.tables.boosted import BoostedModel, BoostedTrees
from modelworks.algorithms.tables.encoder import Feature
from modelworks.algorithms.tables.views import TABLE
from modelworks.algorithms.trees import write_trees
from modelworks.core.budget import Budget
from modelworks.training.member import FoldFit
from modelworks.training.problem import Floats, Problem, Rows

Singles = npt.NDArray[np.float32]

MANY_LEVELS = 12
_MOST_OUTPUTS = 5
_PRIOR_ROWS = 10.0


def columns_with_many_levels(features: Sequence[Feature]) -> list[int]:
    """Return the category columns of the encoded table whose levels are too many for indicators."""
    return [
        index
        for index, feature in enumerate(features)
        if feature.kind == "code" and feature.levels >= MANY_LEVELS
    ]


@dataclass(frozen=True, kw_only=True)
class LevelStatistics:
    """Means of the target per level.

    Attributes:
        columns: Columns of the encoded table.
        sizes: Levels per column; code ``size`` stands for any other value.
        means: float32 ``[sum of (size + 1), outputs]``, column after column.
    """

    columns: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    means: Singles

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """First row of each column in ``means``."""
        return np.cumsum(self.sizes + 1) - (self.sizes + 1)

    def transform(self, table: Singles) -> Singles:
        """Return ``[rows, columns * outputs]``."""
        codes = level_codes(table, self.columns, self.sizes)
        return np.asarray(self.means[codes + self.starts].reshape(len(table), -1))

    def write(self, graph: Graph, table: str) -> str:
        """Add the look-up to a graph; returns ``[rows, columns * outputs]``."""
        codes = graph.columns(table, self.columns)
        other = graph.constant(self.sizes[None, :], np.float32)
        known = graph.op("Where", graph.op("IsNaN", codes), other, codes)
        index = graph.op("Add", graph.cast(known, INT64), graph.constant(self.starts[None, :], np.int64))
        found = graph.op("Gather", graph.constant(self.means, np.float32), index, axis=0)
        width = len(self.columns) * self.means.shape[1]
        return graph.op("Reshape", found, graph.constant([-1, width], np.int64))


def level_codes(
    table: Singles, columns: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return int64 codes ``[rows, columns]``; values without a code get the column's size."""
    codes = table[:, columns]
    return np.where(np.isnan(codes), sizes, codes).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class StatisticsModel:
    """Fold models over the table and its statistics."""

    statistics: LevelStatistics
    trees: BoostedModel


@dataclass
class StatisticTrees:
    """Boosted trees over the encoded table and target statistics.

    Args:
        name: Name in the portfolio.
        problem: What to learn.
        features: The encoded table.
        columns: Its columns with many levels.
        sizes: Levels of each.
        make: Makes the boosted trees for given features.
    """

    name: str
    problem: Problem
    features: Singles
    columns: Sequence[int]
    sizes: Sequence[int]
    make: Callable[[Singles], BoostedTrees]
    view: str = TABLE
    _inner: dict[int, BoostedTrees] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._columns = np.array(self.columns, dtype=np.int64)
        self._sizes = np.array(self.sizes, dtype=np.int64)
        self._codes = level_codes(self.features, self._columns, self._sizes)
        dense = self.problem.dense_target
        self._target = dense if dense.shape[1] <= _MOST_OUTPUTS else dense[:, :0]

    def _statistics(self, rows: Rows) -> LevelStatistics:
        weight = self.problem.row_weight(rows)
        target = self._target[rows]
        prior = (weight[:, None] * target).sum(0) / weight.sum()
        blocks = []
        for position, size in enumerate(self._sizes.tolist()):
            codes = self._codes[rows, position]
            count = np.bincount(codes, weight, minlength=size + 1)
            sums = [
                np.bincount(codes, weight * target[:, k], minlength=size + 1) for k in range(target.shape[1])
            ]
            total = np.stack(sums, axis=1) if sums else np.zeros((size + 1, 0))
            blocks.append((total + _PRIOR_ROWS * prior) / (count + _PRIOR_ROWS)[:, None])
        means = np.concatenate(blocks).astype(np.float32)
        return LevelStatistics(columns=self._columns, sizes=self._sizes, means=means)

    def _seen_without(self, fold: int) -> Singles:
        """Return the features of all rows as a model without ``fold`` may see them."""
        train, valid = self.problem.parts(fold)
        width = len(self._columns) * self._target.shape[1]
        extra = np.empty((self.problem.rows, width), dtype=np.float32)
        extra[valid] = self._statistics(train).transform(self.features[valid])
        for other in self.problem.fold_numbers:
            if other != fold:
                own = self.problem.parts(other)[1]
                rest = train[self.problem.folds[train] != other]
                extra[own] = self._statistics(rest if len(rest) else train).transform(self.features[own])
        return np.concatenate([self.features, extra], axis=1)

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        """Boost on the table and the statistics of the other folds."""
        budget.check()
        self._inner[fold] = self.make(self._seen_without(fold))
        return self._inner[fold].fit_fold(fold, budget)

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        """Agree on the number of rounds."""
        rounds = next(iter(self._inner.values())).common_rounds(fits)
        return {fold: self._inner[fold].rescored(fold, fit, rounds) for fold, fit in fits.items()}

    def finish(self, fits: dict[int, FoldFit], budget: Budget) -> StatisticsModel:
        """Return the fold models over the statistics of all rows."""
        trees = next(iter(self._inner.values())).finish(fits, budget)
        return StatisticsModel(statistics=self._statistics(np.arange(self.problem.rows)), trees=trees)

    def predict(self, model: StatisticsModel, features: Singles) -> Floats:
        """Return scores of new rows."""
        return model.trees.scores(np.concatenate([features, model.statistics.transform(features)], axis=1))

    def write(self, graph: Graph, model: StatisticsModel, features: str, weight: float) -> str:
        """Write the weighted scores; returns ``[rows, outputs]``."""
        wide = graph.concat([features, model.statistics.write(graph, features)])
        return write_trees(graph, model.trees.trees.scaled(weight), wide)
