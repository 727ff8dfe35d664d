"""Quantile outputs for regression: a spread that depends on the row, calibrated by conformal prediction.

The spread is the exponential of boosted trees fitted to the logarithm of out-of-fold residuals; the quantiles of
the residuals in units of the spread are taken on rows the spread has not seen (normalised conformal prediction,
Papadopoulos et al. 2008; Lei et al. 2018, "Distribution-Free Predictive Inference for Regression", section 5.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.tables.boosted import BoostedModel, BoostedTrees
from modelworks.algorithms.trees import write_trees
from modelworks.core.budget import Budget
from modelworks.core.task import TaskKind
from modelworks.training.problem import Floats, Problem, Rows

_LEAST_ROWS = 120
_HALVES = 2
_SETTINGS: dict[str, float | int | bool | str] = {
    "learning_rate": 0.1,
    "num_leaves": 6,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.8,
    "lambda_l2": 5.0,
}
_FLOOR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Quantiles of the target given the prediction, in standardised units.

    Attributes:
        levels: Quantile levels, ascending.
        offsets: Quantiles of the residual in units of the spread, one per level.
        spread: Trees whose scores, after ``scale`` and ``shift``, are the logarithm of the spread; ``None``:
            the same spread everywhere.
        shift, scale: ``log spread = shift + scale * score``.
        low, high: Bounds of the score.
    """

    levels: tuple[float, ...]
    offsets: Floats
    spread: BoostedModel | None
    shift: float
    scale: float
    low: float
    high: float

    def quantiles(self, scores: Floats, features: npt.NDArray[np.float32]) -> Floats:
        """Return quantiles ``[rows, levels]`` around standardised predictions ``[rows, 1]``."""
        width = np.ones_like(scores)
        if self.spread is not None:
            clipped = np.clip(self.spread.scores(features), self.low, self.high)
            width = np.exp(self.shift + self.scale * clipped)
        return np.asarray(scores + width * self.offsets)

    def write(self, graph: Graph, scores: str, features: str) -> str:
        """Add the quantiles ``[rows, levels]`` around the standardised prediction ``scores``."""
        offsets = graph.constant(self.offsets[None, :], np.float32)
        if self.spread is None:
            return graph.op("Add", scores, offsets)
        bounds = (graph.constant(self.low, np.float32), graph.constant(self.high, np.float32))
        clipped = graph.op("Clip", write_trees(graph, self.spread.trees, features), *bounds)
        scaled = graph.op("Mul", clipped, graph.constant(self.scale, np.float32))
        width = graph.op("Exp", graph.op("Add", scaled, graph.constant(self.shift, np.float32)))
        return graph.op("Add", scores, graph.op("Mul", width, offsets))


def fit_intervals(
    problem: Problem,
    rows: Rows,
    scores: Floats,
    features: npt.NDArray[np.float32],
    levels: Sequence[float],
    budget: Budget,
    seed: int,
) -> Intervals:
    """Fit the spread and calibrate the quantiles on out-of-fold scores.

    Args:
        problem: The regression problem.
        rows: Rows the scores belong to.
        scores: Out-of-fold standardised predictions, ``[len(rows), 1]``.
        features: Features of *all* rows that the spread may depend on.
        levels: Quantile levels in (0, 1).
        budget: Checked while boosting.
        seed: Seed of the halves.
    """
    residual = problem.target[rows] - scores[:, 0]
    weight = problem.row_weight(rows)
    ordered = tuple(sorted(float(level) for level in levels))
    if len(rows) < _LEAST_ROWS:
        offsets = _quantiles(residual, weight, ordered)
        return Intervals(
            levels=ordered, offsets=offsets, spread=None, shift=0.0, scale=1.0, low=0.0, high=0.0
        )
    logs = np.log(np.abs(residual) + _FLOOR)
    centre, scale = float(logs.mean()), float(logs.std()) or 1.0
    halves = np.random.default_rng(seed).permutation(len(rows)) % _HALVES
    inner = Problem(
        kind=TaskKind.REGRESSION,
        target=(logs - centre) / scale,
        folds=halves.astype(np.int8),
        classes=0,
        weight=None if problem.weight is None else weight / weight.mean(),
    )
    member = BoostedTrees(
        name="spread", problem=inner, features=features[rows], seed=seed, settings=_SETTINGS, rounds=200
    )
    fits = member.settle({fold: member.fit_fold(fold, budget) for fold in range(_HALVES)}, budget)
    unseen = np.empty(len(rows))
    for fold, fit in fits.items():
        unseen[inner.parts(fold)[1]] = fit.scores[:, 0]
    low, high = float(unseen.min()), float(unseen.max())
    width = np.exp(centre + scale * unseen)
    return Intervals(
        levels=ordered,
        offsets=_quantiles(residual / width, weight, ordered),
        spread=member.finish(fits, budget),
        shift=centre,
        scale=scale,
        low=low,
        high=high,
    )


def _quantiles(values: Floats, weight: Floats, levels: Sequence[float]) -> Floats:
    """Return weighted quantiles with the finite-sample correction: levels move outward by ``1 / (n + 1)``."""
    order = np.argsort(values, kind="stable")
    total = weight.sum() + weight.mean()
    upward = np.cumsum(weight[order]) / total
    downward = np.cumsum(weight[order[::-1]]) / total
    last = len(order) - 1
    found = []
    for level in levels:
        if level >= 0.5:
            index = min(int(np.searchsorted(upward, level - 1e-12)), last)
        else:
            index = last - min(int(np.searchsorted(downward, 1 - level - 1e-12)), last)
        found.append(values[order[index]])
    return np.array(found)
