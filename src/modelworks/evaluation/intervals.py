"""How sure a measured value is: the best limits for each form of statistic, and p-values from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from modelworks.evaluation import normal
from modelworks.evaluation.closed_forms import (
    AucEstimate,
    CalibrationEstimate,
    ExactShare,
    MeanOfAucs,
    MeanOfShares,
)
from modelworks.evaluation.clusters import Clustered
from modelworks.evaluation.label_metrics import ClassMean
from modelworks.evaluation.metrics import Metric
from modelworks.evaluation.predictions import Floats
from modelworks.evaluation.probability_metrics import CalibrationError
from modelworks.evaluation.ranking import AveragePrecision, RocAuc
from modelworks.evaluation.resampling import RESAMPLES, ROWS_FOR_BOOTSTRAP, replicate
from modelworks.evaluation.statistic import Difference, Mean, ShareStatistic, Statistic, SumStatistic

ENOUGH_POSITIVES = 100
"""From so many positives on the distribution of average precision is close to normal on the logit scale."""


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
            return floor + width * normal.expit(normal.logit(share) + move / (width * share * (1 - share)))
        if math.isfinite(floor):
            return floor + above * math.exp(min(move / above, 700.0))
        if math.isfinite(ceiling):
            return ceiling - below * math.exp(min(-move / below, 700.0))
        return self.value + move


@dataclass(frozen=True)
class Guarded:
    """An estimate whose limit on the bad side allows for mistakes the rows do not show.

    Attributes:
        inner: The estimate from the rows.
        caution: The estimate with the allowance.
        higher_is_better: Which side is bad.
    """

    inner: Estimate
    caution: Estimate
    higher_is_better: bool

    @property
    def value(self) -> float:
        return self.inner.value

    @property
    def method(self) -> str:
        return self.inner.method

    def low(self, tail: float) -> float:
        inner = self.inner.low(tail)
        return min(inner, self.caution.low(tail)) if self.higher_is_better else inner

    def high(self, tail: float) -> float:
        inner = self.inner.high(tail)
        return inner if self.higher_is_better else max(inner, self.caution.high(tail))


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
    """Say whether a bootstrap is worth its time: with many rows the delta method is as good, and free.

    A ranking is sorted anew in every resample, so it is drawn only where rows or positives are few.
    """
    if isinstance(statistic, Difference):
        return _affordable(statistic.first)
    if isinstance(statistic, Clustered):
        return _affordable(statistic.inner)
    cost = 1
    if isinstance(statistic, Mean):
        cost = 10 * len(statistic.parts)
    elif isinstance(statistic, AveragePrecision) and statistic.positive.sum() >= ENOUGH_POSITIVES:
        cost = 5
    return statistic.rows * cost <= ROWS_FOR_BOOTSTRAP


def _closed_form(statistic: Statistic) -> Estimate | None:
    if isinstance(statistic, ShareStatistic):
        return ExactShare(statistic)
    if isinstance(statistic, ClassMean):
        return MeanOfShares(statistic)
    if isinstance(statistic, RocAuc):
        return AucEstimate(statistic)
    if isinstance(statistic, CalibrationError):
        return CalibrationEstimate(statistic)
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
    found = _bootstrap(statistic, bounds, drawn)
    if (
        metric is None
        or not isinstance(statistic, SumStatistic | AveragePrecision)
        or statistic.caution is None
    ):
        return found
    value, error = statistic.caution()
    if metric.higher_is_better:
        allowance = DeltaEstimate(value, error, _freedom(statistic), bounds)
    else:
        allowance = DeltaEstimate(value, error, _freedom(statistic))
    return Guarded(found, allowance, metric.higher_is_better)


def _bootstrap(statistic: Statistic, bounds: tuple[float, float], drawn: Floats) -> Estimate:
    drawn = np.sort(drawn[np.isfinite(drawn)])
    if len(drawn) < RESAMPLES[0] // 2:
        return _delta(statistic, bounds)
    influence = statistic.influence()
    scale = float(np.square(influence).sum()) ** 1.5
    skew = float((influence**3).sum()) / (6 * scale) if scale > 0 else 0.0
    return BootstrapEstimate(statistic.value(), drawn, skew, statistic.rows, bounds)


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
