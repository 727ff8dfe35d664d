"""Metrics of probabilities (binary, multiclass): log loss, Brier score, calibration error, ranking per class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from modelworks.evaluation.predictions import SMALLEST_PROBABILITY, Floats, Integers, Predictions
from modelworks.evaluation.ranking import AveragePrecision, RocAuc
from modelworks.evaluation.statistic import Mean, SumStatistic

CALIBRATION_BINS = 15


def ratio(sums: Floats) -> Floats:
    """Return the first sum over the second: a weighted mean."""
    return sums[:, 0] / sums[:, 1]


def mean_of(values: Floats, weight: Floats | None) -> SumStatistic:
    """Return the weighted mean of one number per row."""
    return SumStatistic(np.stack([values, np.ones(len(values))], axis=1), ratio, None, weight)


def row_log_loss(predictions: Predictions) -> Floats:
    """Return minus the logarithm of the probability given to the true class, per row, in nats."""
    assert predictions.probabilities is not None
    given = predictions.probabilities[np.arange(predictions.rows), predictions.truth]
    return np.asarray(-np.log(np.clip(given, SMALLEST_PROBABILITY, 1.0)))


def log_loss(predictions: Predictions) -> SumStatistic:
    """Mean negative log-likelihood of the true class."""
    assert predictions.probabilities is not None
    claims = np.clip(predictions.probabilities, SMALLEST_PROBABILITY, 1.0)
    return replace(
        mean_of(row_log_loss(predictions), predictions.weight),
        caution=partial(_as_claimed, predictions, row_log_loss, claims, -np.log(claims)),
    )


def row_brier(predictions: Predictions) -> Floats:
    """Return the squared error of the probabilities per row; binary: of the positive class alone."""
    assert predictions.probabilities is not None
    if len(predictions.classes) == 2:
        return np.asarray((predictions.scores - predictions.hits) ** 2)
    given = predictions.probabilities[np.arange(predictions.rows), predictions.truth]
    return np.asarray(np.square(predictions.probabilities).sum(axis=1) - 2 * given + 1)


def brier(predictions: Predictions) -> SumStatistic:
    """Mean squared error of the probabilities (Brier, 1950)."""
    claims = predictions.probabilities
    assert claims is not None
    if len(predictions.classes) == 2:
        losses = (1 - claims) ** 2
    else:
        losses = np.square(claims).sum(axis=1, keepdims=True) - 2 * claims + 1
    return replace(
        mean_of(row_brier(predictions), predictions.weight),
        caution=partial(_as_claimed, predictions, row_brier, claims, losses),
    )


def _as_claimed(
    predictions: Predictions, row_loss: Callable[[Predictions], Floats], claims: Floats, losses: Floats
) -> tuple[float, float]:
    """Return the mean loss and the standard error that the model's own probabilities imply.

    Few rows rarely hold the rare costly mistakes that a nearly certain model itself expects; its claims tell how much
    the mean loss would vary if they were true.
    """
    weight = predictions.row_weight
    mean = (claims * losses).sum(axis=1)
    variance = np.maximum((claims * losses**2).sum(axis=1) - mean**2, 0.0)
    value = float(np.average(row_loss(predictions), weights=weight))
    return value, float(np.sqrt((weight**2 * variance).sum()) / weight.sum())


def confidence(predictions: Predictions) -> tuple[Floats, Floats]:
    """Return what was claimed and whether it came true, per row.

    Binary: the probability of the positive class. Multiclass: the probability of the most probable class.
    """
    assert predictions.probabilities is not None
    if len(predictions.classes) == 2:
        return predictions.scores, predictions.hits.astype(np.float64)
    top = predictions.probabilities.argmax(axis=1)
    claimed = predictions.probabilities[np.arange(predictions.rows), top]
    return claimed, (top == predictions.truth).astype(np.float64)


def equal_mass_bins(claimed: Floats, bins: int = CALIBRATION_BINS) -> Integers:
    """Return the bin of each row; bins hold about equally many rows and equal claims share a bin."""
    count = max(1, min(bins, len(claimed) // 10))
    edges = np.unique(np.quantile(claimed, np.linspace(0, 1, count + 1)[1:-1]))
    return np.asarray(np.searchsorted(edges, claimed, side="right"), dtype=np.int64)


@dataclass(frozen=True)
class CalibrationError(SumStatistic):
    """Mean gap between claim and truth over bins.

    Attributes:
        chance: Variance of each bin's sum of gaps if every claim were exactly true.
        spread: Variance of each bin's sum of gaps around its own mean, as observed.
    """

    chance: Floats = field(kw_only=True)
    spread: Floats = field(kw_only=True)

    @property
    def mass(self) -> float:
        """Total weight."""
        return float(self.sums[-1])

    def if_perfect(self) -> tuple[float, float]:
        """Return mean and standard deviation of the error that a perfectly calibrated model would show here.

        Each bin's gap is then close to normal, its absolute value to half-normal.
        """
        mean = float(np.sqrt(2 / np.pi * self.chance).sum())
        return mean / self.mass, float(np.sqrt((1 - 2 / np.pi) * self.chance.sum())) / self.mass

    @property
    def error(self) -> float:
        """Standard error; an upper bound, since an absolute value moves no more than what is inside.

        At least what the claims imply: few rows may not show the mistakes that a nearly certain model expects.
        """
        return float(np.sqrt(max(self.spread.sum(), self.chance.sum()))) / self.mass


def ece(predictions: Predictions) -> CalibrationError:
    """Expected calibration error: mean gap between claim and truth over equal-mass bins.

    Naeini, Cooper and Hauskrecht (AAAI 2015); equal-mass bins as in Nguyen and O'Connor (2015).
    """
    claimed, came = confidence(predictions)
    bins = equal_mass_bins(claimed)
    size = int(bins.max()) + 1
    terms = np.zeros((predictions.rows, size + 1))
    gap = claimed - came
    terms[np.arange(predictions.rows), bins] = gap
    terms[:, size] = 1.0
    weight = predictions.row_weight
    mass = np.maximum(_per_bin(bins, weight, size), 1e-300)
    middle = _per_bin(bins, weight * gap, size) / mass

    def combine(sums: Floats) -> Floats:
        return np.asarray(np.abs(sums[:, :size]).sum(axis=1) / sums[:, size])

    return CalibrationError(
        terms,
        combine,
        None,
        predictions.weight,
        chance=_per_bin(bins, weight**2 * claimed * (1 - claimed), size),
        spread=_per_bin(bins, (weight * (gap - middle[bins])) ** 2, size),
    )


def _per_bin(bins: Integers, values: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(bins, weights=values, minlength=size), dtype=np.float64)


def roc_auc(predictions: Predictions) -> RocAuc:
    """Area under the ROC curve."""
    return RocAuc(predictions.scores, predictions.hits, predictions.weight)


def average_precision(predictions: Predictions) -> AveragePrecision:
    """Area under the precision-recall steps."""
    return AveragePrecision(predictions.scores, predictions.hits, predictions.weight)


def roc_auc_ovr(predictions: Predictions) -> Mean:
    """Mean over classes of the area under the ROC curve of one class against the rest."""
    assert predictions.probabilities is not None
    return Mean(
        tuple(
            RocAuc(predictions.probabilities[:, code], predictions.truth == code, predictions.weight)
            for code in range(len(predictions.classes))
        )
    )
