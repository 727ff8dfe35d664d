"""A penalised additive model on the piecewise-linear basis, as a portfolio member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.tables.views import BASIS
from modelworks.core.budget import Budget
from modelworks.training.glm import Design, LinearFit, best_on_path, fit_glm
from modelworks.training.member import FoldFit
from modelworks.training.problem import Floats, Problem


@dataclass
class LinearModel:
    """Ridge, logistic or softmax regression; the penalty is chosen on the first fold, other folds start warm.

    Args:
        name: Name in the portfolio.
        problem: What to learn.
        features: float32 ``[rows, columns]`` without gaps.
        penalties: Ridge penalties, strongest first; the search on the first fold begins at a third of them.
    """

    name: str
    problem: Problem
    features: npt.NDArray[np.float32]
    penalties: Sequence[float] = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
    view: str = BASIS
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
        fits: dict[int, LinearFit] = {}

        def loss_at(index: int) -> float:
            start = next(reversed(fits.values()), None)
            fits[index] = self._fit(train, gram, self.penalties[index], start, budget)
            return self.problem.loss(fits[index].scores(self.features[valid]), valid)

        best = best_on_path(len(self.penalties), len(self.penalties) // 3, loss_at)
        self._chosen = fits[best]
        return FoldFit(scores=self._chosen.scores(self.features[valid]), part=self._chosen)

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

    def finish(self, fits: dict[int, FoldFit], budget: Budget) -> LinearFit:
        """Return the mean of the folds' coefficients."""
        return LinearFit(
            coefficients=np.asarray(np.mean([fit.part.coefficients for fit in fits.values()], axis=0)),
            penalty=next(iter(fits.values())).part.penalty,
        )

    def predict(self, model: LinearFit, features: npt.NDArray[np.float32]) -> Floats:
        """Return scores of new rows."""
        return model.scores(features)

    def write(self, graph: Graph, model: LinearFit, features: str, weight: float) -> str:
        """Write the weighted scores; returns ``[rows, outputs]``."""
        coefficients = model.coefficients * weight
        return graph.op(
            "Gemm",
            features,
            graph.constant(coefficients[:-1], np.float32),
            graph.constant(coefficients[-1], np.float32),
        )
