"""Extremely randomised trees as a portfolio member: deep, averaged, strong where near rows have equal answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.tables.views import BRANCHES
from modelworks.algorithms.trees import LESS_OR_EQUAL, Trees, merge, write_trees
from modelworks.core.budget import Budget
from modelworks.core.task import TaskKind
from modelworks.training.forest import GrownTrees, Integers, Singles, grow_trees
from modelworks.training.member import FoldFit
from modelworks.training.problem import Floats, Problem, Rows

_LEAVES_PER_ROW = 0.6
_FEWEST = 8


@dataclass(frozen=True, kw_only=True)
class ForestModel:
    """The trees of all folds.

    Attributes:
        parts: Trees per fold, leaves are shares (one output) or votes for a class.
        shade: What is added to every share before its logarithm is taken.
    """

    parts: tuple[GrownTrees, ...]
    shade: float

    @property
    def size(self) -> int:
        """Number of trees."""
        return sum(len(part.roots) for part in self.parts)

    def mean(self, features: Singles) -> Floats:
        """Return the mean leaf of all trees ``[rows, outputs]``."""
        total = [part.mean(features) * len(part.roots) for part in self.parts]
        return np.asarray(np.sum(total, axis=0) / self.size)

    def trees(self) -> Trees:
        """Return the trees as an additive ensemble whose sum is the mean leaf."""
        return merge([_additive(part) for part in self.parts]).scaled(1.0 / self.size)


@dataclass
class Forest:
    """A forest per fold; all of them are averaged at serving. Not for several labels.

    Args:
        name: Name in the portfolio.
        problem: What to learn.
        features: float32 ``[rows, columns]`` with NaN for missing.
        seed: Seed of samples, columns and points.
        trees: Most trees per fold.
        least: Least rows of a leaf.
        sample: Most rows a tree is grown on.
        leaves: Leaves all folds together may have, about; fewer trees are grown on larger tables.
    """

    name: str
    problem: Problem
    features: Singles
    seed: int
    trees: int = 30
    least: int = 1
    sample: int = 6000
    leaves: int = 200_000
    view: str = BRANCHES

    @property
    def _shade(self) -> float:
        return 0.5 / self.trees

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        """Grow trees on the other folds."""
        train, valid = self.problem.parts(fold)
        generator = np.random.default_rng([self.seed, fold])
        rows = min(len(train), self.sample)
        folds = len(self.problem.fold_numbers)
        count = int(np.clip(self.leaves / (_LEAVES_PER_ROW * rows * folds), _FEWEST, self.trees))
        grown = grow_trees(
            self.features,
            self.problem.dense_target,
            [self._sample(train, rows, generator) for _ in range(count)],
            candidates=max(2, round(self.features.shape[1] ** 0.5)),
            least=self.least,
            seed=self.seed + fold,
            budget=budget,
        )
        if self.problem.kind is TaskKind.MULTICLASS:
            grown = replace(grown, leaf=np.eye(self.problem.classes)[grown.leaf.argmax(axis=1)])
        return FoldFit(scores=self._scores(grown.mean(self.features[valid])), part=grown)

    def _sample(self, train: Rows, rows: int, generator: np.random.Generator) -> Integers:
        """Return the rows of one tree; weights decide how often a row is drawn."""
        if self.problem.weight is not None:
            weight = self.problem.row_weight(train)
            return np.sort(generator.choice(train, rows, p=weight / weight.sum()))
        return train if rows == len(train) else np.sort(generator.permutation(train)[:rows])

    def _scores(self, mean: Floats) -> Floats:
        """Bring shares to the link scale."""
        if self.problem.kind is TaskKind.REGRESSION:
            return mean
        shaded = mean + self._shade
        if self.problem.kind is TaskKind.BINARY:
            return np.asarray(np.log(shaded) - np.log(1 + 2 * self._shade - shaded))
        return np.asarray(np.log(shaded))

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        """Nothing is left to agree on."""
        return fits

    def finish(self, fits: dict[int, FoldFit], budget: Budget) -> ForestModel:
        """Return the trees of all folds."""
        return ForestModel(parts=tuple(fit.part for fit in fits.values()), shade=self._shade)

    def predict(self, model: ForestModel, features: Singles) -> Floats:
        """Return scores of new rows."""
        return self._scores(model.mean(features))

    def write(self, graph: Graph, model: ForestModel, features: str, weight: float) -> str:
        """Write the weighted scores; returns ``[rows, outputs]``."""
        if self.problem.kind is TaskKind.REGRESSION:
            return write_trees(graph, model.trees().scaled(weight), features)
        mean = write_trees(graph, model.trees(), features)
        shaded = graph.op("Add", mean, graph.constant(model.shade, np.float32))
        scores = graph.op("Log", shaded)
        if self.problem.kind is TaskKind.BINARY:
            rest = graph.op("Sub", graph.constant(1 + 2 * model.shade, np.float32), shaded)
            scores = graph.op("Sub", scores, graph.op("Log", rest))
        return graph.scaled(scores, weight)


def _additive(grown: GrownTrees) -> Trees:
    """Return a forest as an additive ensemble: one share per leaf, or one vote for its class."""
    outputs = grown.leaf.shape[1]
    votes = grown.leaf.argmax(axis=1) if outputs > 1 else np.zeros(len(grown.leaf), dtype=np.int64)
    nodes = len(grown.feature)
    return Trees(
        roots=grown.roots,
        feature=grown.feature,
        split=grown.split,
        mode=np.full(nodes, LESS_OR_EQUAL, dtype=np.uint8),
        true=grown.left,
        false=grown.right,
        missing_true=np.zeros(nodes, dtype=bool),
        leaf=grown.leaf[np.arange(len(grown.leaf)), votes],
        leaf_output=votes,
        base=np.zeros(outputs),
    )
