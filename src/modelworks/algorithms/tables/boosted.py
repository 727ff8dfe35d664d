"""Trees from LightGBM as a portfolio member: boosted with early stopping, or grown at random and averaged.

Source: Ke et al. 2017, "LightGBM: A Highly Efficient Gradient Boosting Decision Tree"; random splits after
Geurts et al. 2006, "Extremely randomized trees".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.lightgbm_library import Bins, Booster
from modelworks.algorithms.tables.views import TABLE
from modelworks.algorithms.trees import Trees, from_lightgbm, merge, write_trees
from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped
from modelworks.core.task import TaskKind
from modelworks.training.member import FoldFit
from modelworks.training.problem import MISSING_LABEL, Floats, Problem, Rows

Singles = npt.NDArray[np.float32]
Setting = float | int | bool | str

_SOLVED, _NEARLY = 5e-4, 0.05

_OBJECTIVES: dict[TaskKind, dict[str, Setting]] = {
    TaskKind.BINARY: {"objective": "binary", "metric": "binary_logloss"},
    TaskKind.MULTILABEL: {"objective": "binary", "metric": "binary_logloss"},
    TaskKind.MULTICLASS: {"objective": "multiclass", "metric": "multi_logloss"},
    TaskKind.REGRESSION: {"objective": "regression", "metric": "l2"},
}


@dataclass(frozen=True)
class _Grown:
    """A booster of one fold (and label) with its validation loss per round."""

    booster: Booster
    curve: tuple[float, ...]


@dataclass(frozen=True)
class BoostedModel:
    """Fold models that are averaged.

    Attributes:
        boosters: Per fold, per label (one for all other kinds): booster and rounds to use.
        trees: The same as one additive ensemble.
        outputs: Score columns of one booster.
    """

    boosters: tuple[tuple[tuple[Booster, int], ...], ...]
    trees: Trees
    outputs: int

    def scores(self, features: Singles) -> Floats:
        """Return the mean score of the folds by LightGBM's own prediction."""
        folds = [
            np.concatenate(
                [booster.raw_scores(features, self.outputs, rounds) for booster, rounds in fold], axis=1
            )
            for fold in self.boosters
        ]
        return np.asarray(np.mean(folds, axis=0))


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
    features: Singles
    seed: int
    settings: Mapping[str, Setting]
    rounds: int = 2000
    patience: int = 30
    categorical: Sequence[int] = ()
    view: str = TABLE
    _bins: Bins | None = field(default=None, init=False)

    def _parameters(self) -> dict[str, Setting]:
        kind = self.problem.kind
        chosen: dict[str, Setting] = {
            "verbosity": -1,
            "num_threads": 1,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "feature_pre_filter": False,
            "max_bin": 255,
            **_OBJECTIVES[kind],
            **self.settings,
        }
        if kind is TaskKind.MULTICLASS:
            chosen["num_class"] = self.problem.classes
        if self.categorical:
            chosen["categorical_feature"] = ",".join(map(str, self.categorical))
        return chosen

    @property
    def _outputs(self) -> int:
        """Score columns of one booster."""
        return 1 if self.problem.kind is TaskKind.MULTILABEL else self.problem.outputs

    def _labels(self) -> Sequence[int | None]:
        return range(self.problem.classes) if self.problem.kind is TaskKind.MULTILABEL else (None,)

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        """Boost until the fold's loss stops falling."""
        if self._bins is None:
            self._bins = Bins(self.features, self._parameters())
        train, valid = self.problem.parts(fold)
        grown = [self._grow(train, valid, label, budget) for label in self._labels()]
        scores = [
            one.booster.raw_scores(self.features[valid], self._outputs, int(np.argmin(one.curve)) + 1)
            for one in grown
        ]
        return FoldFit(scores=np.concatenate(scores, axis=1), part=tuple(grown))

    def _grow(self, train: Rows, valid: Rows, label: int | None, budget: Budget) -> _Grown:
        booster = Booster(self._part(train, label), self._parameters(), self._part(valid, label))
        curve: list[float] = []
        best = 0
        for number in range(self.rounds):
            try:
                budget.check()
            except BudgetStopped:
                if not curve:
                    raise
                break
            ended = booster.step()
            curve.append(booster.evaluate())
            if ended:
                break
            if curve[-1] < curve[best]:
                best = number
            elif number - best >= self.patience:
                break
            if self._solved(curve):
                break
        return _Grown(booster, tuple(curve))

    def _solved(self, curve: Sequence[float]) -> bool:
        """Say whether classes are told apart so well that more rounds only sharpen certain answers."""
        if self.problem.kind is TaskKind.REGRESSION or len(curve) <= self.patience:
            return False
        gain = curve[-1 - self.patience] - curve[-1]
        return curve[-1] < _SOLVED * self._constant_loss or (
            curve[-1] < _NEARLY * self._constant_loss and gain < _SOLVED * self._constant_loss
        )

    @cached_property
    def _constant_loss(self) -> float:
        base = np.broadcast_to(self.problem.base_scores(), (self.problem.rows, self.problem.outputs))
        return self.problem.loss(base)

    def _part(self, rows: Rows, label: int | None) -> Bins:
        assert self._bins is not None
        target = self.problem.target
        if label is not None:
            known = target[rows, label] != MISSING_LABEL
            rows, target = (rows[known] if known.any() else rows[:1]), target[:, label] == 1
        weight = None if self.problem.weight is None else self.problem.weight[rows]
        return self._bins.subset(rows).with_target(target[rows], weight)

    def common_rounds(self, fits: Mapping[int, FoldFit]) -> list[int]:
        """Return per label the number of rounds that is best over all folds together."""
        chosen = []
        for label in range(len(self._labels())):
            curves = [fit.part[label].curve for fit in fits.values()]
            longest = max(map(len, curves))
            padded = [(*curve, *(curve[-1:] * (longest - len(curve)))) for curve in curves]
            chosen.append(int(np.argmin(np.mean(padded, axis=0))) + 1)
        return chosen

    def rescored(self, fold: int, fit: FoldFit, rounds: Sequence[int]) -> FoldFit:
        """Return the fit of a fold with the scores that ``rounds`` give."""
        rows = self.problem.parts(fold)[1]
        scores = [
            one.booster.raw_scores(self.features[rows], self._outputs, count)
            for one, count in zip(fit.part, rounds, strict=True)
        ]
        return FoldFit(scores=np.concatenate(scores, axis=1), part=fit.part)

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        """Score with the common number of rounds, which is less optimistic than each fold's own."""
        rounds = self.common_rounds(fits)
        return {fold: self.rescored(fold, fit, rounds) for fold, fit in fits.items()}

    def finish(self, fits: dict[int, FoldFit], budget: Budget) -> BoostedModel:
        """Return the mean of the fold models."""
        rounds = self.common_rounds(fits)
        outputs = self._outputs
        trees = [
            from_lightgbm(one.booster.model_text(count), outputs).shifted(label, self.problem.outputs)
            for fit in fits.values()
            for label, (one, count) in enumerate(zip(fit.part, rounds, strict=True))
        ]
        boosters = tuple(
            tuple((one.booster, count) for one, count in zip(fit.part, rounds, strict=True))
            for fit in fits.values()
        )
        return BoostedModel(boosters, merge(trees).scaled(1.0 / len(fits)), outputs)

    def predict(self, model: BoostedModel, features: Singles) -> Floats:
        """Return scores of new rows."""
        return model.scores(features)

    def write(self, graph: Graph, model: BoostedModel, features: str, weight: float) -> str:
        """Write the weighted scores as nodes of their own; returns ``[rows, outputs]``."""
        return write_trees(graph, model.trees.scaled(weight), features)
