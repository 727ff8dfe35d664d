"""How sure a measured value is: exact, DeLong, bootstrap and delta intervals behind one form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from modelworks.evaluation import normal
from modelworks.evaluation.label_metrics import ClassMean
from modelworks.evaluation.metrics import Metric
from modelworks.evaluation.predictions import Floats
from modelworks.evaluation.ranking import RocAuc
from modelworks.evaluation.resampling import RESAMPLES, ROWS_FOR_BOOTSTRAP, replicate
from modelworks.evaluation.statistic import Difference, Mean, ShareStatistic, Statistic


class Estimate(Protocol):
    """A value and its confidence limits."""

    @property
    def value(self) -> float:
        """Point estimate."""
        ...

    @property
    def method(self) -> str:
        """How the limits were found."""
        ...

    def low(self, tail: float) -> float:
        """Return the limit that lies above the truth with probability ``tail``."""
        ...

    def high(self, tail: float) -> float:
        """Return the limit that lies below the truth with probability ``tail``."""
        ...


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
    from scipy.special import betaincinv

    if hits <= 1e-9:
        return 0.0
    return float(betaincinv(hits, trials - hits + 1, tail))


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
        if self.statistic.curve == "f1":
            share, limit = 2 * share / (1 + share), 2 * limit / (1 + limit)
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
        return _expit(_logit(self.value) + z * self.error / slope)


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
    """A mean of ROC areas over the same rows; the square-and-add rule where a class is too small for DeLong."""

    statistic: Mean
    parts: tuple[AucEstimate, ...]
    method: str = "score"

    @cached_property
    def value(self) -> float:
        return self.statistic.value()

    def low(self, tail: float) -> float:
        reach = [part.value - part.low(tail) for part in self.parts]
        return self.value - math.sqrt(sum(gap**2 for gap in reach)) / len(reach)

    def high(self, tail: float) -> float:
        reach = [part.high(tail) - part.value for part in self.parts]
        return self.value + math.sqrt(sum(gap**2 for gap in reach)) / len(reach)


@dataclass(frozen=True)
class DeltaEstimate:
    """Limits from the variance of the rows' influence, on a scale on which the value has no border.

    Attributes:
        value: Point estimate.
        error: Standard error.
        freedom: Degrees of freedom of Student's t.
        bounds: Ends of the range of the value; infinite where there is none.
    """

    value: float
    error: float
    freedom: float = math.inf
    bounds: tuple[float, float] = (-math.inf, math.inf)
    method: str = "delta"

    def low(self, tail: float) -> float:
        return self._limit(normal.student_quantile(tail, self.freedom))

    def high(self, tail: float) -> float:
        return self._limit(-normal.student_quantile(tail, self.freedom))

    def _limit(self, deviate: float) -> float:
        floor, ceiling = self.bounds
        above, below = self.value - floor, ceiling - self.value
        move = deviate * self.error
        if above <= 0 or below <= 0:
            return min(max(self.value + move, floor), ceiling)
        if math.isfinite(floor) and math.isfinite(ceiling):
            width = ceiling - floor
            share = above / width
            return floor + width * _expit(_logit(share) + move / (width * share * (1 - share)))
        if math.isfinite(floor):
            return floor + above * math.exp(min(move / above, 700.0))
        if math.isfinite(ceiling):
            return ceiling - below * math.exp(min(-move / below, 700.0))
        return self.value + move


@dataclass(frozen=True)
class BootstrapEstimate:
    """Bias-corrected and accelerated percentiles (BCa; Efron, JASA 82, 1987).

    The acceleration comes from the rows' influence, so no jackknife is run. Percentiles are taken further out by
    Student's t and n / (n - 1) (Hesterberg, The American Statistician 69, 2015), and beyond the last five resamples
    they are continued on the scale of normal deviates.

    Attributes:
        value: Point estimate.
        drawn: Values on the resamples, sorted, all finite.
        skew: Acceleration.
        rows: Rows of the sample.
        bounds: Ends of the range of the value.
    """

    value: float
    drawn: Floats = field(repr=False)
    skew: float
    rows: int
    bounds: tuple[float, float] = (-math.inf, math.inf)
    method: str = "bootstrap"

    @cached_property
    def shift(self) -> float:
        """Bias correction in normal deviates."""
        below = np.searchsorted(self.drawn, self.value, side="left")
        upto = np.searchsorted(self.drawn, self.value, side="right")
        share = (below + upto) / 2 / len(self.drawn)
        return normal.quantile(min(max(share, 0.02), 0.98))

    def low(self, tail: float) -> float:
        return self._limit(self._deviate(tail))

    def high(self, tail: float) -> float:
        return self._limit(-self._deviate(tail))

    def _deviate(self, tail: float) -> float:
        return normal.student_quantile(tail, self.rows - 1) * math.sqrt(self.rows / max(self.rows - 1, 1))

    def _limit(self, deviate: float) -> float:
        furthest = -normal.quantile(5 / len(self.drawn))
        inner = min(max(deviate, -furthest), furthest)
        moved = self.shift + inner
        moved = self.shift + moved / max(1 - self.skew * moved, 0.2)
        end = float(np.quantile(self.drawn, min(max(normal.cumulative(moved), 0.0), 1.0)))
        if inner != deviate:
            end = self.value + (end - self.value) * deviate / inner
        return min(max(end, self.bounds[0]), self.bounds[1])


def estimate(
    statistics: Sequence[tuple[Statistic, Metric | None]],
    rng: np.random.Generator,
    *,
    resample: bool = True,
) -> list[Estimate]:
    """Return an estimate for each statistic, by the best method for its form.

    Args:
        statistics: Statistics over the same rows, each with its metric, or ``None`` for a difference.
        rng: Source of the resamples.
        resample: ``False`` takes the delta method where else a bootstrap would be drawn.
    """
    found: list[Estimate | None] = [_closed_form(statistic) for statistic, _ in statistics]
    left = [index for index, item in enumerate(found) if item is None]
    drawn = [index for index in left if resample and _affordable(statistics[index][0])]
    values = dict(zip(drawn, replicate([statistics[index][0] for index in drawn], rng), strict=True))
    for index in left:
        statistic, metric = statistics[index]
        found[index] = _open_form(statistic, metric, values.get(index, np.empty(0)))
    return [item for item in found if item is not None]


def _affordable(statistic: Statistic) -> bool:
    """Say whether a bootstrap is worth its time: many rows, or a ranking per label, need none."""
    if isinstance(statistic, Difference):
        return _affordable(statistic.first)
    parts = len(statistic.parts) * 10 if isinstance(statistic, Mean) else 1
    return statistic.rows * parts <= ROWS_FOR_BOOTSTRAP


def _closed_form(statistic: Statistic) -> Estimate | None:
    if isinstance(statistic, ShareStatistic):
        return ExactShare(statistic)
    if isinstance(statistic, ClassMean):
        return MeanOfShares(statistic)
    if isinstance(statistic, RocAuc):
        return AucEstimate(statistic)
    if isinstance(statistic, Mean) and all(isinstance(part, RocAuc) for part in statistic.defined):
        parts = tuple(AucEstimate(part) for part in statistic.defined if isinstance(part, RocAuc))
        if parts and any(part.small for part in parts):
            return MeanOfAucs(statistic, parts)
        return _delta(statistic, (0.0, 1.0), "delong")
    if isinstance(statistic, Difference) and _ranks(statistic.first):
        return _delta(statistic, (-1.0, 1.0), "delong")
    return None


def _ranks(statistic: Statistic) -> bool:
    if isinstance(statistic, Mean):
        return all(isinstance(part, RocAuc) for part in statistic.parts)
    return isinstance(statistic, RocAuc)


def _delta(statistic: Statistic, bounds: tuple[float, float], method: str = "delta") -> DeltaEstimate:
    value = statistic.value()
    influence = statistic.influence()
    error = math.sqrt(float(np.square(influence).sum()))
    if isinstance(statistic, Difference):
        bounds = (-math.inf, math.inf)
    return DeltaEstimate(value, error, _freedom(statistic), bounds, method)


def _freedom(statistic: Statistic) -> float:
    if isinstance(statistic, Difference):
        return _freedom(statistic.first)
    if isinstance(statistic, Mean):
        return min((_freedom(part) for part in statistic.defined), default=1.0)
    if isinstance(statistic, RocAuc):
        return max(min(statistic.counts) - 1, 1.0)
    return max(statistic.rows - 1.0, 1.0)


def _open_form(statistic: Statistic, metric: Metric | None, drawn: Floats) -> Estimate:
    bounds = (-math.inf, math.inf) if metric is None else (metric.low, metric.high)
    drawn = np.sort(drawn[np.isfinite(drawn)])
    value = statistic.value()
    if len(drawn) < RESAMPLES[0] // 2:
        return _delta(statistic, bounds)
    influence = statistic.influence()
    scale = float(np.square(influence).sum()) ** 1.5
    skew = float((influence**3).sum()) / (6 * scale) if scale > 0 else 0.0
    return BootstrapEstimate(value, drawn, skew, statistic.rows, bounds)


def p_value(found: Estimate, null: float, *, above: bool = True) -> float:
    """Return the one-sided probability of such a value if the truth were ``null``.

    Found by inverting the limits: the tail at which the limit just reaches ``null``.

    Args:
        found: The estimate.
        null: Hypothesised value.
        above: Whether the claim is that the truth lies above ``null``.
    """
    sign = 1.0 if above else -1.0
    limit = found.low if above else found.high
    low, high = -8.0, 8.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if sign * (limit(normal.cumulative(middle)) - null) > 0:
            high = middle
        else:
            low = middle
    return normal.cumulative(high)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
