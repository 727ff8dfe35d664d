"""Limits in closed form: proportions, means of proportions, ROC areas and calibration errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modelworks.evaluation import beta, normal
from modelworks.evaluation.label_metrics import ClassMean
from modelworks.evaluation.predictions import Floats
from modelworks.evaluation.probability_metrics import CalibrationError
from modelworks.evaluation.ranking import RocAuc
from modelworks.evaluation.statistic import Mean, ShareStatistic


@dataclass(frozen=True)
class ExactShare:
    """A proportion with Clopper and Pearson's exact limits (Biometrika 26, 1934), or a rising curve of one."""

    statistic: ShareStatistic
    method: str = "exact"

    @cached_property
    def value(self) -> float:
        return self.statistic.value()

    def low(self, tail: float) -> float:
        hits, trials = self.statistic.effective
        return self._bend(clopper_pearson_low(hits, trials, tail))

    def high(self, tail: float) -> float:
        hits, trials = self.statistic.effective
        return self._bend(1 - clopper_pearson_low(trials - hits, trials, tail))

    def _bend(self, share: float) -> float:
        return float(self.statistic.bend(np.array([share]))[0])


def clopper_pearson_low(hits: float, trials: float, tail: float) -> float:
    """Return the exact lower limit of a proportion; 0 if there are no hits. Fractional counts are allowed."""
    if hits <= 1e-9:
        return 0.0
    return beta.quantile(tail, hits, max(trials - hits, 0.0) + 1)


def wilson(hits: Floats, trials: Floats, tail: float) -> tuple[Floats, Floats]:
    """Return Wilson's score limits of proportions (JASA 22, 1927)."""
    z2 = normal.quantile(tail) ** 2
    middle = (hits + z2 / 2) / (trials + z2)
    share = hits / trials
    half = np.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)


@dataclass(frozen=True)
class MeanOfShares:
    """A mean of proportions, one per class, with limits recovered from each class's own.

    The square-and-add rule (MOVER; Zou and Donner, Statistics in Medicine 27, 2008) over Wilson limits: it does not
    collapse to a point when every row is right, which a bootstrap does.
    """

    statistic: ClassMean
    method: str = "score"

    @cached_property
    def value(self) -> float:
        return self.statistic.value()

    def low(self, tail: float) -> float:
        return self._limit(tail, lower=True)

    def high(self, tail: float) -> float:
        return self._limit(tail, lower=False)

    def _limit(self, tail: float, lower: bool) -> float:
        hits, trials = self.statistic.shares()
        share = hits / trials
        limit = wilson(hits, trials, tail)[0 if lower else 1]
        reach = math.sqrt(float(np.square(share - limit).sum())) / len(share)
        return max(0.0, self.value - reach) if lower else min(1.0, self.value + reach)


@dataclass(frozen=True)
class AucEstimate:
    """A ROC area: DeLong's variance on the logit scale, or Newcombe's score limits where rows are few or separated."""

    statistic: RocAuc

    @cached_property
    def value(self) -> float:
        return self.statistic.value()

    @cached_property
    def small(self) -> bool:
        """Whether DeLong's variance cannot be trusted: few rows of a class, or hardly any misranked pair."""
        fewest = min(self.statistic.counts)
        return fewest < 30 or min(self.value, 1 - self.value) * fewest < 1.0

    @property
    def method(self) -> str:
        return "score" if self.small else "delong"

    @cached_property
    def error(self) -> float:
        return math.sqrt(float(np.square(self.statistic.influence()).sum()))

    def low(self, tail: float) -> float:
        return self._limit(normal.quantile(tail))

    def high(self, tail: float) -> float:
        return self._limit(-normal.quantile(tail))

    def _limit(self, z: float) -> float:
        if self.small:
            return newcombe_auc_limit(self.value, *self.statistic.counts, z)
        slope = self.value * (1 - self.value)
        return normal.expit(normal.logit(self.value) + z * self.error / slope)


def newcombe_auc_limit(auc: float, positives: float, negatives: float, z: float) -> float:
    """Return the area ``t`` whose own Hanley-McNeil error puts ``auc`` just ``z`` errors away from it.

    Newcombe's method 5 (Statistics in Medicine 25, 2006): no collapse at an area of one, good coverage from 10 rows.

    Args:
        auc: Measured area.
        positives, negatives: Rows of either class.
        z: Normal deviate; negative for the lower limit.
    """
    spread = (positives + negatives) / 2 - 1

    def distance(area: float) -> float:
        shape = 1 + spread * ((1 - area) / (2 - area) + area / (1 + area))
        error = math.sqrt(area * (1 - area) * max(shape, 1e-12) / (positives * negatives))
        return (area - auc) - z * error

    low, high = (0.0, auc) if z < 0 else (auc, 1.0)
    for _ in range(50):
        middle = (low + high) / 2
        if distance(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@dataclass(frozen=True)
class MeanOfAucs:
    """A mean of ROC areas over the same rows: square-and-add over each area's own limits.

    The areas of different classes move together; the reach grows by the ratio of the variance of their sum to the
    sum of their variances, both from the rows' influence.
    """

    statistic: Mean
    parts: tuple[AucEstimate, ...]
    method: str = "score"

    @cached_property
    def value(self) -> float:
        return self.statistic.value()

    @cached_property
    def together(self) -> float:
        influence = np.stack([part.statistic.influence() for part in self.parts])
        alone = float(np.square(influence).sum())
        joint = float(np.square(influence.sum(axis=0)).sum())
        return min(max(joint / alone, 1.0), float(len(self.parts))) if alone > 0 else 1.0

    def low(self, tail: float) -> float:
        return self.value - self._reach([part.value - part.low(tail) for part in self.parts])

    def high(self, tail: float) -> float:
        return self.value + self._reach([part.high(tail) - part.value for part in self.parts])

    def _reach(self, gaps: list[float]) -> float:
        return math.sqrt(self.together * sum(gap**2 for gap in gaps)) / len(gaps)


@dataclass(frozen=True)
class CalibrationEstimate:
    """A calibration error, which is never below zero and too high on few rows.

    The measured error is at most the true one plus what a perfectly calibrated model would show (triangle
    inequality), which gives the lower limit; and its mean is at least the true one (Jensen), which gives the upper.
    """

    statistic: CalibrationError
    method: str = "delta"

    @cached_property
    def value(self) -> float:
        return self.statistic.value()

    def low(self, tail: float) -> float:
        mean, deviation = self.statistic.if_perfect()
        return max(0.0, self.value - max(0.0, mean - normal.quantile(tail) * deviation))

    def high(self, tail: float) -> float:
        return min(1.0, self.value - normal.quantile(tail) * self.statistic.error)
