"""A small neural network per fold as a portfolio member; all of them are averaged at serving."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.tables.views import SCALED
from modelworks.core.budget import Budget
from modelworks.training.member import FoldFit
from modelworks.training.network import Network, Schedule, Singles, fit_network
from modelworks.training.problem import Floats, Problem


@dataclass
class NeuralNetwork:
    """Networks of two hidden layers over the scaled inputs.

    Args:
        name: Name in the portfolio.
        problem: What to learn.
        features: float32 ``[rows, columns]``, scaled inputs without gaps.
        seed: Seed of start, order and dropout.
        schedule: How each is trained.
    """

    name: str
    problem: Problem
    features: Singles
    seed: int
    schedule: Schedule = field(default_factory=Schedule)
    view: str = SCALED

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        """Train on the other folds until the fold's loss stops falling."""
        train, valid = self.problem.parts(fold)
        network = fit_network(
            self.features, self.problem, train, valid, self.schedule, self.seed + fold, budget
        )
        return FoldFit(scores=network.scores(self.features[valid]), part=network)

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        """Nothing is left to agree on."""
        return fits

    def finish(self, fits: dict[int, FoldFit], budget: Budget) -> Network:
        """Return the networks of all folds side by side."""
        parts = [fit.part for fit in fits.values()]
        return Network(
            weights=tuple(
                np.concatenate(layer) for layer in zip(*(part.weights for part in parts), strict=True)
            ),
            shifts=tuple(
                np.concatenate(layer) for layer in zip(*(part.shifts for part in parts), strict=True)
            ),
        )

    def predict(self, model: Network, features: Singles) -> Floats:
        """Return scores of new rows."""
        return model.scores(features)

    def write(self, graph: Graph, model: Network, features: str, weight: float) -> str:
        """Write the weighted mean of the networks; returns ``[rows, outputs]``."""
        first, second, last = model.weights
        count, columns, hidden = first.shape
        wide = first.transpose(1, 0, 2).reshape(columns, count * hidden)
        shift = model.shifts[0].reshape(count * hidden)
        layer = graph.op(
            "Gemm", features, graph.constant(wide, np.float32), graph.constant(shift, np.float32)
        )
        layer = graph.op("Mul", layer, graph.op("Sigmoid", layer))
        layer = graph.op("Reshape", layer, graph.constant([-1, count, hidden], np.int64))
        layer = graph.op("Transpose", layer, perm=[1, 0, 2])
        layer = graph.op("MatMul", layer, graph.constant(second, np.float32))
        layer = graph.op("Add", layer, graph.constant(model.shifts[1], np.float32))
        layer = graph.op("Mul", layer, graph.op("Sigmoid", layer))
        scores = graph.op("MatMul", layer, graph.constant(last * (weight / count), np.float32))
        total = graph.op("ReduceSum", scores, graph.constant([0], np.int64), keepdims=0)
        base = model.shifts[2].mean(axis=0) * weight
        return graph.op("Add", total, graph.constant(base, np.float32))
