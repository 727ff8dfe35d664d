"""Metrics of probabilities (binary, multiclass): log loss, Brier score, calibration error, ranking per class."""

from __future__ import annotations

import numpy as np

from modelworks.evaluation.predictions import SMALLEST_PROBABILITY, Floats, Integers, Predictions
from modelworks.evaluation.ranking import AveragePrecision, RocAuc
from modelworks.evaluation.statistic import Combine, Mean, SumStatistic

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
    return mean_of(row_log_loss(predictions), predictions.weight)


def row_brier(predictions: Predictions) -> Floats:
    """Return the squared error of the probabilities per row; binary: of the positive class alone."""
    assert predictions.probabilities is not None
    if len(predictions.classes) == 2:
        return np.asarray((predictions.scores - predictions.hits) ** 2)
    given = predictions.probabilities[np.arange(predictions.rows), predictions.truth]
    return np.asarray(np.square(predictions.probabilities).sum(axis=1) - 2 * given + 1)


def brier(predictions: Predictions) -> SumStatistic:
    """Mean squared error of the probabilities (Brier, 1950)."""
    return mean_of(row_brier(predictions), predictions.weight)


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


def ece(predictions: Predictions) -> SumStatistic:
    """Expected calibration error: mean gap between claim and truth over equal-mass bins.

    Naeini, Cooper and Hauskrecht (AAAI 2015); equal-mass bins as in Nguyen and O'Connor (2015).
    """
    claimed, came = confidence(predictions)
    bins = equal_mass_bins(claimed)
    size = int(bins.max()) + 1
    terms = np.zeros((predictions.rows, size + 1))
    terms[np.arange(predictions.rows), bins] = claimed - came
    terms[:, size] = 1.0

    def combine(sums: Floats) -> Floats:
        return np.asarray(np.abs(sums[:, :size]).sum(axis=1) / sums[:, size])

    gap: Combine = combine
    return SumStatistic(terms, gap, None, predictions.weight)


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
