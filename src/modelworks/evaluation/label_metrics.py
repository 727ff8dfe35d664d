"""Metrics of decided labels (binary, multiclass): all are functions of the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelworks.evaluation.predictions import Floats, Predictions
from modelworks.evaluation.statistic import Combine, ShareStatistic, SumStatistic


def accuracy(predictions: Predictions) -> ShareStatistic:
    """Share of rows whose label is right."""
    everywhere = np.ones(predictions.rows, dtype=bool)
    return ShareStatistic(predictions.truth == predictions.label, everywhere, predictions.weight)


def precision(predictions: Predictions) -> ShareStatistic:
    """Share of rows called positive that are."""
    named = np.asarray(predictions.label == predictions.positive)
    return ShareStatistic(named & predictions.hits, named, predictions.weight)


def recall(predictions: Predictions) -> ShareStatistic:
    """Share of positives that are called so."""
    named = np.asarray(predictions.label == predictions.positive)
    return ShareStatistic(named & predictions.hits, predictions.hits, predictions.weight)


def f1(predictions: Predictions) -> ShareStatistic:
    """Harmonic mean of precision and recall, through the share TP / (TP + FP + FN)."""
    named = np.asarray(predictions.label == predictions.positive)
    return ShareStatistic(named & predictions.hits, named | predictions.hits, predictions.weight, curve="f1")


@dataclass(frozen=True)
class ClassMean(SumStatistic):
    """A mean over classes of a proportion each, from the sums ``[right, true, named]`` per class.

    Attributes:
        curve: ``share`` for right / true (recall), ``f1`` for right / (true + named - right), bent to F1.
    """

    curve: str = "share"

    def shares(self) -> tuple[Floats, Floats]:
        """Return hits and trials per class, at Kish's effective size, classes without trials left out."""
        right, true, named = np.split(self.sums, 3)
        trials = true if self.curve == "share" else true + named - right
        if self.weight is not None:
            shrink = float(self.weight.sum() / np.square(self.weight).sum())
            right, trials = right * shrink, trials * shrink
        return right[trials > 0], trials[trials > 0]


def balanced_accuracy(predictions: Predictions) -> ClassMean:
    """Mean recall over the classes that occur."""

    def combine(sums: Floats) -> Floats:
        right, true, _ = np.split(sums, 3, axis=1)
        return np.asarray(np.where(true > 0, right / true, 0.0).sum(axis=1) / (true > 0).sum(axis=1))

    return _class_mean(predictions, combine, "share")


def macro_f1(predictions: Predictions) -> ClassMean:
    """Mean F1 over the classes that occur or are named."""

    def combine(sums: Floats) -> Floats:
        right, true, named = np.split(sums, 3, axis=1)
        either = true + named
        return np.asarray(
            np.where(either > 0, 2 * right / either, 0.0).sum(axis=1) / (either > 0).sum(axis=1)
        )

    return _class_mean(predictions, combine, "f1")


def mcc(predictions: Predictions) -> SumStatistic:
    """Matthews correlation of labels and truth; 0 where it is not defined (Gorodkin, 2004)."""

    def combine(sums: Floats) -> Floats:
        right, true, named = np.split(sums, 3, axis=1)
        total = true.sum(axis=1)
        covariance = right.sum(axis=1) * total - (true * named).sum(axis=1)
        spread = (total**2 - (true**2).sum(axis=1)) * (total**2 - (named**2).sum(axis=1))
        return np.asarray(np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 1e-300)), 0.0))

    terms, cell = confusion_cells(predictions)
    return SumStatistic(terms, combine, cell, predictions.weight)


def _class_mean(predictions: Predictions, combine: Combine, curve: str) -> ClassMean:
    terms, cell = confusion_cells(predictions)
    return ClassMean(terms, combine, cell, predictions.weight, curve)


def confusion_cells(predictions: Predictions) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return terms ``[right, true, named]`` per class for each occupied confusion cell, and each row's cell."""
    assert predictions.label is not None
    size = len(predictions.classes)
    codes, cell = np.unique(predictions.truth * size + predictions.label, return_inverse=True)
    truth, label = np.divmod(codes, size)
    terms = np.zeros((len(codes), 3 * size))
    index = np.arange(len(codes))
    terms[index, truth] = truth == label
    terms[index, size + truth] = 1.0
    terms[index, 2 * size + label] = 1.0
    return terms, cell


def confusion_matrix(predictions: Predictions) -> Floats:
    """Return weighted counts ``[true class, named class]``."""
    assert predictions.label is not None
    size = len(predictions.classes)
    code = predictions.truth * size + predictions.label
    return (
        np.bincount(code, weights=predictions.weight, minlength=size * size).reshape(size, size).astype(float)
    )
