"""Metrics of numbers: errors, explained variance, quantiles and their coverage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modelworks.evaluation.predictions import Booleans, Floats, Integers, Predictions
from modelworks.evaluation.probability_metrics import mean_of, ratio
from modelworks.evaluation.statistic import Multiplicity, ShareStatistic, SumStatistic


def errors(predictions: Predictions) -> Floats:
    """Return prediction minus truth."""
    assert predictions.prediction is not None
    return np.asarray(predictions.prediction - predictions.truth)


def rmse(predictions: Predictions) -> SumStatistic:
    """Root mean squared error."""
    terms = np.stack([errors(predictions) ** 2, np.ones(predictions.rows)], axis=1)
    return SumStatistic(terms, lambda sums: np.sqrt(ratio(sums)), None, predictions.weight)


def mae(predictions: Predictions) -> SumStatistic:
    """Mean absolute error."""
    return mean_of(np.abs(errors(predictions)), predictions.weight)


def r2(predictions: Predictions) -> SumStatistic:
    """Share of the variance that is explained, against the mean of the judged rows."""
    truth = predictions.truth - np.average(predictions.truth, weights=predictions.weight)
    terms = np.stack([errors(predictions) ** 2, truth, truth**2, np.ones(predictions.rows)], axis=1)

    def combine(sums: Floats) -> Floats:
        spread = sums[:, 2] - sums[:, 1] ** 2 / sums[:, 3]
        return np.asarray(np.where(spread > 0, 1 - sums[:, 0] / np.maximum(spread, 1e-300), np.nan))

    return SumStatistic(terms, combine, None, predictions.weight)


def mape(predictions: Predictions) -> SumStatistic:
    """Mean absolute error relative to the truth; not defined where a truth is zero."""
    truth = np.abs(predictions.truth)
    relative = np.abs(errors(predictions)) / np.where(truth > 0, truth, np.nan)
    return mean_of(relative, predictions.weight)


def smape(predictions: Predictions) -> SumStatistic:
    """Mean of 2 |error| / (|truth| + |prediction|), 0 to 2; 0 where both are zero."""
    assert predictions.prediction is not None
    size = np.abs(predictions.truth) + np.abs(predictions.prediction)
    relative = 2 * np.abs(errors(predictions)) / np.where(size > 0, size, 1.0)
    return mean_of(relative, predictions.weight)


def rmsle(predictions: Predictions) -> SumStatistic:
    """Root mean squared error of log(1 + value); not defined where a value is below zero."""
    assert predictions.prediction is not None
    low = min(float(predictions.prediction.min()), float(predictions.truth.min()))
    if low < 0:
        gap = np.full(predictions.rows, np.nan)
    else:
        gap = np.log1p(predictions.prediction) - np.log1p(predictions.truth)
    terms = np.stack([gap**2, np.ones(predictions.rows)], axis=1)
    return SumStatistic(terms, lambda sums: np.sqrt(ratio(sums)), None, predictions.weight)


@dataclass(frozen=True)
class WeightedMedian:
    """The median of one number per row, an exact order statistic."""

    values: Floats
    weight: Floats | None = None

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def cells(self) -> Integers | None:
        return None

    @cached_property
    def order(self) -> Integers:
        return np.argsort(self.values, kind="stable")

    def quantile(self, level: float) -> float:
        """Return the value below which ``level`` of the weight lies; the mean of two on a tie."""
        ordered = self.values[self.order]
        if self.weight is None:
            return float(np.quantile(ordered, level))
        total = np.cumsum(self.weight[self.order])
        wanted = level * total[-1]
        low = int(np.searchsorted(total, wanted, side="left"))
        high = int(np.searchsorted(total, wanted, side="right"))
        last = len(ordered) - 1
        return float((ordered[min(low, last)] + ordered[min(high, last)]) / 2)

    def value(self) -> float:
        return self.quantile(0.5)

    def influence(self) -> Floats:
        weight = np.ones(self.rows) if self.weight is None else self.weight
        share = min(0.25, max(1.0 / self.rows, 0.5 * self.rows**-0.2))
        # Density at the median by a symmetric difference of quantiles (Siddiqui, 1960).
        sparsity = (self.quantile(0.5 + share) - self.quantile(0.5 - share)) / (2 * share)
        return np.asarray(weight / weight.sum() * sparsity * (0.5 - (self.values < self.value())))

    def replicates(self, rows: Integers, multiplicity: Multiplicity) -> Floats:
        values = self.values[rows]
        counted = multiplicity if self.weight is None else multiplicity * self.weight[rows].astype(np.float32)
        order = np.argsort(values, kind="stable")
        total = np.cumsum(counted[:, order], axis=1, dtype=np.float64)
        at = (total < 0.5 * total[:, -1:]).sum(axis=1)
        return np.asarray(values[order][np.minimum(at, len(values) - 1)])


def median_ae(predictions: Predictions) -> WeightedMedian:
    """Median absolute error."""
    return WeightedMedian(np.abs(errors(predictions)), predictions.weight)


def quantile_loss(predictions: Predictions) -> SumStatistic:
    """Mean pinball loss over the quantile levels (Koenker and Bassett, 1978)."""
    assert predictions.quantiles is not None
    gap = predictions.truth[:, None] - predictions.quantiles
    level = np.asarray(predictions.levels)
    return mean_of(np.maximum(level * gap, (level - 1) * gap).mean(axis=1), predictions.weight)


def outer_interval(predictions: Predictions) -> tuple[Floats, Floats]:
    """Return the lowest and the highest predicted quantile per row."""
    assert predictions.quantiles is not None
    low, high = int(np.argmin(predictions.levels)), int(np.argmax(predictions.levels))
    return predictions.quantiles[:, low], predictions.quantiles[:, high]


def interval_coverage(predictions: Predictions) -> ShareStatistic:
    """Share of truths between the lowest and the highest predicted quantile."""
    low, high = outer_interval(predictions)
    inside: Booleans = (predictions.truth >= low) & (predictions.truth <= high)
    return ShareStatistic(inside, np.ones(predictions.rows, dtype=bool), predictions.weight)


def interval_width(predictions: Predictions) -> SumStatistic:
    """Mean distance between the lowest and the highest predicted quantile."""
    low, high = outer_interval(predictions)
    return mean_of(high - low, predictions.weight)
