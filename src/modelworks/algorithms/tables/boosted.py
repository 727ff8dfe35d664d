"""Gradient-boosted trees (LightGBM) as a portfolio member.

Source: Ke et al. 2017, "LightGBM: A Highly Efficient Gradient Boosting Decision Tree".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.lightgbm_library import Bins, Booster
from modelworks.algorithms.trees import Trees, from_lightgbm
from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped
from modelworks.core.task import TaskKind
from modelworks.training.member import FoldFit
from modelworks.training.problem import Floats, Problem

_OBJECTIVE = {
    TaskKind.BINARY: {"objective": "binary", "metric": "binary_logloss"},
    TaskKind.REGRESSION: {"objective": "regression", "metric": "l2"},
}


@dataclass(frozen=True)
class _FoldTrees:
    booster: Booster
    curve: list[float]


@dataclass
class BoostedTrees:
    """LightGBM with early stopping on the held-out fold; all folds agree on one number of rounds.

    Args:
        name: Name in the portfolio.
        problem: What to learn.
        features: float32 ``[rows, columns]`` with NaN for missing.
        seed: Seed of LightGBM's random choices.
        settings: LightGBM parameters of this member (data of the portfolio).
        rounds: Most rounds.
        patience: Rounds without gain before a fold stops.
        categorical: Columns whose values are category codes.
    """

    name: str
    problem: Problem
    features: npt.NDArray[np.float32]
    seed: int
    settings: Mapping[str, float | int | bool | str]
    rounds: int = 2000
    patience: int = 30
    categorical: tuple[int, ...] = ()
    _bins: Bins | None = field(default=None, init=False)

    def _parameters(self) -> dict[str, float | int | bool | str]:
        kind = self.problem.kind
        if kind is TaskKind.MULTICLASS:
            learned: dict[str, float | int | bool | str] = {
                "objective": "multiclass",
                "metric": "multi_logloss",
                "num_class": self.problem.classes,
            }
        else:
            learned = dict(_OBJECTIVE[kind])
        return {
            "verbosity": -1,
            "num_threads": 1,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "feature_pre_filter": False,
            "max_bin": 255,
            **learned,
            **self.settings,
            **({"categorical_feature": ",".join(map(str, self.categorical))} if self.categorical else {}),
        }

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        """Boost until the fold's loss stops falling."""
        if self._bins is None:
            self._bins = Bins(self.features, self._parameters())
        inside, outside = self.problem.parts(fold)
        train, valid = self._part(inside), self._part(outside)
        booster = Booster(train, self._parameters(), valid)
        curve: list[float] = []
        best = 0
        for number in range(self.rounds):
            try:
                budget.check()
            except BudgetStopped:
                if not curve:
                    raise
                break
            if booster.step():
                break
            curve.append(booster.evaluate())
            if curve[-1] < curve[best]:
                best = number
            elif number - best >= self.patience:
                break
        scores = booster.raw_scores(self.features[outside], self.problem.outputs, best + 1)
        return FoldFit(scores=scores, part=_FoldTrees(booster, curve))

    def _part(self, rows: npt.NDArray[np.int64]) -> Bins:
        assert self._bins is not None
        weight = None if self.problem.weight is None else self.problem.weight[rows]
        return self._bins.subset(rows).with_target(self.problem.target[rows], weight)

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        """Take the number of rounds that is best over all folds together, which is less optimistic."""
        rounds = self._rounds(fits)
        settled = {}
        for fold, fit in fits.items():
            budget.check()
            rows = self.problem.parts(fold)[1]
            scores = fit.part.booster.raw_scores(self.features[rows], self.problem.outputs, rounds)
            settled[fold] = FoldFit(scores=scores, part=fit.part)
        return settled

    def _rounds(self, fits: dict[int, FoldFit]) -> int:
        curves = [fit.part.curve for fit in fits.values()]
        longest = max(map(len, curves))
        padded = [curve + [curve[-1]] * (longest - len(curve)) for curve in curves]
        return int(np.argmin(np.mean(padded, axis=0))) + 1

    def trees(self, fits: dict[int, FoldFit]) -> list[Trees]:
        """Return the trees of each fold model."""
        rounds = self._rounds(fits)
        return [
            from_lightgbm(fit.part.booster.model_text(rounds), self.problem.outputs) for fit in fits.values()
        ]

    def predict(self, fits: dict[int, FoldFit], features: npt.NDArray[np.float32]) -> Floats:
        """Return the mean score of the fold models."""
        rounds = self._rounds(fits)
        parts = [fit.part.booster.raw_scores(features, self.problem.outputs, rounds) for fit in fits.values()]
        return np.asarray(np.mean(parts, axis=0))
