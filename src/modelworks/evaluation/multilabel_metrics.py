"""Metrics of several yes-or-no labels per row; unknown cells (255) count nowhere."""

from __future__ import annotations

import numpy as np

from modelworks.evaluation.predictions import (
    MISSING_LABEL,
    SMALLEST_PROBABILITY,
    Booleans,
    Floats,
    Predictions,
)
from modelworks.evaluation.probability_metrics import ratio
from modelworks.evaluation.ranking import AveragePrecision, RocAuc
from modelworks.evaluation.statistic import Mean, SumStatistic


def known_cells(predictions: Predictions) -> Booleans:
    """Return where the truth is known, [rows, labels]."""
    return np.asarray(predictions.truth != MISSING_LABEL)


def _cell_mean(predictions: Predictions, values: Floats) -> SumStatistic:
    known = known_cells(predictions)
    terms = np.stack([np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)], axis=1)
    return SumStatistic(terms.astype(np.float64), ratio, None, predictions.weight)


def mean_accuracy(predictions: Predictions) -> SumStatistic:
    """Share of known cells whose label is right; rows are the units that vary."""
    right = predictions.label == (predictions.truth == 1)
    return _cell_mean(predictions, np.asarray(right, dtype=np.float64))


def cell_log_loss(predictions: Predictions) -> Floats:
    """Return the log loss of each cell, [rows, labels]."""
    assert predictions.probabilities is not None
    given = np.where(predictions.truth == 1, predictions.probabilities, 1 - predictions.probabilities)
    return np.asarray(-np.log(np.clip(given, SMALLEST_PROBABILITY, 1.0)))


def mean_log_loss(predictions: Predictions) -> SumStatistic:
    """Mean log loss over known cells."""
    return _cell_mean(predictions, cell_log_loss(predictions))


def roc_auc_macro(predictions: Predictions) -> Mean:
    """Mean over labels of the area under the ROC curve; labels with one value only are left out."""
    assert predictions.probabilities is not None
    known, true = known_cells(predictions), predictions.truth == 1
    return Mean(
        tuple(
            RocAuc(predictions.probabilities[:, k], true[:, k], predictions.weight, known[:, k])
            for k in range(true.shape[1])
        )
    )


def average_precision_macro(predictions: Predictions) -> Mean:
    """Mean over labels of average precision; labels that never occur are left out."""
    assert predictions.probabilities is not None
    known, true = known_cells(predictions), predictions.truth == 1
    return Mean(
        tuple(
            AveragePrecision(predictions.probabilities[:, k], true[:, k], predictions.weight, known[:, k])
            for k in range(true.shape[1])
        )
    )


def label_macro_f1(predictions: Predictions) -> SumStatistic:
    """Mean F1 over the labels that occur or are named."""
    assert predictions.label is not None
    known, true = known_cells(predictions), predictions.truth == 1
    named = predictions.label & known
    terms = np.concatenate([(true & named), true, named], axis=1).astype(np.float64)

    def combine(sums: Floats) -> Floats:
        right, occurs, called = np.split(sums, 3, axis=1)
        either = occurs + called
        return np.asarray(
            np.where(either > 0, 2 * right / either, 0.0).sum(axis=1) / (either > 0).sum(axis=1)
        )

    return SumStatistic(terms, combine, None, predictions.weight)
