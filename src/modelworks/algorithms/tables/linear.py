"""A penalised additive model on the piecewise-linear basis, as a portfolio member."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.core.budget import Budget
from modelworks.training.glm import Design, LinearFit, fit_glm
from modelworks.training.member import FoldFit
from modelworks.training.problem import Floats, Problem


@dataclass
class LinearModel:
    """Ridge, logistic or softmax regression; the penalty is chosen on the first fold, other folds start warm.

    Args:
        name: Name in the portfolio.
        problem: What to learn.
        features: float32 ``[rows, columns]`` without gaps.
        penalties: Ridge penalties to try, strongest first.
    """

    name: str
    problem: Problem
    features: npt.NDArray[np.float32]
    penalties: tuple[float, ...] = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
    _design: Design | None = field(default=None, init=False)
    _chosen: LinearFit | None = field(default=None, init=False)

    @property
    def design(self) -> Design:
        """The features with their Gram matrices."""
        if self._design is None:
            self._design = Design(self.features, self.problem)
        return self._design

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        """Fit on the other folds."""
        train, valid = self.problem.parts(fold)
        gram = self.design.gram(without=fold)
        if self._chosen is not None:
            fit = self._fit(train, gram, self._chosen.penalty, self._chosen, budget)
            return FoldFit(scores=fit.scores(self.features[valid]), part=fit)
        best, best_loss, worse = None, np.inf, 0
        start = None
        for penalty in self.penalties:
            start = self._fit(train, gram, penalty, start, budget)
            loss = self.problem.loss(start.scores(self.features[valid]), valid)
            if loss < best_loss:
                best, best_loss, worse = start, loss, 0
            else:
                worse += 1
                if worse == 2:
                    break
        assert best is not None
        self._chosen = best
        return FoldFit(scores=best.scores(self.features[valid]), part=best)

    def _fit(
        self,
        rows: npt.NDArray[np.int64],
        gram: Floats,
        penalty: float,
        start: LinearFit | None,
        budget: Budget,
    ) -> LinearFit:
        return fit_glm(
            self.design.matrix[rows],
            self.problem,
            rows,
            gram=gram,
            penalty=penalty,
            start=start,
            budget=budget,
        )

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        """Nothing is left to agree on: the penalty was fixed by the first fold."""
        return fits

    def coefficients(self, fits: dict[int, FoldFit]) -> Floats:
        """Return the mean coefficients ``[columns + 1, outputs]`` of the folds."""
        return np.asarray(np.mean([fit.part.coefficients for fit in fits.values()], axis=0))

    def predict(self, fits: dict[int, FoldFit], features: npt.NDArray[np.float32]) -> Floats:
        """Return scores of new rows."""
        return LinearFit(coefficients=self.coefficients(fits), penalty=0.0).scores(features)

    def write(self, graph: Graph, fits: dict[int, FoldFit], features: str, weight: float) -> str:
        """Write the weighted scores; returns ``[rows, outputs]``."""
        coefficients = self.coefficients(fits) * weight
        return graph.op(
            "Gemm",
            features,
            graph.constant(coefficients[:-1], np.float32),
            graph.constant(coefficients[-1], np.float32),
        )
