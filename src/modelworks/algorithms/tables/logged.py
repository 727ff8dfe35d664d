"""A member that learns the logarithm of a positive, skewed target and answers in the target's own unit.

Scores are turned back by the smearing of Duan 1983, "Smearing Estimate: A Nonparametric Retransformation
Method", with one factor fitted by least squares on the out-of-fold rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.core.budget import Budget
from modelworks.core.task import TaskKind
from modelworks.training.member import FoldFit
from modelworks.training.problem import Floats, Problem

_SKEWED = 1.0
_BEYOND = 1.0


def is_skewed(problem: Problem) -> bool:
    """Say whether a regression target is positive with a long upper tail (skewness over 1)."""
    if problem.kind is not TaskKind.REGRESSION:
        return False
    raw = problem.centre + problem.spread * problem.target
    return bool(
        raw.min() > 0 and np.mean(problem.target**3) / max(problem.target.std() ** 3, 1e-12) > _SKEWED
    )


def logarithmic(problem: Problem) -> Problem:
    """Return the same problem with the standardised logarithm of the target."""
    raw = np.log(problem.centre + problem.spread * problem.target)
    centre = float(np.average(raw, weights=problem.weight))
    spread = float(np.sqrt(np.average(np.square(raw - centre), weights=problem.weight))) or 1.0
    return replace(problem, target=(raw - centre) / spread, centre=centre, spread=spread)


@dataclass(frozen=True, kw_only=True)
class LoggedModel:
    """A fitted member of the logarithm and the factor of the way back.

    Attributes:
        inner: The member's own model.
        factor: Smearing factor.
        low, high: Bounds of the inner score: the training range and one standard deviation more.
    """

    inner: Any
    factor: float
    low: float
    high: float


@dataclass
class LoggedMember:
    """Wraps a member.

    Args:
        name: Name in the portfolio.
        problem: The problem in the target's own unit.
        make: Makes the inner member for the problem of the logarithm.
    """

    name: str
    problem: Problem
    make: Callable[[Problem], Any]
    _factor: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        self._inner_problem = logarithmic(self.problem)
        self._inner = self.make(self._inner_problem)
        self._low = float(self._inner_problem.target.min()) - _BEYOND
        self._high = float(self._inner_problem.target.max()) + _BEYOND

    @property
    def view(self) -> str:
        """The inner member's view."""
        return str(self._inner.view)

    def _back(self, scores: Floats, factor: float) -> Floats:
        inner = self._inner_problem
        raw = factor * np.exp(inner.centre + inner.spread * np.clip(scores, self._low, self._high))
        return np.asarray((raw - self.problem.centre) / self.problem.spread)

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        """Learn the logarithm without ``fold``."""
        fit = self._inner.fit_fold(fold, budget)
        return FoldFit(scores=self._back(fit.scores, 1.0), part=fit)

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        """Settle the inner member and fit the smearing factor on all out-of-fold rows."""
        settled = self._inner.settle({fold: fit.part for fold, fit in fits.items()}, budget)
        rows = np.concatenate([self.problem.parts(fold)[1] for fold in settled])
        centre, spread = self.problem.centre, self.problem.spread
        back = np.concatenate([self._back(fit.scores, 1.0)[:, 0] for fit in settled.values()])
        plain, truth = centre + spread * back, centre + spread * self.problem.target[rows]
        weight = self.problem.row_weight(rows)
        factor = float((weight * plain * truth).sum() / max((weight * plain * plain).sum(), 1e-30))
        self._factor = float(np.clip(factor, 0.5, 2.0))
        return {fold: FoldFit(self._back(fit.scores, self._factor), fit) for fold, fit in settled.items()}

    def finish(self, fits: dict[int, FoldFit], budget: Budget) -> LoggedModel:
        """Finish the inner member."""
        inner = self._inner.finish({fold: fit.part for fold, fit in fits.items()}, budget)
        return LoggedModel(inner=inner, factor=self._factor, low=self._low, high=self._high)

    def predict(self, model: LoggedModel, features: npt.NDArray[np.float32]) -> Floats:
        """Return scores of new rows in the unit of the outer problem."""
        return self._back(self._inner.predict(model.inner, features), model.factor)

    def write(self, graph: Graph, model: LoggedModel, features: str, weight: float) -> str:
        """Write the weighted scores; returns ``[rows, 1]``."""
        inner, outer = self._inner_problem, self.problem
        scores = self._inner.write(graph, model.inner, features, 1.0)
        clipped = graph.op(
            "Clip", scores, graph.constant(model.low, np.float32), graph.constant(model.high, np.float32)
        )
        shift = inner.centre + np.log(model.factor * weight / outer.spread)
        exponent = graph.op(
            "Add",
            graph.op("Mul", clipped, graph.constant(inner.spread, np.float32)),
            graph.constant(shift, np.float32),
        )
        offset = graph.constant(-weight * outer.centre / outer.spread, np.float32)
        return graph.op("Add", graph.op("Exp", exponent), offset)
