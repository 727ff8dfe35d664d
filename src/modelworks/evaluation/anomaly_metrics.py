"""Metrics of anomaly scores and alarms: rankings and labels of rows, events of streams, the NAB score."""

from __future__ import annotations

import numpy as np

from modelworks.evaluation import label_metrics as labels
from modelworks.evaluation import probability_metrics as probabilities
from modelworks.evaluation.clusters import clustered, summed
from modelworks.evaluation.nab import group_rows, nab_terms, normalised, windows_of
from modelworks.evaluation.predictions import Floats, Predictions
from modelworks.evaluation.statistic import ShareStatistic, Statistic, SumStatistic

NEAR_ROWS = 100
"""How far beside an anomaly the strangest row may lie and still have found it (Wu and Keogh, TKDE 35, 2021)."""


def roc_auc(predictions: Predictions) -> Statistic:
    """Area under the ROC curve of the scores."""
    return clustered(probabilities.roc_auc(predictions), predictions)


def average_precision(predictions: Predictions) -> Statistic:
    """Area under the precision-recall steps of the scores."""
    return clustered(probabilities.average_precision(predictions), predictions)


def f1(predictions: Predictions) -> Statistic:
    """Harmonic mean of precision and recall of the alarms, row by row."""
    return clustered(labels.f1(predictions), predictions)


def precision(predictions: Predictions) -> Statistic:
    """Share of alarmed rows that are anomalous."""
    return clustered(labels.precision(predictions), predictions)


def recall(predictions: Predictions) -> Statistic:
    """Share of anomalous rows that are alarmed."""
    return clustered(labels.recall(predictions), predictions)


def false_alarm_rate(predictions: Predictions) -> Statistic:
    """Share of normal rows that are alarmed."""
    normal = ~predictions.hits
    alarmed = np.asarray(predictions.label == predictions.positive) & normal
    return clustered(ShareStatistic(alarmed, normal, predictions.weight), predictions)


def _ratio(sums: Floats) -> Floats:
    return np.asarray(sums[:, 0] / sums[:, 1])


def event_recall(predictions: Predictions) -> SumStatistic:
    """Share of anomalies (runs of anomalous rows of one series) in which an alarm is raised."""
    assert predictions.group is not None and predictions.label is not None
    terms = np.zeros((predictions.rows, 2))
    for rows in group_rows(predictions.group):
        for first, last in windows_of(predictions.hits[rows]):
            found = bool((predictions.label[rows[first : last + 1]] == predictions.positive).any())
            terms[rows[last]] = (found, 1.0)
    return summed(terms, _ratio, predictions)


def event_found(predictions: Predictions) -> SumStatistic:
    """Share of series with an anomaly whose highest score lies in it, or within its length or 100 rows of it."""
    assert predictions.group is not None
    terms = np.zeros((predictions.rows, 2))
    for rows in group_rows(predictions.group):
        windows = windows_of(predictions.hits[rows])
        if not windows:
            continue
        top = int(np.argmax(predictions.scores[rows]))
        found = any(
            first - max(NEAR_ROWS, last - first + 1) <= top <= last + max(NEAR_ROWS, last - first + 1)
            for first, last in windows
        )
        terms[rows[top]] = (found, 1.0)
    return summed(terms, _ratio, predictions)


def nab_score(predictions: Predictions) -> SumStatistic:
    """Score of the Numenta Anomaly Benchmark, standard profile, at the model's own threshold."""
    assert predictions.group is not None
    terms = np.zeros((predictions.rows, 2))
    for rows in group_rows(predictions.group):
        alarm = np.asarray(predictions.label)[rows] == predictions.positive
        score, count = nab_terms(alarm, windows_of(predictions.hits[rows]))
        terms[rows, 0], terms[rows, 1] = score, count
    return summed(terms, lambda sums: normalised(sums[:, 0], sums[:, 1]), predictions)
